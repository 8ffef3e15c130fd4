// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/warm_pool.h"

#include <chrono>
#include <filesystem>
#include <utility>

#include "os/thread.h"

namespace libft::qemu {

namespace {

constexpr Nanos kAfterTrouble = Millis{500};

}  // namespace

void remove_traces(const HostPaths& paths, const std::string& log) {
  std::error_code ignored;
  for (const std::string& path : {paths.qmp, agent_path(paths), log})
    std::filesystem::remove(path, ignored);
  for (const NicSockets& nic : paths.nics) std::filesystem::remove(nic.guest_path, ignored);
}

WarmPool::WarmPool(unsigned count, Start start) : count_(count), start_(std::move(start)) {
  thread_ = os::start_thread("ft-warm", [this] { run(); });
}

WarmPool::~WarmPool() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (WarmQemu& one : warm_) {
    one.guest.reset();
    remove_traces(one.paths, one.log);
  }
}

void WarmPool::run() {
  for (unsigned number = 1;; ++number) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || warm_.size() < count_; });
      if (stopping_) return;
    }
    auto started = start_(number);
    std::unique_lock lock(mutex_);
    trouble_ = started ? Status() : started.error();
    if (started) warm_.push_back(std::move(*started));
    changed_.notify_all();
    if (!started) changed_.wait_for(lock, kAfterTrouble, [&] { return stopping_; });
  }
}

Result<WarmQemu> WarmPool::take(Nanos patience) {
  std::unique_lock lock(mutex_);
  if (warm_.empty()) trouble_ = {};
  changed_.wait_for(lock, patience, [&] { return !warm_.empty() || !trouble_.ok(); });
  if (warm_.empty())
    return failure(trouble_.ok() ? Status(Code::timeout, "no warm QEMU is ready in time")
                                 : trouble_.within("start a warm QEMU"));
  WarmQemu taken = std::move(warm_.front());
  warm_.pop_front();
  changed_.notify_all();
  return taken;
}

}  // namespace libft::qemu
