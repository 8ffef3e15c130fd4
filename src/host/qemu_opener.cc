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

// Of a standby's guest, as of its primary's.
std::vector<output::MacAddress> addresses_of(const Guest& guest) {
  const auto shape = qemu::shape_from_json(guest.info().compatibility);
  return shape ? qemu::addresses_of(shape->devices) : std::vector<output::MacAddress>();
}

// Nobody is to find a socket or a TAP device in use.
void close_both(const output::GateDescriptors& left) {
  ::close(left.guest);
  ::close(left.link);
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

// Its guest is set running before anybody has read the record: all that it sends is held.
Result<OpenedQemu> QemuOpener::take_up(const HeldQemu& held) {
  const auto running = qemu::command_line_of(held.pid);
  qemu::QemuOptions options;
  options.paths = {held.qmp, sockets_of(running.value_or(Arguments{}))};
  options.launch = launch_for(options.paths);
  options.say = say();
  options.held = true;
  options.relay = held.relay;
  auto guest = held.standby ? qemu::QemuGuest::attach_standby(held.pid, options)
                            : qemu::QemuGuest::attach(held.pid, options);
  FT_ASSIGN(auto gate,
            take_up_gate(options.paths.nics, held, guest ? addresses_of(**guest) : Addresses()));
  if (guest && held.set_running) FT_TRY((*guest)->set_running());
  return opened(std::move(gate), std::move(guest), held.qmp);
}

output::GateNicPaths QemuOpener::paths_of(const std::vector<qemu::NicSockets>& nics,
                                          std::size_t i) const {
  return {fmt::format("net{}", i), nics[i].gate_path, nics[i].guest_path, site_.taps[i]};
}

Result<QemuOpener::Gate> QemuOpener::open_gate(const std::vector<qemu::NicSockets>& nics,
                                               output::GateStart start, const Addresses& guest) {
  if (site_.taps.size() < nics.size())
    return failure(Code::invalid,
                   fmt::format("the guest has {} NICs, and {} TAP devices are named; remedy: name "
                               "one TAP device a NIC, in their order: tap tap0,tap1",
                               nics.size(), site_.taps.size()));
  std::vector<output::GateNic> ports;
  for (std::size_t i = 0; i < nics.size(); ++i) {
    FT_ASSIGN(auto port, output::open_gate_nic(paths_of(nics, i), log_));
    ports.push_back(std::move(port));
  }
  return make_gate(std::move(ports), start, guest);
}

Result<QemuOpener::Gate> QemuOpener::take_up_gate(const std::vector<qemu::NicSockets>& nics,
                                                  const HeldQemu& held, const Addresses& guest) {
  std::vector<output::GateNic> ports;
  Status status;
  if (nics.size() != held.descriptors.size() || site_.taps.size() < nics.size())
    status =
        Status(Code::invalid,
               fmt::format("the guest has {} NICs, {} were left behind, and {} TAP devices are "
                           "named",
                           nics.size(), held.descriptors.size(), site_.taps.size()));
  for (std::size_t i = 0; i < held.descriptors.size(); ++i) {
    const output::GateDescriptors& left = held.descriptors[i];
    if (!status.ok()) {
      close_both(left);
      continue;
    }
    auto port = output::take_up_gate_nic(paths_of(nics, i), left);
    if (port)
      ports.push_back(std::move(*port));
    else
      status = port.error();
  }
  if (!status.ok()) return failure(status);
  return make_gate(std::move(ports),
                   held.standby ? output::GateStart::standby : output::GateStart::held, guest);
}

Result<QemuOpener::Gate> QemuOpener::make_gate(std::vector<output::GateNic> ports,
                                               output::GateStart start, const Addresses& guest) {
  if (start == output::GateStart::standby && site_.redeliver_input)
    output::listen_beside_taps(ports, site_.taps, guest, log_);
  Gate made;
  for (const output::GateNic& port : ports) made.descriptors.push_back(descriptors_of(port));
  output::FramesGateOptions options;
  options.start = start;
  options.bytes_held_max = site_.held_bytes_max;
  options.may_release = [guard = guard_] { return guard->may_release(); };
  FT_ASSIGN(made.gate, output::FramesGate::create(std::move(ports), std::move(options), log_));
  return made;
}

Result<OpenedQemu> QemuOpener::opened(Gate gate, Result<std::unique_ptr<qemu::QemuGuest>> guest,
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
  InputTap* const input = site_.redeliver_input ? gate.gate.get() : nullptr;
  ComparedGate* const compared = gate.gate.get();
  return OpenedQemu{
      Replica{std::move(gate.gate), std::move(*guest), input, nullptr, nullptr, compared}, pid, qmp,
      arguments ? *arguments : Arguments{}, std::move(gate.descriptors)};
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
