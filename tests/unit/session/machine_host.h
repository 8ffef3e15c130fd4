// SPDX-License-Identifier: LGPL-2.1-or-later
// A host of the session's tests whose guest is a key-value server on libft's own machine. The
// tests' main thread uses it.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <deque>
#include <optional>
#include <string>

#include "guest/machine/machine_guest.h"
#include "output/frames_gate.h"
#include "unit/guest/machine/guest_image.h"
#include "unit/guest/machine/kv_memory.h"
#include "unit/guest/machine/udp_frames.h"
#include "unit/session/host.h"

namespace libft::test {

using machine::MachineGuest;
using machine::MachineGuestOptions;

using Pair = std::array<os::ScopedFd, 2>;
inline Pair datagram_pair() {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) == 0);
  return {os::ScopedFd(ends[0]), os::ScopedFd(ends[1])};
}

// A host with a machine behind a gate, and the outer end of its cable.
struct MachineHost : Host {
  os::ScopedFd outside;
  std::string disk_file;  // Writable, if there is one.

  MachineHost(std::string host, const std::string& shared, Strategy strategy)
      : Host(std::move(host), shared) {
    options.strategy = strategy;
    options.hash_interval = Millis{20};
    options.rebase_interval = Millis{30};
    make_replica = [this](bool standby) { return machine_replica(standby); };
  }
  ~MachineHost() { die(); }

  Replica machine_replica(bool standby) {
    Pair inner = datagram_pair(), outer = datagram_pair();
    outside = std::move(outer[1]);
    auto port = output::GuestPort::from_pair(std::move(inner[1]));
    REQUIRE(port);
    std::vector<output::GateNic> nics;
    nics.push_back(output::GateNic{"net0", std::move(*port), std::move(outer[0])});
    output::FramesGateOptions gate_options;
    gate_options.start = standby ? output::GateStart::standby : output::GateStart::held;
    auto gate = output::FramesGate::create(std::move(nics), gate_options, log);
    REQUIRE(gate);
    MachineGuestOptions machine;
    machine.machine = bare_metal("kv");
    machine.standby = standby;
    machine.nic = std::move(inner[0]);
    if (!disk_file.empty()) {
      auto disk = machine::Disk::open_or_make(disk_file, 512 * 512);
      REQUIRE(disk);
      machine.machine.writable_disk = std::move(*disk);
    }
    auto made = MachineGuest::create(std::move(machine));
    REQUIRE(made);
    machine_ = made->get();
    InputTap* const input = gate->get();
    return Replica{std::move(*gate), std::move(*made), input, machine_};
  }

  // The memory of the replica that was made last, which a test may look at and spoil.
  std::span<std::byte> memory() const { return machine_->info().memory[0].bytes; }

  // Until it is answered; frames may be lost at a take-over, as on any network.
  std::string ask(const std::string& text) {
    const auto frame = kv_request(text);
    for (int tries = 0; tries < 200; ++tries) {
      (void)::send(outside.get(), frame.data(), frame.size(), 0);
      const auto answer = next_answer(100);
      if (!answer) continue;
      // The same question was answered as often, unless an answer was lost.
      for (int again = 0; again < tries; ++again) (void)next_answer(2000);
      return *answer;
    }
    return "(no answer)";
  }
  std::optional<std::string> next_answer(int patience_ms) {
    pollfd ready{outside.get(), POLLIN, 0};
    while (::poll(&ready, 1, patience_ms) == 1) {
      std::array<std::byte, 2048> bytes;
      const ssize_t got = ::recv(outside.get(), bytes.data(), bytes.size(), 0);
      if (got < 42) continue;
      std::string answer = kv_answer(std::span(bytes).first(static_cast<std::size_t>(got)));
      if (answer != ignored_) return answer;
    }
    return std::nullopt;
  }
  // Whether the guest says that, without being asked again.
  bool listen_for(const std::string& wanted, int patience_ms = 5000) {
    pollfd ready{outside.get(), POLLIN, 0};
    while (::poll(&ready, 1, patience_ms) == 1) {
      std::array<std::byte, 2048> bytes;
      const ssize_t got = ::recv(outside.get(), bytes.data(), bytes.size(), 0);
      if (got > 0 && kv_answer(std::span(bytes).first(static_cast<std::size_t>(got))) == wanted)
        return true;
    }
    return false;
  }

  // The text of the next event of that name behind the one that was heard last.
  std::string hears(std::string_view what) {
    for (int tries = 0; tries < 600; ++tries) {
      while (!events_.empty()) {
        const SessionEvent event = std::move(events_.front());
        events_.pop_front();
        if (event.name == what) return event.text.empty() ? event.name : event.text;
      }
      pollfd ready{session->poll_fd(), POLLIN, 0};
      (void)::poll(&ready, 1, 100);
      session->process([&](const SessionEvent& event) { events_.push_back(event); });
    }
    return {};
  }
  void forget_events() { events_.clear(); }

  // A frame that the guest's announcement, or a repetition, may look like.
  std::string ignored_ = std::string(18, '\0');
  std::deque<SessionEvent> events_;  // Not yet asked for.
  MachineGuest* machine_ = nullptr;  // The session's.
};

inline void set_all(MachineHost& host, int from, int to) {
  for (int i = from; i < to; ++i)
    CHECK(host.ask("S key" + std::to_string(i % 40) + " v" + std::to_string(i)) == "OK");
}

}  // namespace libft::test
