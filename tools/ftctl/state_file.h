// SPDX-License-Identifier: LGPL-2.1-or-later
// What a restarted ftctl must know about a guest whose ftctl died while the guest lived on: which
// incarnation it was, and which process it is. One small JSON file a guest and life, in the state
// directory. Any thread; one ftctl a file.
#pragma once

#include <string>
#include <vector>

#include "libft/types.h"
#include "os/process.h"

namespace libft::ftctl {

using os::alive;
using os::process_of;
using os::ProcessId;
using os::this_process;

// SIGKILL by a pidfd that was compared with the start time after it was opened, so that no other
// process of the same number can be hit; then waits for the end. ok when it was gone already.
Status kill_process(const ProcessId& process, Nanos timeout);

struct GuestState {
  std::string name, host;
  Incarnation self;
  ProcessId ftctl;     // Who wrote it.
  ProcessId guest;     // pid 0: a Xen domain, or a guest that lives inside ftctl (memory guests).
  std::string domain;  // Of a Xen guest: its number and its UUID, "7/01234567-...".
  std::string qmp;
  std::vector<std::string> argv;
  std::string spec;  // As the guest was named.
  std::string file;  // Where it was read from; not stored.
};

std::string whereabouts(const GuestState& state);  // "process 4242", "domain 7/01234567-..."

Status write_state(const std::string& directory, const GuestState& state);
void remove_state(const std::string& directory, const GuestState& state);
// All that are readable; `notes` receives what was wrong with the others.
std::vector<GuestState> read_states(const std::string& directory, const std::string& guest,
                                    std::vector<std::string>& notes);

// Removes what is left of lives of the guest that are over: neither the guest's process nor the
// ftctl that wrote the file is there any more. For whoever knows that the record names none of
// them: the owner, or a backup in sync with it. `self` is the life of whoever calls.
void remove_dead_states(const std::string& directory, const std::string& guest,
                        const Incarnation& self);

// Replaces the file as a whole, mode 0600; a failure leaves what was there.
Status replace_file(const std::string& file, const std::string& text);

// Makes the directory, mode 0700, and refuses one that belongs to somebody else.
Status ensure_state_dir(const std::string& directory);

}  // namespace libft::ftctl
