// SPDX-License-Identifier: LGPL-2.1-or-later
// The etcd arbiter as the table of arbiters sees it: in a file of its own, because it alone needs
// libcurl, and who must not be linked with that opens it as a module instead. Any thread.
#pragma once

#include "libft/arbiter.h"

namespace libft::failover {

// What stands behind "etcd:" in an arbiter's name.
Result<std::unique_ptr<Arbiter>> open_etcd(std::string_view rest);

}  // namespace libft::failover
