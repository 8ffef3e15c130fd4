// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ports.h"

namespace libft::capi {
namespace {

class PortGate final : public OutputGate {
 public:
  PortGate(const ft_gate_port& port, std::shared_ptr<Life> life)
      : port_(port),
        life_(std::move(life)),
        news_(life_->desk()->news()),
        counted_(std::make_shared<Counted>()) {}
  ~PortGate() override { news_->forget(this); }

  GateLimits limits() const override {
    return {.epochs_held_max = std::max(1u, port_.epochs_held_max),
            .bytes_held_max = port_.bytes_held_max};
  }
  void set_waiting_sink(std::function<void()> sink) override {
    news_->listen_gate(this, std::move(sink));
  }
  Status hold() override { return ask(port_.hold, "gate.hold"); }
  Status seal(EpochId id) override { return ask(port_.seal, id, "gate.seal"); }
  Status release(EpochId id) override { return ask(port_.release, id, "gate.release"); }
  void discard() override { (void)ask(port_.discard, "gate.discard"); }
  Status open() override { return ask(port_.open, "gate.open"); }
  GateStatistics statistics() const override {
    const std::scoped_lock lock(counted_->mutex);
    return counted_->statistics;
  }

 private:
  // statistics() answers at once, on any thread: with what the host said last.
  struct Counted {
    std::mutex mutex;
    GateStatistics statistics;
  };

  template <class Call>
  Status run(Call call, const char* phase) {
    auto function = [user = life_->user(), call, count = port_.statistics,
                     counted = counted_](ft_op* op) {
      const std::int32_t status = call(user, op);
      if (count == nullptr) return status;
      ft_gate_statistics c{};
      c.struct_size = sizeof c;
      count(user, &c);
      const std::scoped_lock lock(counted->mutex);
      counted->statistics = {c.packets_held,    c.bytes_held,        c.packets_released,
                             c.packets_dropped, c.packets_discarded, c.packets_in};
      return status;
    };
    return life_->desk()->run(life_, Wants::nothing, std::move(function)).within(phase);
  }
  Status ask(std::int32_t (*function)(void*, ft_op*), const char* phase) {
    return run(function, phase);
  }
  Status ask(std::int32_t (*function)(void*, ft_op*, std::uint64_t, std::uint64_t), EpochId id,
             const char* phase) {
    return run(
        [function, id](void* user, ft_op* op) {
          return function(user, op, id.generation.value, id.epoch.value);
        },
        phase);
  }

  const ft_gate_port port_;
  const std::shared_ptr<Life> life_;
  const std::shared_ptr<News> news_;
  const std::shared_ptr<Counted> counted_;
};

}  // namespace

std::unique_ptr<OutputGate> make_gate(const ft_gate_port& port, std::shared_ptr<Life> life) {
  return std::make_unique<PortGate>(port, std::move(life));
}

}  // namespace libft::capi
