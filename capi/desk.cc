// SPDX-License-Identifier: LGPL-2.1-or-later
#include "desk.h"

#include "ports.h"

namespace libft::capi {

Desk::Desk(os::EventFd wake)
    : wake_(std::move(wake)), ops_(std::make_shared<OpTable>()), news_(std::make_shared<News>()) {}

Result<std::shared_ptr<Desk>> Desk::create() {
  FT_ASSIGN(auto wake, os::EventFd::create());
  return std::shared_ptr<Desk>(new Desk(std::move(wake)));
}

bool Desk::post(std::function<void()> work) {
  const std::scoped_lock lock(mutex_);
  if (shut_) return false;
  waiting_.push_back(std::move(work));
  wake_.signal();
  return true;
}

bool Desk::serve() {
  std::deque<std::function<void()>> now;
  {
    const std::scoped_lock lock(mutex_);
    wake_.drain();
    now.swap(waiting_);
  }
  const bool served = !now.empty();
  while (!now.empty()) {
    const auto work = std::move(now.front());
    now.pop_front();
    try {
      work();
    } catch (...) {  // No memory: what is left is not lost with it.
      const std::scoped_lock lock(mutex_);
      waiting_.insert(waiting_.begin(), now.begin(), now.end());
      wake_.signal();
      throw;
    }
  }
  return served;
}

void Desk::refuse_pending() { ops_->refuse_pending(); }

void Desk::ended() {
  --lives_;
  wake_.signal();
}

void Desk::shut() {
  const std::scoped_lock lock(mutex_);
  shut_ = true;
}

Status Desk::run_there(const std::shared_ptr<Life>& port, Wants wants, Function function,
                       OpResults* results, Deadline deadline) {
  ft_op* const op = ops_->take(port, wants);
  if (op == nullptr) return OpTable::too_many();
  if (results != nullptr) std::swap(*results, op->results);  // Its memory is used again.
  if (!post([ops = ops_, op, function = std::move(function)]() mutable {
        ops->call(op, std::move(function));
      })) {
    ops_->let_go(op);
    ops_->let_go(op);
    return Status(Code::cancelled, "the session is being freed");
  }
  return ops_->collect(op, results, deadline);
}

void Desk::begin(const std::shared_ptr<Life>& port, Wants wants, Function function,
                 std::function<void(Status, OpResults&)> then) {
  OpResults none;
  ft_op* const op = ops_->take(port, wants);
  if (op == nullptr) return then(OpTable::too_many(), none);
  op->then = std::move(then);
  if (port->any_thread()) {
    ops_->call(op, std::move(function));
  } else if (!post([ops = ops_, op, function = std::move(function)]() mutable {
               ops->call(op, std::move(function));
             })) {
    const auto refused = std::exchange(op->then, nullptr);
    ops_->let_go(op);
    ops_->let_go(op);
    return refused(Status(Code::cancelled, "the session is being freed"), none);
  }
  ops_->let_go(op);
}

Life::~Life() {
  if (free_ != nullptr && !desk_->post([free = free_, user = user_] { free(user); })) free_(user_);
  desk_->ended();
}

void Life::cancel(ft_op* op) const {
  if (cancel_ != nullptr) cancel_(user_, op);
}

void Life::close() {
  closed_ = true;
  desk_->ops().abandon(this);
}

}  // namespace libft::capi
