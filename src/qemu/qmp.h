// SPDX-License-Identifier: LGPL-2.1-or-later
// Qmp is one connection to QEMU's monitor protocol: JSON lines. Commands may be posted several at
// once and awaited later. Implemented over a unix socket (here), and over a connection that belongs
// to somebody else (relayed_qmp.h).
// Any thread. Whoever awaits an answer lets events in; while nobody does, the owner's thread polls
// fd() and calls drain().
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "libft/status.h"
#include "libft/types.h"

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

  // Over a socket: QEMU answers in order, and libft uses no out-of-band commands, so that the n-th
  // answer belongs to the n-th command. `timeout` covers the whole greeting. QEMU serves one client
  // at a time and lets others wait in the socket's queue, so that a busy monitor shows as a missing
  // greeting.
  static Result<std::unique_ptr<Qmp>> connect(const std::string& path, EventSink sink,
                                              Nanos timeout = Millis{3000});
  virtual ~Qmp() = default;

  // Sends `lines`, which are `commands` commands; the first one's ticket is returned.
  // `fd`, unless -1, goes along with the first (for getfd and add-fd).
  virtual Result<Ticket> post(std::string_view lines, unsigned commands = 1, int fd = -1) = 0;

  // The command's "return" value, or its error. After a timeout the late answer is dropped.
  virtual Result<Json> wait(Ticket ticket, Nanos timeout) = 0;

  // Nobody awaits it: the answer is dropped when it comes.
  virtual void forget(Ticket ticket) = 0;

  virtual int fd() const = 0;
  virtual void drain() = 0;                  // Takes what is there, without waiting.
  virtual bool lost() const = 0;             // The connection ended.
  virtual const Json& greeting() const = 0;  // Null where somebody else heard it.
  virtual pid_t server() const = 0;          // The process that opened the socket; 0 where unknown.

  // On top of the above.
  Result<Json> execute(std::string_view command, const Json& arguments = Json::object(),
                       Nanos timeout = Millis{10000}, int fd = -1);
  // The text that the human monitor prints; in QEMU a few things can be asked only there.
  Result<std::string> human(std::string_view command_line);
};

// What a reply, {"return": ...} or {"error": ...}, says.
Result<Json> answer_in(const Json& reply);

}  // namespace libft::qemu
