// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/memory/busy_guest.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "guest/memory/forwarding_guest.h"
#include "os/thread.h"

namespace libft::guest {
namespace {

constexpr Millis kStepEvery{10};

// A memory guest and the thread in which it works.
class BusyGuest final : public ForwardingGuest {
 public:
  BusyGuest(const std::shared_ptr<MemoryGuest>& inner, std::uint64_t pages)
      : ForwardingGuest(inner),
        memory_(*inner),
        worker_(os::start_thread("ft-memory", [this, pages] { work(pages); })) {}
  ~BusyGuest() override {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }

 private:
  void work(std::uint64_t pages) {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      memory_.step(pages);  // Does nothing while the guest does not run.
      wake_.wait_for(lock, kStepEvery, [this] { return stopping_; });
    }
  }

  MemoryGuest& memory_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::jthread worker_;  // Last: joined before the guest goes.
};

}  // namespace

std::unique_ptr<Guest> make_busy(std::unique_ptr<MemoryGuest> guest, std::uint64_t pages) {
  return std::make_unique<BusyGuest>(std::shared_ptr<MemoryGuest>(std::move(guest)), pages);
}

}  // namespace libft::guest
