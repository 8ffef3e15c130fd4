// SPDX-License-Identifier: LGPL-2.1-or-later
#include "bench_capi.h"

#include <poll.h>

#include <thread>

#include "outcome.h"
#include "ports.h"

namespace libft::ftctl {

namespace {

using capi::Desk;
using capi::Life;

std::int32_t answer(const Status& status) { return capi::status_of(status.code()); }

struct Inner {
  Guest* guest = nullptr;
  OutputGate* gate = nullptr;
  PageSet written;
  std::vector<std::byte> state;
};

Inner& inner(void* user) { return *static_cast<Inner*>(user); }

ft_guest_port guest_port() {
  ft_guest_port port{};
  port.struct_size = sizeof port;
  port.start_tracking = [](void* user, ft_op*) {
    return answer(inner(user).guest->start_tracking());
  };
  port.pause = [](void* user, ft_op*) { return answer(inner(user).guest->pause()); };
  port.resume = [](void* user, ft_op*) { return answer(inner(user).guest->resume()); };
  port.take_written = [](void* user, ft_op* op) {
    Inner& in = inner(user);
    const Status status = in.guest->take_written(in.written);
    // A driver in C has its pages as C's runs; they are the same numbers.
    static_assert(sizeof(ft_page_run) == sizeof(PageRun));
    const auto runs = in.written.runs();
    ft_op_add_page_runs(op, reinterpret_cast<const ft_page_run*>(runs.data()), runs.size());
    return answer(status);
  };
  port.save_state = [](void* user, ft_op*) { return answer(inner(user).guest->save_state()); };
  port.fetch_state = [](void* user, ft_op* op) {
    Inner& in = inner(user);
    const Status status = in.guest->fetch_state(in.state);
    ft_op_append(op, in.state.data(), in.state.size());
    return answer(status);
  };
  port.load_state = [](void*, ft_op*, const void*, std::uint64_t) -> std::int32_t {
    return FT_E_UNSUPPORTED;
  };
  return port;
}

ft_gate_port gate_port(const GateLimits& limits) {
  ft_gate_port port{};
  port.struct_size = sizeof port;
  port.epochs_held_max = limits.epochs_held_max;
  port.bytes_held_max = limits.bytes_held_max;
  port.hold = [](void* user, ft_op*) { return answer(inner(user).gate->hold()); };
  port.seal = [](void* user, ft_op*, std::uint64_t generation, std::uint64_t epoch) {
    return answer(inner(user).gate->seal({Generation{generation}, Epoch{epoch}}));
  };
  port.release = [](void* user, ft_op*, std::uint64_t generation, std::uint64_t epoch) {
    return answer(inner(user).gate->release({Generation{generation}, Epoch{epoch}}));
  };
  port.discard = [](void* user, ft_op*) -> std::int32_t {
    inner(user).gate->discard();
    return FT_OK;
  };
  port.open = [](void* user, ft_op*) { return answer(inner(user).gate->open()); };
  return port;
}

class Through final : public ThroughCapi {
 public:
  Through(Guest& guest, bool in_a_loop)
      : desk_(*Desk::create()), flags_(in_a_loop ? 0 : FT_PORT_ANY_THREAD) {
    inner_.guest = &guest;
    guest_ = capi::make_guest(guest.info(), guest_port(), life());
    if (in_a_loop) host_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }
  ~Through() override {
    host_.request_stop();
    desk_->post([] {});
  }
  Guest& guest() override { return *guest_; }
  OutputGate& gate(OutputGate& of) override {
    inner_.gate = &of;
    gate_ = capi::make_gate(gate_port(of.limits()), life());
    return *gate_;
  }

 private:
  std::shared_ptr<Life> life() {
    return std::make_shared<Life>(desk_, flags_, &inner_, nullptr, nullptr);
  }
  void serve(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      pollfd wait{desk_->fd(), POLLIN, 0};
      ::poll(&wait, 1, -1);
      desk_->serve();
    }
  }

  std::shared_ptr<Desk> desk_;
  const std::uint32_t flags_;
  Inner inner_;
  std::unique_ptr<Guest> guest_;
  std::unique_ptr<OutputGate> gate_;
  std::jthread host_;
};

}  // namespace

std::unique_ptr<ThroughCapi> through_capi(Guest& guest, bool in_a_loop) {
  return std::make_unique<Through>(guest, in_a_loop);
}

}  // namespace libft::ftctl
