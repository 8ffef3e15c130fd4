// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/qemu_opener.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>

#include "guest/qemu/inspect.h"
#include "guest/qemu/process_memory.h"
#include "guest/qemu/speculation.h"
#include "os/file.h"

namespace libft::host {
namespace {

using qemu::Arguments;
using qemu::HostPaths;

constexpr std::size_t kDescriptionBytesMax = 1u << 20;

// QEMU does not bind over what an earlier process of the same number may have left.
void remove_leftovers(const HostPaths& paths) {
  ::unlink(paths.qmp.c_str());
  for (const auto& nic : paths.nics) ::unlink(nic.guest_path.c_str());
}

std::string option_value(const std::string& option, const std::string& key) {
  const std::string text = "," + option + ",";
  const std::size_t at = text.find("," + key + "=");
  if (at == std::string::npos) return {};
  const std::size_t from = at + key.size() + 2;
  return text.substr(from, text.find(',', from) - from);
}

// The sockets of a QEMU that runs: they stand on its command line.
std::vector<qemu::NicSockets> sockets_of(const Arguments& running) {
  std::vector<qemu::NicSockets> nics;
  for (std::size_t i = 0; i + 1 < running.size(); ++i) {
    if (running[i] != "-netdev" || !running[i + 1].starts_with("dgram")) continue;
    nics.push_back(
        {option_value(running[i + 1], "local.path"), option_value(running[i + 1], "remote.path")});
  }
  return nics;
}

HostPaths paths_at(const std::string& base, std::size_t nics) {
  HostPaths paths{base + ".qmp", {}};
  for (std::size_t i = 0; i < nics; ++i)
    paths.nics.push_back({fmt::format("{}.nic{}", base, i), fmt::format("{}.gate{}", base, i)});
  return paths;
}

}  // namespace

std::string arguments_to_add(const QemuSite& site, const std::string& guest,
                             std::uint64_t memory_bytes, std::size_t nics) {
  return qemu::qemu_args(memory_bytes, paths_at(fmt::format("{}/{}", site.state_dir, guest), nics),
                         site.preload);
}

Result<QemuAttachment> parse_attachment(const std::string& text,
                                        std::shared_ptr<qemu::QmpRelay> relay) {
  const std::string pid = option_value(text, "pid");
  QemuAttachment to{0, option_value(text, "qmp"), std::move(relay)};
  if (!to.qmp.empty()) to.relay = nullptr;
  const auto [end, error] = std::from_chars(pid.data(), pid.data() + pid.size(), to.pid);
  if (error == std::errc() && end == pid.data() + pid.size() && to.pid > 0 &&
      (!to.qmp.empty() || to.relay))
    return to;
  return failure(Code::invalid,
                 fmt::format("guest qemu:{}: not understood; remedy: qemu:FILE.json, or "
                             "qemu:pid=NUMBER,qmp=PATH",
                             text));
}

Result<OpenedQemu> QemuOpener::start(const std::string& description_file) {
  auto text = os::read_file(description_file, kDescriptionBytesMax);
  if (!text)
    return failure(Code::invalid,
                   fmt::format("guest description: {}; remedy: name a file that exists: "
                               "qemu:FILE.json",
                               text.error().message()));
  FT_ASSIGN(const qemu::QemuDescription description, qemu::description_from_json(*text));
  const qemu::QemuOptions options = options_for(description.nics.size());
  FT_ASSIGN(auto gate, open_gate(options.paths.nics, output::GateStart::held));
  return opened(std::move(gate), qemu::QemuGuest::start(description, options), options.paths.qmp);
}

Result<OpenedQemu> QemuOpener::wrap(const Arguments& command) {
  std::size_t nics = 0;
  for (const std::string& argument : command) nics += argument == "-netdev" ? 1 : 0;
  qemu::QemuOptions options = options_for(nics);
  // Its serial console may be the terminal, as without libft.
  options.launch.stdin_fd = 0;
  options.launch.stdout_fd = 1;
  options.launch.stderr_fd = 2;
  FT_ASSIGN(const Arguments arguments, qemu::wrap_arguments(command, options.paths));
  FT_ASSIGN(auto gate, open_gate(options.paths.nics, output::GateStart::held));
  return opened(std::move(gate), qemu::QemuGuest::start(arguments, options), options.paths.qmp);
}

Result<OpenedQemu> QemuOpener::attach(const QemuAttachment& to) {
  FT_ASSIGN(const Arguments running, qemu::command_line_of(to.pid));
  qemu::QemuOptions options;
  options.paths = {to.qmp, sockets_of(running)};
  options.launch.preload = site_.preload;
  if (to.relay)
    options.launch.log = fmt::format("{}/{}.{}.log", site_.state_dir, guest_.name(), to.pid);
  options.say = say();
  options.relay = to.relay;
  FT_ASSIGN(auto gate, open_gate(options.paths.nics, output::GateStart::held));
  auto guest = qemu::QemuGuest::attach(to.pid, options);
  if (guest && (*guest)->stands_still()) FT_TRY(wake(**guest));
  return opened(std::move(gate), std::move(guest), to.qmp);
}

Result<OpenedQemu> QemuOpener::standby(const GuestInfo& primary, unsigned serial, Moved moved) {
  FT_ASSIGN(const qemu::Shape shape, qemu::shape_from_json(primary.compatibility));
  qemu::QemuStandbyOptions options;
  options.arguments.paths =
      paths_for(fmt::format("{}-{}", ::getpid(), serial), qemu::netdevs_of(shape.arguments).size());
  options.launch = launch_for(options.arguments.paths);
  options.say = say();
  options.moved = std::move(moved);
  remove_leftovers(options.arguments.paths);
  FT_ASSIGN(auto gate, open_gate(options.arguments.paths.nics, output::GateStart::standby,
                                 qemu::addresses_of(shape.devices)));
  FT_ASSIGN(auto guest, qemu::SpeculativeStandby::start(primary, options));
  SpeculativeGuest* const ahead = guest.get();
  FT_ASSIGN(auto standby, opened(std::move(gate), std::move(guest), options.arguments.paths.qmp));
  standby.replica.ahead = ahead;
  return standby;
}

Result<std::unique_ptr<output::FramesGate>> QemuOpener::open_gate(
    const std::vector<qemu::NicSockets>& nics, output::GateStart start,
    const std::vector<output::MacAddress>& guest) {
  if (site_.taps.size() < nics.size())
    return failure(Code::invalid,
                   fmt::format("the guest has {} NICs, and {} TAP devices are named; remedy: name "
                               "one TAP device a NIC, in their order: tap tap0,tap1",
                               nics.size(), site_.taps.size()));
  std::vector<output::GateNic> ports;
  for (std::size_t i = 0; i < nics.size(); ++i) {
    FT_ASSIGN(auto port, output::open_gate_nic({fmt::format("net{}", i), nics[i].gate_path,
                                                nics[i].guest_path, site_.taps[i]},
                                               log_));
    ports.push_back(std::move(port));
  }
  if (start == output::GateStart::standby && site_.redeliver_input)
    output::listen_beside_taps(ports, site_.taps, guest, log_);
  output::FramesGateOptions options;
  options.start = start;
  options.bytes_held_max = site_.held_bytes_max;
  options.may_release = [guard = guard_] { return guard->may_release(); };
  return output::FramesGate::create(std::move(ports), std::move(options), log_);
}

Result<OpenedQemu> QemuOpener::opened(std::unique_ptr<output::FramesGate> gate,
                                      Result<std::unique_ptr<qemu::QemuGuest>> guest,
                                      const std::string& qmp) {
  if (!guest) return failure(std::move(guest.error()));
  const pid_t pid = (*guest)->pid();
  for (const std::string& note : (*guest)->tracker_notes())
    log_.write(LogLevel::info, "qemu", note);
  const GuestInfo& info = (*guest)->info();
  log_.write(
      LogLevel::info, "qemu",
      fmt::format("process {}: {}; written pages by {}", pid, info.description, info.tracker));
  auto arguments = qemu::command_line_of(pid);
  InputTap* const input = site_.redeliver_input ? gate.get() : nullptr;
  ComparedGate* const compared = gate.get();
  return OpenedQemu{Replica{std::move(gate), std::move(*guest), input, nullptr, nullptr, compared},
                    pid, qmp, arguments ? *arguments : Arguments{}};
}

// Whose stop it was nobody can tell any more, and what its owner stopped stays stopped.
Status QemuOpener::wake(qemu::QemuGuest& guest) {
  if (!site_.set_running) {
    log_.write(LogLevel::warning, guest_.name(),
               "the guest stands still: its owner stopped it, or a libft that died had it stopped "
               "for a checkpoint; remedy: if it is to run, end this protection and " +
                   site_.to_run_it);
    return {};
  }
  log_.write(LogLevel::info, guest_.name(), "the guest stood still and is set running");
  return guest.set_running();
}

qemu::Say QemuOpener::say() const {
  return [&log = log_](const std::string& text) { log.write(LogLevel::warning, "qemu", text); };
}

HostPaths QemuOpener::paths_for(const std::string& life, std::size_t nics) const {
  return paths_at(fmt::format("{}/{}.{}", site_.state_dir, guest_.name(), life), nics);
}

qemu::LaunchOptions QemuOpener::launch_for(const HostPaths& paths) const {
  qemu::LaunchOptions launch;
  launch.preload = site_.preload;
  launch.log = paths.qmp.substr(0, paths.qmp.size() - 4) + ".log";
  return launch;
}

qemu::QemuOptions QemuOpener::options_for(std::size_t nics) const {
  qemu::QemuOptions options;
  options.paths = paths_for(std::to_string(::getpid()), nics);
  options.launch = launch_for(options.paths);
  options.say = say();
  remove_leftovers(options.paths);
  return options;
}

}  // namespace libft::host
