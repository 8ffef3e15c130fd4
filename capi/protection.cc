// SPDX-License-Identifier: LGPL-2.1-or-later
// The life of a Protection: started, driven, stopped. What it is made of is in protection_parts.cc.
#include "protection.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>

#include "failover/open_arbiter.h"
#include "os/thread.h"

namespace libft::capi {
namespace {

constexpr int kLookEvery_ms = 20;  // run(): a state can change without an event.
constexpr unsigned kWorkersMax = 4;

unsigned workers() { return std::clamp(std::thread::hardware_concurrency(), 1u, kWorkersMax); }

Status watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) return os::errno_status("epoll_ctl");
  return {};
}

Outcome not_now(const char* when) { return {FT_E_STATE, "the session cannot do that now", when}; }

std::int32_t role_number(Role role) {
  switch (role) {
    case Role::backup: return FT_ROLE_BACKUP;
    case Role::primary: return FT_ROLE_PRIMARY;
    case Role::fenced: return FT_ROLE_FENCED;
    case Role::ended: return FT_ROLE_ENDED;
    case Role::failed: return FT_ROLE_FAILED;
  }
  return FT_ROLE_FAILED;
}

}  // namespace

Protection::Protection(const Options& options, std::shared_ptr<Desk> desk, os::ScopedFd poll)
    : desk_(std::move(desk)),
      poll_(std::move(poll)),
      options_(options),
      pool_(workers()),
      guard_(std::make_shared<ReleaseGuard>(clock_)),
      log_(make_log({}, nullptr)) {}

Protection::~Protection() = default;

Outcome Protection::make(const Options& options, std::unique_ptr<Protection>& into) {
  FT_GET(auto desk, Desk::create());
  os::ScopedFd poll(::epoll_create1(EPOLL_CLOEXEC));
  if (!poll.valid()) return os::errno_status("epoll_create1");
  FT_CHECK(watch(poll.get(), desk->fd()));
  into.reset(new Protection(options, std::move(desk), std::move(poll)));
  FT_GET(into->guest_, GuestId::from_name(options.settings().name));
  return {};
}

// --- starting -----------------------------------------------------------------------------------

Outcome Protection::start(Role role, Given<ft_completion>& done) {
  const std::unique_lock lock(mutex_);
  if (phase_ == Phase::asking) return not_now("wait until may_start is done");
  if (phase_ != Phase::fresh) return not_now("start a session once; make a new one to start again");
  FT_CHECK(open_parts(role));
  phase_ = Phase::starting;
  const auto id = note_wish(role == Role::primary ? "protect" : "stand_by", done);
  starter_ = os::start_thread("ft-start", [this, role, id] {
    Status status;
    try {
      SessionParts parts{.guest = guest_,
                         .host = {},
                         .log = *log_,
                         .clock = clock_,
                         .executor = pool_,
                         .arena = arena_,
                         .arbiter = std::move(arbiter_),
                         .fence = std::move(fence_),
                         .guard = guard_,
                         .make_standby = nullptr,
                         .dial = nullptr,
                         .dial_heartbeats = nullptr,
                         .expect_heartbeats = nullptr,
                         .heartbeat_port = 0};
      status = begin(role, std::move(parts));
    } catch (const std::exception& e) {
      status = Status(Code::internal, e.what());
    }
    if (!status) {
      const std::scoped_lock failed(mutex_);
      if (phase_ == Phase::starting) phase_ = Phase::over;
      trouble_ = status.message();
    }
    (void)desk_->post([this, id, status] { complete(id, status, {}); });
  });
  return {};
}

// On the starting thread, which waits for the arbiter and for ports.
Status Protection::begin(Role role, SessionParts parts) {
  if (role == Role::primary) FT_TRY(open_own_guest());
  if (auto wired = wire_heartbeats(parts); !wired.ok())
    return to_status(wired.code, wired.cause, wired.remedy);
  if (auto wired = wire_backup(parts); !wired.ok())
    return to_status(wired.code, wired.cause, wired.remedy);
  SessionOptions options = options_.session_options();
  if (left_) options.held = left_->session.bytes;
  if (const std::string earlier = options_.settings().earlier; !earlier.empty()) {
    FT_ASSIGN(options.earlier, incarnation_from_string(earlier));
    options.take_over_record = true;
  }
  if (role == Role::primary && options_.settings().anew != 0)
    FT_TRY(end_earlier_life(arbiter_spec_.empty() ? parts.arbiter.get() : nullptr, options));
  if (parts.arbiter && !parts.arbiter->automatic()) options.automatic_failover = false;
  auto made = role == Role::primary
                  ? Session::protect(std::move(parts), std::move(replica_), options)
                  : Session::stand_by(std::move(parts), options);
  if (!made) return made.error();
  FT_TRY(watch(poll_.get(), (*made)->poll_fd()));
  // Without the lock: a switchboard has one of its own, and logs under it.
  auto offered = Switchboard::open(offers_->listener(), *log_);
  offered->add(guest_, **made);
  std::unique_ptr<Switchboard> listening;
  if (listener_) {
    listening = Switchboard::open(std::move(listener_), *log_);
    listening->add(guest_, **made);
  }
  const std::scoped_lock lock(mutex_);
  session_ = std::move(*made);
  offered_ = std::move(offered);
  listening_ = std::move(listening);
  if (phase_ == Phase::starting) phase_ = Phase::running;
  return {};
}

// --- wishes -------------------------------------------------------------------------------------

// With the lock held.
std::uint64_t Protection::note_wish(const char* phase, Given<ft_completion>& done) {
  Wish wish;
  wish.phase = phase;
  wish.done = {done.port, done.adopt(desk_)};
  wishes_.emplace(++wishes_ever_, std::move(wish));
  return wishes_ever_;
}

// With the lock held. What a session calls, on its thread, when the wish has ended.
std::function<void(Result<std::string>)> Protection::wish_done(const char* phase,
                                                               Given<ft_completion>& done) {
  return [this, id = note_wish(phase, done)](const Result<std::string>& result) {
    const Outcome outcome = result ? Outcome() : Outcome(result.error());
    (void)desk_->post(
        [this, id, outcome, text = result.value_or("")] { complete(id, outcome, text); });
  };
}

// On the host's thread.
void Protection::complete(std::uint64_t id, const Outcome& outcome, const std::string& text) {
  Wish wish;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = wishes_.find(id);
    if (found == wishes_.end()) return;
    wish = std::move(found->second);
    wishes_.erase(found);
  }
  if (wish.done.port.done == nullptr) return;
  const ft_error error = to_error(outcome, wish.phase);
  wish.done.port.done(wish.done.life->user(), outcome.code, text.c_str(), &error);
}

Outcome Protection::wish(Session::Wish wish, const char* phase, Given<ft_completion>& done) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return not_now("wait until protect or stand_by is done");
  // Who makes such a wish is the person that a manual arbiter waits for.
  if (wish == Session::Wish::fail_over || wish == Session::Wish::unprotect)
    FT_CHECK(failover::permit(arbiter_spec_, guest_, session_->status()));
  session_->post(wish, wish_done(phase, done));
  return {};
}

Outcome Protection::change_strategy(Strategy to, Given<ft_completion>& done) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return not_now("wait until protect is done");
  session_->post_change(to, wish_done("change_strategy", done));
  return {};
}

Outcome Protection::reprotect(Given<ft_completion>& done) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return not_now("wait until protect or stand_by is done");
  if (session_->status().role != Role::primary)
    return {FT_E_REFUSED, "this replica is not the primary", "ask the host that owns the guest"};
  const auto id = note_wish("reprotect", done);
  wishes_.at(id).reprotect = true;
  (void)desk_->post([] {});  // It may be protected already.
  return {};
}

Outcome Protection::hold(Nanos at_most, Given<ft_completion>& done) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return not_now("wait until protect or stand_by is done");
  session_->post_hold(at_most, [this, ended = wish_done("hold", done)](Result<HeldSession> held) {
    ended(held ? Result<std::string>(text_of(std::move(*held))) : failure(held.error()));
  });
  return {};
}

Outcome Protection::let_go() {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return not_now("wait until a hold is done");
  const Status gone_on = session_->let_go();
  if (gone_on.code() == Code::invalid) return not_now("wait until a hold is done");
  return gone_on;
}

Outcome Protection::stop(Given<ft_completion>& done) {
  {
    const std::scoped_lock lock(mutex_);
    if (phase_ != Phase::running && phase_ != Phase::starting)
      return not_now("only a session that was started, and not stopped, can be stopped");
    phase_ = Phase::stopping;
    const auto id = note_wish("stop", done);
    stopper_ = os::start_thread("ft-stop", [this, id] {
      tear_down();
      (void)desk_->post([this, id] {
        std::vector<std::uint64_t> left;
        {
          const std::scoped_lock wishes(mutex_);
          for (const auto& [other, wish] : wishes_)
            if (other != id) left.push_back(other);
        }
        for (const auto other : left) complete(other, {FT_E_CANCELLED, "the session stopped"}, {});
        complete(id, {}, {});
      });
    });
  }
  desk_->refuse_pending();
  return {};
}

Outcome Protection::offer(std::unique_ptr<Transport> connection) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return not_now("wait until protect or stand_by is done");
  if (!offers_->add(std::move(connection)))
    return {FT_E_BUSY, "too many connections wait", "offer it again later"};
  return {};
}

// --- the host's driver --------------------------------------------------------------------------

Outcome Protection::Driving::take(Protection& protection, std::optional<Driving>& into) {
  std::thread::id nobody{};
  const auto self = std::this_thread::get_id();
  if (protection.driver_.compare_exchange_strong(nobody, self)) {
    into.emplace(Driving(protection));
    return {};
  }
  if (nobody == self)
    return {FT_E_STATE, "a callback may not process, run or free the session that calls it",
            "do it when the callback has returned"};
  return {FT_E_BUSY, "another thread drives this session at the moment",
          "drive it from one thread"};
}

void Protection::process(const Driving&) {
  desk_->serve();
  deliver_events();
  look_for_protection();
}

void Protection::deliver_events() {
  std::vector<SessionEvent> events;
  {
    const std::scoped_lock lock(mutex_);
    if (!session_) return;
    session_->process([&](const SessionEvent& event) { events.push_back(event); });
  }
  deliver(events);
}

void Protection::deliver(const std::vector<SessionEvent>& events) {
  if (!events_.life) return;
  for (const SessionEvent& event : events) {
    const ft_event c{sizeof c,
                     0,
                     static_cast<std::uint64_t>(event.at.since_start.count()),
                     event.name.c_str(),
                     event.text.c_str(),
                     event.json.c_str()};
    events_.port.event(events_.life->user(), &c);
  }
}

void Protection::look_for_protection() {
  std::vector<std::uint64_t> fulfilled;
  Outcome outcome;
  {
    const std::scoped_lock lock(mutex_);
    if (!session_) return;
    for (const auto& [id, wish] : wishes_)
      if (wish.reprotect) fulfilled.push_back(id);
    if (fulfilled.empty()) return;
    const SessionStatus status = session_->status();
    if (status.role == Role::primary && !status.is_protected) return;
    if (status.role != Role::primary)
      outcome = {FT_E_FENCED, "this replica is not the primary any more: " + status.detail, {}};
  }
  for (const auto id : fulfilled) complete(id, outcome, {});
}

bool Protection::over() const {
  const std::scoped_lock lock(mutex_);
  return phase_ == Phase::over;
}

bool Protection::reached(std::uint32_t until) const {
  std::int32_t role = FT_ROLE_NONE;
  const SessionStatus now = status(role);
  if (role == FT_ROLE_FENCED || role == FT_ROLE_ENDED || role == FT_ROLE_FAILED ||
      role == FT_ROLE_STOPPED)
    return true;
  if ((until & FT_UNTIL_PROTECTED) != 0 && now.is_protected) return true;
  if ((until & FT_UNTIL_IN_SYNC) != 0 && now.state == "in_sync") return true;
  if ((until & FT_UNTIL_PRIMARY) != 0 && role == FT_ROLE_PRIMARY) return true;
  const std::scoped_lock lock(mutex_);
  return (until & FT_UNTIL_WISHES) != 0 && wishes_.empty();
}

Outcome Protection::run(const Driving& driving, std::uint32_t until, std::int32_t timeout_ms) {
  const auto begun = std::chrono::steady_clock::now();
  for (;;) {
    process(driving);
    if (interrupted_.exchange(false)) return {FT_E_CANCELLED, "interrupted", {}};
    if (reached(until)) return {};
    const auto passed = std::chrono::steady_clock::now() - begun;
    if (timeout_ms >= 0 && passed >= std::chrono::milliseconds(timeout_ms))
      return {FT_E_TIMEOUT, "what was waited for did not happen in time", {}};
    pollfd waits{poll_.get(), POLLIN, 0};
    (void)::poll(&waits, 1, kLookEvery_ms);
  }
}

void Protection::interrupt() {
  interrupted_ = true;
  (void)desk_->post([] {});
}

// --- the end ------------------------------------------------------------------------------------

// On a thread that may wait: for what it waits, the host's thread goes on serving.
void Protection::tear_down() {
  if (starter_.joinable()) starter_.join();
  std::unique_ptr<Session> session;
  std::unique_ptr<Switchboard> boards[2];
  {
    const std::scoped_lock lock(mutex_);
    if (session_) last_ = session_->status();
    session = std::move(session_);
    boards[0] = std::move(offered_);
    boards[1] = std::move(listening_);
  }
  for (auto& board : boards) {
    if (board) board->remove(guest_);
    board.reset();
  }
  if (session) {
    std::vector<SessionEvent> rest;
    session->process([&](const SessionEvent& event) { rest.push_back(event); });
    (void)desk_->post([this, rest = std::move(rest)] { deliver(rest); });
  }
  session.reset();
  hub_.reset();
  listener_.reset();
  replica_ = {};
  qmp_.reset();
  arbiter_.reset();
  fence_.reset();
  const std::scoped_lock lock(mutex_);
  phase_ = Phase::over;
}

// Everything pending is cancelled first, so that whoever waits for the host goes on; what is asked
// of it from then on is called, and may not become pending. So the host's functions are all that
// this waits for; those of ports on any thread too, for instance of an arbiter whose thread was
// left behind: nothing of the host's is called once this returned.
void Protection::finish(const Driving&) {
  desk_->refuse_pending();
  std::jthread ending;
  {
    const std::scoped_lock lock(mutex_);
    if (phase_ != Phase::stopping && !stopper_.joinable()) {
      phase_ = Phase::stopping;
      ending = os::start_thread("ft-stop", [this] { tear_down(); });
    }
  }
  while (!over()) {
    desk_->serve();
    pollfd waits{desk_->fd(), POLLIN, 0};
    (void)::poll(&waits, 1, kLookEvery_ms);
  }
  if (ending.joinable()) ending.join();
  if (stopper_.joinable()) stopper_.join();
  desk_->serve();
  while (!wishes_.empty())
    complete(wishes_.begin()->first, {FT_E_CANCELLED, "the session is freed", {}}, {});
  standby_.reset();
  dial_.reset();
  detector_.reset();
  events_ = {};
  log_.reset();
  while (!desk_->deserted()) {
    desk_->serve();
    pollfd waits{desk_->fd(), POLLIN, 0};
    (void)::poll(&waits, 1, kLookEvery_ms);
  }
  while (desk_->serve()) {
  }
  desk_->shut();
}

// --- looking ------------------------------------------------------------------------------------

SessionStatus Protection::status(std::int32_t& role) const {
  const std::scoped_lock lock(mutex_);
  if (session_) {
    auto status = session_->status();
    role = role_number(status.role);
    return status;
  }
  SessionStatus status = last_;
  status.guest = guest_.name();
  status.is_protected = false;
  switch (phase_) {
    case Phase::fresh:
    case Phase::asking: role = FT_ROLE_NONE; break;
    case Phase::starting:
    case Phase::running: role = FT_ROLE_STARTING; break;
    case Phase::stopping: role = FT_ROLE_STOPPED; break;
    case Phase::over: role = trouble_.empty() ? FT_ROLE_STOPPED : FT_ROLE_FAILED; break;
  }
  status.state = role == FT_ROLE_NONE       ? "none"
                 : role == FT_ROLE_STARTING ? "starting"
                 : role == FT_ROLE_FAILED   ? "failed"
                                            : "stopped";
  if (!trouble_.empty()) status.detail = trouble_;
  return status;
}

}  // namespace libft::capi
