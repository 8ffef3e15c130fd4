// SPDX-License-Identifier: LGPL-2.1-or-later
// The Supervisor is ftd: a Keeper a guest, one control socket for all of them, one book of events.
// run() is the main thread's; requests come on threads of the ControlServer and take the lock only
// to look or to change what is due; what waits for another process waits without it.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "control.h"
#include "event_book.h"
#include "hook.h"
#include "keeper.h"
#include "logger.h"
#include "metrics_server.h"
#include "notify.h"
#include "os/event_fd.h"

namespace libft::ftd {

struct Options {
  Places places;
  std::string store;        // The folder of protections.
  std::string socket;       // Where ftd is asked.
  std::string group;        // May read; empty: nobody but the owner.
  std::string metrics;      // "ADDRESS:PORT"; empty: none.
  std::string on_event;     // A program; empty: none.
  std::string events_file;  // JSON lines are appended; empty: none.
};

class Supervisor {
 public:
  static Result<std::unique_ptr<Supervisor>> open(Options options, ftctl::Logger& log,
                                                  ftctl::Descriptor signals, Notifier& notifier);
  ~Supervisor();  // Waits for requests that are being answered.

  // Until a signal. The guests' ftctls go on.
  int run();
  // After run(), instead of the destructor, which would wait for requests that wait for guests:
  // what is to be told is told, and the process may end.
  void leave();

 private:
  using Lock = std::unique_lock<std::mutex>;
  using Reply = ftctl::ControlServer::Reply;
  struct Known {
    std::string socket;
    Json status;
  };
  struct Standing {  // How a guest was told to stand last.
    std::string role, state;
    bool is_protected = false;
  };

  Supervisor(Options options, ftctl::Logger& log, ftctl::Descriptor signals, os::EventFd wake,
             Notifier& notifier);
  Status load();
  Status open_doors();

  // supervisor.cc: the main thread
  void wait_for_something();
  void turn();
  void told(const Json& event, bool again);
  void log_change(const Json& event);
  std::string summary();
  Keeper& add_keeper(Protection protection);

  // questions.cc: what only reads
  void answer(const ftctl::Caller& caller, const Json& request, const Reply& reply);
  std::vector<Known> known(const std::string& guest);
  std::vector<Json> statuses(const std::string& guest);
  Json answer_status(const Json& request);
  std::string metrics_text();

  // wishes.cc: what changes
  Json answer_wish(const Json& request);
  Json forward(const Json& request);
  Json start_guest(Start start, const Json& request);
  struct Leaving {
    std::string name;
    bool here = false;
  };
  Json forget(const Json& request);
  Result<std::vector<Leaving>> all_leaving();
  Status forget_one(const std::string& name, bool here, Keeper::Clock::time_point until);
  Json maintenance(const Json& request);
  static Keeper::Clock::time_point until_of(const Json& request);
  Status drain(Keeper::Clock::time_point until);
  void release_all();

  // upgrade.cc
  Json upgrade(const Json& request);
  Result<std::string> upgrade_one(const Json& status, Keeper::Clock::time_point until);
  struct InPlace {
    Status status;
    bool begun = false;  // The ftctl that served the guest is gone.
  };
  InPlace replace_in_place(const Json& status, Keeper::Clock::time_point until);
  Status wait_for_successor(const Json& status, Keeper::Clock::time_point until);
  Status start_anew(const Json& status, Keeper::Clock::time_point until);

  // Waits without the lock's work being held up; false when `until` has come.
  bool wait_until(Lock& lock, Keeper::Clock::time_point until, const std::function<bool()>& done);
  Keeper* find(const std::string& name);  // With the lock held.
  void wake() { wake_.signal(); }

  const Options options_;
  ftctl::Logger& log_;
  ftctl::Descriptor signals_;
  os::EventFd wake_;
  Notifier& notifier_;
  Store store_;
  ftctl::EventBook events_;
  std::unique_ptr<Hook> hook_;
  ftctl::Descriptor events_file_;

  std::mutex mutex_;  // What follows.
  std::condition_variable changed_;
  std::map<std::string, std::unique_ptr<Keeper>> keepers_;
  std::map<std::string, Standing> standing_;
  bool maintenance_ = false;
  bool changing_ = false;  // One maintenance at a time.

  std::unique_ptr<MetricsServer> metrics_;  // Last: their threads use all of the above.
  std::unique_ptr<ftctl::ControlServer> control_;
};

}  // namespace libft::ftd
