// SPDX-License-Identifier: LGPL-2.1-or-later
// How a serving ftctl ended, for whoever supervises it and could not wait for its exit code: a
// small JSON file (`--end-file`), written last. What was killed leaves none. Values; any thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "libft/status.h"

namespace libft::ftctl {

enum class End {
  guest_ended,  // On purpose; the record says so.
  handed_over,  // Switched over: the peer owns it.
  left,         // SIGTERM or `ftctl stop`; the guest, if there is one, runs on.
  fenced,
  failed,
  refused,  // Nothing was begun: by the arbiter, by the peer, or because it would not be safe.
  usage,    // Nothing was begun: what was asked is wrong.
};
std::string_view to_string(End how);

struct Ending {
  int code = 0;
  End how = End::left;
  std::string why;
};

// Of an ftctl that could not begin to serve.
Ending ending_of(const Status& status);

Status write_ending(const std::string& file, const Ending& ending);
// What process `pid` left behind; nothing when it was killed.
std::optional<Ending> read_ending(const std::string& file, pid_t pid);

}  // namespace libft::ftctl
