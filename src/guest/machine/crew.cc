// SPDX-License-Identifier: LGPL-2.1-or-later
#include "crew.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/assert.h"

namespace libft::machine {

namespace {

// How often a hart looks whether somebody waits for it: often enough that waiting costs about what
// waking a thread does, seldom enough that looking costs little.
constexpr std::uint64_t kStepsBetweenLooks = 2000;
// What a hart has waited for it keeps at least so long: a page that is written by many would
// otherwise change hands all the time.
constexpr std::uint64_t kStepsKept = 6000;
// After so many a round ends, so that its bytes are an input like others, of less than 64 KiB. The
// longest transfer has 29 bytes; each hart may have one more until it notices.
constexpr std::size_t kTransfersMax = 2000;
static_assert((kTransfersMax + kHartsMax) * 29 + 64 < 65536);
constexpr unsigned kSpins = 200;  // Before a thread sleeps; some microseconds.

constexpr std::uint8_t mask_of(unsigned hart) { return static_cast<std::uint8_t>(1u << hart); }

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

// What a hart does in a round that is done again, before the instruction with that number.
struct Crew::Event {
  std::uint64_t steps = 0;
  std::size_t transfer = 0;
  bool takes = false;  // Otherwise it leaves the page to the taker.
};

namespace {

// How far a hart is: its instructions, then what it has done before the next one. A page may come
// and go again between two instructions; who takes it then must come after those from whom it came.
constexpr std::uint64_t progress_at(std::uint64_t steps, std::size_t transfer) {
  return steps << 32 | transfer;
}
constexpr std::uint64_t progress_after(std::uint64_t steps) {
  return progress_at(steps, 0xffffffff);
}

}  // namespace

struct Crew::Member {
  enum class State { stands, executes, waits };

  // Under the mutex.
  State state = State::stands;
  bool in_round = false;
  std::uint64_t steps = 0;   // When it last looked, or stopped.
  std::uint64_t ticket = 0;  // Who waits longer comes first.
  Wanted wanted;
  std::vector<HartAt> after;  // Who has left the page to it so far.
  Round::Part part;
  Exit exit = Exit::steps;
  std::condition_variable granted;

  std::atomic<bool> asked{false};  // Somebody waits for a page of it.
  std::atomic<bool> waits{false};  // state, for its own thread.

  // Of a round that is done again.
  std::vector<Event> events;
  std::size_t next = 0;
  std::atomic<std::uint64_t> progress{0};
};

Crew::Crew(Memory& memory, unsigned harts)
    : memory_(memory),
      readers_(memory.pages(), 0),
      writers_(memory.pages(), 0),
      left_(memory.pages()),
      threads_(harts - 1) {
  for (unsigned id = 0; id < harts; ++id) {
    views_.push_back(std::make_unique<Memory>(Memory::ViewOf{memory}));
    members_.push_back(std::make_unique<Member>());
  }
  memory_.set_views(this);
}

Crew::~Crew() { memory_.set_views(nullptr); }

// --- who has what -------------------------------------------------------------------------------

Crew::Harts Crew::in_the_way(std::uint64_t page, unsigned hart, bool write) const {
  const Harts others = write ? readers_[page] : writers_[page];
  return static_cast<Harts>(others & ~mask_of(hart));
}

void Crew::set(std::uint64_t page, unsigned hart, Permission permission) {
  const auto put = [mask = mask_of(hart)](Harts& harts, bool on) {
    harts = static_cast<Harts>(on ? harts | mask : harts & ~mask);
  };
  put(readers_[page], permission != Permission::none);
  put(writers_[page], permission == Permission::write);
  views_[hart]->permit(page, permission);
}

// Never gives the hart more than it has.
void Crew::leave(std::uint64_t page, unsigned hart, bool to_writer) {
  if (to_writer) {
    set(page, hart, Permission::none);
  } else if ((writers_[page] & mask_of(hart)) != 0) {
    set(page, hart, Permission::read);
  }
}

void Crew::let_have(unsigned hart, const Wanted& wanted) {
  const bool write = wanted.permission == Permission::write;
  const Harts others = in_the_way(wanted.page, hart, write);
  for (unsigned other = 0; other < views_.size(); ++other)
    if ((others & mask_of(other)) != 0) leave(wanted.page, other, write);
  set(wanted.page, hart, wanted.permission);
}

void Crew::take_back(std::uint64_t page) {
  const Harts having = readers_[page];
  for (unsigned hart = 0; hart < views_.size(); ++hart)
    if ((having & mask_of(hart)) != 0) set(page, hart, Permission::none);
}

void Crew::gather() {
  for (const std::unique_ptr<Memory>& view : views_) memory_.absorb(*view);
}

void Crew::begin_anew() {
  gather();
  for (const std::unique_ptr<Memory>& view : views_) view->forbid_all();
  std::ranges::fill(readers_, Harts{0});
  std::ranges::fill(writers_, Harts{0});
}

// --- recording ----------------------------------------------------------------------------------

Round Crew::record(const std::vector<unsigned>& harts, std::uint64_t start, std::uint64_t steps,
                   Exits& exits) {
  FT_ASSERT(steps <= kRoundStepsMax);
  round_ = {};
  ++round_number_;
  cut_ = false;
  for (const std::unique_ptr<Member>& member : members_) {
    member->state = Member::State::stands;
    member->in_round = false;
    member->steps = 0;
    member->part = {};
    member->asked = false;
  }
  for (const unsigned hart : harts) {
    members_[hart]->in_round = true;
    members_[hart]->state = Member::State::executes;
  }
  threads_.run(harts, [&](unsigned hart) { execute(hart, start, steps); });
  for (unsigned hart = 0; hart < members_.size(); ++hart) {
    round_.parts[hart] = members_[hart]->part;
    exits[hart] = members_[hart]->exit;
  }
  return std::move(round_);
}

void Crew::execute(unsigned hart, std::uint64_t start, std::uint64_t steps) {
  Core& core = *cores_[hart];
  Member& me = *members_[hart];
  core.keep_from_devices(true);
  core.enter();  // Whether it comes to its first instruction or not.
  std::uint64_t done = 0, keeps_until = 0;
  Exit exit = Exit::steps;
  while (exit == Exit::steps && done < steps && !cut_.load(std::memory_order_relaxed)) {
    const Run run = core.run(std::min(kStepsBetweenLooks, steps - done), start + done);
    done += run.steps;
    if (run.exit == Exit::postponed && !core.postponed_for().device) {
      acquire(hart, done);
      keeps_until = done + kStepsKept;
      continue;
    }
    exit = run.exit;
    if (done >= keeps_until && me.asked.load(std::memory_order_relaxed)) answer(hart, done);
  }
  core.keep_from_devices(false);
  finish(hart, done, exit);
}

void Crew::acquire(unsigned hart, std::uint64_t steps) {
  Member& me = *members_[hart];
  std::unique_lock lock(mutex_);
  me.state = Member::State::waits;
  me.waits = true;
  me.steps = steps;
  me.ticket = ++tickets_;
  me.wanted = cores_[hart]->postponed_for();
  me.after.clear();
  serve_waiting(hart);  // Who waits leaves to others what they wait for; then it is its own turn.
  if (me.state == Member::State::executes) return;
  lock.unlock();
  for (unsigned i = 0; i < kSpins && me.waits.load(std::memory_order_acquire); ++i) relax();
  lock.lock();
  me.granted.wait(lock, [&] { return me.state == Member::State::executes; });
}

// Lets `to` have what it waits for, if nobody who executes, except `giver`, is in the way, and
// nobody has waited longer for the same page. What a hart has left is then written down.
bool Crew::try_to_give(unsigned to, unsigned giver) {
  Member& taker = *members_[to];
  const std::uint64_t page = taker.wanted.page;
  const bool write = taker.wanted.permission == Permission::write;
  for (const std::unique_ptr<Member>& other : members_) {
    if (other->state == Member::State::waits && other->ticket < taker.ticket &&
        other->wanted.page == page && (write || other->wanted.permission == Permission::write)) {
      return false;
    }
  }
  const Harts others = in_the_way(page, to, write);
  bool all = true;
  for (unsigned id = 0; id < members_.size(); ++id) {
    if ((others & mask_of(id)) == 0) continue;
    Member& other = *members_[id];
    if (other.state == Member::State::executes && id != giver) {
      other.asked = true;
      all = false;
      continue;
    }
    if (other.in_round) {
      if (!write) left_[page] = {round_number_, {id, other.steps}};
      taker.after.push_back({id, other.steps});
    }
    leave(page, id, write);
  }
  if (all) grant(to);
  return all;
}

void Crew::grant(unsigned to) {
  Member& taker = *members_[to];
  const std::uint64_t page = taker.wanted.page;
  const bool write = taker.wanted.permission == Permission::write;
  const Left& left = left_[page];
  const bool follows =
      std::ranges::any_of(taker.after, [&](const HartAt& at) { return at.hart == left.at.hart; });
  // Who comes to read after another has begun to, comes after what was written as well.
  if (!write && left.round == round_number_ && left.at.hart != to && !follows)
    taker.after.push_back(left.at);
  std::ranges::sort(taker.after, {}, &HartAt::hart);
  set(page, to, taker.wanted.permission);
  if (!taker.after.empty())
    round_.transfers.push_back({page, write, {to, taker.steps}, taker.after});
  if (round_.transfers.size() >= kTransfersMax) cut_ = true;
  taker.state = Member::State::executes;
  taker.waits.store(false, std::memory_order_release);
  taker.granted.notify_one();
}

// In the order in which they began to wait.
void Crew::serve_waiting(unsigned giver) {
  std::vector<unsigned> waiting;
  for (unsigned id = 0; id < members_.size(); ++id)
    if (members_[id]->state == Member::State::waits) waiting.push_back(id);
  std::ranges::sort(waiting, {}, [&](unsigned id) { return members_[id]->ticket; });
  for (const unsigned id : waiting) try_to_give(id, giver);
}

void Crew::answer(unsigned hart, std::uint64_t steps) {
  const std::lock_guard lock(mutex_);
  members_[hart]->asked = false;
  members_[hart]->steps = steps;
  serve_waiting(hart);
}

void Crew::finish(unsigned hart, std::uint64_t steps, Exit exit) {
  const std::lock_guard lock(mutex_);
  Member& me = *members_[hart];
  me.state = Member::State::stands;
  me.steps = steps;
  me.exit = exit;
  me.part = {true, exit == Exit::postponed, steps};
  // Who needs a device or the firmware waits for the end of the round: the sooner the better.
  if (exit == Exit::postponed || exit == Exit::firmware_call) cut_ = true;
  serve_waiting(hart);
}

// --- doing it again -----------------------------------------------------------------------------

bool Crew::replay(const Round& round, std::uint64_t start, Exits& exits) {
  round_ = round;
  prepare();
  std::vector<unsigned> harts;
  for (unsigned hart = 0; hart < members_.size(); ++hart)
    if (round.parts[hart].executed) harts.push_back(hart);
  if (harts.empty()) return true;
  threads_.run(harts, [&](unsigned hart) { execute_again(hart, start); });
  for (const unsigned hart : harts) exits[hart] = members_[hart]->exit;
  return !diverged_;
}

void Crew::prepare() {
  diverged_ = false;
  for (unsigned hart = 0; hart < members_.size(); ++hart) {
    Member& member = *members_[hart];
    member.in_round = round_.parts[hart].executed;
    member.events.clear();
    member.next = 0;
    member.progress = 0;
  }
  for (std::size_t i = 0; i < round_.transfers.size(); ++i) {
    const Transfer& transfer = round_.transfers[i];
    for (const HartAt& at : transfer.after)
      members_[at.hart]->events.push_back({at.steps, i, false});
    members_[transfer.to.hart]->events.push_back({transfer.to.steps, i, true});
  }
  // A page may have been left some time before it was taken, until then others were in the way.
  for (const std::unique_ptr<Member>& member : members_)
    std::ranges::stable_sort(member->events, {}, &Event::steps);
}

void Crew::execute_again(unsigned hart, std::uint64_t start) {
  Core& core = *cores_[hart];
  Member& me = *members_[hart];
  const Round::Part part = round_.parts[hart];
  core.keep_from_devices(true);
  core.enter();
  std::uint64_t done = 0;
  Exit exit = Exit::steps;
  bool same = true;
  do_events(hart, done);
  while (same && done < part.steps) {
    const std::uint64_t until = me.next < me.events.size() ? me.events[me.next].steps : part.steps;
    const Run run = core.run(until - done, start + done);
    done += run.steps;
    exit = run.exit;
    if (exit == Exit::postponed) {
      same = !core.postponed_for().device && claim(hart);
    } else {
      same = exit == Exit::steps || done == part.steps;
    }
    do_events(hart, done);
  }
  if (part.at_device) exit = Exit::postponed;
  core.keep_from_devices(false);
  me.exit = exit;
  if (!same) diverged_ = true;
  publish(hart, std::numeric_limits<std::uint64_t>::max());  // Nobody waits for what never comes.
}

void Crew::publish(unsigned hart, std::uint64_t progress) {
  members_[hart]->progress = progress;
  members_[hart]->progress.notify_all();
}

void Crew::do_events(unsigned hart, std::uint64_t steps) {
  Member& me = *members_[hart];
  for (; me.next < me.events.size() && me.events[me.next].steps == steps; ++me.next) {
    const Event& event = me.events[me.next];
    publish(hart, progress_at(steps, event.transfer));
    const Transfer& transfer = round_.transfers[event.transfer];
    if (event.takes) {
      for (const HartAt& at : transfer.after) wait_for(at, event.transfer);
    }
    const std::lock_guard lock(mutex_);
    if (event.takes) {
      take_from_standing(transfer.page, hart, transfer.write);
      set(transfer.page, hart, transfer.write ? Permission::write : Permission::read);
    } else {
      leave(transfer.page, hart, transfer.write);
    }
  }
  publish(hart, progress_after(steps));
}

void Crew::wait_for(const HartAt& at, std::size_t transfer) {
  const std::atomic<std::uint64_t>& progress = members_[at.hart]->progress;
  const std::uint64_t enough = progress_at(at.steps, transfer);
  for (unsigned i = 0; i < kSpins && progress.load() < enough; ++i) relax();
  for (std::uint64_t seen = progress; seen < enough; seen = progress) progress.wait(seen);
}

// Of a page that came to the hart without anybody's leaving it.
bool Crew::claim(unsigned hart) {
  const Wanted& wanted = cores_[hart]->postponed_for();
  const bool write = wanted.permission == Permission::write;
  const std::lock_guard lock(mutex_);
  take_from_standing(wanted.page, hart, write);
  if (in_the_way(wanted.page, hart, write) != 0) return false;
  set(wanted.page, hart, wanted.permission);
  return true;
}

// Who takes no part in the round leaves without a word, when it is recorded as when it is done
// again.
void Crew::take_from_standing(std::uint64_t page, unsigned hart, bool write) {
  const Harts others = in_the_way(page, hart, write);
  for (unsigned id = 0; id < members_.size(); ++id)
    if ((others & mask_of(id)) != 0 && !members_[id]->in_round) leave(page, id, write);
}

}  // namespace libft::machine
