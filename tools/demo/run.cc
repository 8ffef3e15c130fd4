// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "demo/control_client.h"
#include "demo/lost_bit.h"
#include "demo/statistics.h"
#include "os/file.h"
#include "os/real_clock.h"

namespace libft::demo {
namespace {

using std::chrono::seconds;

Time now() { return os::RealClock().now(); }
double to_ms(Nanos duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

constexpr Nanos kWarmUp = seconds{1};
constexpr Nanos kTakeOverPatience = seconds{20};
constexpr Nanos kFencePatience = seconds{20};
constexpr Nanos kReprotectPatience = seconds{60};
constexpr Nanos kVotePatience = seconds{10};  // For a lost bit to matter.
constexpr Nanos kAfterwards = seconds{2};     // Load after the failure, before the questions.
constexpr Nanos kAnswerPatience = seconds{30};
constexpr Nanos kBeatsCompared = seconds{1};
constexpr int kExitFenced = 5;  // ftctl's, as documented.

// In the order of Victim.
constexpr const char* kFailures[] = {"host A dies",   "host B dies",   "the link is cut",
                                     "a path is cut", "host A stalls", "libft on A is killed",
                                     "switch-over",   "a bit is lost"};
// Which of three replicas loses a bit, by the seed: three runs in a row hit each once.
constexpr const char* kReplicas[] = {"primary", "backup", "witness"};
// How the backup calls them when they are outvoted.
constexpr const char* kOutvoted[] = {
    "the primary host-a:", "this backup host-b:", "the witness host-c:"};
constexpr lab::Path kBetweenHosts[] = {lab::Path::replication, lab::Path::heartbeat};

class Run {
 public:
  Run(const RunParts& parts, int number, std::uint64_t seed, bool reprotect)
      : parts_(parts), options_(parts.options), random_(seed), reprotect_(reprotect) {
    result_.number = number;
    result_.seed = seed;
    result_.victim = options_.victim;
    result_.arbiter = options_.arbiter;
    if (options_.victim == Victim::corrupt) result_.corrupted = kReplicas[which()];
  }

  Result<RunResult> go() {
    FT_ASSIGN(stage_, set_stage(parts_, fmt::format("{:016x}", random_())));
    FT_TRY(protect_stage(parts_, stage_));
    // Random bytes are another output in each of two that run: every beat takes a checkpoint.
    if (options_.strategy == "compare")
      FT_TRY(stage_.observer->set_beats(kBeatsCompared, kAnswerPatience));
    if (options_.replicas == 3) FT_TRY(add_witness());
    FT_TRY(load());
    FT_TRY(strike());
    // From here on what goes wrong is the result.
    Status followed = follow();
    if (followed.code() == Code::cancelled) return failure(std::move(followed));
    if (!followed.ok()) problem(followed.to_string());
    measure();
    if (Status judged = judge(); !judged.ok()) problem(judged.to_string());
    collect();
    return std::move(result_);
  }

 private:
  void mark(Time at, std::string text) { result_.marks.push_back({at, std::move(text)}); }
  void problem(std::string text) { result_.problems.push_back(std::move(text)); }
  lab::TwoHosts& hosts() { return stage_.world->hosts(); }

  Status add_witness() {
    parts_.say("starting the witness on host C");
    FT_ASSIGN(witness_, stage_.world->witness());
    return wait_for(parts_, *witness_, "the witness to vote", kReprotectPatience,
                    [&] { return event_time(*stage_.backup, {"witness_votes"}).has_value(); });
  }

  std::size_t which() const { return result_.seed % std::size(kReplicas); }

  Status lose_bit() {
    const Ftctl* const hit[] = {stage_.primary.get(), stage_.backup.get(), witness_.get()};
    FT_ASSIGN(const LostBit lost,
              lose_a_bit(hit[which()]->child->pid(), std::uint64_t{kMachineMib} << 20, random_));
    result_.killed = lost.at;
    result_.notes.push_back(fmt::format("the {} lost {}", result_.corrupted, describe(lost)));
    parts_.say(result_.notes.back());
    return {};
  }

  Status load() {
    parts_.say("protected; the client writes");
    stage_.client->offer(Load::open, options_.writes_per_s);
    FT_TRY(parts_.interrupt.sleep(kWarmUp));
    FT_ASSIGN(clock_before_, stage_.observer->guest_clock(kAnswerPatience));
    result_.started = now();
    mark(result_.started, "protected, under load");
    const double wait_s =
        options_.seconds ? *options_.seconds : std::uniform_real_distribution(3.0, 6.0)(random_);
    FT_TRY(parts_.interrupt.sleep(
        std::chrono::duration_cast<Nanos>(std::chrono::duration<double>(wait_s))));
    note_status(*stage_.primary);
    if (!stage_.primary->protects()) {
      return Status(Code::refused,
                    "protection ended before anything failed; see " + stage_.primary->log);
    }
    return {};
  }

  // What only the primary knows, before it is gone.
  void note_status(const Ftctl& ftctl) {
    const auto status = ftctl.status();
    if (!status) return;
    result_.bytes_sent = status->value("bytes_sent", std::uint64_t{0});
    result_.tracker = status->value("tracker", "");
    result_.accelerator = status->value("accelerator", "");
    result_.lag_while_protected_ms = status->value("guest_clock_lag_ms", 0.0);
    if (options_.strategy == "compare") result_.notes.push_back(compared((*status)["compare"]));
  }

  static std::string compared(const Json& seen) {
    const auto count = [&](const char* key) { return seen.value(key, std::uint64_t{0}); };
    return fmt::format(
        "{}: {} frames left by comparison, {} waited for a checkpoint; the backup's guest ran from "
        "{}, {} of them in vain; {} differences, {} time-outs, {} frames not understood",
        seen.value("state", ""), count("frames_compared"), count("frames_by_checkpoint"),
        count("runs"), count("runs_in_vain"), count("differences"), count("timeouts"),
        count("not_understood"));
  }

  Status strike() {
    parts_.say(fmt::format("failure: {}", to_string(options_.victim)));
    result_.killed = now();
    switch (options_.victim) {
      case Victim::primary: FT_TRY(kill(Side::a)); break;
      case Victim::backup: FT_TRY(kill(Side::b)); break;
      case Victim::link:
        for (const auto path : kBetweenHosts) FT_TRY(hosts().cut(Side::a, path));
        break;
      case Victim::path: FT_TRY(hosts().cut(Side::a, lab::Path::replication)); break;
      case Victim::stall: hosts().host(Side::a).signal_all(SIGSTOP); break;
      case Victim::libft: stage_.primary->kill(); break;
      case Victim::switchover: FT_TRY(ask_to_switch_over(stage_.primary->control)); break;
      case Victim::corrupt: FT_TRY(lose_bit()); break;
    }
    result_.protection_ended = result_.killed;
    mark(result_.killed, kFailures[static_cast<std::size_t>(options_.victim)]);
    return {};
  }

  // The dead ftctl is reaped: its successor on that host looks whether it still lives.
  Status kill(Side side) {
    FT_ASSIGN(result_.killed, stage_.world->kill_host(side));
    (side == Side::a ? stage_.primary : stage_.backup)->child->kill_and_reap();
    return {};
  }

  // Until one replica goes on alone, the loser is silent, and (where asked) protection is back.
  Status follow() {
    if (options_.victim == Victim::corrupt) return follow_vote();
    FT_TRY(find_survivor());
    result_.survivor = std::string(1, letter(survivor_->side));
    FT_TRY(parts_.interrupt.wait("an answer after the failure", kTakeOverPatience,
                                 [&] { return answered_after_takeover(); }));
    parts_.say(fmt::format("host {} goes on", result_.survivor));
    FT_TRY(silence_loser());
    over_at_ = now();
    FT_TRY(parts_.interrupt.sleep(kAfterwards));
    if (reprotect_) FT_TRY(protect_again());
    return {};
  }

  // Until the odd one is outvoted, and three vote again. A bit that the guest overwrites before it
  // reads it matters to nobody.
  Status follow_vote() {
    survivor_ = stage_.primary.get();
    result_.survivor = "A";
    std::optional<Json> outvoted;
    const Status seen = parts_.interrupt.wait("the lost bit to matter", kVotePatience, [&] {
      outvoted = event(*stage_.backup, {"outvoted", "diverged"});
      return outvoted.has_value();
    });
    if (seen.code() == Code::timeout) return {};
    FT_TRY(seen);
    const Time at = time_of(*outvoted);
    const std::string text = outvoted->value("text", "");
    mark(at, outvoted->value("event", "") + ": " + text);
    result_.detect_ms = to_ms(at - result_.killed);
    result_.outvoted = text.starts_with(kOutvoted[which()]);
    if (!result_.outvoted)
      return Status(Code::corrupt, "not the one that lost a bit was found out: " + text);
    FT_TRY(which() == 0 ? replace_primary() : wait_for_three(*stage_.backup));
    over_at_ = now();
    return parts_.interrupt.sleep(kAfterwards);
  }

  // The old one's host joins as the backup, where the witness votes from then on.
  Status replace_primary() {
    survivor_ = stage_.backup.get();
    result_.survivor = "B";
    FT_TRY(wait_for(parts_, *survivor_, "the backup to take over", kTakeOverPatience,
                    [&] { return survivor_->runs_guest(); }));
    FT_TRY(expect_fenced(*stage_.primary));
    FT_ASSIGN(again_, stage_.world->stand_by(Side::a));
    return wait_for_three(*again_);
  }

  Status wait_for_three(Ftctl& backup) {
    const char* const sign = which() == 1 ? "replaced" : "witness_votes";
    std::optional<Time> at;
    FT_TRY(wait_for(parts_, backup, "three replicas to vote again", kReprotectPatience, [&] {
      at = event_time(backup, {sign});
      return at.has_value();
    }));
    result_.three_again_ms = to_ms(*at - result_.killed);
    mark(*at, "three replicas vote again");
    return {};
  }

  Status find_survivor() {
    if (options_.victim == Victim::backup) {
      survivor_ = stage_.primary.get();
      return wait_for(parts_, *survivor_, "the primary to go on alone", kTakeOverPatience,
                      [&] { return survivor_->runs_guest() && !survivor_->protects(); });
    }
    if (options_.victim == Victim::path) {
      survivor_ = stage_.primary.get();
      return parts_.interrupt.wait("replication over the other path", kTakeOverPatience, [&] {
        return event_time(*survivor_, {"reconnected"}).has_value();
      });
    }
    if (options_.victim != Victim::link) {
      survivor_ = stage_.backup.get();
      return wait_for(parts_, *survivor_, "the backup to take over", kTakeOverPatience,
                      [&] { return survivor_->runs_guest(); });
    }
    // Either may win; the record lets only one.
    return parts_.interrupt.wait("one replica to go on alone", kTakeOverPatience, [&] {
      if (stage_.backup->runs_guest())
        survivor_ = stage_.backup.get();
      else if (went_solo(*stage_.primary))
        survivor_ = stage_.primary.get();
      return survivor_ != nullptr;
    });
  }

  bool went_solo(const Ftctl& ftctl) {
    const auto status = ftctl.status();
    return status && status->value("role", "") == "primary" && !status->value("protected", true) &&
           event_time(ftctl, {"unprotected"}).has_value();
  }

  bool answered_after_takeover() {
    if (!stage_.client->survived()) return true;  // The verdict is there.
    if (!went_on_at_) went_on_at_ = now();
    return stage_.client->newest_answer() > *went_on_at_;
  }

  Status silence_loser() {
    switch (options_.victim) {
      case Victim::stall: {
        FT_TRY(parts_.interrupt.sleep(Millis{500}));
        mark(now(), "the stalled host wakes");
        hosts().host(Side::a).signal_all(SIGCONT);
        return expect_fenced(*stage_.primary);
      }
      case Victim::libft: {
        mark(now(), "libft restarted on A");
        if (!stage_.world->through_ftd()) {
          FT_ASSIGN(stage_.primary, stage_.world->protect(Side::a));
        }
        return expect_fenced(*stage_.primary);
      }
      case Victim::link: {
        FT_TRY(parts_.interrupt.sleep(Millis{500}));
        const bool both = stage_.backup->runs_guest() && went_solo(*stage_.primary);
        if (both) problem("two owners: both replicas went on alone");
        for (const auto path : kBetweenHosts) FT_TRY(hosts().heal(Side::a, path));
        mark(now(), "link healed");
        if (survivor_ == stage_.backup.get()) return expect_fenced(*stage_.primary);
        return {};
      }
      case Victim::switchover: return expect_end(*stage_.primary, 0);
      case Victim::path: {
        FT_TRY(parts_.interrupt.sleep(Millis{500}));
        if (!stage_.primary->protects()) problem("protection ended with one of two paths");
        FT_TRY(hosts().heal(Side::a, lab::Path::replication));
        mark(now(), "path healed");
        return {};
      }
      default: return {};
    }
  }

  // It learns that it lost, or has handed over, stops its guest, and says which with its exit code.
  Status expect_fenced(Ftctl& loser) { return expect_end(loser, kExitFenced); }
  Status expect_end(Ftctl& loser, int code) {
    if (stage_.world->through_ftd()) return expect_backup(loser);
    std::optional<os::ChildEnd> end;
    FT_TRY(parts_.interrupt.wait("the old primary to end", kFencePatience, [&] {
      if (auto ended = loser.child->wait(Nanos{0})) end = *ended;
      return end.has_value();
    }));
    mark(now(), fmt::format("{} ends", letter(loser.side)));
    if (end->by_signal || end->code != code) {
      problem(fmt::format("the old primary ended with {}, not with exit code {}",
                          os::to_string(*end), code));
    }
    const Status gone = parts_.interrupt.wait("the old guest to be gone", seconds{5},
                                              [&] { return stage_.world->empty(loser.side); });
    if (!gone.ok())
      problem("the old guest still runs on host " + std::string(1, letter(loser.side)));
    return {};
  }

  // Where ftd keeps it up, whoever lost or handed over goes on as the backup.
  Status expect_backup(const Ftctl& loser) {
    FT_TRY(parts_.interrupt.wait("the old primary to become the backup", kFencePatience,
                                 [&] { return loser.backs(); }));
    mark(now(), fmt::format("{} backs", letter(loser.side)));
    if (!event_time(loser, {"ftctl_fenced", "ftctl_refused", "ftctl_handed_over"})) {
      problem("the old primary neither was fenced nor handed over");
    }
    return {};
  }

  Status protect_again() {
    const Side side = other(survivor_->side);
    const bool was_dead = options_.victim == Victim::primary || options_.victim == Victim::backup;
    if (was_dead) FT_TRY(hosts().heal(side));
    const Time from = now();
    Ftctl* standby = side == Side::b ? stage_.backup.get() : nullptr;
    const bool linked = options_.victim == Victim::link || options_.victim == Victim::path;
    const bool still_there = linked && standby != nullptr && !standby->child->wait(Nanos{0});
    if (!still_there) {
      FT_ASSIGN(again_, stage_.world->stand_by(side));
      standby = again_.get();
    }
    FT_TRY(wait_for(parts_, *standby, "protection to return", kReprotectPatience,
                    [&] { return survivor_->protects(); }));
    result_.reprotect_ms = to_ms(now() - from);
    mark(now(), fmt::format("protected again, backup on {}", letter(side)));
    parts_.say(fmt::format("protected again after {:.0f} ms", *result_.reprotect_ms));
    return parts_.interrupt.sleep(seconds{1});
  }

  static Time time_of(const Json& event) {
    return Time{
        std::chrono::duration_cast<Nanos>(std::chrono::duration<double>(event.value("at_s", 0.0)))};
  }

  // Since the failure; the first of the first name that there is any of.
  std::optional<Json> event(const Ftctl& ftctl, std::initializer_list<std::string_view> names) {
    const auto events = ask_events(ftctl.control);
    if (!events) return std::nullopt;
    for (const std::string_view name : names)
      for (const Json& event : *events)
        if (event.value("event", "") == name && time_of(event) >= result_.killed) return event;
    return std::nullopt;
  }

  std::optional<Time> event_time(const Ftctl& ftctl,
                                 std::initializer_list<std::string_view> names) {
    const auto found = event(ftctl, names);
    return found ? std::optional(time_of(*found)) : std::nullopt;
  }

  void measure() {
    if (survivor_ == nullptr) return;
    const bool votes = options_.victim == Victim::corrupt;  // detect_ms is there already.
    if (votes && (which() != 0 || !result_.outvoted)) return;
    const auto suspected =
        event_time(*survivor_, {"suspected", "removing_backup", "claiming", "disconnected"});
    if (suspected && !votes) {
      result_.detect_ms = to_ms(*suspected - result_.killed);
      mark(*suspected, "suspected");
    }
    const auto promoted = event_time(*survivor_, {"promoted", "unprotected", "reconnected"});
    if (promoted) {
      result_.outage_ms = to_ms(*promoted - result_.killed);
      mark(*promoted, options_.victim == Victim::path ? "goes on by the other path"
                      : survivor_->side == Side::a    ? "goes on alone"
                                                      : "promoted");
    }
    if (const auto status = survivor_->status()) {
      result_.arbitrate_ms = status->value("arbitrate_ms", 0.0);
      result_.takeover_ms = status->value("takeover_ms", 0.0);
      result_.load_ms = status->value("load_ms", 0.0);
    }
    const bool asked = options_.victim != Victim::path;  // A change of the path asks nobody.
    if (asked && result_.arbitrate_ms == 0 && suspected && promoted) {
      result_.arbitrate_ms = to_ms(*promoted - *suspected) - result_.takeover_ms;
    }
  }

  // The questions to the guest that goes on. Each is asked, whatever the answer to the one before.
  Status judge() {
    Status first;
    const auto keep = [&](const Status& status) {
      if (!status.ok() && first.ok()) first = status;
    };
    const Time load_ended = now();
    keep(stage_.client->drain(kAnswerPatience).within("wait for the last answers"));
    const auto lost = stage_.client->read_back(kAnswerPatience);
    if (lost) {
      result_.writes_checked = lost->checked;
      result_.writes_lost = lost->lost;
    } else {
      keep(lost.error().within("read all acknowledged keys back"));
    }
    const auto verdict = stage_.observer->ask_since(result_.started, kAnswerPatience);
    if (verdict)
      result_.outputs_asked = verdict->asked;
    else
      keep(verdict.error());
    result_.outputs_contradicted =
        stage_.observer->contradicted() + (verdict ? verdict->unknown : 0);
    result_.outputs_seen = stage_.observer->seen();
    result_.outputs_repeated = stage_.observer->repeated();
    if (const auto clock = stage_.observer->guest_clock(kAnswerPatience)) {
      result_.guest_clock_lag_ms =
          to_ms((clock->here - clock_before_.here) - (clock->guest - clock_before_.guest));
    } else {
      keep(clock.error());
    }
    result_.connection_survived = stage_.client->survived();
    if (!result_.connection_survived) problem("connection: " + stage_.client->end_reason());
    result_.writes = stage_.client->samples();
    result_.writes_acknowledged = stage_.client->acknowledged();
    result_.client_gap_ms = longest_gap_ms(result_.writes, result_.killed,
                                           std::min(load_ended, result_.killed + seconds{30}));
    const Time over = over_at_.value_or(load_ended);
    result_.failure_gap_ms = longest_gap_ms(result_.writes, result_.killed, over);
    result_.gap_before_ms = longest_gap_ms(answered_before(result_.killed),
                                           result_.killed - (over - result_.killed), over);
    result_.ended = now();
    return first;
  }

  std::vector<RequestSample> answered_before(Time at) const {
    std::vector<RequestSample> found;
    for (const RequestSample& write : result_.writes)
      if (write.answered < at) found.push_back(write);
    return found;
  }

  void collect() {
    for (const Ftctl* ftctl : {stage_.primary.get(), stage_.backup.get(), again_.get()}) {
      if (ftctl == nullptr) continue;
      if (ftctl == again_.get() && stage_.world->through_ftd()) continue;  // The same file.
      const auto text = os::read_file(ftctl->epochs_log, 256u << 20);
      if (!text) continue;
      const auto epochs = parse_epochs(*text, letter(ftctl->side));
      result_.epochs.insert(result_.epochs.end(), epochs.begin(), epochs.end());
    }
    // A restarted libft has another log; that of its predecessor is the first.
    if (options_.victim == Victim::libft && !stage_.world->through_ftd()) {
      if (const auto text = os::read_file(parts_.folder + "/A1.epochs", 256u << 20)) {
        const auto epochs = parse_epochs(*text, 'A');
        result_.epochs.insert(result_.epochs.end(), epochs.begin(), epochs.end());
      }
    }
    std::sort(result_.epochs.begin(), result_.epochs.end(),
              [](const auto& x, const auto& y) { return x.paused_at < y.paused_at; });
    std::sort(result_.marks.begin(), result_.marks.end(),
              [](const auto& x, const auto& y) { return x.at < y.at; });
    if (result_.protected_epochs().empty()) problem("no epochs were recorded while protected");
    if (result_.outputs_seen == 0) problem("the observer saw no output");
  }

  const RunParts& parts_;
  const DemoOptions& options_;
  std::mt19937_64 random_;
  const bool reprotect_;
  Stage stage_;
  std::unique_ptr<Ftctl> again_, witness_;
  Ftctl* survivor_ = nullptr;
  ClockPair clock_before_;
  std::optional<Time> went_on_at_, over_at_;
  RunResult result_;
};

}  // namespace

Result<RunResult> run_demo(const RunParts& parts, int number, std::uint64_t seed, bool reprotect) {
  return Run(parts, number, seed, reprotect).go();
}

}  // namespace libft::demo
