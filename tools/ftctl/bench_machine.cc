// SPDX-License-Identifier: LGPL-2.1-or-later
#include "bench_machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <optional>

#include "bench_image.h"
#include "guest/machine/machine.h"
#include "os/child.h"
#include "os/poll.h"

namespace libft::ftctl {

namespace {

using machine::Machine;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMemoryBytes = 128 << 20;
constexpr std::uint64_t kInstructionsMax = 20'000'000'000;
constexpr double kTargetMips = 250;
constexpr std::chrono::seconds kQemuPatience{300};

// Takes the time between what the guest says at its beginning and at its end: neither firmware nor
// start-up counts.
class Stopwatch {
 public:
  void hear(char character, std::uint64_t position) {
    line_ += character;
    if (line_ == "begin\n") begin_ = Clock::now(), first_ = position;
    if (line_ == "digest ") end_ = Clock::now(), last_ = position;
    if (character == '\n' && line_.starts_with("digest ")) digest_ = line_;
    if (character == '\n') line_.clear();
  }
  bool done() const { return !digest_.empty(); }
  double seconds() const { return std::chrono::duration<double>(end_ - begin_).count(); }
  std::uint64_t instructions() const { return last_ - first_; }
  const std::string& digest() const { return digest_; }

 private:
  Clock::time_point begin_, end_;
  std::uint64_t first_ = 0, last_ = 0;
  std::string line_, digest_;
};

// What is done to the machine each so many instructions; one row of the report.
struct Engine {
  std::string name;
  std::function<Result<Stopwatch>()> run;
  std::vector<double> seconds{};
};

struct Stops {
  std::uint64_t every;
  std::function<void(Machine&)> act;
};

Result<Stopwatch> run_machine(const Stops& stops) {
  Stopwatch watch;
  Machine* running = nullptr;
  machine::MachineSinks sinks;
  sinks.console = [&](std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes)
      watch.hear(static_cast<char>(byte), running->position().value);
  };
  machine::MachineOptions options;
  options.memory_bytes = kMemoryBytes;
  options.kernel.assign(bench_image().begin(), bench_image().end());
  FT_ASSIGN(const std::unique_ptr<Machine> made, Machine::create(std::move(options), sinks));
  running = made.get();
  while (made->ended() == machine::End::running && made->position().value < kInstructionsMax) {
    made->run(Position{made->position().value + stops.every}, machine::WhenIdle::skip);
    stops.act(*made);
  }
  if (!watch.done()) return failure(Code::internal, "the machine did not finish the guest");
  return watch;
}

// A file that is gone when this ends.
class TemporaryImage {
 public:
  Status write() {
    std::string name = "/tmp/ftctl-bench-XXXXXX";
    const os::ScopedFd file(::mkostemp(name.data(), O_CLOEXEC));
    if (!file.valid()) return os::errno_status("make a file for the guest's image");
    name_ = name;
    const auto image = bench_image();
    if (::write(file.get(), image.data(), image.size()) != static_cast<ssize_t>(image.size()))
      return os::errno_status("write the guest's image");
    return {};
  }
  ~TemporaryImage() {
    if (!name_.empty()) ::unlink(name_.c_str());
  }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
};

Status listen(int fd, Stopwatch& watch) {
  std::array<char, 256> text;
  for (;;) {
    const ssize_t got = ::read(fd, text.data(), text.size());
    if (got < 0) return os::errno_status("read what QEMU's guest says");
    if (got == 0) return {};
    for (ssize_t i = 0; i < got; ++i)
      if (text[static_cast<std::size_t>(i)] != '\r')
        watch.hear(text[static_cast<std::size_t>(i)], 0);
  }
}

Result<Stopwatch> run_qemu(const std::string& image, const std::vector<std::string>& more) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failure(os::errno_status("make a pipe"));
  const os::ScopedFd reading(ends[0]);
  os::ScopedFd writing(ends[1]);
  os::ChildOptions options;
  options.argv = {"qemu-system-riscv64",
                  "-M",
                  "virt",
                  "-m",
                  "128M",
                  "-display",
                  "none",
                  "-monitor",
                  "none",
                  "-serial",
                  "stdio",
                  "-accel",
                  "tcg",
                  "-kernel",
                  image};
  options.argv.insert(options.argv.end(), more.begin(), more.end());
  options.stdout_fd = writing.get();
  FT_ASSIGN(os::Child child, os::Child::start(options));
  writing.reset();
  Stopwatch watch;
  FT_TRY(listen(reading.get(), watch));
  FT_ASSIGN(const os::ChildEnd end, child.wait(kQemuPatience));
  if (watch.done()) return watch;
  return failure(Code::io, fmt::format("QEMU ended ({}) before its guest did", to_string(end)));
}

bool qemu_is_there() {
  os::ChildOptions options;
  options.argv = {"qemu-system-riscv64", "--version"};
  auto child = os::Child::start(options);
  if (!child) return false;
  const auto end = child->wait(kQemuPatience);
  return end && end->clean();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<Engine> engines(const std::string& image, bool qemu) {
  constexpr std::uint64_t kWhole = 10'000'000;
  const auto nothing = [](Machine&) {};
  const auto take = [](Machine& guest) {
    PageSet written;
    guest.memory().take_written(written);
  };
  const auto hash = [](Machine& guest) { static_cast<void>(guest.state_hash()); };
  const auto machine = [](const char* name, Stops stops) {
    return Engine{name, [stops = std::move(stops)] { return run_machine(stops); }};
  };
  std::vector<Engine> all;
  all.push_back(machine("machine", {kWhole, nothing}));
  all.push_back(machine("machine, stopped every 1,000", {1000, nothing}));
  all.push_back(machine("machine, written pages taken every 100,000", {100'000, take}));
  all.push_back(machine("machine, state hashed every 1,000,000", {1'000'000, hash}));
  if (!qemu) return all;
  all.push_back({"qemu-system-riscv64", [image] { return run_qemu(image, {}); }});
  all.push_back({"qemu-system-riscv64 -icount", [image] {
                   return run_qemu(image, {"-icount", "shift=2,sleep=off"});
                 }});
  return all;
}

void print_row(const Json& row) {
  fmt::print("{:<44} {:>8.1f} {:>9.2f} {:>+9.1f} %\n", row["engine"].get<std::string>(),
             row["mips_p50"].get<double>(), row["seconds_p50"].get<double>(),
             row["slower_percent"].get<double>());
}

// Turn by turn, so that all engines see the same machine, whatever else it does.
Status run_all(std::vector<Engine>& all, int repeats, std::uint64_t& instructions) {
  std::string digest;
  fmt::print("The same guest by {} engines, turn by turn, each {} time{}.\n\n", all.size(), repeats,
             repeats == 1 ? "" : "s");
  for (int i = 0; i < repeats; ++i) {
    for (Engine& engine : all) {
      FT_ASSIGN(const Stopwatch watch, engine.run());
      if (digest.empty()) digest = watch.digest();
      if (watch.digest() != digest)
        return Status(Code::internal, engine.name + ": its guest came to another digest");
      if (watch.instructions() > 0) instructions = watch.instructions();
      engine.seconds.push_back(watch.seconds());
      fmt::print("  {} of {}, {}: {:.1f} s\n", i + 1, repeats, engine.name, watch.seconds());
    }
  }
  return {};
}

}  // namespace

Status bench_machine(const Arguments& arguments, Json& report) {
  constexpr int kRepeats = 5;
  const int repeats = arguments.epochs > 0 ? arguments.epochs : kRepeats;
  TemporaryImage image;
  FT_TRY(image.write());
  const bool qemu = qemu_is_there();
  std::vector<Engine> all = engines(image.name(), qemu);
  std::uint64_t instructions = 0;
  FT_TRY(run_all(all, repeats, instructions));
  report = {{"instructions", instructions}, {"repeats", repeats}, {"rows", Json::array()}};
  fmt::print("\n{} instructions of a compute-bound guest under Sv39, one hart; medians of {}\n\n",
             instructions, repeats);
  fmt::print("{:<44} {:>8} {:>9} {:>11}\n", "engine", "MIPS", "seconds", "slower");
  const double plain = median(all.front().seconds);
  for (const Engine& engine : all) {
    const double seconds = median(engine.seconds);
    report["rows"].push_back({{"engine", engine.name},
                              {"mips_p50", static_cast<double>(instructions) / seconds / 1e6},
                              {"seconds_p50", seconds},
                              {"slower_percent", 100 * (seconds / plain - 1)}});
    print_row(report["rows"].back());
  }
  report["within_target"] = static_cast<double>(instructions) / plain / 1e6 >= kTargetMips;
  if (!qemu)
    fmt::print(
        "\nwithout QEMU: no qemu-system-riscv64; remedy: apt-get install qemu-system-misc\n");
  fmt::print("\nTarget: the machine at {} million instructions a second: {}.\n", kTargetMips,
             report["within_target"].get<bool>() ? "yes" : "NO");
  return {};
}

}  // namespace libft::ftctl
