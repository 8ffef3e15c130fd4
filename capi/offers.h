// SPDX-License-Identifier: LGPL-2.1-or-later
// Offers is a listener whose connections somebody else accepted: what the host offers comes out of
// accept(), to a switchboard that reads whom it is for. Any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

#include "libft/transport.h"

namespace libft::capi {

class Offers {
 public:
  Offers() : shared_(std::make_shared<Shared>()) {}

  std::unique_ptr<Listener> listener() { return std::make_unique<Accepting>(shared_); }

  // False: too many wait already, and it was closed.
  bool add(std::unique_ptr<Transport> connection) {
    const std::scoped_lock lock(shared_->mutex);
    if (shared_->closed || shared_->waiting.size() >= kWaitingMax) return false;
    shared_->waiting.push_back(std::move(connection));
    shared_->changed.notify_one();
    return true;
  }

 private:
  static constexpr std::size_t kWaitingMax = 16;
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::unique_ptr<Transport>> waiting;
    bool closed = false;
  };
  class Accepting final : public Listener {
   public:
    explicit Accepting(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
    Result<std::unique_ptr<Transport>> accept() override {
      std::unique_lock lock(shared_->mutex);
      shared_->changed.wait(lock, [&] { return shared_->closed || !shared_->waiting.empty(); });
      if (shared_->closed) return failure(Code::cancelled, "no more connections are offered");
      auto next = std::move(shared_->waiting.front());
      shared_->waiting.pop_front();
      return next;
    }
    void close() override {
      std::deque<std::unique_ptr<Transport>> dropped;
      const std::scoped_lock lock(shared_->mutex);
      shared_->closed = true;
      dropped.swap(shared_->waiting);
      shared_->changed.notify_all();
    }
    std::string address() const override { return "offered"; }

   private:
    const std::shared_ptr<Shared> shared_;
  };

  const std::shared_ptr<Shared> shared_;
};

}  // namespace libft::capi
