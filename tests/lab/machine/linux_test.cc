// SPDX-License-Identifier: LGPL-2.1-or-later
// An unmodified Linux boots on the machine, with one hart and with several, is continued in another
// machine from the middle of its boot, and answers the network.
// The kernel is built once, by tools/lab/machine/make-linux.sh, and kept in LIBFT_CACHE.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "guest/machine/machine.h"

using namespace libft;
using namespace libft::machine;

namespace {

constexpr std::uint64_t kBootMax = 200'000'000;

std::string linux_folder() {
  const char* cache = std::getenv("LIBFT_CACHE");
  const char* home = std::getenv("HOME");
  const std::string where =
      cache != nullptr ? cache : std::string(home != nullptr ? home : "/var/tmp") + "/.cache/libft";
  std::FILE* pipe = ::popen(("bash " LIBFT_MAKE_LINUX " " + where).c_str(), "r");
  std::array<char, 4096> line{};
  if (pipe != nullptr && std::fgets(line.data(), line.size(), pipe) == nullptr) line[0] = 0;
  if (pipe != nullptr) ::pclose(pipe);
  std::string folder(line.data());
  while (!folder.empty() && folder.back() == '\n') folder.pop_back();
  if (!folder.empty()) return folder;
  std::puts("skipped: Linux on the machine: make-linux.sh cannot build it here (see above)");
  std::exit(77);
}

std::vector<std::byte> read_bytes(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  REQUIRE_MESSAGE(in, file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

MachineOptions linux_options(unsigned harts) {
  static const std::string folder = linux_folder();
  MachineOptions options;
  options.harts = harts;
  options.memory_bytes = 64 << 20;
  options.kernel = read_bytes(folder + "/Image");
  options.initrd = read_bytes(folder + "/initrd.cpio");
  options.command_line = "console=ttyS0 ip=10.0.0.2";
  return options;
}

struct Box {
  std::string console;
  std::vector<std::vector<std::byte>> frames;
  std::unique_ptr<Machine> machine;

  explicit Box(const MachineOptions& options) {
    MachineSinks sinks;
    sinks.console = [this](auto bytes) {
      for (const std::byte byte : bytes) console += static_cast<char>(byte);
    };
    sinks.frame = [this](auto frame) { frames.emplace_back(frame.begin(), frame.end()); };
    auto made = Machine::create(options, sinks);
    REQUIRE(made);
    machine = std::move(*made);
  }
  bool ready() const { return console.find("init: ready") != std::string::npos; }
  void boot() {
    while (!ready() && machine->position().value < kBootMax && machine->ended() == End::running) {
      machine->run(Position{machine->position().value + 1'000'000}, WhenIdle::skip);
    }
    CAPTURE(console);
    REQUIRE(ready());
  }
};

// "Who has 10.0.0.2?", from 10.0.0.1.
std::vector<std::byte> address_question() {
  constexpr std::array<unsigned char, 42> kFrame{
      255, 255, 255, 255, 255, 255, 2, 0,  0, 0, 0, 1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
      1,   2,   0,   0,   0,   0,   1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2};
  const auto bytes = std::as_bytes(std::span(kFrame));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("Linux boots, twice to the same state, and answers") {
  for (const unsigned harts : {1u, 2u, 4u}) {
    Box one(linux_options(harts)), same(linux_options(harts));
    one.boot();
    same.boot();
    CHECK(one.machine->state_hash() == same.machine->state_hash());
    std::printf("%u harts: init is ready at position %llu\n", harts,
                static_cast<unsigned long long>(one.machine->position().value));
    one.frames.clear();
    CHECK(one.machine->deliver({GuestInput::Kind::frame, address_question()}).ok());
    one.machine->run(Position{one.machine->position().value + 20'000'000}, WhenIdle::skip);
    const bool answered = std::ranges::any_of(one.frames, [](const auto& frame) {
      return frame.size() >= 42 && frame[12] == std::byte{8} && frame[13] == std::byte{6} &&
             frame[21] == std::byte{2};
    });
    CHECK(answered);
  }
}

TEST_CASE("Linux boots with harts at once, and again from what was recorded") {
  for (const unsigned harts : {2u, 4u}) {
    MachineOptions options = linux_options(harts);
    options.smp = Smp::threads;
    Box one(options), again(options);
    std::vector<std::pair<Position, GuestInput>> log;
    std::size_t bytes = 0;
    const auto keep = [&](Position at, const GuestInput& input) {
      log.emplace_back(at, input);
      bytes += input.bytes.size();
    };
    while (!one.ready() && one.machine->position().value < 4 * kBootMax &&
           one.machine->ended() == End::running) {
      const Position until{one.machine->position().value + 1'000'000};
      one.machine->run_live(until, keep);
      one.machine->run(until, WhenIdle::skip);  // As MachineGuest lets it sleep.
    }
    CAPTURE(one.console);
    REQUIRE(one.ready());
    for (const auto& [at, input] : log) {
      again.machine->run(at, WhenIdle::skip);
      REQUIRE_FALSE(again.machine->diverged());
      REQUIRE(again.machine->deliver(input).ok());
    }
    again.machine->run(one.machine->position(), WhenIdle::skip);
    CHECK(again.console == one.console);
    CHECK(again.machine->state_hash() == one.machine->state_hash());
    std::printf("%u harts at once: ready at position %llu, %zu rounds, %zu bytes of log\n", harts,
                static_cast<unsigned long long>(one.machine->position().value), log.size(), bytes);
  }
}

TEST_CASE("Linux goes on in another machine, from the middle of its boot") {
  const MachineOptions options = linux_options(2);
  for (const std::uint64_t at : {5'000'001ull, 20'123'457ull, 33'333'333ull}) {
    Box primary(options), backup(options);
    primary.machine->run(Position{at}, WhenIdle::skip);
    std::vector<std::byte> state;
    primary.machine->save(state);
    std::ranges::copy(primary.machine->memory().bytes(), backup.machine->memory().bytes().begin());
    REQUIRE(backup.machine->load(state).ok());
    for (int i = 0; i < 4; ++i) {
      const Position next{primary.machine->position().value + 3'000'000};
      primary.machine->run(next, WhenIdle::skip);
      backup.machine->run(next, WhenIdle::skip);
      CHECK(primary.machine->state_hash() == backup.machine->state_hash());
    }
    backup.boot();
  }
}
