// SPDX-License-Identifier: LGPL-2.1-or-later
// TwoHosts is a small world in network namespaces: host A, host B, a client, and the switches that
// join them. The lab tests and the demo live in it. Any thread.
//
//   host A                                  switches                       host B
//   br0  10.77.0.1   (TAPs of guests)  eth0 ---- service ---- eth0   br0  10.77.0.2
//   rep0 10.78.0.1   ------------------------- replication -------   rep0 10.78.0.2
//   hb0  10.79.0.1   -------------------------- heartbeat --------   hb0  10.79.0.2
//                                                |
//                                     client: eth0 10.77.0.100
//
// The service network is a learning bridge, as a real switch is: it sends the guest's frames to the
// port where it heard the guest last.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "lab/link_switch.h"
#include "lab/namespace.h"

namespace libft::lab {

inline constexpr const char* kGuestAddress = "10.77.0.10";
inline constexpr const char* kClientAddress = "10.77.0.100";

enum class Side { a, b };
inline Side other(Side side) { return side == Side::a ? Side::b : Side::a; }
enum class Path { service, replication, heartbeat };

class TwoHosts {
 public:
  static Result<std::unique_ptr<TwoHosts>> create();

  Namespace& host(Side side) { return *hosts_[index(side)]; }
  Namespace& client() { return *client_; }

  static std::string service_address(Side side);
  static std::string replication_address(Side side);
  static std::string heartbeat_address(Side side);

  // A TAP device on the host's bridge, up, for a gate to open by name.
  Status add_tap(Side side, const std::string& name);

  // A third host, on the replication network only (rep0 10.78.0.3), for whoever serves nobody.
  Status add_third();
  Namespace& third() { return *third_; }  // REQUIRES: it was added.

  // All cables of the host at one instant, or one of them.
  Status cut(Side side);
  Status heal(Side side);
  Status cut(Side side, Path path);
  Status heal(Side side, Path path);

 private:
  static constexpr std::size_t kPaths = 3;
  static std::size_t index(Side side) { return side == Side::a ? 0 : 1; }
  TwoHosts() = default;
  Status join();
  Status find_links();

  std::unique_ptr<Namespace> switches_, client_;
  std::array<std::unique_ptr<Namespace>, 2> hosts_;
  std::unique_ptr<LinkSwitch> links_;
  std::array<std::array<unsigned, kPaths>, 2> ports_{};  // The switches' ends of the cables.
  std::unique_ptr<Namespace> third_;
};

}  // namespace libft::lab
