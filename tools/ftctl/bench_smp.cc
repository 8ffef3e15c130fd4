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

// Millions of instructions a second, of all harts together.
void add(Samples& samples, const Run& run, const std::string& what) {
  for (const auto& [name, phase] : run.phases())
    samples[name + "/" + what].push_back(static_cast<double>(phase.instructions) / phase.seconds /
                                         1e6);
}

void add_bytes(Samples& samples, const Run& run) {
  for (const auto& [name, phase] : run.phases())
    samples[name + "/bytes"].push_back(1000 * static_cast<double>(phase.log_bytes) /
                                       static_cast<double>(phase.instructions));
}

void say_done(unsigned harts, const std::string& what, Clock::time_point begin) {
  fmt::print("  {} hart{}{}: {:.1f} s\n", harts, harts == 1 ? "" : "s", what,
             std::chrono::duration<double>(Clock::now() - begin).count());
}

// One after the other, so that all see the same host. What harts did, in turns or at once, is done
// again to the same state.
Status measure_once(unsigned harts, Samples& samples) {
  const auto begin = Clock::now();
  FT_ASSIGN(const auto one, Run::make(Smp::turns, 1));
  FT_TRY(one->live());
  add(samples, *one, "one");
  say_done(1, "", begin);
  for (const Smp smp : {Smp::turns, Smp::threads}) {
    const auto both_begin = Clock::now();
    const std::string name = smp == Smp::turns ? "turns" : "threads";
    FT_ASSIGN(const auto live, Run::make(smp, harts));
    FT_ASSIGN(const auto again, Run::make(smp, harts));
    FT_TRY(live->live());
    FT_TRY(again->do_again(*live).within(name));
    add(samples, *live, name);
    add(samples, *again, name + "-again");
    if (smp == Smp::threads) add_bytes(samples, *live);
    say_done(harts, smp == Smp::turns ? " in turns, and again" : " at once, and again", both_begin);
  }
  return {};
}

void print_head(int repeats) {
  fmt::print(
      "\nmillion instructions a second of all harts together, how much slower than one hart, and "
      "done\nagain; medians of {}\n{:<20} {:>8} {:>24} {:>24} {:>10}\n"
      "{:<6} {:<13} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6} {:>8} {:>10}\n",
      repeats, "", "one hart", "in turns", "at once", "at once", "harts", "memory", "Mi/s", "Mi/s",
      "slower", "again", "Mi/s", "slower", "again", "log B/1000");
}

void print_row(unsigned harts, const char* memory, const Samples& samples, Json& rows) {
  const auto of = [&](const char* what) {
    return median(samples.at(std::string(memory) + "/" + what));
  };
  const double one = of("one");
  fmt::print(
      "{:<6} {:<13} {:>8.0f} {:>8.0f} {:>6.2f} {:>8.0f} {:>8.0f} {:>6.2f} {:>8.0f} {:>10.3f}\n",
      harts, memory, one, of("turns"), one / of("turns"), of("turns-again"), of("threads"),
      one / of("threads"), of("threads-again"), of("bytes"));
  rows.push_back({{"harts", harts},
                  {"memory", memory},
                  {"one_hart_mips_p50", one},
                  {"turns_mips_p50", of("turns")},
                  {"turns_slowdown", one / of("turns")},
                  {"turns_again_mips_p50", of("turns-again")},
                  {"turns_log_bytes_per_1000", 0},
                  {"threads_mips_p50", of("threads")},
                  {"threads_slowdown", one / of("threads")},
                  {"threads_again_mips_p50", of("threads-again")},
                  {"threads_log_bytes_per_1000", of("bytes")}});
}

}  // namespace

Status bench_smp(const Arguments& arguments, Json& report) {
  constexpr int kRepeats = 3;
  const int repeats = arguments.epochs > 0 ? arguments.epochs : kRepeats;
  const unsigned cores = std::thread::hardware_concurrency();
  report = {{"repeats", repeats}, {"cores", cores}, {"rows", Json::array()}};
  fmt::print(
      "A guest whose harts share memory in three ways, with 2 and with 4 harts, each {} time{}: by "
      "one\nhart, by harts in turns and again from their log, by harts at once on {} cores and "
      "again. What was\ndone is said as it is done.\n\n",
      repeats, repeats == 1 ? "" : "s", cores);
  for (const unsigned harts : {2u, 4u}) {
    Samples samples;
    for (int i = 0; i < repeats; ++i) FT_TRY(measure_once(harts, samples));
    print_head(repeats);
    for (const char* memory : {"disjoint", "read-shared", "write-shared"})
      print_row(harts, memory, samples, report["rows"]);
    fmt::print("\n");
  }
  fmt::print(
      "In turns there is nothing to log. 0 divergences: each of the {} executions was done "
      "again, "
      "to the\nsame state. Slower by less than 1 is faster: 0.5 is what two cores can do for two "
      "harts.\n",
      4 * repeats);
  return {};
}

}  // namespace libft::ftctl
