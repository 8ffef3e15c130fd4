// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/compare/pair_world.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/compare/mistakes.h"

namespace libft::sim {
namespace {

using namespace libft::compare;
using test::tcp_fields;

constexpr Nanos kStep{200'000};
constexpr Time kEnd{std::chrono::seconds{20}};
constexpr Millis kHeldMax{300};  // Beyond both limits, and a checkpoint.
// After it nothing of a connection is held or on the way any more: its ports may have another.
constexpr Millis kQuiet = kHeldMax + Millis{20};

struct Client {
  std::optional<ModelTcp> tcp;
  std::uint32_t first = 1;
  unsigned connections = 0;  // To come.
  unsigned tokens = 0;       // To say in this one.
  Time begins{};
};

struct Held {
  Said said;
  Time since;
  std::uint64_t epoch;
};

struct Copy {  // Of what came in, for the follower.
  FrameBytes frame;
  std::uint64_t epoch;
};

class World {
 public:
  World(std::uint64_t seed, CompareMutant mutant);
  CompareOutcome run();

 private:
  bool is(CompareMutant mutant) const { return mutant_ == mutant; }
  void violation(const std::string& what) {
    if (outcome_.violation.empty())
      outcome_.violation =
          fmt::format("{} us: {}", now_.since_start / std::chrono::microseconds{1}, what);
  }
  void step();
  void run_clients();
  void begin_connection(Client& client);
  bool hiccup(Time& busy);
  void run_primary();
  void run_follower();
  void to_network(FrameBytes frame, bool to_host);
  void arrive(const FrameBytes& frame);
  void hear_follower();
  void deliver_copies();
  void obey(const Verdict& verdict);
  void release(FrameNo number);
  void capture();
  void load();
  void release_captured();
  void die();
  void check();
  bool all_answered() const;

  CompareMutant mutant_;
  Random net_, plan_, primary_chances_, follower_chances_;
  CompareOutcome outcome_;
  Time now_{};
  std::vector<Client> clients_;
  std::multimap<Time, FrameBytes> to_clients_, to_host_;

  ModelGuest primary_, follower_;
  Comparator comparator_{ComparatorOptions{}};
  Rewriter rewriter_{RewriterOptions{}};
  std::map<FrameNo, Held> held_;
  std::uint64_t next_number_ = 1;
  std::multimap<Time, Copy> copies_;
  struct Heard {
    FrameBytes frame;
    std::uint64_t epoch;
  };
  std::multimap<Time, Heard> follower_said_;
  Time newest_copy_{}, newest_heard_{};

  std::uint64_t captured_ = 0, running_ = 0;  // Epochs; the follower runs from `running_`.
  std::optional<ModelGuest> image_;           // Captured, and not acknowledged yet.
  Time image_since_{}, load_at_{}, next_checkpoint_{}, dies_at_{};
  std::optional<Time> told_at_;  // When the primary knows that the follower runs.
  bool follower_exists_ = false, wanted_ = true, primary_alive_ = true;
  std::uint64_t interval_ms_ = 0;
  unsigned loss_permille_;
  Time primary_busy_{}, follower_busy_{};  // Until then the host does something else.
};

World::World(std::uint64_t seed, CompareMutant mutant)
    : mutant_(mutant),
      net_(seed, 1),
      plan_(seed, 2),
      primary_chances_(seed, 3),
      follower_chances_(seed, 4),
      primary_(std::uint32_t(plan_.below(1000)), plan_.chance(500) ? unsigned(plan_.below(60)) : 0),
      follower_(primary_),
      loss_permille_(plan_.chance(500) ? unsigned(plan_.below(100)) : 0) {
  clients_.resize(1 + plan_.below(3));
  for (auto& client : clients_) {
    client.connections = unsigned(1 + plan_.below(4));
    client.first = std::uint32_t(plan_.next());
    client.begins = Time{Millis{std::int64_t(plan_.below(60))}};
  }
  dies_at_ = Time{Millis{std::int64_t(20 + plan_.below(plan_.chance(300) ? 2000 : 400))}};
  interval_ms_ = plan_.chance(300) ? 5000 : 300;
  next_checkpoint_ = Time{Millis{std::int64_t(plan_.below(300))}};
}

CompareOutcome World::run() {
  while (now_ < kEnd && outcome_.violation.empty() && !(all_answered() && !primary_alive_)) {
    now_ = now_ + kStep;
    step();
    check();
  }
  if (outcome_.violation.empty() && !all_answered())
    violation("progress: a client is not answered");
  outcome_.counters.seeds = 1;
  outcome_.counters.compared = comparator_.statistics().released;
  outcome_.counters.by_checkpoint = comparator_.statistics().by_checkpoint;
  for (std::size_t n = 0; n < 5; ++n)
    outcome_.counters.wanted[n] = comparator_.statistics().checkpoints[n];
  return outcome_;
}

void World::step() {
  run_clients();
  while (!to_host_.empty() && to_host_.begin()->first <= now_)
    arrive(to_host_.extract(to_host_.begin()).mapped());
  while (!to_clients_.empty() && to_clients_.begin()->first <= now_) {
    const auto frame = to_clients_.extract(to_clients_.begin());
    if (const auto segment = tcp_fields(frame.mapped())) {
      auto& tcp = clients_[segment->destination_port - 4000u].tcp;
      if (tcp) tcp->on(*segment);
    }
  }
  if (primary_alive_) run_primary();
  deliver_copies();
  if (follower_exists_) run_follower();
  if (!primary_alive_) return;
  hear_follower();
  if (!is(CompareMutant::time_unlimited)) obey(comparator_.on_time(now_));
  if (!image_ && (wanted_ || now_ >= next_checkpoint_)) capture();
  if (image_ && now_ >= load_at_) load();
  if (told_at_ && now_ >= *told_at_) {
    told_at_.reset();
    obey(comparator_.follower_runs(now_));
  }
  if (now_ >= dies_at_ && follower_exists_) die();
}

void World::begin_connection(Client& client) {
  const auto index = std::uint16_t(&client - clients_.data());
  client.first += 1'000'000;
  client.tcp.emplace(
      Peers{.near = 2, .far = 1, .near_port = std::uint16_t(4000 + index), .far_port = 80},
      client.first, plan_);
  client.tokens = unsigned(1 + plan_.below(plan_.chance(300) ? 60 : 12));
  --client.connections;
}

void World::run_clients() {
  for (auto& client : clients_) {
    if (!client.tcp) {
      if (client.connections > 0 && now_ >= client.begins) begin_connection(client);
      continue;
    }
    ModelTcp& tcp = *client.tcp;
    if (client.tokens > 0 && plan_.chance(30)) {
      tcp.write(fmt::format("{:08x}", std::uint32_t(plan_.next())));
      if (--client.tokens == 0) tcp.close();
    }
    tcp.say(now_, std::uint32_t(now_.since_start / Millis{1}), plan_,
            [&](const TcpFields& segment) { to_network(tcp_frame(segment), true); });
    const ModelGuest& serving = primary_alive_ ? primary_ : follower_;
    const ModelTcp* other =
        serving.connection(std::uint16_t(4000 + (&client - clients_.data())), client.first);
    if (!tcp.done() || other == nullptr || !other->done()) continue;
    if (tcp.in() != other->out() || tcp.out() != other->in()) violation("the two ends differ");
    ++outcome_.counters.answered;
    client.tcp.reset();
    client.begins = now_ + kQuiet;
  }
}

bool World::all_answered() const {
  return std::all_of(clients_.begin(), clients_.end(),
                     [](const Client& client) { return !client.tcp && client.connections == 0; });
}

void World::to_network(FrameBytes frame, bool to_host) {
  auto& queue = to_host ? to_host_ : to_clients_;
  for (int copies = net_.chance(10) ? 2 : 1; copies > 0; --copies)
    if (!net_.chance(loss_permille_))
      queue.emplace(
          now_ + net_.between(Nanos{100'000}, Nanos{net_.chance(100) ? 4'000'000 : 500'000}),
          frame);
}

// At the host that has the guest's address.
void World::arrive(const FrameBytes& frame) {
  const auto segment = tcp_fields(frame);
  if (!segment) return violation("a client's checksum");
  if (primary_alive_) {
    comparator_.on_world(0, frame);
    primary_.on(*segment, primary_chances_);
    newest_copy_ = std::max(newest_copy_, now_ + net_.between(Nanos{200'000}, Nanos{800'000}));
    copies_.emplace(newest_copy_, Copy{frame, captured_});
    return;
  }
  auto rewritten = frame;
  rewriter_.to_guest(0, rewritten);
  mistake_to_guest(mutant_, frame, rewritten);
  if (const auto mapped = tcp_fields(rewritten)) follower_.on(*mapped, follower_chances_);
}

void World::deliver_copies() {
  while (!copies_.empty() && copies_.begin()->first <= now_ &&
         copies_.begin()->second.epoch <= running_) {
    auto copy = copies_.extract(copies_.begin()).mapped();
    if (copy.epoch < running_ || !follower_exists_) continue;  // It is in the image.
    rewriter_.to_guest(0, copy.frame);
    if (const auto segment = tcp_fields(copy.frame)) follower_.on(*segment, follower_chances_);
  }
}

// A host that does not run its guest for a while, longer than the comparator waits at times, and
// now and then longer than anything may be held.
bool World::hiccup(Time& busy) {
  if (now_ < busy) return true;
  if (net_.chance(10))
    busy = now_ + (net_.chance(10) ? net_.between(Nanos{kHeldMax}, Nanos{2 * kHeldMax})
                                   : net_.between(Nanos{1'000'000}, Nanos{30'000'000}));
  return false;
}

void World::run_primary() {
  if (hiccup(primary_busy_)) return;
  std::vector<Said> said;
  primary_.run(now_, primary_chances_, said);
  if (said.size() > 1 && net_.chance(50)) std::swap(said.front(), said.back());
  for (auto& one : said) {
    const FrameNo number{next_number_++};
    held_.emplace(number, Held{one, now_, captured_});
    obey(comparator_.on_primary(number, 0, mistaken_primary(mutant_, one), now_));
  }
}

void World::run_follower() {
  if (hiccup(follower_busy_)) return;
  std::vector<Said> said;
  follower_.run(now_, follower_chances_, said);
  if (said.size() > 1 && net_.chance(50)) std::swap(said.front(), said.back());
  for (auto& one : said) {
    newest_heard_ = std::max(
        newest_heard_,
        now_ + net_.between(Nanos{200'000}, Nanos{net_.chance(20) ? 10'000'000 : 1'000'000}));
    if (primary_alive_)
      follower_said_.emplace(newest_heard_, Heard{mistaken_follower(mutant_, one), running_});
    const FrameBytes own = one.frame;
    rewriter_.to_world(0, one.frame);
    mistake_to_world(mutant_, own, one.frame);
    if (!primary_alive_ && one.segment) to_network(one.frame, false);
  }
}

void World::hear_follower() {
  while (!follower_said_.empty() && follower_said_.begin()->first <= now_) {
    const auto heard = follower_said_.extract(follower_said_.begin()).mapped();
    if (heard.epoch == captured_ || is(CompareMutant::old_follower_heard))
      obey(comparator_.on_follower(0, heard.frame));
  }
}

void World::obey(const Verdict& verdict) {
  for (const FrameNo number : verdict.release) release(number);
  if (verdict.checkpoint != Reason::none) wanted_ = true;
  if (!is(CompareMutant::all_released_with_one) || verdict.release.empty()) return;
  while (!held_.empty()) release(held_.begin()->first);
}

void World::release(FrameNo number) {
  const auto held = held_.extract(number);
  if (held.empty() && is(CompareMutant::all_released_with_one)) return;
  if (held.empty()) return violation("a frame is released that is not held");
  const Said& said = held.mapped().said;
  // The rule. What an acknowledged checkpoint covers, its follower has said.
  if (!follower_exists_ || !follower_.has_said(said))
    violation(fmt::format("output commit: the follower has not said {}", to_string(said)));
  if (said.segment) to_network(said.frame, false);
}

void World::capture() {
  image_ = primary_;
  image_since_ = now_;
  told_at_.reset();
  ++captured_;
  ++outcome_.counters.checkpoints;
  wanted_ = false;
  load_at_ = now_ + net_.between(Nanos{1'000'000}, Nanos{12'000'000});
  if (!is(CompareMutant::rebase_forgotten) || !follower_exists_) comparator_.captured();
  if (is(CompareMutant::released_at_capture)) release_captured();
  if (is(CompareMutant::compared_while_loading)) obey(comparator_.follower_runs(now_));
}

// The backup has acknowledged the image, and a follower runs from it.
void World::load() {
  follower_ = std::move(*image_);
  follower_.stood(std::uint32_t((now_ - image_since_) / Millis{1}));
  image_.reset();
  follower_exists_ = true;
  running_ = captured_;
  if (!is(CompareMutant::mappings_kept)) rewriter_.rebase({});
  release_captured();
  told_at_ = now_ + net_.between(Nanos{0}, Nanos{2'000'000});
  next_checkpoint_ =
      now_ + Millis{std::int64_t(plan_.below(plan_.chance(300) ? 30 : interval_ms_))};
}

void World::release_captured() {
  while (!held_.empty() && held_.begin()->second.epoch < captured_) release(held_.begin()->first);
}

// What was on its way to the follower gets there, or not.
void World::die() {
  primary_alive_ = false;
  ++outcome_.counters.promotions;
  outcome_.counters.promoted_mapped += rewriter_.mappings().size();
  held_.clear();
  image_.reset();
  if (is(CompareMutant::mappings_lost)) rewriter_.rebase({});
  if (plan_.chance(500)) copies_.clear();
  std::erase_if(copies_, [&](const auto& copy) { return copy.second.epoch != running_; });
}

void World::check() {
  if (!held_.empty() && now_ - held_.begin()->second.since > kHeldMax)
    violation("bounded: a frame is held for too long");
  for (const auto& client : clients_)
    if (client.tcp && !client.tcp->nonsense().empty())
      violation("a client is told nonsense: " + client.tcp->nonsense());
  if (const auto nonsense = primary_.nonsense(); primary_alive_ && !nonsense.empty())
    violation("the primary is told nonsense: " + nonsense);
  if (const auto nonsense = follower_.nonsense(); follower_exists_ && !nonsense.empty())
    violation("the follower is told nonsense: " + nonsense);
}

}  // namespace

void CompareCounters::add(const CompareCounters& other) {
  seeds += other.seeds;
  compared += other.compared;
  by_checkpoint += other.by_checkpoint;
  checkpoints += other.checkpoints;
  promotions += other.promotions;
  promoted_mapped += other.promoted_mapped;
  answered += other.answered;
  for (std::size_t n = 0; n < 5; ++n) wanted[n] += other.wanted[n];
}

CompareOutcome run_compare_seed(std::uint64_t seed, CompareMutant mutant) {
  return World(seed, mutant).run();
}

}  // namespace libft::sim
