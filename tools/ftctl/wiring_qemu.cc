// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_qemu.h"

#include <fmt/format.h>

#include "guest/qemu/process_memory.h"
#include "host/qemu_opener.h"
#include "report.h"

namespace libft::ftctl {

namespace {

constexpr std::string_view kPrefix = "qemu:";

host::QemuOpener opener(const Settings& settings, const GuestId& guest,
                        std::shared_ptr<ReleaseGuard> guard, Log& log) {
  host::QemuSite site;
  site.state_dir = settings.state_dir;
  site.taps = settings.tap;
  site.preload = preload_object();
  site.held_bytes_max = static_cast<std::uint64_t>(settings.held_mib) << 20;
  site.set_running = settings.resume;
  site.to_run_it = "start it again with --resume";
  site.redeliver_input = !settings.no_redeliver_input;
  return {std::move(site), guest, std::move(guard), log};
}

Result<OpenedQemu> remembered(Result<host::OpenedQemu> opened) {
  if (!opened) return failure(std::move(opened.error()));
  GuestProcess process{process_of(opened->pid), opened->qmp, opened->arguments};
  for (const output::GateDescriptors& nic : opened->descriptors)
    process.descriptors.insert(process.descriptors.end(), {nic.guest, nic.link});
  return OpenedQemu{std::move(opened->replica), std::move(process)};
}

}  // namespace

Result<OpenedQemu> open_qemu(const Settings& settings, const GuestId& guest,
                             const GuestSource& source, std::shared_ptr<ReleaseGuard> guard,
                             Log& log) {
  auto qemu = opener(settings, guest, std::move(guard), log);
  if (source.earlier)
    return remembered(qemu.attach({source.earlier->guest.pid, source.earlier->qmp}));
  if (!source.command_line.empty()) return remembered(qemu.wrap(source.command_line));
  if (!source.spec.starts_with(kPrefix))
    return failure(with_remedy(
        Code::invalid, fmt::format("guest {}: not understood", source.spec),
        "qemu:FILE.json, qemu:pid=NUMBER,qmp=PATH, xen:NAME, machine:IMAGE or memory:mib=N"));
  const std::string rest = source.spec.substr(kPrefix.size());
  if (rest.ends_with(".json")) return remembered(qemu.start(rest));
  FT_ASSIGN(const host::QemuAttachment to, host::parse_attachment(rest));
  return remembered(qemu.attach(to));
}

Result<OpenedQemu> take_up_qemu(const Settings& settings, const GuestId& guest,
                                const GuestProcess& left, bool standby, bool set_running,
                                std::shared_ptr<ReleaseGuard> guard, Log& log) {
  host::HeldQemu held{left.process.pid, left.qmp, {}, standby, set_running};
  for (std::size_t i = 0; i + 1 < left.descriptors.size(); i += 2)
    held.descriptors.push_back({left.descriptors[i], left.descriptors[i + 1]});
  return remembered(opener(settings, guest, std::move(guard), log).take_up(held));
}

Result<OpenedQemu> open_qemu_standby(const Settings& settings, const GuestId& guest,
                                     const GuestInfo& primary, unsigned serial,
                                     std::function<void(GuestProcess)> moved,
                                     std::shared_ptr<ReleaseGuard> guard, Log& log) {
  return remembered(
      opener(settings, guest, std::move(guard), log)
          .standby(primary, serial, [moved = std::move(moved)](pid_t pid, const std::string& qmp) {
            auto arguments = qemu::command_line_of(pid);
            moved({process_of(pid), qmp, arguments ? *arguments : qemu::Arguments{}});
          }));
}

}  // namespace libft::ftctl
