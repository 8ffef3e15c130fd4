// SPDX-License-Identifier: LGPL-2.1-or-later
// The Daemon is an ftctl that protects or stands by: it owns the sessions of this process, delivers
// their events, answers the control socket, keeps the state files, and ends in an orderly way.
// The main thread calls everything; control requests come on threads of the ControlServer.
#pragma once

#include <chrono>
#include <future>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "control.h"
#include "ending.h"
#include "epochs_log.h"
#include "event_book.h"
#include "logger.h"
#include "signals.h"
#include "wiring.h"

namespace libft::ftctl {

struct HandOver;

// A Xen domain has one; a QEMU has the one that it was started with. Empty: none is known.
std::string uuid_of(const GuestProcess& process);

class Daemon {
 public:
  Daemon(Host& host, Logger& log, Descriptor signals, std::string state_dir);
  ~Daemon();

  // Takes a session over; it is served until it ends.
  Status add(const Settings& settings, const GuestId& guest, std::unique_ptr<Session> session,
             EpochsLog epochs_log);
  // The same for one whom nobody dials.
  void add_unheard(const Settings& settings, const GuestId& guest,
                   std::unique_ptr<Session> session);

  // Opens the control socket. Before a guest is started, so that a conflict costs nothing; until
  // run() it answers that ftctl is starting.
  Status listen(const std::string& control_path);

  // What the program that this process was before had told already.
  void restore_events(std::uint64_t first, std::vector<Json> events) {
    events_.restore(first, std::move(events));
  }

  // Serves until all guests have ended, or a signal or `ftctl stop`. Returns the exit code.
  int run();
  // How run() ended; of several guests the one whose exit code it was.
  const Ending& ending() const { return ending_; }

 private:
  struct Served {
    Settings settings;
    GuestId guest;
    std::unique_ptr<Session> session;
    Switchboard* switchboard = nullptr;
    EpochsLog epochs_log;
    std::optional<GuestState> stored;  // What the state file says, once it is written.
    bool store_failed = false;
    std::chrono::steady_clock::time_point store_again_at{};
    bool was_primary = false;
    bool changed = true;  // Something other than an epoch happened: look at its state.
    std::chrono::steady_clock::time_point looked_at{}, look_often_until{};
    std::atomic<bool> handing_over = false;  // On purpose: that it is fenced then is success.
    bool told_failed = false;
    bool forgot_earlier = false;
    std::optional<int> end;  // The exit code, once there is nothing more to serve.
  };

  struct Replacement {
    std::vector<std::string> argv;
    HeldSession held;
    std::promise<Status> failed;
  };

  Status replace_by(const Json& request);
  Status ask_main_thread(Replacement next);
  void become_replacement();
  void refuse_replacement();  // This one, and any later one.
  static Status execute(const HandOver& left, std::vector<std::string> argv);

  void wait_for_something();
  static bool is_due(Served& served, std::chrono::steady_clock::time_point now);
  void deliver(Served& served);
  void take_event(Served& served, const SessionEvent& event);
  Json record_of(const Served& served, const SessionEvent& event) const;
  void look_at(Served& served);
  void store(Served& served, const SessionStatus& status);
  void forget_earlier(Served& served, const SessionStatus& status);
  GuestState state_of(const Served& served, const SessionStatus& status) const;
  void say_what_stays(const Served& served);
  void hand_back(const Served& served);
  void finish(Served& served, int code, End how, const std::string& why);
  void show_progress();
  bool all_ended() const;
  int leave();
  int result() const;

  void answer(const Json& request, const ControlServer::Reply& reply);
  Json answer_status_request(const Json& request);
  Json answer_wish(const std::string& command, const Json& request);
  Result<Served*> find(const Json& request);

  Host& host_;
  Logger& log_;
  Descriptor signals_;
  Descriptor stop_;     // An eventfd, for `ftctl stop`.
  Descriptor replace_;  // Likewise, for `hold`.
  std::mutex replace_mutex_;
  std::optional<Replacement> replacement_;
  bool leaving_ = false;
  std::string state_dir_;
  EventBook events_;
  std::chrono::steady_clock::time_point shown_at_{};
  std::list<Served> served_;  // Complete before run(); sessions stay until the destructor.
  Ending ending_;
  std::atomic<bool> serving_ = false;
  std::unique_ptr<ControlServer> control_;  // Last: its threads use all of the above.
};

}  // namespace libft::ftctl
