// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/delayed.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "os/thread.h"

namespace libft::transport {
namespace {

using Steady = std::chrono::steady_clock;

class DelayedTransport final : public Transport {
 public:
  DelayedTransport(std::unique_ptr<Transport> inner, Nanos delay, std::size_t bytes_max)
      : inner_(std::move(inner)), delay_(delay), bytes_max_(std::max<std::size_t>(bytes_max, 1)) {
    thread_ = os::start_thread("ft-delay", [this] { deliver(); });
  }
  ~DelayedTransport() override { close(); }

  Status send(std::span<const std::span<const std::byte>> pieces) override {
    for (std::span<const std::byte> piece : pieces) {
      while (!piece.empty()) {
        const std::size_t count = std::min<std::size_t>(piece.size(), kPiece);
        FT_TRY(put(piece.first(count)));
        piece = piece.subspan(count);
      }
    }
    return {};
  }

  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    return inner_->receive(buffer);
  }

  // What is on the line is lost, as when the line is cut.
  void close() override {
    {
      std::lock_guard lock(mutex_);
      if (failed_.ok()) failed_ = Status(Code::cancelled, "send: the connection was closed here");
      closed_ = true;
      changed_.notify_all();
    }
    inner_->close();
  }

  std::string description() const override {
    return fmt::format("{}, delayed by {} us", inner_->description(),
                       delay_ / std::chrono::microseconds{1});
  }
  bool authenticated() const override { return inner_->authenticated(); }

 private:
  static constexpr std::size_t kPiece = 64 * 1024;

  struct OnTheLine {
    Steady::time_point due;
    std::vector<std::byte> bytes;
  };

  // A piece larger than the limit still goes, alone.
  Status put(std::span<const std::byte> piece) {
    std::unique_lock lock(mutex_);
    changed_.wait(
        lock, [&] { return !failed_.ok() || line_.empty() || held_ + piece.size() <= bytes_max_; });
    if (!failed_.ok()) return failed_;
    line_.push_back({Steady::now() + delay_, {piece.begin(), piece.end()}});
    held_ += piece.size();
    changed_.notify_all();
    return {};
  }

  void deliver() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !failed_.ok() || !line_.empty(); });
      if (!failed_.ok()) return;
      const auto due = line_.front().due;
      if (changed_.wait_until(lock, due, [this] { return closed_; })) return;
      const OnTheLine next = std::move(line_.front());
      line_.pop_front();
      lock.unlock();
      const std::span<const std::byte> pieces[] = {next.bytes};
      Status sent = inner_->send(pieces);
      lock.lock();
      held_ -= next.bytes.size();
      if (failed_.ok()) failed_ = std::move(sent);
      changed_.notify_all();
    }
  }

  const std::unique_ptr<Transport> inner_;
  const Nanos delay_;
  const std::size_t bytes_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<OnTheLine> line_;
  std::size_t held_ = 0;
  Status failed_;  // Of the line; every later send() reports it.
  bool closed_ = false;
  std::jthread thread_;
};

}  // namespace

std::unique_ptr<Transport> delayed(std::unique_ptr<Transport> inner, Nanos delay,
                                   std::size_t bytes_max) {
  return std::make_unique<DelayedTransport>(std::move(inner), delay, bytes_max);
}

}  // namespace libft::transport
