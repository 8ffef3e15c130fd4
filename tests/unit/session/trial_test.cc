// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/trial.h"

#include <doctest/doctest.h>

#include <atomic>
#include <future>

using namespace libft;
using session::Trial;

namespace {

// A standby of which nothing but the trial is asked.
class Standby final : public Guest {
 public:
  std::function<Status(StillMoment&)> trial;
  Status trial_run(StillMoment& moment) override { return trial(moment); }

  const GuestInfo& info() const override { return info_; }
  void set_event_sink(std::function<void(GuestEvent)>) override {}
  Status start_tracking() override { return {}; }
  void stop_tracking() override {}
  Status pause() override { return {}; }
  Status resume() override { return {}; }
  Status take_written(PageSet&) override { return {}; }
  Status save_state() override { return {}; }
  Status fetch_state(std::vector<std::byte>&) override { return {}; }
  Status accepts(const GuestInfo&) const override { return {}; }
  Status probe_state(std::span<const std::byte>) override { return {}; }
  Status load_state(std::span<const std::byte>) override { return {}; }
  Status activate() override { return {}; }
  void destroy() override {}
  Nanos clock_lag() const override { return Nanos{0}; }

 private:
  GuestInfo info_;
};

struct Answers {
  std::promise<void> wanted;
  std::promise<Status> done;
  std::atomic<int> over{0};
  Trial::Sinks sinks() {
    return {[this] { wanted.set_value(); }, [this] { ++over; },
            [this](Status status) { done.set_value(std::move(status)); }};
  }
};

const std::vector<std::byte> kState{std::byte{7}, std::byte{8}};

}  // namespace

TEST_CASE("a trial waits for its moment, gets the state, and lets go once") {
  Standby standby;
  Answers answers;
  std::vector<std::byte> seen;
  standby.trial = [&](StillMoment& moment) -> Status {
    FT_ASSIGN(const auto state, moment.hold());
    seen.assign(state.begin(), state.end());
    return moment.let_go();
  };
  Trial trial(standby, answers.sinks());
  answers.wanted.get_future().wait();
  CHECK(answers.over == 0);
  trial.grant(kState);
  CHECK(answers.done.get_future().get().ok());
  CHECK(seen == kState);
  CHECK(answers.over == 1);
}

TEST_CASE("a driver that fails while it holds the moment does not keep it") {
  Standby standby;
  Answers answers;
  standby.trial = [](StillMoment& moment) -> Status {
    FT_ASSIGN([[maybe_unused]] const auto state, moment.hold());
    return Status(Code::io, "no");
  };
  Trial trial(standby, answers.sinks());
  answers.wanted.get_future().wait();
  trial.grant(kState);
  CHECK(answers.done.get_future().get().code() == Code::io);
  CHECK(answers.over == 1);
}

TEST_CASE("a trial that is given up says why: before its moment, and in it") {
  Standby standby;
  Answers answers;
  std::promise<void> holds, cancelled;
  standby.trial = [&](StillMoment& moment) -> Status {
    FT_ASSIGN([[maybe_unused]] const auto state, moment.hold());
    holds.set_value();
    cancelled.get_future().wait();
    return moment.let_go();
  };
  Trial trial(standby, answers.sinks());
  answers.wanted.get_future().wait();
  SUBCASE("in it") {
    trial.grant(kState);
    holds.get_future().wait();
    trial.cancel("the guest is taken over");
    cancelled.set_value();
  }
  SUBCASE("before it") { trial.cancel("the guest is taken over"); }
  const Status status = answers.done.get_future().get();
  CHECK(status.code() == Code::cancelled);
  CHECK(status.message().find("the guest is taken over") != std::string::npos);
}

TEST_CASE("a trial that nobody grants its moment does not keep its session from ending") {
  Standby standby;
  Answers answers;
  standby.trial = [](StillMoment& moment) -> Status {
    FT_ASSIGN([[maybe_unused]] const auto state, moment.hold());
    return {};
  };
  { const Trial trial(standby, answers.sinks()); }
  CHECK(answers.done.get_future().get().code() == Code::cancelled);
}
