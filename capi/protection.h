// SPDX-License-Identifier: LGPL-2.1-or-later
// A Protection is what stands behind an ft_session: the parts that the host gave, the C++ session
// that is made of them on a thread that may wait, and the wishes that are under way. Functions say
// which thread calls them; where they say nothing, any may.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "desk.h"
#include "failover/heartbeat_detector.h"
#include "given.h"
#include "left.h"
#include "libft/session.h"
#include "offers.h"
#include "options.h"
#include "os/mmap_arena.h"
#include "os/real_clock.h"
#include "os/thread_pool.h"
#include "own_guests.h"
#include "ports.h"

namespace libft::capi {

// A port whose functions are called for something that is made later.
template <class Port>
struct Kept {
  Port port{};
  std::shared_ptr<Life> life;
};

class Protection {
 public:
  // fresh --> starting --> running --> stopping --> over
  //   ^ |        \-> over (failed)
  //   | v
  //  asking
  enum class Phase { fresh, asking, starting, running, stopping, over };

  static Outcome make(const Options& options, std::unique_ptr<Protection>& into);
  ~Protection();

  // --- parts; each refused unless fresh ---
  Outcome set_guest(GuestInfo info, Given<ft_guest_port>& guest);
  Outcome set_gate(Given<ft_gate_port>& gate);
  Outcome set_standby(Given<ft_standby_port>& standby);
  Outcome set_command(std::vector<std::string> command);
  Outcome set_qmp(Given<ft_qmp_port>& qmp);
  Outcome set_dial(Given<ft_dial_port>& dial);
  Outcome set_arbiter(Given<ft_arbiter_port>& arbiter);
  Outcome set_detector(Given<ft_detector_port>& detector);
  Outcome set_heartbeat_fds(std::vector<os::ScopedFd> sockets);
  Outcome set_fence(Given<ft_fence_port>& fence);
  Outcome set_log(Given<ft_log_sink>& log);
  Outcome set_events(Given<ft_event_sink>& events);

  // --- wishes ---
  Outcome may_start(Given<ft_completion>& done);
  Outcome start(Role role, Given<ft_completion>& done);
  Outcome wish(Session::Wish wish, const char* phase, Given<ft_completion>& done);
  Outcome change_strategy(Strategy to, Given<ft_completion>& done);
  Outcome reprotect(Given<ft_completion>& done);
  Outcome hold(Nanos at_most, Given<ft_completion>& done);
  Outcome let_go();
  Outcome stop(Given<ft_completion>& done);
  Outcome offer(std::unique_ptr<Transport> connection);

  // --- the host's driver ---
  class Driving;  // Its right to process, for a while.
  int poll_fd() const { return poll_.get(); }
  void process(const Driving&);
  Outcome run(const Driving&, std::uint32_t until, std::int32_t timeout_ms);
  void finish(const Driving&);
  void interrupt();

  const std::shared_ptr<Desk>& desk() const { return desk_; }
  News& news() const { return *desk_->news(); }
  const ReleaseGuard& guard() const { return *guard_; }
  const Options& options() const { return options_; }
  std::optional<OwnGuests::Place> place() const;
  // What a session says, before it, while it is there, and after it.
  SessionStatus status(std::int32_t& role) const;
  Outcome secure(int in, int out, const char* description, std::int32_t trust,
                 std::unique_ptr<Transport>& into) const;

 private:
  struct Wish {
    const char* phase = "";
    Kept<ft_completion> done;
    bool reprotect = false;
  };

  Protection(const Options& options, std::shared_ptr<Desk> desk, os::ScopedFd poll);

  Outcome fresh() const;
  std::string host() const;
  ReadAnswer read_record(Arbiter* port) const;
  Status end_earlier_life(Arbiter* port, SessionOptions& options) const;
  Outcome missing(Role role) const;
  Outcome open_parts(Role role);
  Outcome wire_backup(SessionParts& parts);
  Outcome wire_heartbeats(SessionParts& parts);
  Outcome open_heartbeats(Role role);
  Outcome heartbeat_key(std::string& into) const;
  Outcome check_own_guest();
  Status open_own_guest();
  Outcome open_left();
  std::string text_of(HeldSession held) const;
  Outcome open_listener();
  Status begin(Role role, SessionParts parts);
  void tear_down();

  std::uint64_t note_wish(const char* phase, Given<ft_completion>& done);
  std::function<void(Result<std::string>)> wish_done(const char* phase, Given<ft_completion>& done);
  void complete(std::uint64_t id, const Outcome& outcome, const std::string& text);
  void deliver_events();
  void deliver(const std::vector<SessionEvent>& events);
  void look_for_protection();
  bool reached(std::uint32_t until) const;
  bool over() const;

  const std::shared_ptr<Desk> desk_;
  const os::ScopedFd poll_;  // An epoll of the desk and the session.
  const Options options_;
  os::RealClock clock_;
  os::ThreadPool pool_;
  os::MmapArena arena_;
  const std::shared_ptr<ReleaseGuard> guard_;
  GuestId guest_;

  // Parts, until the session has them.
  std::unique_ptr<Log> log_;
  Replica replica_;
  std::vector<std::string> command_;
  std::shared_ptr<qemu::QmpRelay> qmp_;
  std::unique_ptr<OwnGuests> own_;
  std::optional<Left> left_;  // By a session that was held.
  std::unique_ptr<Arbiter> arbiter_;
  std::string arbiter_spec_;  // Empty: a port.
  std::unique_ptr<Fence> fence_;
  std::shared_ptr<Kept<ft_standby_port>> standby_;
  std::shared_ptr<Kept<ft_dial_port>> dial_;
  std::shared_ptr<Kept<ft_detector_port>> detector_;
  Kept<ft_event_sink> events_;
  std::unique_ptr<Listener> listener_;

  mutable std::mutex mutex_;
  Phase phase_ = Phase::fresh;
  std::unique_ptr<Session> session_;
  SessionStatus last_;  // When there is no session any more.
  std::string trouble_;
  std::map<std::uint64_t, Wish> wishes_;
  std::uint64_t wishes_ever_ = 0;

  std::unique_ptr<failover::HeartbeatHub> hub_;
  bool heartbeats_given_ = false;  // The hub is over the host's sockets.
  std::unique_ptr<Offers> offers_;
  std::unique_ptr<Switchboard> listening_, offered_;
  std::atomic<std::thread::id> driver_{};
  std::atomic<bool> interrupted_{false};
  std::jthread starter_, stopper_;
};

class Protection::Driving {
 public:
  static Outcome take(Protection& protection, std::optional<Driving>& into);
  Driving(Driving&& other) noexcept : of_(std::exchange(other.of_, nullptr)) {}
  Driving& operator=(Driving&&) = delete;
  ~Driving() {
    if (of_ != nullptr) of_->driver_ = std::thread::id{};
  }

 private:
  explicit Driving(Protection& of) : of_(&of) {}
  Protection* of_;
};

}  // namespace libft::capi

struct ft_session : libft::capi::Handle {
  ft_session() : Handle(libft::capi::Kind::session, process) {}
  const libft::capi::OwnProcess process;
  std::unique_ptr<libft::capi::Protection> protection;
};
