// SPDX-License-Identifier: LGPL-2.1-or-later
// Who suspects, who decides, who silences: detector, arbiter and fence in C.
#include <fmt/format.h>

#include "failover/answers.h"
#include "ports.h"

namespace libft::capi {
namespace {

constexpr Nanos kFencePatience = std::chrono::seconds{10};

class PortDetector final : public Detector {
 public:
  PortDetector(const ft_detector_port& port, std::shared_ptr<Life> life, std::uint64_t token,
               std::optional<std::uint16_t> dial_port)
      : port_(port),
        life_(std::move(life)),
        news_(life_->desk()->news()),
        token_(token),
        dial_port_(dial_port),
        beats_(std::make_shared<Beats>()) {}
  ~PortDetector() override { stop(); }

  Status start(std::function<void(DetectorEvent)> sink) override {
    news_->listen_detector(this, token_, std::move(sink));
    started_ = true;
    return life_->desk()
        ->run(life_, Wants::nothing,
              [user = life_->user(), start = port_.start, token = token_, dial = dial_port_](
                  ft_op* op) { return start(user, op, token, dial.value_or(0), dial ? 1 : 0); })
        .within("detector.start");
  }

  void stop() override {
    news_->forget(this);
    if (!std::exchange(started_, false) || port_.stop == nullptr) return;
    (void)life_->desk()->run(life_, Wants::nothing,
                             [user = life_->user(), stop = port_.stop, token = token_](ft_op* op) {
                               return stop(user, op, token);
                             });
  }

  // At most one waits for the host: a host that is slow is told the newest count.
  void progress() override {
    if (port_.progress == nullptr) return;
    ++beats_->count;
    const auto tell = [life = life_, progress = port_.progress, token = token_, beats = beats_] {
      beats->waiting = false;
      progress(life->user(), token, beats->count);
    };
    if (life_->any_thread()) return tell();
    if (!beats_->waiting.exchange(true)) (void)life_->desk()->post(tell);
  }

 private:
  struct Beats {
    std::atomic<std::uint64_t> count{0};
    std::atomic<bool> waiting{false};
  };

  const ft_detector_port port_;
  const std::shared_ptr<Life> life_;
  const std::shared_ptr<News> news_;
  const std::uint64_t token_;
  const std::optional<std::uint16_t> dial_port_;
  const std::shared_ptr<Beats> beats_;
  bool started_ = false;
};

class PortArbiter final : public Arbiter {
 public:
  PortArbiter(const ft_arbiter_port& port, std::shared_ptr<Life> life, Nanos patience)
      : port_(port),
        life_(std::move(life)),
        patience_(patience),
        description_(port.description == nullptr ? "port" : port.description) {}

  std::string description() const override { return description_; }
  bool automatic() const override { return port_.manual == 0; }

  SwapAnswer create(const GuestId& guest, const OwnershipRecord& record) override {
    return change(record, [user = life_->user(), create = port_.create, name = guest.name(),
                           to = to_string(record)](ft_op* op) {
      return create(user, op, name.c_str(), to.c_str());
    });
  }

  SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from,
                  const OwnershipRecord& to) override {
    if (auto refused = failover::refuse_generation(from, to)) return *refused;
    return change(to, [user = life_->user(), swap = port_.swap, name = guest.name(),
                       was = to_string(from), shall = to_string(to)](ft_op* op) {
      return swap(user, op, name.c_str(), was.c_str(), shall.c_str());
    });
  }

  ReadAnswer read(const GuestId& guest) override {
    OpResults results;
    const Status status = life_->desk()->run(
        life_, Wants::answer,
        [user = life_->user(), read = port_.read, name = guest.name()](ft_op* op) {
          return read(user, op, name.c_str());
        },
        &results, patience_);
    if (!status) return failover::read_unknown(status.to_string());
    if (results.answer == FT_ANSWER_MISSING) return failover::read_missing();
    if (results.answer != FT_ANSWER_FOUND) return failover::read_unknown("the port does not know");
    auto record = record_from_string(results.record);
    if (!record) return failover::read_unknown(record.error().to_string());
    return failover::read_found(std::move(*record));
  }

 private:
  SwapAnswer change(const OwnershipRecord& wanted, Desk::Function function) {
    OpResults results;
    const Status status =
        life_->desk()->run(life_, Wants::answer, std::move(function), &results, patience_);
    if (!status) return failover::unknown(status.to_string());
    if (results.answer == FT_ANSWER_WON) return failover::won(wanted);
    if (results.answer != FT_ANSWER_LOST) return failover::unknown("the port does not know");
    auto record = record_from_string(results.record);
    if (!record) return failover::unknown(record.error().to_string());
    return failover::lost(std::move(*record));
  }

  const ft_arbiter_port port_;
  const std::shared_ptr<Life> life_;
  const Nanos patience_;
  const std::string description_;
};

class PortFence final : public Fence {
 public:
  PortFence(const ft_fence_port& port, std::shared_ptr<Life> life)
      : port_(port),
        life_(std::move(life)),
        description_(port.description == nullptr ? "port" : port.description) {}

  std::string description() const override { return description_; }
  Status fence(const GuestId& guest, const Incarnation& loser) override {
    return life_->desk()
        ->run(
            life_, Wants::nothing,
            [user = life_->user(), fence = port_.fence, name = guest.name(),
             who = to_string(loser)](ft_op* op) {
              return fence(user, op, name.c_str(), who.c_str());
            },
            nullptr, kFencePatience)
        .within("fence");
  }

 private:
  const ft_fence_port port_;
  const std::shared_ptr<Life> life_;
  const std::string description_;
};

}  // namespace

std::unique_ptr<Detector> make_detector(const ft_detector_port& port, std::shared_ptr<Life> life,
                                        std::uint64_t token,
                                        std::optional<std::uint16_t> dial_port) {
  return std::make_unique<PortDetector>(port, std::move(life), token, dial_port);
}

std::unique_ptr<Arbiter> make_arbiter(const ft_arbiter_port& port, std::shared_ptr<Life> life,
                                      Nanos patience) {
  return std::make_unique<PortArbiter>(port, std::move(life), patience);
}

std::unique_ptr<Fence> make_fence(const ft_fence_port& port, std::shared_ptr<Life> life) {
  return std::make_unique<PortFence>(port, std::move(life));
}

}  // namespace libft::capi
