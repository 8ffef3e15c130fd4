// SPDX-License-Identifier: LGPL-2.1-or-later
// Qmp is one connection to QEMU's monitor protocol: JSON lines over a unix socket. Commands may be
// posted several in one write and awaited later; QEMU answers in order, and libft uses no
// out-of-band commands, so that the n-th answer belongs to the n-th command.
// Any thread. Whoever awaits an answer reads the socket; while nobody does, the owner's thread
// polls fd() and calls drain().
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "libft/status.h"
#include "libft/types.h"
#include "os/fd.h"

namespace libft::qemu {

using Json = nlohmann::json;

// One command as a line of text, ready to be posted.
std::string qmp_line(std::string_view command, const Json& arguments = Json::object());

// What is there under `key`, or an empty text, 0, false, where it is missing or of another kind.
std::string text_at(const Json& object, const char* key);
std::uint64_t number_at(const Json& object, const char* key);
bool flag_at(const Json& object, const char* key);

class Qmp {
 public:
  // Called for each event, in the order of the stream, by the thread that read it, with the
  // connection locked: it returns quickly and calls nothing of this object.
  using EventSink = std::function<void(const Json& event)>;
  using Ticket = std::uint64_t;  // The number of a command; consecutive.

  // `timeout` covers the whole greeting. QEMU serves one client at a time and lets others wait in
  // the socket's queue, so that a busy monitor shows as a missing greeting.
  static Result<std::unique_ptr<Qmp>> connect(const std::string& path, EventSink sink,
                                              Nanos timeout = Millis{3000});
  ~Qmp() = default;
  Qmp(const Qmp&) = delete;
  Qmp& operator=(const Qmp&) = delete;

  // Sends `lines`, which are `commands` commands; the first one's ticket is returned.
  // `fd`, unless -1, goes along with the first (for getfd and add-fd).
  Result<Ticket> post(std::string_view lines, unsigned commands = 1, int fd = -1);

  // The command's "return" value, or its error. After a timeout the late answer is dropped.
  Result<Json> wait(Ticket ticket, Nanos timeout);

  // Nobody awaits it: the answer is dropped when it comes.
  void forget(Ticket ticket);

  Result<Json> execute(std::string_view command, const Json& arguments = Json::object(),
                       Nanos timeout = Millis{10000}, int fd = -1);
  // The text that the human monitor prints; in QEMU a few things can be asked only there.
  Result<std::string> human(std::string_view command_line);

  int fd() const { return socket_.get(); }
  void drain();       // Reads what is there, without waiting.
  bool lost() const;  // The connection ended.
  const Json& greeting() const { return greeting_; }
  pid_t server() const;  // The process that opened the socket; 0 where that cannot be known.

 private:
  struct Slot {
    std::optional<Result<Json>> answer;
    bool abandoned = false;
  };
  static constexpr std::size_t kPendingMax = 64;
  static constexpr std::size_t kLineBytesMax = 64u << 20;

  Qmp(std::string path, os::ScopedFd socket, EventSink sink);
  Status greet(Nanos timeout);
  Status read_some(Nanos timeout);
  void take_lines();
  void take_line(std::string_view line);
  void take_answer(const Json& message);
  Status send_all(std::string_view text, int fd);

  const std::string path_;
  const os::ScopedFd socket_;
  const EventSink sink_;
  Json greeting_;
  mutable std::mutex mutex_;
  std::string input_;
  std::map<Ticket, Slot> pending_;
  Ticket posted_ = 0;    // Tickets below this have been given out.
  Ticket answered_ = 0;  // The next answer is this one's.
  std::optional<Status> lost_;
};

}  // namespace libft::qemu
