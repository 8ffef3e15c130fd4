// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/clients.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/host.h"
#include "sim/world.h"

namespace libft::sim {

using namespace libft::test;

Clients::Clients(World& world, Random shape)
    : world_(world),
      chances_(shape),
      loss_permille_(chances_.chance(500) ? static_cast<unsigned>(chances_.below(100)) : 0),
      clients_(1 + chances_.below(3)) {
  for (Client& client : clients_) {
    client.first = static_cast<std::uint32_t>(chances_.next());
    client.begins = Time{chances_.between(Nanos{0}, Millis{300})};
  }
}

void Clients::begin() {
  world_.queue.in(Millis{1}, [this] {
    run();
    begin();
  });
}

void Clients::run() {
  for (Client& client : clients_) {
    if (client.tcp)
      say(client);
    else if (world_.queue.now() >= client.begins)
      begin_connection(client);
  }
}

void Clients::begin_connection(Client& client) {
  client.first += 1'000'000;
  client.port = ++newest_port_;
  client.old = !healed_;
  client.tcp.emplace(Peers{.near = 2, .far = 1, .near_port = client.port, .far_port = 80},
                     client.first, chances_);
  client.tokens = static_cast<unsigned>(1 + chances_.below(chances_.chance(300) ? 60 : 12));
}

void Clients::say(Client& client) {
  ModelTcp& tcp = *client.tcp;
  if (client.tokens > 0 && chances_.chance(100)) {
    tcp.write(fmt::format("{:08x}", static_cast<std::uint32_t>(chances_.next())));
    if (--client.tokens == 0) tcp.close();
  }
  const Time now = world_.queue.now();
  tcp.say(now, static_cast<std::uint32_t>(now.since_start / Millis{1}), chances_,
          [this](const TcpFields& segment) { to_guest(segment); });
  if (tcp.done()) end_connection(client);
}

// What it was told in all must be what the guest knows to have said, and the other way round.
void Clients::end_connection(Client& client) {
  if (Replica* const owner = world_.owner(); owner && owner->runs_guest()) {
    const ModelTcp* const other = owner->guest().talk()->connection(client.port, client.first);
    if (!other || client.tcp->in() != other->out() || client.tcp->out() != other->in())
      world_.report(rule::kClient, "the two ends of a connection differ");
  }
  ++world_.counters.answered;
  served_ = served_ || healed_;
  client.tcp.reset();
  client.begins = world_.queue.now() + chances_.between(Nanos{0}, Millis{100});
}

void Clients::to_guest(const TcpFields& segment) {
  if (chances_.chance(loss_permille_)) return;
  world_.queue.in(
      chances_.between(Nanos{100'000}, Nanos{600'000}),
      [this, frame = tcp_frame(segment)] { world_.host(switched_to_).on_client(frame); });
}

void Clients::on_frame(int host, const FrameBytes& frame) {
  switched_to_ = host;
  const auto segment = tcp_fields(frame);
  if (!segment || chances_.chance(loss_permille_)) return;
  world_.queue.in(chances_.between(Nanos{100'000}, Nanos{600'000}), [this, segment = *segment] {
    const auto client = std::ranges::find(clients_, segment.destination_port, &Client::port);
    if (client == clients_.end() || !client->tcp) return;
    client->tcp->on(segment);
    if (!client->tcp->nonsense().empty())
      world_.report(rule::kClient, "a client is told nonsense: " + client->tcp->nonsense());
  });
}

void Clients::lose_connections() {
  for (Client& client : clients_) client.tcp.reset();
}

void Clients::all_heals() { healed_ = true; }

bool Clients::are_served() const {
  return served_ &&
         std::ranges::none_of(clients_, [](const Client& each) { return each.tcp && each.old; });
}

}  // namespace libft::sim
