// SPDX-License-Identifier: LGPL-2.1-or-later
// A small network inside the virtual machine: a guest's device (a TAP device whose other end this
// process holds as QEMU would, or one end of a veth pair as Xen's vif), a bridge, and somebody
// outside who remembers what arrived. One test thread.
//
//   guest --> [ device -- bridge -- outNa ]--[ outNb ] --> outside
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "conformance/gate_suite.h"
#include "os/fd.h"
#include "output/plug_gate.h"
#include "support/frames_world.h"

namespace libft::plug_lab {

// Frames written to a TAP device are in the gate when the write returns; those of a veth pair, as
// of a Xen vif, a little later.
enum class DeviceKind { tap, veth };

enum class BridgeKind { linux_bridge, open_vswitch };

template <class Condition>
bool eventually(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

class Network {
 public:
  explicit Network(std::vector<DeviceKind> devices = {DeviceKind::tap},
                   BridgeKind kind = BridgeKind::linux_bridge);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const GuestId& guest() const { return guest_; }
  const std::vector<std::string>& devices() const { return devices_; }
  const std::string& bridge() const { return bridge_; }
  output::PlugGateOptions options() const;

  // One frame of ethertype `protocol` with a number in it, at least 60 bytes long.
  void send(std::uint32_t number, unsigned device = 0, std::uint16_t protocol = 0x88b5,
            std::size_t bytes = 60);
  // What arrived outside, in order.
  const conformance::Numbers& arrived();
  bool wait_for(std::size_t count);
  // Whether exactly these arrived so far, in this order; if not, says where they differ.
  bool arrived_are(const conformance::Numbers& expected);
  // Nothing arrives although the kernel had time to deliver it: a frame that another guest's device
  // sends afterwards, on the same way and not held, is there.
  bool nothing_more_arrives();

 private:
  void add_bridge();
  void enslave(const std::string& device);

  const BridgeKind kind_;
  GuestId guest_;
  std::string bridge_, probe_;
  std::vector<std::string> devices_;
  std::vector<std::string> links_;    // To be deleted.
  std::vector<os::ScopedFd> guests_;  // What the guest sends into, one a device.
  os::ScopedFd probe_socket_, outside_;
  conformance::Numbers arrived_;
  std::uint32_t probes_ = 0, probes_seen_ = 0;
};

// What the conformance suite asks for.
class PlugWorld {
 public:
  static constexpr std::uint32_t kEpochsMax = 1;

  static std::unique_ptr<PlugWorld> create(std::uint32_t epochs_max, std::uint64_t bytes_max);

  OutputGate& gate() { return *gate_; }
  bool send(std::uint32_t number);
  const conformance::Numbers& arrived();
  bool wait_for(std::size_t count) { return network_.wait_for(count); }

 private:
  PlugWorld() = default;

  support::MemoryLog log_;
  Network network_;
  std::unique_ptr<OutputGate> gate_;
};

}  // namespace libft::plug_lab
