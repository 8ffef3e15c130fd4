// SPDX-License-Identifier: LGPL-2.1-or-later
#include "daemon.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#include <algorithm>

#include "format.h"
#include "report.h"

namespace libft::ftctl {

namespace {

constexpr int kWaitMs = 200;
constexpr std::chrono::milliseconds kProgressEvery{200};
// A session says in an event that something changes, and its status says the same a little later:
// so it is looked at then, and often in the second after it. Else seldom, because each look asks
// the kernel about every queue that holds the guest's output.
constexpr std::chrono::milliseconds kLookEvery{1000}, kLookOften{200}, kLookOftenFor{1000};
constexpr Nanos kHandOverPatience = std::chrono::seconds{30};
constexpr std::chrono::seconds kStoreEvery{1};

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

unsigned terminal_columns() {
  winsize size{};
  return ::ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string uuid_of(const GuestProcess& process) {
  if (!process.domain.empty()) return process.domain.substr(process.domain.find('/') + 1);
  const auto option = std::find(process.argv.begin(), process.argv.end(), "-uuid");
  if (option == process.argv.end() || option + 1 == process.argv.end()) return {};
  return *(option + 1);
}

Daemon::Daemon(Host& host, Logger& log, Descriptor signals, std::string state_dir)
    : host_(host),
      log_(log),
      signals_(std::move(signals)),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      replace_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      state_dir_(std::move(state_dir)) {}

Daemon::~Daemon() {
  events_.close();
  control_.reset();
  for (Served& served : served_) {
    if (served.switchboard != nullptr) served.switchboard->remove(served.guest);
  }
}

Status Daemon::add(const Settings& settings, const GuestId& guest, std::unique_ptr<Session> session,
                   EpochsLog epochs_log) {
  Served& served = served_.emplace_back();
  served.settings = settings;
  served.guest = guest;
  served.session = std::move(session);
  served.epochs_log = std::move(epochs_log);
  FT_ASSIGN(served.switchboard, host_.switchboard(settings));
  served.switchboard->add(guest, *served.session);
  look_at(served);
  return {};
}

void Daemon::add_unheard(const Settings& settings, const GuestId& guest,
                         std::unique_ptr<Session> session) {
  Served& served = served_.emplace_back();
  served.settings = settings;
  served.guest = guest;
  served.session = std::move(session);
  look_at(served);
}

Status Daemon::listen(const std::string& control_path) {
  FT_ASSIGN(control_, ControlServer::open(control_path, [this](const Json& request,
                                                               const ControlServer::Reply& reply) {
              answer(request, reply);
            }));
  log_.write(LogLevel::info, "ftctl", fmt::format("control socket {}", control_path));
  return {};
}

bool Daemon::is_due(Served& served, std::chrono::steady_clock::time_point now) {
  const bool changed = std::exchange(served.changed, false);
  if (changed) served.look_often_until = now + kLookOftenFor;
  const auto every = now < served.look_often_until ? kLookOften : kLookEvery;
  if (!changed && now - served.looked_at < every) return false;
  served.looked_at = now;
  return true;
}

int Daemon::run() {
  serving_ = true;
  while (!all_ended()) {
    wait_for_something();
    // Epochs come hundreds of times a second, and change nothing here.
    const auto now = std::chrono::steady_clock::now();
    for (Served& served : served_) {
      deliver(served);
      if (is_due(served, now)) look_at(served);
    }
    show_progress();
    become_replacement();
    signalfd_siginfo signal{};
    std::uint64_t stops = 0;
    if (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
      log_.write(LogLevel::info, "ftctl",
                 fmt::format("{}: leaving", ::strsignal(static_cast<int>(signal.ssi_signo))));
      return leave();
    }
    if (::read(stop_.get(), &stops, sizeof stops) == sizeof stops) return leave();
  }
  refuse_replacement();
  return result();
}

void Daemon::wait_for_something() {
  std::vector<pollfd> waits{
      {signals_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}, {replace_.get(), POLLIN, 0}};
  for (const Served& served : served_) {
    if (!served.end) waits.push_back({served.session->poll_fd(), POLLIN, 0});
  }
  ::poll(waits.data(), waits.size(), kWaitMs);
}

void Daemon::deliver(Served& served) {
  served.session->process([&](const SessionEvent& event) { take_event(served, event); });
}

void Daemon::take_event(Served& served, const SessionEvent& event) {
  if (event.name == "epoch") {
    if (const Status written = served.epochs_log.write(event.json); !written) {
      const Complaint failed = complaint(written);
      log_.write(LogLevel::error, served.guest.name(),
                 fmt::format("{}; remedy: {}", failed.cause, failed.remedy));
    }
    return;
  }
  served.changed = true;
  events_.add(record_of(served, event));
}

// With how the guest stands when the event is told, so that whoever keeps only the events can say
// what an event changed.
Json Daemon::record_of(const Served& served, const SessionEvent& event) const {
  const SessionStatus status = served.session->status();
  const double at_s = std::chrono::duration<double>(event.at.since_start).count();
  return Json{{"at_s", at_s},
              {"time", unix_seconds()},
              {"guest", served.guest.name()},
              {"uuid", uuid_of(host_.process(served.guest))},
              {"event", event.name},
              {"text", event.text},
              {"role", to_string(status.role)},
              {"state", status.state},
              {"protected", status.is_protected},
              {"peer", status.peer},
              {"generation", status.generation.value},
              {"epoch", std::max(status.epoch_captured, status.epoch_acknowledged)}};
}

// The state of a session decides what becomes of its guest here; events are for people.
void Daemon::look_at(Served& served) {
  if (served.end) return;
  const SessionStatus status = served.session->status();
  switch (status.role) {
    case Role::primary:
      served.was_primary = true;
      store(served, status);
      forget_earlier(served, status);
      return;
    case Role::backup:
      if (status.state == "in_sync") forget_earlier(served, status);
      return;
    case Role::ended:
      finish(served, kFine, End::guest_ended, "the guest ended");
      if (served.was_primary) hand_back(served);
      return;
    case Role::fenced:
      if (served.handing_over) {
        finish(served, kFine, End::handed_over, "handed over: " + status.detail);
      } else {
        finish(served, kFenced, End::fenced,
               "fenced: another host owns the guest; it was stopped here");
      }
      return;
    case Role::failed:
      if (!served.was_primary) {
        finish(served, kFailed, End::failed, status.detail);
      } else if (!served.told_failed) {
        // The guest may run, and its network ends with this process: so this process stays.
        served.told_failed = true;
        log_.write(LogLevel::error, served.guest.name(), "no longer protected: " + status.detail);
      }
      return;
  }
}

// For a restarted ftctl: from the moment at which this replica is the owner. What could not be
// written is tried again: space is freed, and until then an ftctl that dies leaves a guest that its
// successor does not know.
void Daemon::store(Served& served, const SessionStatus& status) {
  if (served.stored && served.stored->self == status.self) return;
  const auto now = std::chrono::steady_clock::now();
  if (served.store_failed && now < served.store_again_at) return;
  const GuestState state = state_of(served, status);
  const Status wrote = write_state(state_dir_, state);
  // Also when the new one is missing: a file that names an earlier life of the guest that runs
  // would make a successor stop it as one that lost.
  if (served.stored) remove_state(state_dir_, *std::exchange(served.stored, std::nullopt));
  if (!wrote) {
    served.store_again_at = now + kStoreEvery;
    if (std::exchange(served.store_failed, true)) return;
    log_.write(LogLevel::warning, served.guest.name(),
               fmt::format("a restarted ftctl will not find the guest: {}; remedy: free space in "
                           "{}, or choose another folder with --state-dir",
                           wrote.message(), state_dir_));
    return;
  }
  if (std::exchange(served.store_failed, false)) {
    log_.write(LogLevel::info, served.guest.name(), "a restarted ftctl will find the guest again");
  }
  served.stored = state;
}

// The record names this replica, or the one that it is in sync with, and so no life that is over:
// from here on what those left decides nothing any more.
void Daemon::forget_earlier(Served& served, const SessionStatus& status) {
  if (std::exchange(served.forgot_earlier, true)) return;
  remove_dead_states(state_dir_, served.guest.name(), status.self);
}

GuestState Daemon::state_of(const Served& served, const SessionStatus& status) const {
  const GuestProcess process = host_.process(served.guest);
  GuestState state;
  state.name = served.guest.name();
  state.host = status.host;
  state.self = status.self;
  state.ftctl = this_process();
  state.guest = process.process;
  state.domain = process.domain;
  state.qmp = process.qmp;
  state.argv = process.argv;
  state.spec = served.settings.guest;
  return state;
}

void Daemon::finish(Served& served, int code, End how, const std::string& why) {
  served.end = code;
  if (code >= result()) ending_ = {code, how, why};
  deliver(served);
  if (served.stored) remove_state(state_dir_, *served.stored);
  served.stored.reset();
  log_.write(code == kFine ? LogLevel::info : LogLevel::error, served.guest.name(), why);
}

void Daemon::hand_back(const Served& served) {
  if (const std::string what = host_.hand_back(served.guest); !what.empty())
    log_.write(LogLevel::info, served.guest.name(), what);
}

void Daemon::show_progress() {
  if (!log_.shows_progress()) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - shown_at_ < kProgressEvery) return;
  shown_at_ = now;
  std::string line;
  for (const Served& served : served_) {
    if (!served.end && line.empty()) {
      line = progress_line(served.session->status(), terminal_columns());
    }
  }
  log_.progress(line);
}

bool Daemon::all_ended() const {
  return std::all_of(served_.begin(), served_.end(),
                     [](const Served& served) { return served.end.has_value(); });
}

int Daemon::result() const {
  int worst = kFine;
  for (const Served& served : served_) worst = std::max(worst, served.end.value_or(kFine));
  return worst;
}

void Daemon::say_what_stays(const Served& served) {
  const GuestProcess process = host_.process(served.guest);
  const pid_t pid = process.process.pid;
  std::string what = "the guest lived in this process and ends with it";
  if (!process.domain.empty())
    what = fmt::format("the guest runs on as domain {}; `ftctl protect` takes it up again",
                       process.domain);
  if (pid > 0) what = fmt::format("the guest runs on as process {} without a network; ", pid);
  if (pid > 0 && served.stored) what += "`ftctl protect` with the same options takes it up again";
  if (pid > 0 && !served.stored) what += "`ftctl protect` will not know it: end that process first";
  log_.write(LogLevel::warning, served.guest.name(), what);
}

// The guest's frames pass through this process, so that its network stops when this process ends.
// Therefore a protected guest is moved to its backup first. One without a backup runs on, unheard,
// until the next `ftctl protect` finds it by its state file.
int Daemon::leave() {
  refuse_replacement();
  for (Served& served : served_) {
    if (served.end || !served.session->status().is_protected) continue;
    served.handing_over = true;
    log_.write(LogLevel::info, served.guest.name(), "switching over to the backup before leaving");
    if (const Status wish = served.session->switch_over(); !wish) {
      log_.write(LogLevel::warning, served.guest.name(), "no switch-over: " + wish.message());
      served.handing_over = false;
    }
  }
  const auto until = std::chrono::steady_clock::now() + kHandOverPatience;
  const auto handing_over = [](const Served& served) { return served.handing_over && !served.end; };
  while (std::any_of(served_.begin(), served_.end(), handing_over) &&
         std::chrono::steady_clock::now() < until) {
    wait_for_something();
    for (Served& served : served_) {
      deliver(served);
      look_at(served);
    }
    signalfd_siginfo again{};
    if (::read(signals_.get(), &again, sizeof again) == sizeof again) break;  // Impatient: at once.
  }
  for (const Served& served : served_) {
    if (served.end || !served.was_primary) continue;
    say_what_stays(served);
    // With a backup in sync another host may continue the guest: then nobody starts it here again.
    if (!served.session->status().is_protected) hand_back(served);
  }
  if (!all_ended()) ending_ = {result(), End::left, "ended on request"};
  return result();
}

}  // namespace libft::ftctl
