// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/memory/busy_guest.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "os/thread.h"

namespace libft::guest {
namespace {

constexpr Millis kStepEvery{10};

// A memory guest and the thread in which it works.
class BusyGuest final : public Guest {
 public:
  BusyGuest(std::unique_ptr<MemoryGuest> inner, std::uint64_t pages)
      : inner_(std::move(inner)),
        worker_(os::start_thread("ft-memory", [this, pages] { work(pages); })) {}
  ~BusyGuest() override {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }

  const GuestInfo& info() const override { return inner_->info(); }
  void set_event_sink(std::function<void(GuestEvent)> sink) override {
    inner_->set_event_sink(std::move(sink));
  }
  Status start_tracking() override { return inner_->start_tracking(); }
  void stop_tracking() override { inner_->stop_tracking(); }
  Status pause() override { return inner_->pause(); }
  Status resume() override { return inner_->resume(); }
  Status take_written(PageSet& written) override { return inner_->take_written(written); }
  Status save_state() override { return inner_->save_state(); }
  Status fetch_state(std::vector<std::byte>& state) override { return inner_->fetch_state(state); }
  Status accepts(const GuestInfo& primary) const override { return inner_->accepts(primary); }
  Status probe_state(std::span<const std::byte> state) override {
    return inner_->probe_state(state);
  }
  Status trial_run(StillMoment& moment) override { return inner_->trial_run(moment); }
  Status load_state(std::span<const std::byte> state) override { return inner_->load_state(state); }
  Status activate() override { return inner_->activate(); }
  void destroy() override { inner_->destroy(); }
  Nanos clock_lag() const override { return inner_->clock_lag(); }

 private:
  void work(std::uint64_t pages) {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      inner_->step(pages);  // Does nothing while the guest does not run.
      wake_.wait_for(lock, kStepEvery, [this] { return stopping_; });
    }
  }

  std::unique_ptr<MemoryGuest> inner_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::jthread worker_;  // Last: joined before the guest goes.
};

}  // namespace

std::unique_ptr<Guest> make_busy(std::unique_ptr<MemoryGuest> guest, std::uint64_t pages) {
  return std::make_unique<BusyGuest>(std::move(guest), pages);
}

}  // namespace libft::guest
