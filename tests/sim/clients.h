// SPDX-License-Identifier: LGPL-2.1-or-later
// The Clients of the guest: ends of TCP connections somewhere behind the hosts' switch, which takes
// what they send to the host that was heard last with the guest's address. They know nothing of
// replicas, and report what cannot be: other bytes than before, an answer to what was not said.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/compare/model_tcp.h"

namespace libft::sim {

class World;

class Clients {
 public:
  Clients(World& world, Random shape);

  void begin();
  void on_frame(int host, const FrameBytes& frame);  // Out of that host's gate.
  void lose_connections();                           // Nobody knows them any more.
  void announced(int host) { switched_to_ = host; }

  // The second phase: whoever was connected before it is answered to the end, somebody else too.
  void all_heals();
  bool are_served() const;

 private:
  struct Client {
    std::optional<ModelTcp> tcp;
    std::uint32_t first = 0;
    std::uint16_t port = 0;
    unsigned tokens = 0;  // Still to be said.
    bool old = false;     // Connected before all healed.
    Time begins{};
  };

  void run();
  void begin_connection(Client& client);
  void end_connection(Client& client);
  void say(Client& client);
  void to_guest(const TcpFields& segment);

  World& world_;
  Random chances_;
  unsigned loss_permille_;
  int switched_to_ = 0;
  std::vector<Client> clients_;
  std::uint16_t newest_port_ = 4000;
  bool healed_ = false, served_ = false;
};

}  // namespace libft::sim
