// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/arbiter_thread.h"

#include <condition_variable>
#include <deque>
#include <mutex>

#include "failover/answers.h"
#include "os/thread.h"

namespace libft::failover {

using SteadyClock = std::chrono::steady_clock;

struct ArbiterThread::Request {
  // Asks, and returns how to deliver the answer. Runs in the worker, without any lock.
  std::function<std::function<void()>(Arbiter&)> ask;
  std::function<void(std::string why)> give_up;
  SteadyClock::time_point deadline{};
};

// What the two threads share, and what the worker keeps alive when it has to be left behind.
struct ArbiterThread::Shared {
  explicit Shared(std::unique_ptr<Arbiter> a)
      : arbiter(std::move(a)), description(arbiter->description()) {}

  std::unique_ptr<Arbiter> arbiter;  // Only the worker calls it.
  const std::string description;

  std::mutex delivery;  // Held around each callback. Taken before `mutex`, never after it.
  bool closed = false;  // Under `delivery`: no callback any more.

  std::mutex mutex;
  std::condition_variable work, time;
  bool stopping = false;
  std::deque<std::shared_ptr<Request>> waiting;
  std::shared_ptr<Request> running;  // Empty again when its deadline passed, though it still runs.
  bool busy = false;

  std::jthread worker, timer;

  void run_worker();
  void run_timer();
  bool deliver(const std::function<void()>& callback);
  std::shared_ptr<Request> next_expired(SteadyClock::time_point now);
  SteadyClock::time_point next_deadline() const;
};

bool ArbiterThread::Shared::deliver(const std::function<void()>& callback) {
  const std::lock_guard lock(delivery);
  if (closed) return false;
  callback();
  return true;
}

void ArbiterThread::Shared::run_worker() {
  for (;;) {
    std::shared_ptr<Request> request;
    {
      std::unique_lock lock(mutex);
      work.wait(lock, [&] { return stopping || !waiting.empty(); });
      if (stopping) return;
      request = running = waiting.front();
      waiting.pop_front();
      busy = true;
    }
    const auto answer = request->ask(*arbiter);
    bool in_time = false;
    {
      const std::lock_guard lock(mutex);
      in_time = running == request;  // Else the timer has answered, or is about to.
      running.reset();
      busy = false;
      time.notify_one();
    }
    if (in_time) deliver(answer);
  }
}

SteadyClock::time_point ArbiterThread::Shared::next_deadline() const {
  auto next = SteadyClock::time_point::max();
  if (running) next = running->deadline;
  for (const auto& request : waiting) next = std::min(next, request->deadline);
  return next;
}

std::shared_ptr<ArbiterThread::Request> ArbiterThread::Shared::next_expired(
    SteadyClock::time_point now) {
  if (running && running->deadline <= now) return std::exchange(running, nullptr);
  for (auto at = waiting.begin(); at != waiting.end(); ++at) {
    if ((*at)->deadline > now) continue;
    auto request = *at;
    waiting.erase(at);
    return request;
  }
  return nullptr;
}

void ArbiterThread::Shared::run_timer() {
  std::unique_lock lock(mutex);
  while (!stopping) {
    const auto next = next_deadline();
    if (next == SteadyClock::time_point::max()) {
      time.wait(lock);
    } else if (SteadyClock::now() < next) {
      time.wait_until(lock, next);
    }
    if (stopping) return;
    const auto now = SteadyClock::now();
    const bool begun = running && running->deadline <= now;
    const auto expired = next_expired(now);
    if (!expired) continue;
    lock.unlock();
    deliver([&] {
      expired->give_up(description + (begun
                                          ? ": no answer in time; it may still happen"
                                          : ": not asked, an earlier question has no answer yet"));
    });
    lock.lock();
  }
}

ArbiterThread::ArbiterThread(std::unique_ptr<Arbiter> arbiter)
    : ArbiterThread(std::move(arbiter), Limits{}) {}

ArbiterThread::ArbiterThread(std::unique_ptr<Arbiter> arbiter, Limits limits)
    : limits_(limits),
      description_(arbiter->description()),
      automatic_(arbiter->automatic()),
      shared_(std::make_shared<Shared>(std::move(arbiter))) {
  // The worker owns a share, so that it can be left behind; the timer is always joined.
  shared_->worker = os::start_thread("ft-arbiter", [shared = shared_] { shared->run_worker(); });
  shared_->timer =
      os::start_thread("ft-arb-timer", [shared = shared_.get()] { shared->run_timer(); });
}

ArbiterThread::~ArbiterThread() {
  {
    const std::lock_guard lock(shared_->delivery);
    shared_->closed = true;
  }
  bool busy = false;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
    shared_->waiting.clear();
    busy = shared_->busy;
    shared_->work.notify_all();
    shared_->time.notify_all();
  }
  shared_->timer.join();
  if (busy) {
    shared_->worker.detach();
  } else {
    shared_->worker.join();
  }
}

void ArbiterThread::post(Request request, Nanos deadline) {
  request.deadline = SteadyClock::now() + deadline;
  auto shared_request = std::make_shared<Request>(std::move(request));
  {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->waiting.size() < limits_.waiting_max) {
      shared_->waiting.push_back(std::move(shared_request));
      shared_->work.notify_one();
      shared_->time.notify_one();
      return;
    }
  }
  shared_request->give_up(fmt::format("not asked: {} questions wait for {} already",
                                      limits_.waiting_max, description_));
}

void ArbiterThread::post_create(const GuestId& guest, const OwnershipRecord& record,
                                std::function<void(SwapAnswer)> done) {
  Request request;
  request.ask = [=](Arbiter& arbiter) {
    return [done, answer = arbiter.create(guest, record)] { done(answer); };
  };
  request.give_up = [done](std::string why) { done(unknown(std::move(why))); };
  post(std::move(request), limits_.deadline);
}

void ArbiterThread::post_swap(const GuestId& guest, const OwnershipRecord& from,
                              const OwnershipRecord& to, std::function<void(SwapAnswer)> done) {
  Request request;
  request.ask = [=](Arbiter& arbiter) {
    return [done, answer = arbiter.swap(guest, from, to)] { done(answer); };
  };
  request.give_up = [done](std::string why) { done(unknown(std::move(why))); };
  post(std::move(request), limits_.deadline);
}

void ArbiterThread::post_read(const GuestId& guest, std::function<void(ReadAnswer)> done) {
  Request request;
  request.ask = [=](Arbiter& arbiter) {
    return [done, answer = arbiter.read(guest)] { done(answer); };
  };
  request.give_up = [done](std::string why) { done(read_unknown(std::move(why))); };
  post(std::move(request), limits_.deadline);
}

void ArbiterThread::post_fence(std::shared_ptr<Fence> fence, const GuestId& guest,
                               const Incarnation& loser, std::function<void(Status)> done) {
  Request request;
  request.ask = [=](Arbiter&) {
    return [done, status = fence->fence(guest, loser)] { done(status); };
  };
  request.give_up = [done](std::string why) { done(Status(Code::timeout, std::move(why))); };
  post(std::move(request), limits_.fence_deadline);
}

}  // namespace libft::failover
