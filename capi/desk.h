// SPDX-License-Identifier: LGPL-2.1-or-later
// The Desk is where libft's threads leave what is to be called on the host's thread: functions of
// ports, sinks, completions, frees. The host calls them by process(). A Life is one struct that the
// host gave, until its `free`. Any thread, except serve().
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "op.h"
#include "os/event_fd.h"

namespace libft::capi {

class News;

class Desk : public std::enable_shared_from_this<Desk> {
 public:
  static Result<std::shared_ptr<Desk>> create();

  // Runs on the host's thread, in order. False: after shut(), and it was not taken.
  bool post(std::function<void()> work);

  using Function = OpTable::Function;
  // Lets the host run `function` of `port` and waits for its answer. `function` owns what it gives
  // the host, which may use it after the wait until it ends the operation; it does not own the
  // port, whose `free` waits for nobody. `results` may be null when there are none.
  template <class Call>
  Status run(const std::shared_ptr<Life>& port, Wants wants, Call function,
             OpResults* results = nullptr, std::optional<Nanos> patience = std::nullopt);
  // The same without waiting; `then` is called from any thread.
  void begin(const std::shared_ptr<Life>& port, Wants wants, Function function,
             std::function<void(Status, OpResults&)> then);

  OpTable& ops() { return *ops_; }
  const std::shared_ptr<News>& news() const { return news_; }  // Of the same session.
  // On the host's thread: calls what waits now, and at most that. False: nothing did.
  bool serve();
  int fd() const { return wake_.fd(); }
  // Pending operations are abandoned, and none becomes pending any more.
  void refuse_pending();
  void shut();

  // Structs of the host's that libft still has a use for.
  void born() { ++lives_; }
  void ended();
  bool deserted() const { return lives_ == 0; }

 private:
  explicit Desk(os::EventFd wake);
  Status run_there(const std::shared_ptr<Life>& port, Wants wants, Function function,
                   OpResults* results, Deadline deadline);

  os::EventFd wake_;
  std::shared_ptr<OpTable> ops_;
  std::shared_ptr<News> news_;
  std::mutex mutex_;
  std::deque<std::function<void()>> waiting_;
  bool shut_ = false;
  std::atomic<unsigned> lives_{0};
};

class Life {
 public:
  using Free = void (*)(void*);
  using Cancel = void (*)(void*, ft_op*);
  Life(std::shared_ptr<Desk> desk, std::uint32_t flags, void* user, Free on_free, Cancel on_cancel)
      : desk_(std::move(desk)),
        any_thread_((flags & FT_PORT_ANY_THREAD) != 0),
        user_(user),
        free_(on_free),
        cancel_(on_cancel) {
    desk_->born();
  }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;
  ~Life();  // `free`, on the host's thread.

  void* user() const { return user_; }
  bool any_thread() const { return any_thread_; }
  const std::shared_ptr<Desk>& desk() const { return desk_; }
  void cancel(ft_op* op) const;
  // From now on nothing of it becomes pending, and what is, is abandoned.
  void close();
  bool closed() const { return closed_; }

 private:
  std::shared_ptr<Desk> desk_;
  const bool any_thread_;
  void* const user_;
  const Free free_;
  const Cancel cancel_;
  std::atomic<bool> closed_{false};
};

template <class Call>
Status Desk::run(const std::shared_ptr<Life>& port, Wants wants, Call function, OpResults* results,
                 std::optional<Nanos> patience) {
  Deadline deadline;
  if (patience) deadline = std::chrono::steady_clock::now() + *patience;
  if (port->any_thread()) return ops_->run_here(port, wants, function, results, deadline);
  return run_there(port, wants, std::move(function), results, deadline);
}

}  // namespace libft::capi
