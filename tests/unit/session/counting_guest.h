// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest for tests that counts the questions it hears, in its memory, and answers each with their
// number: "7:text". It executes on a thread of its own, also ahead of its image. Its device state
// has the number, too: one that does not belong to the memory is found out when it is loaded.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "libft/guest.h"
#include "libft/speculative_guest.h"
#include "os/fd.h"
#include "support/ip_frames.h"

namespace libft::test {

constexpr std::size_t kTextAt = 14 + 20 + 8;
constexpr IpEnds kFromGuest{.version = IpVersion::v4, .source = 1, .destination = 2};
constexpr IpEnds kToGuest{.version = IpVersion::v4, .source = 2, .destination = 1};

class CountingGuest final : public Guest, public SpeculativeGuest {
 public:
  static constexpr std::size_t kPages = 16, kPageBytes = 4096;

  CountingGuest(os::ScopedFd nic, bool standby)
      : nic_(std::move(nic)), memory_(kPages * kPageBytes), runs_(!standby) {
    info_.driver = "counting";
    info_.description = "a guest that counts";
    info_.memory = {{"ram", PageNo{0}, memory_}};
    thread_ = std::jthread([this](const std::stop_token& stop) { execute(stop); });
  }

  // --- for tests; any thread ---
  std::atomic<bool> odd{false};   // Says something else than others would.
  std::atomic<bool> mute{false};  // Says nothing.
  std::atomic<bool> cannot_reload{false};
  std::atomic<int> reloads{0};
  void happen(GuestEvent::Kind kind) {
    const std::scoped_lock lock(mutex_);
    sink_({kind, "a test says so"});
  }
  bool executes() const {
    const std::scoped_lock lock(mutex_);
    return runs_;
  }

  // --- Guest ---
  const GuestInfo& info() const override { return info_; }
  void set_event_sink(std::function<void(GuestEvent)> sink) override {
    const std::scoped_lock lock(mutex_);
    sink_ = std::move(sink);
  }
  Status start_tracking() override { return {}; }
  void stop_tracking() override {}
  Status pause() override { return set_running(false); }
  Status resume() override { return set_running(true); }
  Status take_written(PageSet& written) override {
    const std::scoped_lock lock(mutex_);
    written.clear();
    std::swap(written, written_);
    return {};
  }
  Status save_state() override { return {}; }
  Status fetch_state(std::vector<std::byte>& state) override {
    const std::scoped_lock lock(mutex_);
    state.resize(sizeof saved_);
    std::memcpy(state.data(), &saved_, sizeof saved_);
    return {};
  }
  Status accepts(const GuestInfo&) const override { return {}; }
  Status probe_state(std::span<const std::byte> state) override {
    const std::scoped_lock lock(mutex_);
    put_back();
    return belongs(state);
  }
  Status trial_run(StillMoment&) override { return Status(Code::unsupported, "no trial"); }
  Status load_state(std::span<const std::byte> state) override {
    const std::scoped_lock lock(mutex_);
    REQUIRE(!speculates_);
    return belongs(state);
  }
  Status activate() override {
    speculates_ = false;
    info_.memory = {{"ram", PageNo{0}, memory_}};
    return set_running(true);
  }
  void destroy() override { (void)set_running(false); }
  Nanos clock_lag() const override { return Nanos{0}; }

  // --- SpeculativeGuest ---
  Status begin_speculation() override {
    if (speculates_) return {};
    image_ = memory_;
    info_.memory = {{"ram", PageNo{0}, image_}};
    speculates_ = true;
    return {};
  }
  void image_changed(const PageSet& pages) override { stale_.merge(pages); }
  Status reload(std::span<const std::byte> state) override {
    const std::scoped_lock lock(mutex_);
    REQUIRE(speculates_);
    REQUIRE(!runs_);
    if (cannot_reload) return Status(Code::internal, "a test forbids it");
    ++reloads;
    std::array<char, 2048> unheard{};  // Of whoever ran before.
    while (::recv(nic_.get(), unheard.data(), unheard.size(), 0) > 0) {
    }
    put_back();
    return belongs(state);
  }
  Status run() override { return set_running(true); }
  void halt() override { (void)set_running(false); }
  bool runs() const override { return executes(); }

 private:
  Status set_running(bool runs) {
    const std::scoped_lock lock(mutex_);
    runs_ = runs;
    saved_ = count();
    changed_.notify_all();
    return {};
  }
  void put_back() {
    if (!speculates_) return;
    stale_.merge(written_);
    written_.clear();
    for (const PageRun& run : stale_.runs())
      std::memcpy(&memory_[run.first.value * kPageBytes], &image_[run.first.value * kPageBytes],
                  run.count * kPageBytes);
    stale_.clear();
  }
  std::uint64_t count() const {
    std::uint64_t number = 0;
    std::memcpy(&number, memory_.data(), sizeof number);
    return number;
  }
  Status belongs(std::span<const std::byte> state) const {
    std::uint64_t number = 0;
    std::memcpy(&number, state.data(), sizeof number);
    return number == count() ? Status()
                             : Status(Code::corrupt, "a state that is not this memory's");
  }

  void execute(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      pollfd ready{nic_.get(), POLLIN, 0};
      if (::poll(&ready, 1, 10) != 1) continue;
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(10), [&] { return runs_; });
      if (runs_) answer();
    }
  }

  // What it writes and what it says are one: it never stands still in between.
  void answer() {
    std::array<char, 2048> question{};
    const ssize_t got = ::recv(nic_.get(), question.data(), question.size(), 0);
    if (got <= ssize_t(kTextAt)) return;
    const std::uint64_t number = count() + 1;
    std::memcpy(memory_.data(), &number, sizeof number);
    written_.add(PageNo{0});
    std::string text = std::to_string(number) + ":";
    text.append(&question[kTextAt], std::size_t(got) - kTextAt);
    if (odd) text += " (odd)";
    const auto frame = udp_frame(kFromGuest, text);
    if (!mute) (void)::send(nic_.get(), frame.data(), frame.size(), 0);
  }

  const os::ScopedFd nic_;
  std::vector<std::byte> memory_, image_;
  GuestInfo info_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool runs_;
  std::atomic<bool> speculates_{false};
  std::uint64_t saved_ = 0;
  PageSet written_, stale_;
  std::function<void(GuestEvent)> sink_;
  std::jthread thread_;
};

}  // namespace libft::test
