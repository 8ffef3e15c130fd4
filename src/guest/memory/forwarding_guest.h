// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest that is another one, but for what a class derived from it does differently.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "libft/guest.h"

namespace libft::guest {

class ForwardingGuest : public Guest {
 public:
  explicit ForwardingGuest(std::shared_ptr<Guest> inner) : inner_(std::move(inner)) {}

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

 protected:
  const std::shared_ptr<Guest> inner_;
};

}  // namespace libft::guest
