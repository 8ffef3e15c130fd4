// SPDX-License-Identifier: LGPL-2.1-or-later
// A Keeper keeps up one guest's protection: it starts the ftctl that serves it, hears its events,
// and starts what is due when it ends. A Keeper that goes leaves that ftctl as it is; the next one
// finds it again. Called by one thread at a time, never blocks.
//
//   nothing --begin--> due --at_--> starting --answers--> serving
//      ^                ^              |                     |
//      +---decide.h-----+<-------------+--- it has ended ----+
#pragma once

#include <poll.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "decide.h"
#include "process.h"
#include "stream.h"

namespace libft::ftd {

struct Places {
  std::string run;  // Control sockets, state files; gone after a boot.
  std::string logs;
  std::string ftctl;  // The program.
};

class Keeper {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Phase { nothing, due, starting, serving };

  // One event, as ftctl tells it, or of ftd's own. `again`: an earlier ftd has told it already.
  using Tell = std::function<void(const Json& event, bool again)>;
  using Save = std::function<Status(const Protection&)>;

  Keeper(Places places, Protection protection, Save save, Tell tell);

  const Protection& protection() const { return protection_; }
  Phase phase() const { return phase_; }
  // Unlike what an ftctl calls its own, and unlike ftd's, whatever the guest's name.
  std::string control() const { return file(".ftd.sock"); }
  pid_t pid() const { return process_ ? process_->id().pid : 0; }
  std::string role() const { return role_; }
  bool has_process() const { return process_.has_value(); }
  bool names_peer() const;  // Whose backup this host can be.
  bool outdated() const;    // Its process is not the ftctl that would be started now.
  // How the last process that could not be kept ended; for whoever asked for the start.
  const std::optional<ftctl::Ending>& last_ending() const { return last_ending_; }

  // Takes up what an earlier ftd left running, or else, unless `hold`, starts what is stored.
  void resume(bool hold);
  struct Once {
    bool anew = false, resume = false;
    bool only_try = false;  // Whoever asks waits for it: a failure is theirs, and not tried again.
  };
  void begin(Start start, Once once);
  void replace_section(Json section);
  // The command that serves it as what it is now; its configuration is written down.
  Result<std::vector<std::string>> command() const;
  // From now on nothing is started when the process ends (it is asked to by others).
  void hold();
  void release();  // hold() is over: starts what is due.

  void add_to(std::vector<pollfd>& waits) const;
  std::optional<Clock::time_point> deadline() const;
  void turn();  // Does what is due.

 private:
  std::string file(const char* suffix) const {
    return places_.run + "/" + protection_.name + suffix;
  }
  Result<Process> find_process();
  Status start_process();
  void listen();
  void take(const std::vector<Json>& answers);
  void take_event(const Json& event, std::uint64_t number);
  void learn(const Json& status);
  void on_end();
  void store_life();
  void tell_own(const std::string& event, const std::string& text);
  void save();

  Places places_;
  Protection protection_;
  Save save_;
  Tell tell_;
  Phase phase_ = Phase::nothing;
  Clock::time_point at_{};  // due: when it is started; starting: when it is asked again.
  Once once_;
  bool held_ = false;
  std::optional<Process> process_;
  std::optional<Stream> stream_;
  std::optional<ftctl::Ending> last_ending_;
  Start started_as_ = Start::nothing;
  std::string role_;
  std::uint64_t seen_ = 0;  // Events of this process that were told.
  unsigned failures_ = 0;
  Clock::time_point began_{};
};

}  // namespace libft::ftd
