// SPDX-License-Identifier: LGPL-2.1-or-later
// What an ftctl leaves to the program that takes its place in the same process (execve): the held
// session, which QEMU it is about, and the descriptors that stay open. It travels in a memory file,
// and in the same release or one whose version says that it takes this. Values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control.h"
#include "libft/session.h"
#include "wiring.h"

namespace libft::ftctl {

struct HandOver {
  bool primary = false;
  HeldSession session;
  GuestProcess process;
  std::uint64_t first_event = 0;  // The number of events.front().
  Json events = Json::array();
};

// To be inherited: without close-on-exec.
Result<Descriptor> write_hand_over(const HandOver& left);
// Closes the descriptor that carries it; those that it names are open then, and the caller's.
Result<HandOver> read_hand_over(int fd);

// Whether `program` takes what this ftctl would leave: asked of itself. It must answer soon.
Status takes_hand_over(const std::string& program);
int hand_over_format();

// Becomes `argv`, with only `kept` still open beyond the standard ones. Returns only on failure,
// and then nothing has changed.
Status become(std::vector<std::string> argv, const std::vector<int>& kept);

}  // namespace libft::ftctl
