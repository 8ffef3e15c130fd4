// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/world.h"

#include <cstring>

#include "sim/faults.h"
#include "sim/host.h"

namespace libft::sim {

void Counters::add(const Counters& other) {
  seeds += other.seeds;
  faults += other.faults;
  failovers += other.failovers;
  switchovers += other.switchovers;
  solo_swaps += other.solo_swaps;
  unknowns += other.unknowns;
  reprotects += other.reprotects;
  resumes += other.resumes;
  partial_epochs += other.partial_epochs;
  epochs += other.epochs;
  logs += other.logs;
  rebases += other.rebases;
  changes += other.changes;
  holds += other.holds;
  flips += other.flips;
  outvoted += other.outvoted;
  replaced += other.replaced;
  majority_erred += other.majority_erred;
  delayed += other.delayed;
  shortened += other.shortened;
  rests += other.rests;
  answered += other.answered;
  follows += other.follows;
  compared += other.compared;
  ended += other.ended;
  lost += other.lost;
  violations += other.violations;
}

World::World(WorldOptions chosen)
    : options(std::move(chosen)),
      trace(queue, options.texts, options.live),
      network(queue, stream(1)),
      arbiter(queue, stream(2)),
      oracle(arbiter.truth(), [this](const char* r, const std::string& text) { report(r, text); }),
      guest(*GuestId::from_name("simulated")),
      random(stream(3)),
      handshakes(stream(7)),
      flips(stream(9)),
      rebases(stream(10)),
      delays(stream(12)),
      votes(stream(13)),
      compares(stream(16)),
      holds(stream(15)),
      talks(queue) {
  arbiter.set_listener([this](const OwnershipRecord& record) {
    trace.add_text("arb", "record", record.generation.value, record.in_sync.size(), [&] {
      std::string listing;
      for (const auto& listed : record.in_sync) listing += " " + listed.host;
      return "generation " + std::to_string(record.generation.value) + ", owner " +
             record.owner.host + ", in sync" + listing + (record.ended ? ", ended" : "");
    });
    oracle.on_landed(record);
  });
  for (int n = 0; n < kHosts; ++n)
    hosts[static_cast<std::size_t>(n)] = std::make_unique<Host>(*this, n);
}

World::~World() = default;

void World::report(const char* rule, const std::string& text) {
  trace.add_text("!!!", rule, 0, 0, [&] { return text; });
  ++counters.violations;
  violations.push_back({rule, text, queue.now()});
}

Incarnation World::new_incarnation(int host) {
  Incarnation who;
  who.host = std::string(1, static_cast<char>('A' + host)) + std::to_string(++incarnations_);
  Random numbers(options.seed, 1000 + incarnations_);
  const std::uint64_t words[2] = {numbers.next(), numbers.next()};
  std::memcpy(who.id.data(), words, sizeof words);
  return who;
}

void World::begin() {
  const Incarnation owner = new_incarnation(0);
  const OwnershipRecord record{Generation{1}, owner, {owner}, false};
  arbiter.create(record);
  host(0).start_as_owner(record, owner);
  host(1).start();
  if (clients) clients->begin();
}

Replica* World::owner() {
  for (auto& it : hosts)
    if (it->replica() && it->replica()->primary() && it->replica()->self() == arbiter.truth().owner)
      return it->replica();
  return nullptr;
}

void World::run_until(Time end) {
  while (!is_over() && queue.step(end)) {
  }
}

void World::stop_faults() {
  trace.add("sim", "faults stop");
  calm = true;
  for (int from = 0; from < kHosts; ++from)
    for (int to = 0; to < kHosts; ++to)
      if (from != to) network.heal(from, to);
  network.set_delay(std::chrono::microseconds{50}, std::chrono::microseconds{600});
  network.set_datagram_loss(0);
  arbiter.cut_off = {};
  arbiter.manners = {};
  for (auto& it : hosts) {
    it->calm();
    if (!it->alive()) it->start();
  }
  packets_at_heal_ = oracle.packets_seen();
  if (clients) clients->all_heals();
}

bool World::is_settled() const {
  if (arbiter.truth().ended || oracle.guest_is_lost()) return true;
  for (const auto& it : hosts) {
    Replica* const replica = it->replica();
    if (!replica || !replica->primary() || arbiter.truth().owner != replica->self()) continue;
    return replica->primary()->is_protected() && replica->runs_guest() &&
           oracle.packets_seen() > packets_at_heal_ + 3 && (!clients || clients->are_served());
  }
  return false;
}

bool World::run_to_progress(Nanos patience) {
  const Time end = queue.now() + patience;
  while (!is_over() && !is_settled()) {
    const Time slice = std::min(end, queue.now() + Millis{20});
    run_until(slice);
    if (slice == end) break;
    queue.at(slice, [] {});  // Time goes on although nothing happens.
    queue.step(slice);
    for (auto& it : hosts)
      if (it->replica()) it->replica()->owner_resumes_guest();
  }
  if (is_over() || is_settled()) return violations.empty();
  report(rule::kProgress,
         "the guest is not running, protected and heard of, long after all healed");
  return false;
}

Outcome run_seed(const WorldOptions& options) {
  World world(options);
  Random shape = world.stream(5);
  world.guest_pages = 8 + 2 * static_cast<std::uint32_t>(shape.below(13));
  world.send_permille = 50 + static_cast<unsigned>(shape.below(700));
  world.primary_options.inflight_max = 1 + static_cast<std::uint32_t>(shape.below(3));
  const bool plug = shape.chance(250);  // A gate that can hold one epoch.
  world.primary_options.epochs_held_max = plug ? 1 : 2 + static_cast<std::uint32_t>(shape.below(8));
  if (shape.chance(300)) world.primary_options.interval.kind = core::IntervalOptions::Kind::fixed;
  if (shape.chance(100)) world.backup_options.head_start = Nanos{0};

  world.primary_options.sync_patience = Millis{3000};
  world.cooperative = world.handshakes.chance(300);
  Random strategies = world.stream(8);
  world.exact = strategies.chance(500);
  constexpr Strategy kLogged[] = {Strategy::replay, Strategy::lockstep, Strategy::hybrid};
  if (world.exact && !strategies.chance(100)) world.strategy = kLogged[strategies.below(3)];
  if (world.exact) world.cooperative = false;
  world.witnessed = world.exact && world.votes.chance(700);
  world.late = world.exact && world.delays.chance(400);

  Random talk = world.stream(14);
  if (!world.exact && talk.chance(500)) {
    world.clients.emplace(world, talk);
    world.comparable = talk.chance(700);
    if (talk.chance(500)) world.own_permille = static_cast<unsigned>(talk.below(60));
    if (world.comparable && talk.chance(800)) world.strategy = Strategy::compare;
    // What cannot be compared is rare there.
    if (world.comparable) world.send_permille = 1 + static_cast<unsigned>(talk.below(100));
  }

  Faults faults(world);
  world.begin();
  const Time end{shape.between(Millis{1500}, Millis{5000})};
  if (shape.chance(800))
    world.queue.in(shape.between(Millis{0}, Millis{2000}), [&world] {
      if (!world.host(2).alive()) world.host(2).start();
    });
  world.queue.in(shape.between(Millis{0}, Millis{600}), [&] { faults.begin(end); });
  world.run_until(end);
  if (!world.is_over()) {
    world.stop_faults();
    world.run_to_progress(Millis{25000});
  }

  Outcome outcome;
  outcome.counters = world.counters;
  outcome.counters.seeds = 1;
  outcome.counters.unknowns = world.arbiter.unknowns();
  outcome.counters.ended = world.arbiter.truth().ended;
  outcome.counters.lost = !world.arbiter.truth().ended && world.oracle.guest_is_lost();
  outcome.counters.majority_erred = world.oracle.majority_erred();
  outcome.violations = world.violations;
  outcome.trace_hash = world.trace.hash();
  outcome.trace = world.trace.lines();
  return outcome;
}

}  // namespace libft::sim
