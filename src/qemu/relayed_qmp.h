// SPDX-License-Identifier: LGPL-2.1-or-later
// QMP over a connection that belongs to somebody else, a toolstack for instance, which QEMU serves
// as its only client: each command is handed to that owner, who executes it and hands back the
// reply, and tells the events that it hears. Implemented by who embeds libft; any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "os/fd.h"
#include "qemu/qmp.h"

namespace libft::qemu {

class QmpRelay {
 public:
  virtual ~QmpRelay() = default;

  // Executes one command, a line of JSON, in the order of the calls. `fd`, when valid, is to travel
  // with it. `answer` is called once, by any thread, perhaps before this returns: with the reply as
  // QEMU gave it, or with why there is none.
  using Answer = std::function<void(Result<std::string> reply)>;
  virtual void execute(std::string command, os::ScopedFd fd, Answer answer) = 0;

  // Events as QEMU gave them, each before the answers that followed it on the connection: libft
  // learns so whose stop it was. An empty sink: no more. Once this returned, the sink before is not
  // running any more.
  virtual void set_event_sink(std::function<void(std::string_view event)> sink) = 0;
};

Result<std::unique_ptr<Qmp>> relay_qmp(std::shared_ptr<QmpRelay> relay, Qmp::EventSink sink);

}  // namespace libft::qemu
