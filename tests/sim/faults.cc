// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/faults.h"

#include "sim/host.h"
#include "sim/world.h"

namespace libft::sim {

Faults::Faults(World& world) : world_(world), random_(world.stream(11)) { choose_kinds(); }

void Faults::choose_kinds() {
  constexpr Weighted kAll[] = {
      {Kind::crash_process, 6},   {Kind::crash_host, 6},      {Kind::crash_in_batch, 5},
      {Kind::stall, 5},           {Kind::stall_hidden, 3},    {Kind::stall_session, 3},
      {Kind::stall_in_batch, 4},  {Kind::block_one_way, 7},   {Kind::block_both, 4},
      {Kind::reset, 7},           {Kind::damage, 5},          {Kind::slow_network, 3},
      {Kind::lossy_datagrams, 2}, {Kind::arbiter_slow, 3},    {Kind::arbiter_mute, 6},
      {Kind::arbiter_cut_off, 5}, {Kind::arbiter_doubles, 2}, {Kind::guest_ends, 2},
      {Kind::guest_paused, 2},    {Kind::guest_dies, 1},      {Kind::switch_over, 5},
      {Kind::unprotect, 2},       {Kind::fail_over, 2},       {Kind::change_strategy, 10}};
  const unsigned share = 200 + static_cast<unsigned>(random_.below(700));
  for (const Weighted& kind : kAll)
    if (random_.chance(share)) kinds_.push_back(kind);
  if (kinds_.empty()) kinds_.push_back({Kind::reset, 1});
  for (const Weighted& kind : kinds_) weight_sum_ += kind.weight;
  pause_ = random_.between(Millis{60}, Millis{600});
}

void Faults::begin(Time end) {
  end_ = end;
  next();
  if (world_.holds.chance(500)) hold_some();
}

// Of a stream of their own: a world without holds is what it was before there were any.
void Faults::hold_some() {
  world_.queue.in(world_.holds.between(Millis{20}, Millis{1200}), [this] {
    if (world_.queue.now() >= end_) return;
    for (auto& host : world_.hosts) {
      if (!host->alive() || !world_.holds.chance(600)) continue;
      ++world_.counters.faults;
      host->replica()->owner_holds();
      break;
    }
    hold_some();
  });
}

void Faults::next() {
  world_.queue.in(random_.between(Nanos{0}, pause_ * 2), [this] {
    if (world_.queue.now() >= end_) return;
    strike();
    next();
  });
}

Faults::Kind Faults::pick() {
  auto at = random_.below(weight_sum_);
  for (const Weighted& kind : kinds_) {
    if (at < kind.weight) return kind.kind;
    at -= kind.weight;
  }
  return kinds_.back().kind;
}

void Faults::strike() {
  const Kind kind = pick();
  if (kind <= Kind::crash_in_batch)
    crash(kind);
  else if (kind <= Kind::stall_in_batch)
    stall(kind);
  else if (kind <= Kind::lossy_datagrams)
    harm_network(kind);
  else if (kind <= Kind::arbiter_doubles)
    harm_arbiter(kind);
  else
    owner_acts(kind);
}

void Faults::crash(Kind kind) {
  Host& host = world_.host(some_host());
  if (!host.alive()) return;
  // The only copy seldom dies: after that nothing is left to be seen.
  const bool only = world_.arbiter.truth().owner == host.replica()->self() &&
                    world_.arbiter.truth().in_sync.size() == 1;
  if (only && !random_.chance(30)) return;
  ++world_.counters.faults;
  if (kind == Kind::crash_in_batch)
    host.crash_in_next_batch();
  else
    host.crash(kind == Kind::crash_host);
  world_.queue.in(random_.between(Millis{30}, Millis{1200}), [&host] {
    if (!host.alive()) host.start();
  });
}

void Faults::stall(Kind kind) {
  Host& host = world_.host(some_host());
  if (!host.alive()) return;
  ++world_.counters.faults;
  const Nanos length = random_.chance(700) ? random_.between(Millis{10}, Millis{500})
                                           : random_.between(Millis{500}, Millis{3000});
  if (kind == Kind::stall) host.stall(Stall::host, length);
  if (kind == Kind::stall_hidden) host.stall(Stall::hidden, length);
  if (kind == Kind::stall_session) host.stall(Stall::session, length);
  if (kind == Kind::stall_in_batch) host.stall_in_next_batch(Stall::host, length);
}

void Faults::harm_network(Kind kind) {
  ++world_.counters.faults;
  Network& network = world_.network;
  const int from = some_host(), to = (from + 1 + static_cast<int>(random_.below(2))) % kHosts;
  const Nanos length = random_.between(Millis{20}, Millis{1500});
  const auto connections = network.open_connections();
  switch (kind) {
    case Kind::block_one_way:
    case Kind::block_both:
      world_.trace.add("net", "blocked", static_cast<std::uint64_t>(from),
                       static_cast<std::uint64_t>(to));
      network.block(from, to);
      if (kind == Kind::block_both) network.block(to, from);
      world_.queue.in(length, [&network, from, to, kind] {
        network.heal(from, to);
        if (kind == Kind::block_both) network.heal(to, from);
      });
      break;
    case Kind::reset:
    case Kind::damage: {
      if (connections.empty()) return;
      const ConnectionId id = connections[random_.below(connections.size())];
      if (kind == Kind::reset) {
        world_.trace.add("net", "resets", id);
        return network.reset(id);
      }
      const auto damage = static_cast<Network::Damage>(1 + random_.below(4));
      world_.trace.add("net", "damages", id, static_cast<std::uint64_t>(damage));
      network.damage_next(id, network.end_of(id, random_.chance(200) ? 0 : 1), damage);
      break;
    }
    case Kind::slow_network:
      network.set_delay(Millis{1}, random_.between(Millis{2}, Millis{80}));
      world_.queue.in(length, [&network] {
        network.set_delay(std::chrono::microseconds{50}, std::chrono::microseconds{600});
      });
      break;
    default:
      network.set_datagram_loss(static_cast<unsigned>(random_.below(600)));
      world_.queue.in(length, [&network] { network.set_datagram_loss(0); });
  }
}

void Faults::harm_arbiter(Kind kind) {
  ++world_.counters.faults;
  SimArbiter& arbiter = world_.arbiter;
  const Nanos length = random_.between(Millis{50}, Millis{2000});
  switch (kind) {
    case Kind::arbiter_slow:
      arbiter.manners.high = random_.between(Millis{10}, Millis{400});
      world_.queue.in(length, [&arbiter] { arbiter.manners.high = Millis{4}; });
      break;
    case Kind::arbiter_mute:
      arbiter.manners.unknown_permille = 200 + static_cast<unsigned>(random_.below(700));
      arbiter.manners.lands_permille = static_cast<unsigned>(random_.below(1001));
      arbiter.manners.lands_within = random_.between(Millis{1}, Millis{3000});
      world_.queue.in(length, [&arbiter] { arbiter.manners.unknown_permille = 0; });
      break;
    case Kind::arbiter_doubles: arbiter.manners.doubled_permille = 500; break;
    default: {
      const auto host = static_cast<std::size_t>(some_host());
      arbiter.cut_off[host] = true;
      world_.trace.add("arb", "cut off from", host);
      world_.queue.in(length, [&arbiter, host] { arbiter.cut_off[host] = false; });
    }
  }
}

void Faults::owner_acts(Kind kind) {
  if (kind == Kind::guest_ends && !random_.chance(500)) return;  // Nothing happens after it.
  if (kind == Kind::guest_dies && world_.arbiter.truth().in_sync.size() == 1) return;
  for (auto& host : world_.hosts) {
    Replica* replica = host->replica();
    if (!replica || (kind != Kind::fail_over && !replica->primary())) continue;
    if (kind == Kind::fail_over && (!replica->backup() || random_.chance(500))) continue;
    ++world_.counters.faults;
    if (kind == Kind::guest_ends) {
      replica->owner_ends_guest();
      // Often nobody records it: its host dies between the last epoch and the record.
      if (random_.chance(500) && world_.arbiter.truth().in_sync.size() > 1)
        world_.queue.in(random_.between(Millis{1}, Millis{30}), [this, &host = *host] {
          if (world_.queue.now() < end_) host.crash(random_.chance(500));
        });
    }
    if (kind == Kind::guest_paused)
      replica->owner_pauses_guest(random_.between(Millis{20}, Millis{900}));
    if (kind == Kind::guest_dies) replica->guest_process_dies();
    if (kind == Kind::switch_over) replica->owner_switches_over();
    if (kind == Kind::unprotect) replica->owner_unprotects();
    if (kind == Kind::fail_over) replica->owner_fails_over();
    if (kind == Kind::change_strategy && world_.comparable)
      replica->owner_changes_strategy(random_.chance(600) ? Strategy::compare
                                                          : Strategy::checkpoint);
    if (kind == Kind::change_strategy && world_.exact)
      replica->owner_changes_strategy(static_cast<Strategy>(random_.below(4)));
    return;
  }
}

}  // namespace libft::sim
