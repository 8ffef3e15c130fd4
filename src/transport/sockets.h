// SPDX-License-Identifier: LGPL-2.1-or-later
// Connections over TCP and over unix sockets, without encryption. Who may be trusted without a key
// is decided here: on TCP the loopback interface, on unix the same user and root.
#pragma once

#include <memory>
#include <string>

#include "libft/transport.h"
#include "transport/options.h"

namespace libft::transport {

// `where` is "HOST:PORT"; an empty host listens everywhere, port 0 takes any.
Result<std::unique_ptr<Transport>> open_tcp(const std::string& where, const Options& options);
Result<std::unique_ptr<Listener>> listen_tcp(const std::string& where, const Options& options);

// `where` is a path. The listener's file is removed when it closes.
Result<std::unique_ptr<Transport>> open_unix(const std::string& where, const Options& options);
Result<std::unique_ptr<Listener>> listen_unix(const std::string& where, const Options& options);

}  // namespace libft::transport
