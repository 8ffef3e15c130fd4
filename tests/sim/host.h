// SPDX-License-Identifier: LGPL-2.1-or-later
// A Host is a machine that may run one replica, die, start again, and stand still. It owns the
// order in which its replica hears of things: while it stands still, events wait and are then told
// in order, as a process finds its sockets and timers after SIGCONT.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/suspicion.h"
#include "sim/network.h"
#include "sim/replica.h"

namespace libft::sim {

class World;

enum class Stall {
  host,     // Everything stops; the clock shows it afterwards.
  hidden,   // Everything stops; the clock shows nothing (a suspended virtual host).
  session,  // Only the session's thread; guest, heartbeats and kernel go on.
};

class Host final : public NetworkSink {
 public:
  Host(World& world, int index);
  ~Host() override;

  int index() const { return index_; }
  const std::string& name() const { return name_; }
  Replica* replica() { return replica_.get(); }
  bool alive() const { return replica_ != nullptr; }
  bool stalled() const { return stall_.has_value(); }
  Time local_now() const;

  // --- life ---------------------------------------------------------------------------------
  void start_as_owner(const OwnershipRecord& record, const Incarnation& self);
  void start();               // As a backup, a new incarnation.
  void crash(bool silently);  // Silently: the whole host; else only the process.
  void stall(Stall kind, Nanos length);
  void stall_in_next_batch(Stall kind, Nanos length) { armed_stall_ = {kind, length}; }
  void crash_in_next_batch() { armed_crash_ = true; }
  void calm();  // Ends its stall; nothing more is armed.

  // --- for its replica ----------------------------------------------------------------------
  void post(std::function<void()> event);                // On the session's thread, when it can.
  void later(Nanos delay, std::function<void()> event);  // post() then; forgotten when it dies.
  void later_unposted(Nanos delay, std::function<void()> event);  // Another thread's work.
  void occupy(Nanos length, std::function<void()> then);          // The session's thread is busy.
  // Between two actions of a batch. True: stop here (crashed or standing still).
  bool interrupted();
  bool held() const { return stall_.has_value() || busy_; }

  void on_client(const FrameBytes& frame);

  // The detector: whom to watch and tell.
  void watch(int peer, const Incarnation& who, core::Watched as);
  void unwatch();

  // --- NetworkSink --------------------------------------------------------------------------
  void on_connection(ConnectionId connection, int peer, bool dialed) override;
  void on_bytes(ConnectionId connection, std::span<const std::byte> bytes) override;
  void on_closed(ConnectionId connection) override;
  void on_datagram(int from, const Datagram& datagram) override;

 private:
  struct Armed {
    Stall kind;
    Nanos length;
  };
  struct Watch {
    int peer;
    Incarnation who;
    core::Suspicion suspicion;
  };

  void begin_life();
  void wake(std::uint64_t stall_number);
  void drain();
  void beat();
  void check_silence();
  void tell(const std::vector<DetectorEvent>& events);
  void run_guest();
  bool frozen() const { return stall_ && *stall_ != Stall::session; }

  World& world_;
  int index_;
  std::string name_;
  std::unique_ptr<Replica> replica_;
  std::unique_ptr<Replica> dying_;  // Destroyed only when nothing of it is on the stack.
  std::uint64_t life_ = 0;
  std::optional<Stall> stall_;
  std::uint64_t stall_number_ = 0;
  Time stall_began_;
  Nanos hidden_{0};
  bool busy_ = false;
  bool running_ = false;  // An event is being handled.
  std::deque<std::function<void()>> waiting_;
  std::optional<Armed> armed_stall_;
  bool armed_crash_ = false;
  std::optional<Watch> watch_;
  Time check_planned_;
  std::uint64_t progress_ = 0;
};

}  // namespace libft::sim
