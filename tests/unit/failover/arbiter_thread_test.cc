// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/arbiter_thread.h"

#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>

#include "failover/memory_arbiter.h"

using namespace libft;
using namespace libft::failover;

namespace {

constexpr auto kGenerous = std::chrono::seconds{20};
const GuestId kGuest = *GuestId::from_name("db");

OwnershipRecord record(std::uint64_t generation) {
  OwnershipRecord record;
  record.generation = Generation{generation};
  record.owner = Incarnation{"a", {1}};
  record.in_sync = {record.owner};
  return record;
}

template <class Answer>
class Answers {
 public:
  std::function<void(Answer)> take() {
    return [shared = shared_](Answer answer) {
      const std::lock_guard lock(shared->mutex);
      shared->answers.push_back(std::move(answer));
      shared->changed.notify_all();
    };
  }
  Answer await(std::size_t index = 0) {
    std::unique_lock lock(shared_->mutex);
    REQUIRE(shared_->changed.wait_for(lock, kGenerous,
                                      [&] { return shared_->answers.size() > index; }));
    return shared_->answers[index];
  }
  std::size_t count() {
    const std::lock_guard lock(shared_->mutex);
    return shared_->answers.size();
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<Answer> answers;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// An arbiter whose requests wait until they are let go: a directory that hangs.
class Hanging {
 public:
  std::unique_ptr<Arbiter> arbiter() {
    auto arbiter = std::make_unique<MemoryArbiter>(records_);
    arbiter->set_before_request([shared = shared_] {
      shared->begun.fetch_add(1);
      shared->begun.notify_all();
      shared->gate.wait();
    });
    return arbiter;
  }
  void await_begun() {
    while (shared_->begun.load() == 0) shared_->begun.wait(0);
  }
  int begun() const { return shared_->begun.load(); }
  void let_go() {
    if (!gone_) shared_->open.set_value();
    gone_ = true;
  }
  ~Hanging() { let_go(); }
  MemoryRecords& records() { return *records_; }

 private:
  struct Shared {
    std::promise<void> open;
    std::shared_future<void> gate{open.get_future()};
    std::atomic<int> begun{0};
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::shared_ptr<MemoryRecords> records_ = std::make_shared<MemoryRecords>();
  bool gone_ = false;
};

class GatedFence final : public Fence {
 public:
  std::string description() const override { return "gated"; }
  Status fence(const GuestId&, const Incarnation& loser) override {
    fenced = loser;
    return {};
  }
  Incarnation fenced;
};

}  // namespace

TEST_CASE("answers come in the order of the questions") {
  ArbiterThread thread(std::make_unique<MemoryArbiter>(std::make_shared<MemoryRecords>()));
  CHECK(thread.description() == "memory");
  CHECK(thread.automatic());
  Answers<SwapAnswer> swaps;
  Answers<ReadAnswer> reads;
  thread.post_create(kGuest, record(1), swaps.take());
  thread.post_swap(kGuest, record(1), record(2), swaps.take());
  thread.post_swap(kGuest, record(1), record(2), swaps.take());
  thread.post_read(kGuest, reads.take());
  CHECK(swaps.await(0).outcome == SwapOutcome::won);
  CHECK(swaps.await(1).outcome == SwapOutcome::won);
  CHECK(reads.await().record == record(2));
}

TEST_CASE("a fence runs in the same thread, after what was asked before") {
  ArbiterThread thread(std::make_unique<MemoryArbiter>(std::make_shared<MemoryRecords>()));
  Answers<Status> fences;
  const auto fence = std::make_shared<GatedFence>();
  thread.post_fence(fence, kGuest, record(1).owner, fences.take());
  CHECK(fences.await().ok());
  CHECK(fence->fenced == record(1).owner);
}

TEST_CASE("an arbiter that hangs is answered for at the deadline, and nobody waits for it") {
  Hanging hanging;
  ArbiterThread::Limits limits;
  limits.deadline = Millis{50};
  auto thread = std::make_unique<ArbiterThread>(hanging.arbiter(), limits);
  Answers<SwapAnswer> swaps;
  Answers<ReadAnswer> reads;
  thread->post_create(kGuest, record(1), swaps.take());
  hanging.await_begun();
  thread->post_read(kGuest, reads.take());
  CHECK(swaps.await().outcome == SwapOutcome::unknown);
  CHECK(swaps.await().detail.find("may still happen") != std::string::npos);
  CHECK(reads.await().outcome == ReadAnswer::Outcome::unknown);
  CHECK(reads.await().detail.find("not asked") != std::string::npos);
  thread.reset();  // Does not hang.
  CHECK(swaps.count() == 1);
}

TEST_CASE("a late answer is dropped, an expired question is not asked, the next ones are") {
  Hanging hanging;
  ArbiterThread::Limits limits;
  limits.deadline = Millis{50};
  ArbiterThread thread(hanging.arbiter(), limits);
  Answers<SwapAnswer> swaps;
  Answers<ReadAnswer> reads;
  thread.post_create(kGuest, record(1), swaps.take());
  hanging.await_begun();
  thread.post_swap(kGuest, record(1), record(2), swaps.take());
  CHECK(swaps.await(0).outcome == SwapOutcome::unknown);
  CHECK(swaps.await(1).outcome == SwapOutcome::unknown);
  hanging.let_go();
  // The create lands, the swap was never begun: a read shows generation 1.
  for (std::size_t i = 0;; ++i) {
    thread.post_read(kGuest, reads.take());
    const auto answer = reads.await(i);
    if (answer.outcome == ReadAnswer::Outcome::unknown) continue;
    CHECK(answer.record == record(1));
    break;
  }
  CHECK(swaps.count() == 2);
}

TEST_CASE("the queue is bounded: what does not fit is unknown at once") {
  Hanging hanging;
  ArbiterThread::Limits limits;
  limits.deadline = std::chrono::hours{1};
  limits.waiting_max = 2;
  ArbiterThread thread(hanging.arbiter(), limits);
  Answers<ReadAnswer> reads;
  thread.post_read(kGuest, reads.take());
  hanging.await_begun();
  thread.post_read(kGuest, reads.take());
  thread.post_read(kGuest, reads.take());
  CHECK(reads.count() == 0);
  thread.post_read(kGuest, reads.take());
  CHECK(reads.count() == 1);
  CHECK(reads.await().outcome == ReadAnswer::Outcome::unknown);
  hanging.let_go();
  CHECK(reads.await(3).outcome == ReadAnswer::Outcome::missing);
}

TEST_CASE("destruction with questions open calls nobody afterwards") {
  for (int round = 0; round < 50; ++round) {
    auto calls = std::make_unique<std::atomic<int>>(0);
    {
      ArbiterThread thread(std::make_unique<MemoryArbiter>(std::make_shared<MemoryRecords>()));
      for (int i = 0; i < 5; ++i)
        thread.post_read(kGuest, [raw = calls.get()](ReadAnswer) { ++*raw; });
    }
    CHECK(calls->load() <= 5);
    calls.reset();  // A call from now on would be seen by the sanitizers.
  }
}

TEST_CASE("the memory arbiter answers as badly as it is told") {
  using Behaviour = MemoryArbiter::Behaviour;
  const auto records = std::make_shared<MemoryRecords>();
  MemoryArbiter one(records), two(records);
  REQUIRE(one.create(kGuest, record(1)).outcome == SwapOutcome::won);
  one.script(Behaviour::lost_request);
  CHECK(one.swap(kGuest, record(1), record(2)).outcome == SwapOutcome::unknown);
  CHECK(two.read(kGuest).record == record(1));
  one.script(Behaviour::lost_answer);
  CHECK(one.swap(kGuest, record(1), record(2)).outcome == SwapOutcome::unknown);
  CHECK(two.read(kGuest).record == record(2));
  one.script(Behaviour::lands_late);
  CHECK(one.swap(kGuest, record(2), record(3)).outcome == SwapOutcome::unknown);
  CHECK(two.read(kGuest).record == record(2));
  CHECK(one.land_late() == 1);
  CHECK(two.read(kGuest).record == record(3));
  // What lands too late is refused by the comparison.
  one.script(Behaviour::lands_late);
  auto mine = record(4);
  mine.owner.host = "b";
  CHECK(one.swap(kGuest, record(3), mine).outcome == SwapOutcome::unknown);
  REQUIRE(two.swap(kGuest, record(3), record(4)).outcome == SwapOutcome::won);
  CHECK(one.land_late() == 0);
  CHECK(two.read(kGuest).record == record(4));
  one.set_default(Behaviour::lost_request);
  CHECK(one.read(kGuest).outcome == ReadAnswer::Outcome::unknown);
}
