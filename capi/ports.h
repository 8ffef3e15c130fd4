// SPDX-License-Identifier: LGPL-2.1-or-later
// The ports of the core, implemented by what a host gave in C. Each calls the host's functions
// through the desk; what the host left out has its default here, so that the core never asks.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "desk.h"
#include "libft/session.h"
#include "qemu/relayed_qmp.h"

namespace libft::capi {

// Where the host's news of its parts meet what listens to them: whichever guest, gate and detector
// the session has at the moment. Any thread.
class News {
 public:
  void listen_guest(const void* who, std::function<void(GuestEvent)> sink);
  void listen_gate(const void* who, std::function<void()> sink);
  void listen_detector(const void* who, std::uint64_t token,
                       std::function<void(DetectorEvent)> sink);
  void listen_qmp(const void* who, std::function<void(std::string_view)> sink);
  void forget(const void* who);

  bool guest(GuestEvent event);
  bool output_waiting();
  bool qmp(std::string_view event);
  bool heartbeat(std::uint64_t token, DetectorEvent event);

  std::atomic<std::int64_t> clock_lag_ns{0};

 private:
  template <class Sink>
  struct Listener {
    const void* who = nullptr;
    std::uint64_t token = 0;
    Sink sink;
  };
  std::mutex mutex_;
  Listener<std::function<void(GuestEvent)>> guest_;
  Listener<std::function<void()>> gate_;
  Listener<std::function<void(std::string_view)>> qmp_;
  Listener<std::function<void(DetectorEvent)>> detector_;
};

Outcome make_info(const ft_guest_info* given, GuestInfo& info);

std::unique_ptr<Guest> make_guest(GuestInfo info, const ft_guest_port& port,
                                  std::shared_ptr<Life> life);
std::unique_ptr<OutputGate> make_gate(const ft_gate_port& port, std::shared_ptr<Life> life);
std::unique_ptr<Transport> make_transport(const ft_transport_port& port,
                                          std::shared_ptr<Life> life);
std::unique_ptr<Detector> make_detector(const ft_detector_port& port, std::shared_ptr<Life> life,
                                        std::uint64_t token,
                                        std::optional<std::uint16_t> dial_port);
std::shared_ptr<qemu::QmpRelay> make_qmp(const ft_qmp_port& port, std::shared_ptr<Life> life);
std::unique_ptr<Arbiter> make_arbiter(const ft_arbiter_port& port, std::shared_ptr<Life> life,
                                      Nanos patience);
std::unique_ptr<Fence> make_fence(const ft_fence_port& port, std::shared_ptr<Life> life);
// How `make` is called for a guest like `primary`.
Desk::Function bind_make(const ft_standby_port& port, const Life& life, const GuestInfo& primary);
// A Log whose lines go to the host; `life` may be null: nowhere.
std::unique_ptr<Log> make_log(const ft_log_sink& sink, std::shared_ptr<Life> life);

}  // namespace libft::capi
