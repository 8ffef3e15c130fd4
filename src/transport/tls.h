// SPDX-License-Identifier: LGPL-2.1-or-later
// TLS over any Transport: version 1.3 with the shared key (RFC 8446, external PSK) and an ephemeral
// key exchange, so that a key that leaks later does not open what was sent before. The handshake
// happens before the first send or receive, in the thread that asks for it.
// Ends of the stream are not authenticated; libft's frames notice a missing rest themselves.
#pragma once

#include <cstdint>
#include <memory>

#include "libft/transport.h"
#include "transport/key.h"

namespace libft::transport {

enum class TlsRole { client, server };

struct TlsOptions {
  Nanos handshake_timeout = std::chrono::seconds{5};
  // Sent under one traffic key. RFC 8446 section 5.5 bounds AES-GCM to 2^24.5 records of 16 KiB.
  std::uint64_t rekey_bytes = std::uint64_t{1} << 36;
};

class TlsTransport : public Transport {
 public:
  // Does now what the first send or receive would do. Any thread; repeatable.
  virtual Status handshake() = 0;
};

Result<std::unique_ptr<TlsTransport>> wrap_tls(std::unique_ptr<Transport> inner, TlsRole role,
                                               const Key& key, const TlsOptions& options = {});

}  // namespace libft::transport
