// SPDX-License-Identifier: LGPL-2.1-or-later
#include <algorithm>

#include "ports.h"

namespace libft::capi {
namespace {

class PortTransport final : public Transport {
 public:
  PortTransport(const ft_transport_port& port, std::shared_ptr<Life> life)
      : port_(port),
        life_(std::move(life)),
        description_(port.description == nullptr ? "port" : port.description) {}
  ~PortTransport() override { close(); }

  // The bytes are copied: the host may send them after a close here has given up waiting.
  Status send(std::span<const std::span<const std::byte>> pieces) override {
    if (life_->closed()) return closed_here();
    auto bytes = std::make_shared<std::vector<std::byte>>();
    for (const auto& piece : pieces) bytes->insert(bytes->end(), piece.begin(), piece.end());
    auto function = [user = life_->user(), send = port_.send, bytes](ft_op* op) {
      const ft_bytes all{bytes->data(), bytes->size()};
      return send(user, op, &all, 1);
    };
    return lost(life_->desk()->run(life_, Wants::nothing, std::move(function)), "send");
  }

  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    if (life_->closed()) return failure(closed_here());
    OpResults results;
    results.bytes_max = buffer.size();
    auto function = [user = life_->user(), receive = port_.receive,
                     capacity = buffer.size()](ft_op* op) { return receive(user, op, capacity); };
    FT_TRY(lost(life_->desk()->run(life_, Wants::bytes, std::move(function), &results), "receive"));
    if (results.bytes.empty())
      return failure(Code::invalid, "transport.receive: the port handed over no bytes");
    std::copy(results.bytes.begin(), results.bytes.end(), buffer.begin());
    return results.bytes.size();
  }

  void close() override {
    if (closed_.exchange(true)) return;
    const auto close = [life = life_, close = port_.close] {
      if (close != nullptr) close(life->user());
    };
    if (life_->any_thread() || !life_->desk()->post(close)) close();
    life_->close();
  }

  std::string description() const override { return description_; }
  bool authenticated() const override { return port_.authenticated != 0; }

 private:
  static Status closed_here() { return Status(Code::cancelled, "the connection was closed here"); }
  // Whatever ends a connection means the same to a session.
  static Status lost(Status status, const char* doing) {
    if (status || status.code() == Code::cancelled) return status.within(doing);
    return Status(Code::peer_lost, status.within(doing).message());
  }

  const ft_transport_port port_;
  const std::shared_ptr<Life> life_;
  const std::string description_;
  std::atomic<bool> closed_{false};
};

}  // namespace

std::unique_ptr<Transport> make_transport(const ft_transport_port& port,
                                          std::shared_ptr<Life> life) {
  return std::make_unique<PortTransport>(port, std::move(life));
}

}  // namespace libft::capi
