// SPDX-License-Identifier: LGPL-2.1-or-later
// The commands that serve guests until they end: protect, run, standby and witness.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "commands.h"
#include "daemon.h"
#include "earlier.h"
#include "ending.h"
#include "hand_over.h"
#include "libft/witness.h"
#include "report.h"
#include "through_ftd.h"

namespace libft::ftctl {

namespace {

Status check_failover_choice(const Settings& settings) {
  if (!settings.arbiter.empty() || settings.manual_failover) return {};
  return with_remedy(
      Code::refused, "two hosts need somebody to decide which of them owns the guest",
      "choose one: --arbiter etcd:URL (automatic failover); --arbiter file:DIRECTORY (automatic, "
      "on "
      "storage that both hosts share, or both replicas on one host); --manual-failover (a person "
      "decides with `ftctl failover`)");
}

Result<GuestId> name_of(Settings& settings) {
  if (settings.name.empty() && settings.guest.ends_with(".json")) {
    settings.name =
        std::filesystem::path(settings.guest.substr(settings.guest.find(':') + 1)).stem();
  }
  if (settings.name.empty() && settings.guest.starts_with("xen:")) {
    settings.name = settings.guest.substr(settings.guest.find(':') + 1);
  }
  if (settings.name.empty()) {
    return failure(with_remedy(Code::invalid, "the guest has no name", "give it one with --name"));
  }
  auto id = GuestId::from_name(settings.name);
  if (!id) return failure(Code::invalid, id.error().message());
  return id;
}

Result<Wanted> wanted_guest(const Arguments& arguments, const Config& config,
                            const std::string& guest) {
  Wanted wanted;
  FT_ASSIGN(wanted.settings, settings_for(arguments, config, guest));
  FT_ASSIGN(wanted.id, name_of(wanted.settings));
  if (arguments.command != "witness") FT_TRY(check_failover_choice(wanted.settings));
  return wanted;
}

// What every serving process has, in the order in which it comes about.
struct Process {
  Descriptor signals;
  std::unique_ptr<Logger> log;
  std::unique_ptr<Host> host;
  std::unique_ptr<Daemon> daemon;  // Goes before the host.
};

// Sockets of ftctls that were killed.
void remove_dead_sockets(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    int pid = 0, end = 0;
    const std::string file = entry.path().filename();
    if (std::sscanf(file.c_str(), "ftctl-%d.sock%n", &pid, &end) != 1 ||
        static_cast<std::size_t>(end) != file.size()) {
      continue;
    }
    if (process_of(pid).start_ticks == 0) std::filesystem::remove(entry.path(), error);
  }
}

Result<Process> start_process(const Settings& settings) {
  Process process;
  FT_ASSIGN(process.signals, take_signals());
  FT_ASSIGN(process.log, Logger::open(settings.log_file, settings.verbose));
  FT_TRY(ensure_state_dir(settings.state_dir));
  remove_dead_sockets(settings.state_dir);
  FT_ASSIGN(process.host, Host::make(*process.log));
  process.daemon = std::make_unique<Daemon>(*process.host, *process.log, std::move(process.signals),
                                            settings.state_dir);
  const std::string control = settings.control.empty()
                                  ? fmt::format("{}/ftctl-{}.sock", settings.state_dir, ::getpid())
                                  : settings.control;
  FT_TRY(process.daemon->listen(control));
  return process;
}

Result<std::vector<Remains>> remains_of(Process& process, const Wanted& wanted) {
  std::vector<std::string> notes;
  std::vector<Remains> remains;
  for (GuestState& state : read_states(wanted.settings.state_dir, wanted.id.name(), notes)) {
    if (alive(state.ftctl) && state.ftctl.pid != ::getpid()) {
      return failure(with_remedy(
          Code::refused,
          fmt::format("ftctl process {} runs guest {} already", state.ftctl.pid, wanted.id.name()),
          "`ftctl status` shows it; a second replica on one host needs a "
          "--state-dir of its own"));
    }
    FT_ASSIGN(const bool lives, process.host->lives(state));
    remains.push_back({std::move(state), lives});
  }
  for (const std::string& note : notes) process.log->write(LogLevel::warning, "ftctl", note);
  return remains;
}

// The record decides; nothing here is stopped or forgotten before it was read.
Result<Decision> look_back(Process& process, const Wanted& wanted) {
  FT_ASSIGN(const std::vector<Remains> remains, remains_of(process, wanted));
  const ReadAnswer record = process.host->read_record(wanted.settings, wanted.id);
  Decision decision = decide(wanted.id.name(), remains, record, wanted.settings.anew);
  if (decision.kind == Decision::Kind::refuse) return decision;
  for (const GuestState& state : decision.stop) {
    process.log->write(
        LogLevel::warning, wanted.id.name(),
        fmt::format("stopping {}: this life of the guest ({}) is not its owner any more",
                    whereabouts(state), to_string(state.self)));
    FT_TRY(process.host->stop(state, wanted.id));
    remove_state(wanted.settings.state_dir, state);
  }
  for (const GuestState& state : decision.discard) remove_state(wanted.settings.state_dir, state);
  return decision;
}

Status protect_guest(Process& process, const Wanted& wanted,
                     const std::vector<std::string>& command_line) {
  FT_TRY(process.host->check(wanted.settings));
  FT_ASSIGN(const Decision decision, look_back(process, wanted));
  if (!decision.why.ok()) return decision.why;
  // What may be impossible here, or held by another process (a port), comes before the guest.
  FT_ASSIGN(EpochsLog epochs_log, EpochsLog::open(wanted.settings.epochs_log));
  FT_ASSIGN([[maybe_unused]] Switchboard * switchboard, process.host->switchboard(wanted.settings));
  FT_ASSIGN(SessionParts parts, process.host->parts(wanted.settings, wanted.id, false));
  GuestSource source{wanted.settings.guest, command_line, decision.attach};
  FT_ASSIGN(Replica replica, process.host->open_guest(wanted.settings, wanted.id, source));
  SessionOptions options = session_options(wanted.settings);
  options.take_over_record =
      decision.kind == Decision::Kind::reattach || decision.kind == Decision::Kind::new_life;
  options.earlier = decision.from;
  auto session = Session::protect(std::move(parts), std::move(replica), options);
  if (!session) {
    // A guest that was started for this is not left behind, running and unheard.
    const bool started = !command_line.empty() || wanted.settings.guest.ends_with(".json");
    if (started && !decision.attach) {
      (void)kill_process(process.host->process(wanted.id).process, Millis{10000});
    }
    return session.error();
  }
  FT_TRY(
      process.daemon->add(wanted.settings, wanted.id, std::move(*session), std::move(epochs_log)));
  // Its successor is stored by now.
  if (decision.attach) remove_state(wanted.settings.state_dir, *decision.attach);
  return {};
}

Status back_guest(Process& process, const Wanted& wanted) {
  FT_TRY(process.host->check(wanted.settings));
  if (wanted.settings.peer.empty()) {
    return with_remedy(Code::invalid,
                       fmt::format("guest {}: no primary is named", wanted.id.name()),
                       "say where it listens: --peer ADDRESS:PORT");
  }
  FT_ASSIGN(const std::vector<Remains> remains, remains_of(process, wanted));
  if (!remains.empty()) {
    const ReadAnswer record = process.host->read_record(wanted.settings, wanted.id);
    const Decision decision = decide(wanted.id.name(), remains, record, false);
    if (decision.kind == Decision::Kind::reattach) {
      return with_remedy(
          Code::refused,
          fmt::format("this host still owns guest {}, whose ftctl died", wanted.id.name()),
          "`ftctl protect` takes it up again");
    }
    FT_ASSIGN([[maybe_unused]] const Decision done, look_back(process, wanted));
  }
  FT_ASSIGN(EpochsLog epochs_log, EpochsLog::open(wanted.settings.epochs_log));
  FT_ASSIGN(SessionParts parts, process.host->parts(wanted.settings, wanted.id, true));
  FT_ASSIGN(auto session, Session::stand_by(std::move(parts), session_options(wanted.settings)));
  return process.daemon->add(wanted.settings, wanted.id, std::move(session), std::move(epochs_log));
}

// It listens to nobody, and nothing of it is to be found by a successor.
Status witness_guest(Process& process, const Wanted& wanted) {
  if (wanted.settings.peer.empty()) {
    return with_remedy(Code::invalid, fmt::format("guest {}: no backup is named", wanted.id.name()),
                       "say where it listens: --peer ADDRESS:PORT; or name both hosts, whichever "
                       "is the backup");
  }
  Settings dials = wanted.settings;
  dials.listen = "tcp:127.0.0.1:0";  // It has no listener whose address would need a key.
  FT_TRY(process.host->check(dials));
  FT_ASSIGN(SessionParts parts, process.host->witness_parts(wanted.settings, wanted.id));
  FT_ASSIGN(auto session, bear_witness(std::move(parts), session_options(wanted.settings)));
  process.daemon->add_unheard(wanted.settings, wanted.id, std::move(session));
  return {};
}

Result<std::vector<Wanted>> wanted_guests(const Arguments& arguments, const Config& config) {
  std::vector<std::string> names = arguments.guests;
  const bool backs = arguments.command == "standby" || arguments.command == "witness";
  if (backs) {
    const auto given = arguments.given.find("name");
    if (given != arguments.given.end()) {
      names = {config.guests.contains(given->second.back()) ? given->second.back() : ""};
    } else {
      for (const auto& [name, unused] : config.guests) names.push_back(name);
    }
  }
  if (arguments.command == "run" || (names.empty() && backs)) names = {""};
  if (names.empty()) {
    return failure(
        with_remedy(Code::invalid, "no guest was named",
                    "ftctl protect qemu:FILE.json, qemu:pid=N,qmp=PATH, xen:NAME, or a name in the "
                    "configuration"));
  }
  std::vector<Wanted> all;
  for (const std::string& name : names) {
    FT_ASSIGN(Wanted wanted, wanted_guest(arguments, config, name));
    all.push_back(std::move(wanted));
  }
  return all;
}

Status take_up_primary(Process& process, const Wanted& wanted, const HandOver& left) {
  FT_ASSIGN(EpochsLog epochs_log, EpochsLog::open(wanted.settings.epochs_log));
  FT_ASSIGN([[maybe_unused]] Switchboard * switchboard, process.host->switchboard(wanted.settings));
  FT_ASSIGN(SessionParts parts, process.host->parts(wanted.settings, wanted.id, false));
  FT_ASSIGN(Replica replica, process.host->take_up(wanted.settings, wanted.id, left.process, false,
                                                   left.session.set_running));
  SessionOptions options = session_options(wanted.settings);
  options.held = left.session.bytes;
  FT_ASSIGN(auto session, Session::protect(std::move(parts), std::move(replica), options));
  return process.daemon->add(wanted.settings, wanted.id, std::move(session), std::move(epochs_log));
}

Status take_up_backup(Process& process, const Wanted& wanted, const HandOver& left) {
  FT_ASSIGN(EpochsLog epochs_log, EpochsLog::open(wanted.settings.epochs_log));
  FT_ASSIGN(SessionParts parts, process.host->parts(wanted.settings, wanted.id, true));
  // The first standby is the one that was left; later ones are made. Opened here, so that nothing of
  // its gate stays open when nobody asks for it.
  FT_ASSIGN(Replica standby,
            process.host->take_up(wanted.settings, wanted.id, left.process, true, false));
  const auto first = std::make_shared<std::optional<Replica>>(std::move(standby));
  parts.make_standby = [first, make = std::move(parts.make_standby)](
                           const GuestInfo& primary) -> Result<Replica> {
    auto there = std::exchange(*first, std::nullopt);
    return there ? Result<Replica>(std::move(*there)) : make(primary);
  };
  SessionOptions options = session_options(wanted.settings);
  options.held = left.session.bytes;
  FT_ASSIGN(auto session, Session::stand_by(std::move(parts), options));
  return process.daemon->add(wanted.settings, wanted.id, std::move(session), std::move(epochs_log));
}

// In the place of another program. What it left is worth a try: if that fails, this is an ftctl
// that starts after one that was killed. Then the guest is set running again if it only stood still
// for this, and a standby is nobody's.
Status take_up(Process& process, const Arguments& arguments, Wanted wanted) {
  auto left = read_hand_over(wanted.settings.hand_over);
  Status taken = left ? process.host->check(wanted.settings) : left.error();
  if (left) process.daemon->restore_events(left->first_event, left->events);
  if (taken) {
    taken = left->primary ? take_up_primary(process, wanted, *left)
                          : take_up_backup(process, wanted, *left);
  }
  if (taken) {
    process.log->write(LogLevel::info, wanted.id.name(),
                       fmt::format("goes on in the place of another ftctl, as the {}",
                                   left->primary ? "primary" : "backup"));
    return {};
  }
  process.log->write(LogLevel::error, wanted.id.name(),
                     "cannot go on where the ftctl before stood still: " + taken.message());
  if (left && left->primary) wanted.settings.resume = left->session.set_running;
  if (left && !left->primary) (void)kill_process(left->process.process, Millis{10000});
  return arguments.command == "standby" ? back_guest(process, wanted)
                                        : protect_guest(process, wanted, {});
}

Status serve_all(Process& process, const Arguments& arguments, const std::vector<Wanted>& guests) {
  if (guests.size() == 1 && guests[0].settings.hand_over != 0)
    return take_up(process, arguments, guests[0]);
  for (const Wanted& wanted : guests) {
    FT_TRY(arguments.command == "witness" ? witness_guest(process, wanted)
           : arguments.command == "standby"
               ? back_guest(process, wanted)
               : protect_guest(process, wanted, arguments.command_line));
  }
  return {};
}

Result<Ending> serve_to_the_end(const Arguments& arguments, const std::vector<Wanted>& guests) {
  FT_ASSIGN(Process process, start_process(guests.front().settings));
  FT_TRY(serve_all(process, arguments, guests));
  process.daemon->run();
  return process.daemon->ending();
}

// The ending is written when all is torn down, so that a successor meets nothing of this process.
int serve(const Arguments& arguments, const Config& config) {
  const auto guests = wanted_guests(arguments, config);
  if (!guests) return print_error(guests.error());
  if (const auto code = hand_to_ftd(arguments, *guests)) return *code;
  const auto served = serve_to_the_end(arguments, *guests);
  if (!served) print_error(served.error());
  const Ending ending = served ? *served : ending_of(served.error());
  const std::string& file = guests->front().settings.end_file;
  if (file.empty()) return ending.code;
  if (const Status wrote = write_ending(file, ending); !wrote) print_error(wrote);
  return ending.code;
}

}  // namespace

int protect_command(const Arguments& arguments, const Config& config) {
  if (arguments.command == "run" && arguments.command_line.empty()) {
    return print_error(with_remedy(Code::invalid, "no command line to run",
                                   "ftctl run [options] -- qemu-system-x86_64 ..."));
  }
  return serve(arguments, config);
}

int standby_command(const Arguments& arguments, const Config& config) {
  return serve(arguments, config);
}

int witness_command(const Arguments& arguments, const Config& config) {
  return serve(arguments, config);
}

}  // namespace libft::ftctl
