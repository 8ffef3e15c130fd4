// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_xen.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "guest/xen/inspect.h"
#include "guest/xen/store.h"
#include "host/xen_opener.h"
#include "os/child.h"
#include "report.h"

namespace libft::ftctl {

namespace {

constexpr std::string_view kPrefix = "xen:";

#ifdef FTCTL_PLUG_GATE
Status forget_gate(const GuestId& guest) { return output::remove_plug_gate(guest, {}); }
#else
Status forget_gate(const GuestId&) { return {}; }
#endif

Result<OpenedXen> remembered(Result<host::OpenedXen> opened) {
  if (!opened) return failure(std::move(opened.error()));
  return OpenedXen{std::move(opened->replica), std::move(opened->domain)};
}

// Installed, beside ftctl, or in a build folder.
std::string find_here(const char* file, std::initializer_list<const char*> places) {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* place : places) {
    const auto path = (here / place / file).lexically_normal();
    if (std::filesystem::exists(path, error)) return path.string();
  }
  return {};
}

std::string find_beside_module(const char* file) {
  return find_here(file,
                   {"../lib/libft", "../lib/x86_64-linux-gnu/libft", ".", "../../src/guest/xen"});
}

host::XenSite site_of(const Settings& settings) {
  host::XenSite site;
  site.module = xen_module();
  site.adopt = find_beside_module("xen-adopt");
  site.open_gate = output::open_plug_gate;
  site.held_bytes_max = static_cast<std::uint64_t>(settings.held_mib) << 20;
  site.staging_bytes = static_cast<std::uint64_t>(settings.staging_mib) << 20;
  site.inflight_max = static_cast<std::uint32_t>(settings.inflight);
  return site;
}

struct Found {
  std::unique_ptr<xen::XenCalls> calls;
  xen::DomId number = 0;
  bool lives = false;  // Another domain may have got its number.
};

Result<Found> find(const std::string& domain) {
  FT_ASSIGN(const xen::XenOptions options, host::xen_options(xen_module()));
  Found found;
  FT_ASSIGN(found.calls, options.open());
  found.number = static_cast<xen::DomId>(std::strtoul(domain.c_str(), nullptr, 10));
  FT_ASSIGN(const auto info, found.calls->domain(found.number));
  found.lives = info && !info->dying && host::domain_name(found.number, info->handle) == domain;
  return found;
}

}  // namespace

bool is_xen_guest(const std::string& spec) { return spec.starts_with(kPrefix); }

Result<OpenedXen> open_xen(const Settings& settings, const GuestId& guest,
                           const GuestSource& source, std::shared_ptr<ReleaseGuard> guard,
                           Log& log) {
  const std::string earlier = source.earlier ? source.earlier->domain : std::string();
  const std::string name =
      earlier.empty() ? source.spec.substr(kPrefix.size()) : earlier.substr(0, earlier.find('/'));
  host::XenSite site = site_of(settings);
  if (!earlier.empty()) site.staging_bytes = 0;
  return remembered(host::XenOpener(std::move(site), guest, std::move(guard), log).attach(name));
}

Result<OpenedXen> open_xen_standby(const Settings& settings, const GuestId& guest,
                                   const GuestInfo& primary, std::shared_ptr<ReleaseGuard> guard,
                                   Log& log) {
  return remembered(
      host::XenOpener(site_of(settings), guest, std::move(guard), log).standby(primary));
}

Result<bool> xen_domain_lives(const std::string& domain) {
  FT_ASSIGN(const Found found, find(domain));
  return found.lives;
}

Status stop_xen_domain(const std::string& domain, const GuestId& guest) {
  FT_ASSIGN(const Found found, find(domain));
  if (!found.lives) return {};
  const auto known = xen::inspect(*found.calls, found.number);  // Before it is gone.
  FT_TRY(found.calls->destroy(found.number).within("destroy domain " + domain));
  if (known) {
    xen::forget_domain(*found.calls, found.number, known->shape);
    xen::SystemNetwork network;
    xen::leave_switches(found.number, known->shape, network);
    xen::XlHelper().forget(found.number, known->shape.uuid);
  }
  return forget_gate(guest);
}

// It lives on when this process ends; what it says goes where this process's words go.
std::string hand_back_xen_domain(const std::string& domain) {
  const std::string script = find_here("xen-end-duty", {"../sbin", "."});
  const std::string number = domain.substr(0, domain.find('/'));
  if (script.empty())
    return fmt::format(
        "nobody restarts or removes domain {} when it ends: xl's process for that "
        "ended at the first checkpoint, and xen-end-duty is not installed",
        number);
  os::ChildOptions options;
  options.argv = {script, number};
  options.own_session = true;
  options.stderr_fd = 2;
  auto started = os::Child::start(options);
  if (!started) return started.error().within("hand back domain " + number).message();
  started->detach();
  return fmt::format("xen-end-duty does what domain {}'s configuration says of its end", number);
}

std::string xen_module() { return find_beside_module("libft-xen.so"); }

}  // namespace libft::ftctl

#ifndef FTCTL_PLUG_GATE
libft::Result<std::unique_ptr<libft::OutputGate>> libft::output::open_plug_gate(PlugGateOptions,
                                                                                Log&) {
  return failure(ftctl::with_remedy(Code::unsupported,
                                    "this ftctl was built without the plug gate, which holds the "
                                    "output of Xen domains",
                                    "build it where libnl-route-3-dev is installed"));
}
#endif
