// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

namespace libft::transport {
namespace {

constexpr std::size_t kWaitingMax = 64;  // Connections not yet accepted, as a kernel would hold.

// One direction: a ring of bytes. What was sent before the end can still be received after it.
class Ring {
 public:
  explicit Ring(std::size_t bytes_max) : bytes_(std::max<std::size_t>(bytes_max, 1)) {}

  Status put(std::span<const std::byte> piece) {
    std::unique_lock lock(mutex_);
    while (!piece.empty()) {
      changed_.wait(lock, [this] { return ended_ || used_ < bytes_.size(); });
      if (ended_) return Status(Code::peer_lost, "send: the connection was closed");
      const std::size_t at = (first_ + used_) % bytes_.size();
      const std::size_t room = std::min(bytes_.size() - used_, bytes_.size() - at);
      const std::size_t count = std::min(room, piece.size());
      std::memcpy(bytes_.data() + at, piece.data(), count);
      used_ += count;
      piece = piece.subspan(count);
      changed_.notify_all();
    }
    return {};
  }

  Result<std::size_t> take(std::span<std::byte> buffer) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || used_ > 0; });
    if (used_ == 0) return failure(Code::peer_lost, "receive: the peer closed the connection");
    const std::size_t count = std::min({buffer.size(), used_, bytes_.size() - first_});
    std::memcpy(buffer.data(), bytes_.data() + first_, count);
    first_ = (first_ + count) % bytes_.size();
    used_ -= count;
    changed_.notify_all();
    return count;
  }

  void end() {
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::byte> bytes_;
  std::size_t first_ = 0, used_ = 0;
  bool ended_ = false;
};

class MemoryTransport final : public Transport {
 public:
  MemoryTransport(std::shared_ptr<Ring> in, std::shared_ptr<Ring> out)
      : in_(std::move(in)), out_(std::move(out)) {}
  ~MemoryTransport() override { close(); }

  Status send(std::span<const std::span<const std::byte>> pieces) override {
    for (const auto& piece : pieces) {
      if (closed_) return closed_here("send");
      if (Status put = out_->put(piece); !put.ok()) return closed_ ? closed_here("send") : put;
    }
    return {};
  }

  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    if (closed_) return failure(closed_here("receive"));
    auto got = in_->take(buffer);
    if (closed_) return failure(closed_here("receive"));
    return got;
  }

  void close() override {
    closed_ = true;
    in_->end();
    out_->end();
  }

  std::string description() const override { return "memory"; }
  bool authenticated() const override { return true; }

 private:
  static Status closed_here(std::string_view doing) {
    return Status(Code::cancelled, fmt::format("{}: the connection was closed here", doing));
  }

  std::shared_ptr<Ring> in_, out_;
  std::atomic<bool> closed_{false};
};

}  // namespace

std::pair<std::unique_ptr<Transport>, std::unique_ptr<Transport>> make_memory_pair(
    std::size_t bytes_max) {
  auto there = std::make_shared<Ring>(bytes_max), back = std::make_shared<Ring>(bytes_max);
  return {std::make_unique<MemoryTransport>(back, there),
          std::make_unique<MemoryTransport>(there, back)};
}

struct MemoryHub::Shared {
  struct Place {
    std::deque<std::unique_ptr<Transport>> waiting;
    bool closed = false;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::shared_ptr<Place>> places;
};

namespace {

class MemoryListener final : public Listener {
 public:
  MemoryListener(std::shared_ptr<MemoryHub::Shared> shared, std::string name)
      : shared_(std::move(shared)), name_(std::move(name)), place_(shared_->places.at(name_)) {}
  ~MemoryListener() override { close(); }

  Result<std::unique_ptr<Transport>> accept() override {
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait(lock, [this] { return place_->closed || !place_->waiting.empty(); });
    if (place_->closed) return failure(Code::cancelled, "accept: closed here");
    auto transport = std::move(place_->waiting.front());
    place_->waiting.pop_front();
    return transport;
  }

  void close() override {
    std::lock_guard lock(shared_->mutex);
    if (std::exchange(place_->closed, true)) return;
    place_->waiting.clear();
    shared_->places.erase(name_);
    shared_->changed.notify_all();
  }

  std::string address() const override { return "memory:" + name_; }

 private:
  std::shared_ptr<MemoryHub::Shared> shared_;
  const std::string name_;
  std::shared_ptr<MemoryHub::Shared::Place> place_;
};

}  // namespace

MemoryHub::MemoryHub() : shared_(std::make_shared<Shared>()) {}
MemoryHub::~MemoryHub() = default;

Result<std::unique_ptr<Listener>> MemoryHub::listen(const std::string& name) {
  std::lock_guard lock(shared_->mutex);
  if (!shared_->places.try_emplace(name, std::make_shared<Shared::Place>()).second)
    return failure(Code::busy, fmt::format("memory:{}: somebody listens there already", name));
  return std::make_unique<MemoryListener>(shared_, name);
}

Result<std::unique_ptr<Transport>> MemoryHub::connect(const std::string& name) {
  std::lock_guard lock(shared_->mutex);
  const auto place = shared_->places.find(name);
  if (place == shared_->places.end())
    return failure(Code::peer_lost, fmt::format("memory:{}: nobody listens there", name));
  if (place->second->waiting.size() >= kWaitingMax)
    return failure(Code::exhausted, fmt::format("memory:{}: too many wait to be accepted", name));
  auto [here, there] = make_memory_pair();
  place->second->waiting.push_back(std::move(there));
  shared_->changed.notify_all();
  return std::move(here);
}

}  // namespace libft::transport
