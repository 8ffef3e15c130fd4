// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's side of a virtual interface: its place in a bridge, and the announcement that tells
// switches where a guest lives now. Plain system calls. Any thread.
#pragma once

#include <array>
#include <string>

#include "libft/status.h"

namespace libft::xen {

using Mac = std::array<std::uint8_t, 6>;
Result<Mac> mac_from(const std::string& text);  // "00:16:3e:00:00:13"

// As the network script of Xen does: the bridge forwards by the guest's address, the interface has
// one that no host uses, and it is up.
Status join_bridge(const std::string& interface, const std::string& bridge);

// A reverse ARP request from the guest's address, on the bridge.
Status announce(const std::string& bridge, const Mac& mac);

// Has Xen's script vif-openvswitch make the interface a port; it reads in xenstore below `backend`
// of which switch, with which VLANs. Fails with the remedy where Open vSwitch is not installed.
Status join_switch(const std::string& interface, const std::string& backend);
// Open vSwitch keeps a port whose interface is gone. Idempotent.
void leave_switch(const std::string& interface);

// What the driver asks of the host; tests put something else in its place.
class HostNetwork {
 public:
  virtual ~HostNetwork() = default;
  virtual Status join(const std::string& interface, const std::string& bridge) = 0;
  virtual Status join_switch(const std::string& interface, const std::string& backend) = 0;
  virtual void leave_switch(const std::string& interface) = 0;
  virtual Status announce(const std::string& bridge, const std::string& mac) = 0;
  virtual bool exists(const std::string& interface) = 0;
};
class SystemNetwork final : public HostNetwork {
 public:
  Status join(const std::string& interface, const std::string& bridge) override {
    return join_bridge(interface, bridge);
  }
  Status join_switch(const std::string& interface, const std::string& backend) override {
    return xen::join_switch(interface, backend);
  }
  void leave_switch(const std::string& interface) override { xen::leave_switch(interface); }
  Status announce(const std::string& bridge, const std::string& mac) override;
  bool exists(const std::string& interface) override;
};

}  // namespace libft::xen
