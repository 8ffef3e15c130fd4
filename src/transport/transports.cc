// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/transports.h"

#include <fmt/format.h>

#include <string_view>

#include "transport/memory.h"
#include "transport/sockets.h"
#include "transport/tls.h"

namespace libft::transport {
namespace {

Result<MemoryHub*> hub_of(const Options& options) {
  if (options.memory != nullptr) return options.memory;
  return failure(Code::unsupported, "memory: addresses work within one program only");
}

Result<std::unique_ptr<Transport>> open_memory(const std::string& where, const Options& options) {
  FT_ASSIGN(MemoryHub * hub, hub_of(options));
  return hub->connect(where);
}

Result<std::unique_ptr<Listener>> listen_memory(const std::string& where, const Options& options) {
  FT_ASSIGN(MemoryHub * hub, hub_of(options));
  return hub->listen(where);
}

struct TransportKind {
  std::string_view name;
  Result<std::unique_ptr<Transport>> (*open)(const std::string& where, const Options& options);
  Result<std::unique_ptr<Listener>> (*listen)(const std::string& where, const Options& options);
};

constexpr TransportKind kTransports[] = {
    {"tcp", open_tcp, listen_tcp},
    {"unix", open_unix, listen_unix},
    {"memory", open_memory, listen_memory},
};

struct Found {
  const TransportKind* kind;
  std::string where;
};

Result<Found> find_kind(const std::string& address) {
  const auto colon = address.find(':');
  for (const TransportKind& kind : kTransports)
    if (colon != std::string::npos && kind.name == std::string_view(address).substr(0, colon))
      return Found{&kind, address.substr(colon + 1)};
  return failure(Code::invalid,
                 fmt::format("address '{}': write tcp:HOST:PORT or unix:PATH", address));
}

class TlsListener final : public Listener {
 public:
  TlsListener(std::unique_ptr<Listener> inner, const Key& key, const TlsOptions& options)
      : inner_(std::move(inner)), key_(key), options_(options) {}

  Result<std::unique_ptr<Transport>> accept() override {
    FT_ASSIGN(auto raw, inner_->accept());
    return wrap_tls(std::move(raw), TlsRole::server, key_, options_);
  }
  void close() override { inner_->close(); }
  std::string address() const override { return inner_->address(); }

 private:
  std::unique_ptr<Listener> inner_;
  const Key key_;
  const TlsOptions options_;
};

}  // namespace

Result<std::unique_ptr<Transport>> open(const std::string& address, const Options& options) {
  FT_ASSIGN(const Found found, find_kind(address));
  auto raw = found.kind->open(found.where, options);
  if (!raw) return failure(raw.error().within("connect to " + address));
  if (!options.psk) return raw;
  FT_ASSIGN(auto tls, wrap_tls(std::move(*raw), TlsRole::client, *options.psk,
                               {.handshake_timeout = options.connect_timeout}));
  if (Status proved = tls->handshake(); !proved.ok())
    return failure(proved.within("connect to " + address));
  return tls;
}

Result<std::unique_ptr<Listener>> listen(const std::string& address, const Options& options) {
  FT_ASSIGN(const Found found, find_kind(address));
  auto raw = found.kind->listen(found.where, options);
  if (!raw) return failure(raw.error().within("listen on " + address));
  if (!options.psk) return raw;
  return std::make_unique<TlsListener>(std::move(*raw), *options.psk,
                                       TlsOptions{.handshake_timeout = options.connect_timeout});
}

}  // namespace libft::transport
