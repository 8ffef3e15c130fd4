// SPDX-License-Identifier: LGPL-2.1-or-later
// Threads of libft's own: named, with every signal blocked (signals belong to the host's threads),
// joined when the object goes. The function must return once it was told to: stop it first.
#pragma once

#include <functional>
#include <pthread.h>
#include <string>
#include <thread>

namespace libft::os {

// `name` is shown by ps and gdb; at most 15 characters.
std::jthread start_thread(std::string name, std::function<void()> body);

// Asks for the timeliest scheduling that this process may have (SCHED_RR, else a better nice
// value): for heartbeats and pumps, which do little and must not wait. Call it from the thread.
void prefer_this_thread();

}  // namespace libft::os
