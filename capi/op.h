// SPDX-License-Identifier: LGPL-2.1-or-later
// ft_op: one operation of a port that was implemented in C, from libft's question to the host's
// answer. Three parties hold one: who waits for it, who is calling the port's function, and the
// host from that call to its ft_op_done. It is used anew when the last has let go.
//
//   taken --> calling --> returned, or ft_op_done      answered
//                  \-----> FT_PENDING: pending --> ft_op_done
//   at any moment: abandoned, nobody waits any more; the host still ends it
//
// Everything below the line is guarded by the table's mutex; the results belong to the host until
// the operation is answered, and to who waited from then on.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "handle.h"
#include "libft/page_set.h"
#include "libft/session.h"

namespace libft::capi {

class Life;
class OpTable;
class Desk;

enum class Wants { nothing, pages, bytes, replica, connection, answer };

// What the host hands over while an operation is under way.
struct OpResults {
  PageSet pages;
  std::vector<std::byte> bytes;
  std::size_t bytes_max = ~std::size_t{0};
  std::optional<Replica> replica;
  std::unique_ptr<Transport> connection;
  bool proven = true;  // Of the connection: who is at the other end is known.
  std::int32_t answer = FT_ANSWER_UNKNOWN;
  std::string record;
  std::string cause, remedy;
  void clear();  // Keeps its memory, for who asks again and again.
};

}  // namespace libft::capi

struct alignas(64) ft_op : libft::capi::Handle {
  ft_op(libft::capi::OpTable& owner, const libft::capi::OwnProcess& process)
      : Handle(libft::capi::Kind::op, process), home(owner) {}

  libft::capi::OpTable& home;
  // --- under the table's mutex ---
  // First what every call needs: while a guest stands still each line of memory that was not used
  // since the last checkpoint is waited for.
  libft::capi::Wants wants = libft::capi::Wants::nothing;
  std::int32_t status = 0;
  unsigned holders = 0;
  bool calling = false, pending = false, answered = false, abandoned = false;
  bool used = false;  // Its results are not as new.
  // Where results go: to who waits on the very thread that calls the function, until that returns;
  // else null, into `results`.
  libft::capi::OpResults* into = nullptr;
  std::shared_ptr<libft::capi::OpTable>
      table;                                // While the host holds it: it may outlive a session.
  std::shared_ptr<libft::capi::Life> port;  // Until nobody waits any more.
  ft_op* next_free = nullptr;
  libft::capi::OpResults results;
  std::condition_variable answered_now;
  std::function<void(libft::Status, libft::capi::OpResults&)> then;  // Instead of who waits.
  // While it is pending: what it holds is what the host's function was given.
  std::function<std::int32_t(ft_op*)> function;
};

namespace libft::capi {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

// The operations of one session. Any thread.
class OpTable : public std::enable_shared_from_this<OpTable> {
 public:
  using Function = std::function<std::int32_t(ft_op*)>;

  // A fresh operation that two parties hold, who waits and who will call; null when the host leaves
  // too many unfinished.
  ft_op* take(const std::shared_ptr<Life>& port, Wants wants);

  // Calls `function` for `op` on this thread. Lets go of it for the caller in the end.
  void call(ft_op* op, Function function);

  // All of it for a port that may be called here: takes an operation, calls, and waits if need be.
  // What most calls are, answered when the function returns, costs two turns of the lock and no
  // memory. `results` as for Desk::run.
  template <class Call>
  Status run_here(const std::shared_ptr<Life>& port, Wants wants, Call& function,
                  OpResults* results, Deadline deadline) {
    ft_op* const op = begin_here(port, wants, results);
    if (op == nullptr) return too_many();
    const std::int32_t returned = function(op);
    Status status;
    if (answered_here(op, returned, status)) return status;
    end_call(op, port, returned, [&] { return Function(std::move(function)); });
    return collect(op, results, deadline);
  }
  // Waits, hands over the results, and lets go.
  Status collect(ft_op* op, OpResults* results, Deadline deadline);
  static Status too_many();
  // Waits for the answer, or abandons it at `deadline`.
  Status wait(ft_op* op, Deadline deadline);
  void let_go(ft_op* op);

  // Nobody waits for the operations of `port` (of all ports when null) that are pending, any more;
  // the same goes for those that become pending while `refuse` is on (for all), or their port is
  // closed.
  void abandon(const Life* port);
  void refuse_pending();

  // The host's side.
  Outcome done(ft_op* op, std::int32_t status);
  Outcome is_cancelled(ft_op* op, bool& cancelled);
  // Runs `store`, an Outcome(OpResults&), with the lock held when the host may give such a result.
  template <class Store>
  Outcome give(ft_op* op, Wants wants, Store&& store) {
    const Lock lock(mutex_);
    FT_CHECK(may_give(op, wants));
    if (op->into != nullptr) return store(*op->into);
    op->used = true;
    return store(op->results);
  }

 private:
  using Lock = std::unique_lock<std::mutex>;
  ft_op* take_locked(const std::shared_ptr<Life>& port, Wants wants);
  ft_op* begin_here(const std::shared_ptr<Life>& port, Wants wants, OpResults* results);
  bool answered_here(ft_op* op, std::int32_t returned, Status& status);
  // `keep` makes what holds, while the operation is pending, what the function was given.
  void end_call(ft_op* op, const std::shared_ptr<Life>& port, std::int32_t returned,
                const std::function<Function()>& keep);
  Outcome may_give(const ft_op* op, Wants wants) const;
  void answer(Lock& lock, ft_op* op, std::int32_t status);
  void abandon(Lock& lock, ft_op* op);
  void drop(Lock& lock, ft_op* op);
  void push_free(ft_op* op);

  // Together, as what every call needs.
  std::mutex mutex_;
  // Oldest first: what was answered a moment ago is still known as such.
  ft_op *free_first_ = nullptr, *free_last_ = nullptr;
  std::size_t free_count_ = 0;
  bool refusing_ = false;
  const OwnProcess process_;  // Its operations name it: they go first.
  std::deque<std::unique_ptr<ft_op>> all_;
};

}  // namespace libft::capi
