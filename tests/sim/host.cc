// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/host.h"

#include "sim/world.h"

namespace libft::sim {
namespace {
constexpr Nanos kCheckInterval = Millis{25};
constexpr Nanos kBeatInterval = Millis{50};
constexpr std::string_view kNames[kHosts] = {"A", "B", "C"};
}  // namespace

Host::Host(World& world, int index)
    : world_(world), index_(index), name_(kNames[static_cast<std::size_t>(index)]) {
  world.network.attach(index, *this);
}
Host::~Host() = default;

Time Host::local_now() const { return world_.queue.now() - hidden_; }

// --- life
// -----------------------------------------------------------------------------------------

void Host::begin_life() {
  ++life_;
  stall_.reset();
  busy_ = false;
  waiting_.clear();
  armed_stall_.reset();
  armed_crash_ = false;
  watch_.reset();
  check_planned_ = world_.queue.now();
  later_unposted(kBeatInterval, [this] { beat(); });
  later_unposted(kCheckInterval, [this] { check_silence(); });
  later_unposted(Millis{3}, [this] { run_guest(); });
}

void Host::start_as_owner(const OwnershipRecord& record, const Incarnation& self) {
  begin_life();
  replica_ = std::make_unique<Replica>(world_, *this, self);
  replica_->begin_as_owner(record);
}

void Host::start() {
  const bool again = world_.is(Mutant::reuse_incarnation) && dying_;
  const Incarnation self = again ? dying_->self() : world_.new_incarnation(index_);
  begin_life();
  world_.trace.add(name_, "starts", life_);
  replica_ = std::make_unique<Replica>(world_, *this, self);
  post([this] { replica_->begin_as_backup(); });
}

void Host::crash(bool silently) {
  if (!replica_) return;
  world_.trace.add(name_, silently ? "host dies" : "process dies", life_);
  replica_->die();
  world_.network.host_died(index_, silently);
  ++life_;  // Whatever is under way finds nobody.
  dying_ = std::move(replica_);
  stall_.reset();
  busy_ = false;
  waiting_.clear();
  watch_.reset();
}

void Host::stall(Stall kind, Nanos length) {
  if (!replica_ || stall_) return;
  world_.trace.add(name_,
                   kind == Stall::host     ? "stands still"
                   : kind == Stall::hidden ? "stands still, unseen"
                                           : "session stands still",
                   static_cast<std::uint64_t>(length.count() / 1000000));
  stall_ = kind;
  stall_began_ = world_.queue.now();
  const std::uint64_t number = ++stall_number_;
  later_unposted(length, [this, number] { wake(number); });
}

void Host::wake(std::uint64_t number) {
  if (!stall_ || number != stall_number_) return;
  const Nanos length = world_.queue.now() - stall_began_;
  if (*stall_ == Stall::hidden || (*stall_ == Stall::host && world_.is(Mutant::skip_stall_check)))
    hidden_ += length;
  const bool shown = *stall_ != Stall::hidden;
  world_.trace.add(name_, "goes on", static_cast<std::uint64_t>(length.count() / 1000000));
  stall_.reset();
  if (replica_) replica_->stood_still(length, shown);
  drain();
}

void Host::calm() {
  armed_stall_.reset();
  armed_crash_ = false;
  if (stall_) wake(stall_number_);
}

bool Host::interrupted() {
  if (armed_crash_) {
    armed_crash_ = false;
    crash(true);
    return true;
  }
  if (armed_stall_) {
    stall(armed_stall_->kind, armed_stall_->length);
    armed_stall_.reset();
  }
  return stall_.has_value();
}

// --- the session's thread
// -------------------------------------------------------------------------

void Host::post(std::function<void()> event) {
  if (!replica_) return;
  waiting_.push_back(std::move(event));
  drain();
}

void Host::drain() {
  if (running_) return;
  running_ = true;
  if (replica_ && !held()) replica_->go_on();
  while (replica_ && !held() && !waiting_.empty()) {
    const auto event = std::move(waiting_.front());
    waiting_.pop_front();
    ++progress_;
    event();
    if (replica_) replica_->go_on();
  }
  running_ = false;
}

void Host::later(Nanos delay, std::function<void()> event) {
  world_.queue.in(delay, [this, life = life_, event = std::move(event)] {
    if (life == life_) post(event);
  });
}

void Host::later_unposted(Nanos delay, std::function<void()> event) {
  world_.queue.in(delay, [this, life = life_, event = std::move(event)] {
    if (life == life_) event();
  });
}

void Host::occupy(Nanos length, std::function<void()> then) {
  busy_ = true;
  waiting_.push_front(std::move(then));
  later_unposted(length, [this] {
    busy_ = false;
    drain();
  });
}

// --- the detector and the guest: threads of their own
// ---------------------------------------------

void Host::watch(int peer, const Incarnation& who, core::Watched as) {
  watch_.emplace(Watch{peer, who, core::Suspicion(DetectorOptions{}, {"sim"}, as)});
  watch_->suspicion.start(world_.queue.now());
}

void Host::unwatch() { watch_.reset(); }

void Host::beat() {
  later_unposted(kBeatInterval, [this] { beat(); });
  if (frozen() || !watch_ || !replica_) return;
  if (!stall_) ++progress_;
  world_.network.datagram(index_, watch_->peer, {replica_->self().id, progress_});
}

void Host::check_silence() {
  if (frozen()) {  // Its timer fires when the host goes on.
    later_unposted(Millis{1}, [this] { check_silence(); });
    return;
  }
  const Time now = world_.queue.now();
  if (watch_) {
    watch_->suspicion.slept_over(check_planned_, now);
    tell(watch_->suspicion.check(now));
  }
  check_planned_ = now + kCheckInterval;
  later_unposted(kCheckInterval, [this] { check_silence(); });
}

void Host::on_datagram(int from, const Datagram& datagram) {
  if (frozen() || !watch_ || watch_->peer != from || watch_->who.id != datagram.sender) return;
  tell(watch_->suspicion.heard(0, world_.queue.now(), datagram.progress));
}

void Host::tell(const std::vector<DetectorEvent>& events) {
  for (const DetectorEvent& event : events)
    post([this, event, who = watch_->who] { replica_->on_detector(event, who); });
}

void Host::run_guest() {
  later_unposted(world_.random.between(Millis{3}, Millis{8}), [this] { run_guest(); });
  if (!frozen() && !busy_ && replica_) replica_->run_guest();
}

void Host::on_client(const FrameBytes& frame) {
  if (!frozen() && replica_) replica_->on_client(frame);
}

// --- the network
// ----------------------------------------------------------------------------------

void Host::on_connection(ConnectionId connection, int peer, bool dialed) {
  if (!replica_) return world_.network.close(connection, index_);
  post([this, connection, peer, dialed] { replica_->on_connection(connection, peer, dialed); });
}

void Host::on_bytes(ConnectionId connection, std::span<const std::byte> bytes) {
  if (!replica_) return;
  post([this, connection, copy = std::vector(bytes.begin(), bytes.end())] {
    replica_->on_bytes(connection, copy);
  });
}

void Host::on_closed(ConnectionId connection) {
  if (replica_) post([this, connection] { replica_->on_closed(connection); });
}

}  // namespace libft::sim
