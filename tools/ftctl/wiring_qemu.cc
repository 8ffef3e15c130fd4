// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_qemu.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "guest/qemu/inspect.h"
#include "guest/qemu/process_memory.h"
#include "guest/qemu/qemu_guest.h"
#include "output/frames_gate.h"
#include "report.h"

namespace libft::ftctl {

namespace {

using qemu::Arguments;
using qemu::HostPaths;

HostPaths paths_for(const Settings& settings, const GuestId& guest, const std::string& life,
                    std::size_t nics) {
  const std::string base = fmt::format("{}/{}.{}", settings.state_dir, guest.name(), life);
  HostPaths paths{base + ".qmp", {}};
  for (std::size_t i = 0; i < nics; ++i) {
    paths.nics.push_back({fmt::format("{}.nic{}", base, i), fmt::format("{}.gate{}", base, i)});
  }
  return paths;
}

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

Result<std::unique_ptr<output::FramesGate>> open_gate(const Settings& settings,
                                                      const std::vector<qemu::NicSockets>& nics,
                                                      output::GateStart start,
                                                      std::shared_ptr<ReleaseGuard> guard,
                                                      Log& log) {
  if (settings.tap.size() < nics.size()) {
    return failure(with_remedy(Code::invalid,
                               fmt::format("the guest has {} NICs, and {} TAP devices are named",
                                           nics.size(), settings.tap.size()),
                               "name one TAP device a NIC, in their order: --tap tap0,tap1"));
  }
  std::vector<output::GateNic> ports;
  for (std::size_t i = 0; i < nics.size(); ++i) {
    FT_ASSIGN(auto port, output::open_gate_nic({fmt::format("net{}", i), nics[i].gate_path,
                                                nics[i].guest_path, settings.tap[i]},
                                               log));
    ports.push_back(std::move(port));
  }
  output::FramesGateOptions options;
  options.start = start;
  options.bytes_held_max = static_cast<std::uint64_t>(settings.held_mib) << 20;
  options.may_release = [guard = std::move(guard)] { return guard->may_release(); };
  return output::FramesGate::create(std::move(ports), std::move(options), log);
}

Result<OpenedQemu> opened(std::unique_ptr<output::FramesGate> gate,
                          Result<std::unique_ptr<qemu::QemuGuest>> guest, const std::string& qmp,
                          const Settings& settings, Log& log) {
  if (!guest) return failure(std::move(guest.error()));
  const pid_t pid = (*guest)->pid();
  for (const std::string& note : (*guest)->tracker_notes()) log.write(LogLevel::info, "qemu", note);
  const GuestInfo& info = (*guest)->info();
  log.write(
      LogLevel::info, "qemu",
      fmt::format("process {}: {}; written pages by {}", pid, info.description, info.tracker));
  auto arguments = qemu::command_line_of(pid);
  OpenedQemu result;
  result.process = {process_of(pid), qmp, arguments ? *arguments : Arguments{}};
  // Without the tap a primary forwards nothing and a backup delivers nothing, whatever its peer
  // says.
  InputTap* const input = settings.no_redeliver_input ? nullptr : gate.get();
  result.replica = Replica{std::move(gate), std::move(*guest), input};
  return result;
}

Result<std::string> read_text(const std::string& file) {
  std::ifstream in(file);
  if (!in) {
    return failure(with_remedy(Code::invalid,
                               fmt::format("guest description {}: {}", file, std::strerror(errno)),
                               "name a file that exists: qemu:FILE.json"));
  }
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

struct Attachment {
  pid_t pid = 0;
  std::string qmp;
};

Result<Attachment> parse_attachment(const std::string& spec) {
  const std::string rest = spec.substr(spec.find(':') + 1);
  const std::string pid = option_value(rest, "pid");
  Attachment attachment{0, option_value(rest, "qmp")};
  const auto [end, error] = std::from_chars(pid.data(), pid.data() + pid.size(), attachment.pid);
  if (error == std::errc() && end == pid.data() + pid.size() && attachment.pid > 0 &&
      !attachment.qmp.empty()) {
    return attachment;
  }
  return failure(with_remedy(Code::invalid, fmt::format("guest {}: not understood", spec),
                             "qemu:FILE.json, or qemu:pid=NUMBER,qmp=PATH"));
}

class QemuOpener {
 public:
  QemuOpener(const Settings& settings, const GuestId& guest, std::shared_ptr<ReleaseGuard> guard,
             Log& log)
      : settings_(settings), guest_(guest), guard_(std::move(guard)), log_(log) {}

  Result<OpenedQemu> start(const std::string& file) {
    FT_ASSIGN(const std::string text, read_text(file));
    FT_ASSIGN(const qemu::QemuDescription description, qemu::description_from_json(text));
    qemu::QemuOptions options = options_for(description.nics.size());
    FT_ASSIGN(auto gate,
              open_gate(settings_, options.paths.nics, output::GateStart::held, guard_, log_));
    return opened(std::move(gate), qemu::QemuGuest::start(description, options), options.paths.qmp,
                  settings_, log_);
  }

  Result<OpenedQemu> wrap(const Arguments& command) {
    std::size_t nics = 0;
    for (const std::string& argument : command) nics += argument == "-netdev" ? 1 : 0;
    qemu::QemuOptions options = options_for(nics);
    // Its serial console may be the terminal, as without ftctl.
    options.launch.stdin_fd = 0;
    options.launch.stdout_fd = 1;
    options.launch.stderr_fd = 2;
    FT_ASSIGN(const Arguments arguments, qemu::wrap_arguments(command, options.paths));
    FT_ASSIGN(auto gate,
              open_gate(settings_, options.paths.nics, output::GateStart::held, guard_, log_));
    return opened(std::move(gate), qemu::QemuGuest::start(arguments, options), options.paths.qmp,
                  settings_, log_);
  }

  Result<OpenedQemu> attach(const Attachment& to) {
    FT_ASSIGN(const Arguments running, qemu::command_line_of(to.pid));
    qemu::QemuOptions options;
    options.paths = {to.qmp, sockets_of(running)};
    options.launch.preload = preload_object();
    options.say = say();
    FT_ASSIGN(auto gate,
              open_gate(settings_, options.paths.nics, output::GateStart::held, guard_, log_));
    auto guest = qemu::QemuGuest::attach(to.pid, options);
    if (guest && (*guest)->stands_still()) FT_TRY(wake(**guest));
    return opened(std::move(gate), std::move(guest), to.qmp, settings_, log_);
  }

  Result<OpenedQemu> standby(const GuestInfo& primary, unsigned serial) {
    FT_ASSIGN(const qemu::Shape shape, qemu::shape_from_json(primary.compatibility));
    qemu::QemuStandbyOptions options;
    options.arguments.paths = paths_for(settings_, guest_, fmt::format("{}-{}", ::getpid(), serial),
                                        qemu::netdevs_of(shape.arguments).size());
    options.launch = launch_for(options.arguments.paths);
    options.say = say();
    remove_leftovers(options.arguments.paths);
    FT_ASSIGN(auto gate, open_gate(settings_, options.arguments.paths.nics,
                                   output::GateStart::standby, guard_, log_));
    return opened(std::move(gate), qemu::QemuGuest::start_standby(primary, options),
                  options.arguments.paths.qmp, settings_, log_);
  }

 private:
  // Whose stop it was nobody can tell any more, and what its owner stopped stays stopped.
  Status wake(qemu::QemuGuest& guest) {
    if (!settings_.resume) {
      log_.write(
          LogLevel::warning, guest_.name(),
          "the guest stands still: its owner stopped it, or ftctl was killed while it had it "
          "stopped for a checkpoint; remedy: if it is to run, end this ftctl and start it "
          "again with --resume");
      return {};
    }
    log_.write(LogLevel::info, guest_.name(), "the guest stood still and is set running");
    return guest.set_running();
  }
  qemu::Say say() const {
    return [&log = log_](const std::string& text) { log.write(LogLevel::warning, "qemu", text); };
  }
  static qemu::LaunchOptions launch_for(const HostPaths& paths) {
    qemu::LaunchOptions launch;
    launch.preload = preload_object();
    launch.log = paths.qmp.substr(0, paths.qmp.size() - 4) + ".log";
    return launch;
  }
  qemu::QemuOptions options_for(std::size_t nics) const {
    qemu::QemuOptions options;
    options.paths = paths_for(settings_, guest_, std::to_string(::getpid()), nics);
    options.launch = launch_for(options.paths);
    options.say = say();
    remove_leftovers(options.paths);
    return options;
  }

  const Settings& settings_;
  const GuestId& guest_;
  std::shared_ptr<ReleaseGuard> guard_;
  Log& log_;
};

}  // namespace

Result<OpenedQemu> open_qemu(const Settings& settings, const GuestId& guest,
                             const GuestSource& source, std::shared_ptr<ReleaseGuard> guard,
                             Log& log) {
  QemuOpener opener(settings, guest, std::move(guard), log);
  if (source.earlier) return opener.attach({source.earlier->guest.pid, source.earlier->qmp});
  if (!source.command_line.empty()) return opener.wrap(source.command_line);
  if (source.spec.starts_with("qemu:") && source.spec.ends_with(".json")) {
    return opener.start(source.spec.substr(source.spec.find(':') + 1));
  }
  if (source.spec.starts_with("qemu:")) {
    FT_ASSIGN(const Attachment to, parse_attachment(source.spec));
    return opener.attach(to);
  }
  return failure(
      with_remedy(Code::invalid, fmt::format("guest {}: not understood", source.spec),
                  "qemu:FILE.json, qemu:pid=NUMBER,qmp=PATH, machine:IMAGE or memory:mib=N"));
}

Result<OpenedQemu> open_qemu_standby(const Settings& settings, const GuestId& guest,
                                     const GuestInfo& primary, unsigned serial,
                                     std::shared_ptr<ReleaseGuard> guard, Log& log) {
  return QemuOpener(settings, guest, std::move(guard), log).standby(primary, serial);
}

}  // namespace libft::ftctl
