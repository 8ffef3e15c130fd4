// SPDX-License-Identifier: LGPL-2.1-or-later
#include "doctor_xen.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <fstream>

#include "guest/xen/inspect.h"
#include "guest/xen/module.h"
#include "guest/xen/qemu_model.h"
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
               "shorter than its handshake (`ftctl status`: handshake_ms)"
             : "pause-only: nothing is asked of it, so that --interval is as short as its pause "
               "allows";
}

void look_at_domain(Findings& findings, xen::XenCalls& calls, xen::DomId domain) {
  const std::string topic = fmt::format("domain {}", domain);
  auto found = xen::inspect(calls, domain);
  if (!found) return findings.note(topic, found.error().message());
  xen::QemuModels models;
  if (const auto model = xen::inspect_model(models, domain, *found); !model)
    found->missing.push_back(model.error().message());
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

}  // namespace libft::ftctl
