// SPDX-License-Identifier: LGPL-2.1-or-later
#include "supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "report.h"

namespace libft::ftd {

namespace {

using std::chrono::milliseconds;

Result<std::optional<gid_t>> group_of(const std::string& name) {
  if (name.empty()) return std::optional<gid_t>();
  group entry{};
  group* found = nullptr;
  std::vector<char> text(65536);
  ::getgrnam_r(name.c_str(), &entry, text.data(), text.size(), &found);
  if (found != nullptr) return std::optional<gid_t>(entry.gr_gid);
  return failure(ftctl::with_remedy(
      Code::invalid, fmt::format("group {}: there is none", name),
      "make it (`groupadd --system " + name + "`), or name another with --group, or \"\""));
}

std::string text_of(const Json& event, const char* key) {
  const auto found = event.find(key);
  if (found == event.end()) return "-";
  const std::string text = found->is_string() ? found->get<std::string>() : found->dump();
  return text.empty() ? "-" : text;
}

}  // namespace

Supervisor::Supervisor(Options options, ftctl::Logger& log, ftctl::Descriptor signals,
                       os::EventFd wake, Notifier& notifier)
    : options_(std::move(options)),
      log_(log),
      signals_(std::move(signals)),
      wake_(std::move(wake)),
      notifier_(notifier),
      store_(options_.store),
      hook_(std::make_unique<Hook>(options_.on_event, log)) {}

Supervisor::~Supervisor() {
  events_.close();
  changed_.notify_all();
  control_.reset();
  metrics_.reset();
}

void Supervisor::leave() {
  events_.close();
  ::unlink(options_.socket.c_str());
  hook_.reset();
}

Result<std::unique_ptr<Supervisor>> Supervisor::open(Options options, ftctl::Logger& log,
                                                     ftctl::Descriptor signals,
                                                     Notifier& notifier) {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  std::unique_ptr<Supervisor> made(
      new Supervisor(std::move(options), log, std::move(signals), std::move(wake), notifier));
  FT_TRY(ftctl::ensure_state_dir(made->options_.places.run));
  // The socket first: a second ftd must not start anything.
  const Lock lock(made->mutex_);
  FT_TRY(made->open_doors());
  FT_TRY(made->load());
  return made;
}

Status Supervisor::open_doors() {
  FT_ASSIGN(const auto group, group_of(options_.group));
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(options_.socket).parent_path(), error);
  FT_ASSIGN(control_, ftctl::ControlServer::open_for_group(
                          options_.socket, group,
                          [this](const ftctl::Caller& caller, const Json& request,
                                 const Reply& reply) { answer(caller, request, reply); }));
  if (!options_.events_file.empty()) {
    events_file_ = ftctl::Descriptor(
        ::open(options_.events_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!events_file_.valid()) return ftctl::system_error(options_.events_file);
  }
  if (options_.metrics.empty()) return {};
  auto metrics = MetricsServer::open(options_.metrics, [this] { return metrics_text(); });
  if (!metrics) {
    return ftctl::with_remedy(metrics.error().code(), metrics.error().within("metrics").message(),
                              "choose another address with --metrics");
  }
  metrics_ = std::move(*metrics);
  log_.write(LogLevel::info, "ftd", "metrics at http://" + metrics_->address() + "/metrics");
  return {};
}

Status Supervisor::load() {
  std::filesystem::create_directories(options_.places.logs);
  std::vector<std::string> notes;
  FT_ASSIGN(std::vector<Protection> protections, store_.load(notes));
  for (const std::string& note : notes) log_.write(LogLevel::error, "ftd", "left out: " + note);
  maintenance_ = store_.maintenance();
  for (Protection& protection : protections) {
    Keeper& keeper = add_keeper(std::move(protection));
    keeper.resume(maintenance_);
    const std::string name = keeper.protection().name;
    if (keeper.has_process()) {
      log_.write(LogLevel::info, name, fmt::format("ftctl process {} goes on", keeper.pid()));
    } else if (keeper.phase() == Keeper::Phase::nothing) {
      log_.write(LogLevel::info, name,
                 maintenance_ ? "maintenance: nothing is started"
                              : "nothing is started: " + keeper.protection().note);
    }
  }
  return {};
}

Keeper& Supervisor::add_keeper(Protection protection) {
  auto& keeper = keepers_[protection.name];
  keeper = std::make_unique<Keeper>(
      options_.places, std::move(protection),
      [this](const Protection& changed) { return store_.save(changed); },
      [this](const Json& event, bool again) { told(event, again); });
  return *keeper;
}

Keeper* Supervisor::find(const std::string& name) {
  const auto found = keepers_.find(name);
  return found == keepers_.end() ? nullptr : found->second.get();
}

int Supervisor::run() {
  notifier_.ready(summary());
  for (;;) {
    wait_for_something();
    turn();
    notifier_.status(summary());
    signalfd_siginfo signal{};
    if (::read(signals_.get(), &signal, sizeof signal) != sizeof signal) continue;
    log_.write(LogLevel::info, "ftd",
               fmt::format("{}: leaving; the guests' ftctls go on",
                           ::strsignal(static_cast<int>(signal.ssi_signo))));
    notifier_.stopping();
    return ftctl::kFine;
  }
}

void Supervisor::wait_for_something() {
  std::vector<pollfd> waits{{signals_.get(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}};
  milliseconds patience = notifier_.period().value_or(milliseconds{60000});
  {
    const Lock lock(mutex_);
    for (const auto& [name, keeper] : keepers_) {
      keeper->add_to(waits);
      const auto deadline = keeper->deadline();
      if (!deadline) continue;
      const auto left = std::chrono::ceil<milliseconds>(*deadline - Keeper::Clock::now());
      patience = std::clamp(left, milliseconds{0}, patience);
    }
  }
  ::poll(waits.data(), waits.size(), static_cast<int>(patience.count()));
  wake_.drain();
}

void Supervisor::turn() {
  {
    const Lock lock(mutex_);
    for (const auto& [name, keeper] : keepers_) keeper->turn();
  }
  changed_.notify_all();
}

// With the lock held, by a keeper's turn.
void Supervisor::told(const Json& event, bool again) {
  events_.add(event);
  if (again) return;
  log_change(event);
  hook_->run(event);
  if (!events_file_.valid()) return;
  const std::string line = event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (::write(events_file_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    log_.write(LogLevel::error, "ftd", ftctl::system_error(options_.events_file).message());
  }
}

// One line a change of state, with everything that somebody who reads only this line wants to know.
void Supervisor::log_change(const Json& event) {
  const std::string guest = event.value("guest", "");
  Standing now{event.value("role", ""), event.value("state", ""), event.value("protected", false)};
  Standing& before = standing_[guest];
  const bool same = now.role == before.role && now.state == before.state &&
                    now.is_protected == before.is_protected;
  if (same) return;
  const ftctl::Complaint why = ftctl::complaint(Status(Code::io, event.value("text", "")));
  const bool lost = before.is_protected && !now.is_protected;
  log_.write(lost || !why.remedy.empty() ? LogLevel::warning : LogLevel::info, guest,
             fmt::format("{} {}{}; event={} uuid={} epoch={} generation={} peer={} cause: {}{}{}",
                         now.role, now.state, now.is_protected ? " PROTECTED" : "",
                         text_of(event, "event"), text_of(event, "uuid"), text_of(event, "epoch"),
                         text_of(event, "generation"), text_of(event, "peer"), why.cause,
                         why.remedy.empty() ? "" : " remedy: ", why.remedy));
  before = std::move(now);
}

std::string Supervisor::summary() {
  const Lock lock(mutex_);
  const auto serving = std::count_if(keepers_.begin(), keepers_.end(), [](const auto& entry) {
    return entry.second->phase() == Keeper::Phase::serving;
  });
  return fmt::format("{} guests, {} served{}", keepers_.size(), serving,
                     maintenance_ ? ", maintenance" : "");
}

bool Supervisor::wait_until(Lock& lock, Keeper::Clock::time_point until,
                            const std::function<bool()>& done) {
  wake();
  return changed_.wait_until(lock, until, done);
}

}  // namespace libft::ftd
