// SPDX-License-Identifier: LGPL-2.1-or-later
// The table of transports: what an address may begin with, and what opens it. With a key in the
// options every connection is wrapped in TLS, whatever carries it. Any thread.
#pragma once

#include <memory>
#include <string>

#include "libft/transport.h"
#include "transport/options.h"

namespace libft::transport {

// Connects to "tcp:HOST:PORT" or "unix:PATH" ("memory:NAME" with a hub). With a key the peer has
// proved that it knows it when this returns.
Result<std::unique_ptr<Transport>> open(const std::string& address, const Options& options);

// Listens on such an address. A connection that accept() returns has not shaken hands yet: that
// happens at its first send or receive, ends with options.connect_timeout at the latest, and should
// have a thread of its own, so that a silent peer keeps nobody waiting. accept() fails with
// Code::cancelled once the listener was closed; any other failure concerns one connection (Code::
// refused: a peer that may not connect), and the listener goes on.
Result<std::unique_ptr<Listener>> listen(const std::string& address, const Options& options);

}  // namespace libft::transport
