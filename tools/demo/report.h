// SPDX-License-Identifier: LGPL-2.1-or-later
// The demo's report: one HTML file that needs nothing else, with the latency that the client saw,
// the checkpoints' pauses, the failure, and the figures. A function of values; any thread.
#pragma once

#include <string>
#include <vector>

#include "demo/result.h"

namespace libft::demo {

// Shows the first run that was not good, else the first. REQUIRES: runs is not empty.
std::string html_report(const std::vector<RunResult>& runs);

}  // namespace libft::demo
