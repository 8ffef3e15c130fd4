// SPDX-License-Identifier: LGPL-2.1-or-later
#include "op.h"

#include <algorithm>

#include "desk.h"

namespace libft::capi {
namespace {

// So many answered operations are remembered before one is used anew: a second ft_op_done is then
// an error, and not somebody else's answer.
constexpr std::size_t kRemembered = 64;
constexpr std::size_t kOpsMax = 1024;

void prefetch(const ft_op* op) {
  const char* const first = reinterpret_cast<const char*>(op);
  __builtin_prefetch(first, 1);
  __builtin_prefetch(first + 64, 1);
}

const char kAbandoned[] = "nobody waits for this operation any more";

}  // namespace

void OpResults::clear() {
  pages.clear();
  bytes.clear();
  bytes_max = ~std::size_t{0};
  replica.reset();
  connection.reset();
  proven = true;
  answer = FT_ANSWER_UNKNOWN;
  record.clear();
  cause.clear();
  remedy.clear();
}

ft_op* OpTable::take(const std::shared_ptr<Life>& port, Wants wants) {
  const Lock lock(mutex_);
  ft_op* const op = take_locked(port, wants);
  if (op != nullptr) op->used = true;
  return op;
}

ft_op* OpTable::take_locked(const std::shared_ptr<Life>& port, Wants wants) {
  ft_op* op = nullptr;
  if (free_count_ > kRemembered) {
    op = std::exchange(free_first_, free_first_->next_free);
    --free_count_;
    prefetch(free_first_);  // It is the next call's.
  } else if (all_.size() < kOpsMax) {
    op = all_.emplace_back(std::make_unique<ft_op>(*this, process_)).get();
  } else {
    return nullptr;
  }
  if (std::exchange(op->used, false)) op->results = {};
  op->wants = wants;
  op->port = port;
  op->status = FT_OK;
  op->holders = 2;  // Who waits, and who will call.
  op->calling = op->pending = op->answered = op->abandoned = false;
  return op;
}

void OpTable::call(ft_op* op, Function function) {
  Lock lock(mutex_);
  if (op->abandoned) return drop(lock, op);
  op->calling = true;
  op->table = shared_from_this();
  ++op->holders;  // The host: it may end it before the function returns.
  const auto port = op->port;
  lock.unlock();
  const std::int32_t returned = function(op);
  end_call(op, port, returned, [&] { return std::move(function); });
}

void OpTable::end_call(ft_op* op, const std::shared_ptr<Life>& port, std::int32_t returned,
                       const std::function<Function()>& keep) {
  OpResults vain;  // What was given to nobody is the host's to free: not under the lock.
  Lock lock(mutex_);
  op->calling = false;
  if (op->into != nullptr) {  // Who waits may give up before the host has ended it.
    std::swap(*std::exchange(op->into, nullptr), op->abandoned ? vain : op->results);
    op->used = true;
  }
  if (op->answered && op->table == nullptr) return drop(lock, op);  // By ft_op_done.
  if (returned != FT_PENDING) {
    op->table.reset();
    --op->holders;
    if (!op->answered) answer(lock, op, returned);
    return drop(lock, op);
  }
  if (!op->answered) {
    op->pending = true;
    op->function = keep();
  }
  if (!op->abandoned && !op->answered && (refusing_ || port->closed())) {
    abandon(lock, op);
  } else if (op->abandoned) {
    lock.unlock();
    port->cancel(op);
    lock.lock();
  }
  drop(lock, op);
}

// --- on the thread of who waits -----------------------------------------------------------------

Status OpTable::too_many() {
  return Status(Code::exhausted, "the host leaves too many operations without ft_op_done");
}

ft_op* OpTable::begin_here(const std::shared_ptr<Life>& port, Wants wants, OpResults* results) {
  const Lock lock(mutex_);
  ft_op* const op = take_locked(port, wants);
  if (op == nullptr) return nullptr;
  op->into = results;
  op->calling = true;
  op->table = shared_from_this();
  ++op->holders;  // The host.
  return op;
}

// Whether that was all: nobody but this thread knows the operation any more.
bool OpTable::answered_here(ft_op* op, std::int32_t returned, Status& status) {
  Lock lock(mutex_);
  if (returned == FT_PENDING || op->answered || op->abandoned) return false;
  const OpResults* const given = std::exchange(op->into, nullptr);
  if (returned != FT_OK) {
    const OpResults& why = given != nullptr ? *given : op->results;
    status = to_status(returned, why.cause, why.remedy);
  }
  op->calling = false;
  op->answered = true;
  op->table.reset();
  op->holders = 1;
  if (op->used) {
    drop(lock, op);
    return true;
  }
  op->port.reset();  // The caller has it as well: nothing ends under the lock.
  op->holders = 0;
  push_free(op);
  return true;
}

Status OpTable::collect(ft_op* op, OpResults* results, Deadline deadline) {
  Status status = wait(op, deadline);
  if (status && results != nullptr) std::swap(*results, op->results);
  let_go(op);
  return status;
}

Status OpTable::wait(ft_op* op, Deadline deadline) {
  Lock lock(mutex_);
  const auto over = [op] { return op->answered || op->abandoned; };
  if (!deadline) {
    op->answered_now.wait(lock, over);
  } else if (!op->answered_now.wait_until(lock, *deadline, over)) {
    abandon(lock, op);
    return Status(Code::timeout, "the host did not answer in time");
  }
  if (!op->answered) return Status(Code::cancelled, kAbandoned);
  return to_status(op->status, op->results.cause, op->results.remedy);
}

void OpTable::let_go(ft_op* op) {
  Lock lock(mutex_);
  drop(lock, op);
}

void OpTable::drop(Lock& lock, ft_op* op) {
  if (--op->holders != 0) return;
  // What the host gave in vain is the host's to free: not under this lock.
  auto port = std::move(op->port);
  const auto then = std::exchange(op->then, nullptr);
  const auto function = std::exchange(op->function, nullptr);
  auto replica = std::exchange(op->results.replica, std::nullopt);
  auto connection = std::move(op->results.connection);
  push_free(op);
  lock.unlock();
}

void OpTable::push_free(ft_op* op) {
  op->next_free = nullptr;
  (free_count_++ == 0 ? free_first_ : free_last_->next_free) = op;
  free_last_ = op;
}

void OpTable::answer(Lock& lock, ft_op* op, std::int32_t status) {
  op->answered = true;
  op->pending = false;
  op->status = status;
  op->answered_now.notify_all();
  if (!op->then) return;
  auto then = std::move(op->then);
  op->then = nullptr;
  const Status told = op->abandoned ? Status(Code::cancelled, kAbandoned)
                                    : to_status(status, op->results.cause, op->results.remedy);
  lock.unlock();
  then(told, op->results);
  lock.lock();
}

void OpTable::abandon(Lock& lock, ft_op* op) {
  if (op->answered || op->abandoned) return;
  op->abandoned = true;
  op->answered_now.notify_all();
  auto then = std::move(op->then);
  op->then = nullptr;
  const auto port = std::move(op->port);
  op->port = nullptr;
  const auto replica = std::exchange(op->results.replica, std::nullopt);
  const auto connection = std::move(op->results.connection);
  const bool tell = op->pending;
  if (tell) ++op->holders;  // Until it was told.
  lock.unlock();
  OpResults none;
  if (then) then(Status(Code::cancelled, kAbandoned), none);
  const auto cancel = [self = shared_from_this(), port, op] {
    port->cancel(op);
    self->let_go(op);
  };
  if (tell && (port->any_thread() || !port->desk()->post(cancel))) cancel();
  lock.lock();
}

void OpTable::abandon(const Life* port) {
  Lock lock(mutex_);
  // By index: the lock is let go meanwhile, and only ever more are appended.
  for (std::size_t i = 0; i < all_.size(); ++i) {
    ft_op* const op = all_[i].get();
    const bool under_way = op->holders != 0 && !op->answered;
    if (under_way && (port == nullptr ? op->pending : op->port.get() == port)) abandon(lock, op);
  }
}

void OpTable::refuse_pending() {
  {
    const Lock lock(mutex_);
    refusing_ = true;
  }
  abandon(nullptr);
}

// --- the host's side ----------------------------------------------------------------------------

Outcome OpTable::done(ft_op* op, std::int32_t status) {
  Lock lock(mutex_);
  if (op->table == nullptr)
    return {FT_E_STATE, "the operation is not under way: it was ended before",
            "end each operation that returned FT_PENDING once"};
  if (status > 0) return {FT_E_INVALID, "an operation ends with FT_OK or a negative status"};
  const auto self = std::move(op->table);  // It may be all that keeps this table.
  op->table = nullptr;
  const bool abandoned = op->abandoned;
  answer(lock, op, status);
  drop(lock, op);
  if (lock.owns_lock()) lock.unlock();
  if (abandoned) return {FT_E_CANCELLED, kAbandoned};
  return {};
}

Outcome OpTable::is_cancelled(ft_op* op, bool& cancelled) {
  const Lock lock(mutex_);
  if (op->table == nullptr) return {FT_E_STATE, "the operation is not under way"};
  cancelled = op->abandoned;
  return {};
}

Outcome OpTable::may_give(const ft_op* op, Wants wants) const {
  if (op->table == nullptr) return {FT_E_STATE, "the operation is not under way"};
  if (wants != Wants::nothing && op->wants != wants)
    return {FT_E_STATE, "the operation asks for no result of that kind"};
  if (op->abandoned) return {FT_E_CANCELLED, kAbandoned};
  return {};
}

}  // namespace libft::capi
