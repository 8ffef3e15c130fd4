// SPDX-License-Identifier: LGPL-2.1-or-later
#include "bench_smp.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "bench_image.h"
#include "guest/machine/machine.h"

namespace libft::ftctl {

namespace {

using machine::Machine;
using machine::Smp;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kStepsMax = 20'000'000'000;
constexpr Position kStretch{10'000'000};

// From one line of the guest to the next.
struct Phase {
  double seconds = 0;
  std::uint64_t instructions = 0;
  std::size_t log_bytes = 0;
};

class Run {
 public:
  static Result<std::unique_ptr<Run>> make(Smp smp, unsigned harts) {
    std::unique_ptr<Run> run(new Run);
    machine::MachineOptions options;
    options.memory_bytes = 16 << 20;
    options.harts = harts;
    options.smp = smp;
    options.kernel.assign(share_image().begin(), share_image().end());
    machine::MachineSinks sinks;
    sinks.console = [self = run.get()](std::span<const std::byte> bytes) {
      for (const std::byte byte : bytes) self->hear(static_cast<char>(byte));
    };
    FT_ASSIGN(run->machine_, Machine::create(std::move(options), std::move(sinks)));
    return run;
  }

  Status live() {
    while (machine_->ended() == machine::End::running && here().value < kStepsMax) {
      machine_->run_live(Position{here().value + kStretch.value},
                         [this](Position at, const GuestInput& input) {
                           log_bytes_ += input.bytes.size();
                           log_.emplace_back(at, input);
                         });
    }
    return complete();
  }
  Status do_again(Run& other) {
    for (const auto& [at, input] : other.log_) {
      machine_->run(at, machine::WhenIdle::skip);
      FT_TRY(machine_->deliver(input));
    }
    machine_->run(other.here(), machine::WhenIdle::skip);
    FT_TRY(complete());
    if (machine_->diverged() || machine_->state_hash() != other.machine_->state_hash())
      return Status(Code::internal, "done again, the harts came to another state");
    return {};
  }
  const std::map<std::string, Phase>& phases() const { return phases_; }

 private:
  Position here() const { return machine_->position(); }
  Status complete() const {
    return phases_.size() == 3 ? Status() : Status(Code::internal, "the guest did not finish");
  }
  void hear(char character) {
    if (character != '\n') {
      line_ += character;
      return;
    }
    if (line_ == "end") {
      phases_[name_] = {std::chrono::duration<double>(Clock::now() - begin_).count(),
                        here().value - from_.value, log_bytes_ - log_before_};
    } else {
      name_ = line_, begin_ = Clock::now(), from_ = here(), log_before_ = log_bytes_;
    }
    line_.clear();
  }

  std::unique_ptr<Machine> machine_;
  std::vector<std::pair<Position, GuestInput>> log_;
  std::map<std::string, Phase> phases_;
  std::string line_, name_;
  Clock::time_point begin_;
  Position from_;
  std::size_t log_bytes_ = 0, log_before_ = 0;
};

using Samples = std::map<std::string, std::vector<double>>;  // By "phase/what".

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void add(Samples& samples, const Run& run, const std::string& what) {
  for (const auto& [name, phase] : run.phases()) {
    samples[name + "/" + what].push_back(phase.seconds);
    samples[name + "/bytes"].push_back(1000 * static_cast<double>(phase.log_bytes) /
                                       static_cast<double>(phase.instructions));
  }
}

// Turn by turn, so that all see the same host.
Result<Samples> measure(unsigned harts, int repeats) {
  Samples turns, threads;
  for (int i = 0; i < repeats; ++i) {
    FT_ASSIGN(const auto in_turns, Run::make(Smp::turns, harts));
    FT_ASSIGN(const auto at_once, Run::make(Smp::threads, harts));
    FT_ASSIGN(const auto again, Run::make(Smp::threads, harts));
    FT_TRY(in_turns->live());
    FT_TRY(at_once->live());
    FT_TRY(again->do_again(*at_once));
    add(turns, *in_turns, "turns");
    add(threads, *at_once, "threads");
    for (const auto& [name, phase] : again->phases())
      threads[name + "/again"].push_back(phase.seconds);
  }
  for (auto& [name, values] : turns)
    if (name.ends_with("/turns")) threads[name] = values;
  return threads;
}

}  // namespace

Status bench_smp(const Arguments& arguments, Json& report) {
  constexpr int kRepeats = 3;
  const int repeats = arguments.epochs > 0 ? arguments.epochs : kRepeats;
  const unsigned cores = std::thread::hardware_concurrency();
  report = {{"repeats", repeats}, {"cores", cores}, {"rows", Json::array()}};
  fmt::print("harts in turns, and at once on {} cores; medians of {}\n\n", cores, repeats);
  fmt::print("{:<6} {:<14} {:>9} {:>11} {:>8} {:>9} {:>18}\n", "harts", "memory", "turns s",
             "at once s", "factor", "again s", "log bytes/1000");
  for (const unsigned harts : {2u, 4u}) {
    FT_ASSIGN(const Samples samples, measure(harts, repeats));
    for (const char* name : {"disjoint", "read-shared", "write-shared"}) {
      const auto of = [&](const char* what) {
        return median(samples.at(std::string(name) + "/" + what));
      };
      const double factor = of("threads") / of("turns");
      report["rows"].push_back({{"harts", harts},
                                {"memory", name},
                                {"turns_seconds_p50", of("turns")},
                                {"threads_seconds_p50", of("threads")},
                                {"again_seconds_p50", of("again")},
                                {"factor", factor},
                                {"log_bytes_per_1000", of("bytes")}});
      fmt::print("{:<6} {:<14} {:>9.3f} {:>11.3f} {:>8.2f} {:>9.3f} {:>18.3f}\n", harts, name,
                 of("turns"), of("threads"), factor, of("again"), of("bytes"));
    }
  }
  fmt::print(
      "\nfactor: at once against in turns; half is what two cores can do for two harts. Each run "
      "was\ndone again from its log, to the same state.\n");
  return {};
}

}  // namespace libft::ftctl
