// SPDX-License-Identifier: LGPL-2.1-or-later
#include "doctor_xen.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "commands.h"
#include "guest/xen/facts.h"
#include "guest/xen/inspect.h"
#include "guest/xen/module.h"
#include "guest/xen/needs.h"
#include "guest/xen/qemu_model.h"
#include "os/memory_free.h"
#include "report.h"
#include "wiring_xen.h"

namespace libft::ftctl {

namespace {

constexpr const char* kPlugModules[] = {"ifb", "sch_plug", "sch_ingress", "act_mirred",
                                        "cls_matchall"};

std::string read_all(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// In the kernel, loaded, or to be had by modprobe, which the gate's requests make the kernel do.
void look_at_plug_modules(Findings& findings) {
  utsname name{};
  ::uname(&name);
  const std::string folder = std::string("/lib/modules/") + name.release;
  const std::string known = read_all(folder + "/modules.builtin") +
                            read_all(folder + "/modules.dep") + read_all("/proc/modules");
  std::vector<std::string> absent;
  for (const std::string module : kPlugModules) {
    const bool there = known.find("/" + module + ".ko") != std::string::npos ||
                       known.find("\n" + module + " ") != std::string::npos ||
                       known.starts_with(module + " ");
    if (!there) absent.push_back(module);
  }
  if (absent.empty()) return findings.fine("plug gate", "the kernel has its modules");
  findings.missing("plug gate", fmt::format("this kernel has no {}", fmt::join(absent, ", ")),
                   "run dom0 with a kernel that has them, as Debian's; output cannot be held "
                   "without");
}

// What decides about the shortest sensible interval.
std::string class_of(const xen::Shape& shape) {
  return shape.cooperative
             ? "cooperative: its drivers are asked before each checkpoint, so that no interval is "
               "shorter than its handshake (`ftctl doctor --plan xen:NAME` while it is protected)"
             : "pause-only: nothing is asked of it, so that --interval is as short as its pause "
               "allows (`ftctl doctor --plan xen:NAME` while it is protected)";
}

Result<xen::Inspection> look(xen::XenCalls& calls, xen::DomId domain) {
  FT_ASSIGN(xen::Inspection found, xen::inspect(calls, domain));
  xen::QemuModels models;
  if (const auto model = xen::inspect_model(models, domain, found); !model)
    found.missing.push_back(model.error().message());
  return found;
}

void look_at_domain(Findings& findings, xen::XenCalls& calls, xen::DomId domain) {
  const std::string topic = fmt::format("domain {}", domain);
  const auto found = look(calls, domain);
  if (!found) return findings.note(topic, found.error().message());
  const xen::Shape& shape = found->shape;
  const std::string what = fmt::format("{} ({}, {} vCPU, {} MiB)", shape.name, shape.type,
                                       shape.vcpus, shape.max_pages / 256);
  if (found->missing.empty()) return findings.fine(topic, what + ", " + class_of(shape));
  findings.note(topic,
                fmt::format("{} cannot be protected: {}", what, fmt::join(found->missing, "; ")));
}

void look_at_domains(Findings& findings, xen::XenCalls& calls) {
  const auto domains = calls.list("/local/domain");
  if (!domains)
    return findings.missing("xenstore", domains.error().message(), "see that xenstored runs");
  for (const std::string& number : *domains) {
    const auto id = static_cast<xen::DomId>(std::strtoul(number.c_str(), nullptr, 10));
    if (id != 0) look_at_domain(findings, calls, id);
  }
}

constexpr double kMib = 1u << 20;

// Resident memory; 0 when the process is gone.
double resident_mib(pid_t process) {
  std::ifstream in(fmt::format("/proc/{}/statm", process));
  double all = 0, resident = 0;
  in >> all >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / kMib;
}

Status add_domain(XenPlanInput& input, xen::Sizes& sizes, xen::XenCalls& calls, xen::DomId domain) {
  FT_ASSIGN(const xen::Inspection found, look(calls, domain));
  FT_ASSIGN(const auto info, calls.domain(domain));
  if (!info) return Status(Code::guest_gone, "the domain was destroyed");
  input.here = true;
  input.what = fmt::format("{}, {} vCPU", found.shape.type, found.shape.vcpus);
  input.in_the_way = found.missing;
  input.cooperative = found.shape.cooperative;
  if (found.device_model != 0) input.device_model_mib = resident_mib(found.device_model);
  sizes = {info->total_pages, found.shape.paging_pool_bytes, found.shape.vcpus,
           found.device_model != 0};
  return {};
}

// What libxl gives a domain of this size, where there is none to ask (libxl_get_required_shadow_
// memory: 1 MiB a vCPU, 8 KiB a MiB).
xen::Sizes usual_sizes(double memory_mib) {
  const auto mib = static_cast<std::uint64_t>(memory_mib);
  return {mib * 256, (std::uint64_t{1} << 20) + (mib << 13), 1, false};
}

void add_measured(XenPlanInput& input, const std::vector<Json>& statuses) {
  const auto median = [](const Json& status, const char* key) {
    return status.value(key, Json::object()).value("p50", 0.0);
  };
  for (const Json& status : statuses) {
    if (status.value("role", "") != "primary") continue;
    input.handshake_ms = median(status, "handshake_ms");
    input.stopped_ms = median(status, "stopped_ms");
  }
}

}  // namespace

bool is_xen_host() {
  return read_all("/proc/xen/capabilities").find("control_d") != std::string::npos;
}

void look_at_xen(Findings& findings) {
  const std::string file = xen_module();
  const auto open = xen::open_module(file);
  auto calls = open ? (*open)() : Result<std::unique_ptr<xen::XenCalls>>(failure(open.error()));
  const auto version =
      calls ? (*calls)->version() : Result<xen::XenVersion>(failure(calls.error()));
  if (!version) {
    const Complaint what = complaint(version.error());
    return findings.missing("Xen", what.cause,
                            what.remedy.empty() ? "run ftctl as root in dom0" : what.remedy);
  }
  const auto unknown = xen::check_version(*version);
  if (unknown.empty())
    findings.fine("Xen", fmt::format("{}, by {}", version->text, file));
  else
    findings.missing("Xen", fmt::format("{}: {}", version->text, fmt::join(unknown, "; ")),
                     "use a release of Xen that this libft knows");
  if (const auto free = (*calls)->free_bytes())
    findings.fine("Xen's memory", fmt::format("{} MiB free for domains", *free >> 20));
  look_at_plug_modules(findings);
  look_at_domains(findings, **calls);
}

Result<XenPlan> plan_of_domain(const std::string& spec, PlanInput of, const Settings& settings) {
  FT_ASSIGN(const xen::OpenCalls open, xen::open_module(xen_module()));
  FT_ASSIGN(const auto calls, open());
  const std::string name = spec.substr(spec.find(':') + 1);
  XenPlanInput input;
  xen::Sizes sizes = usual_sizes(of.memory_mib);
  if (const auto domain = xen::find_domain(*calls, name)) {
    FT_TRY(add_domain(input, sizes, *calls, *domain));
    of.memory_mib = static_cast<double>(sizes.pages * xen::kPageBytes) / kMib;
    add_measured(input,
                 statuses_here(settings, settings.name.empty() ? name : settings.name, 5000));
  }
  input.of = std::move(of);
  const xen::Needs needs = xen::needs_of(sizes);
  input.warm_mib = static_cast<double>(needs.backup_xen) / kMib;
  input.page_tables_mib = static_cast<double>(needs.page_tables) / kMib;
  input.written_log_mib = static_cast<double>(needs.written_log) / kMib;
  FT_ASSIGN(const std::uint64_t free, calls->free_bytes());
  input.xen_free_mib = static_cast<double>(free) / kMib;
  input.dom0_available_mib = static_cast<double>(os::memory_bytes_free()) / kMib;
  input.dom0_cpus = static_cast<unsigned>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L));
  return xen_plan(input);
}

}  // namespace libft::ftctl
