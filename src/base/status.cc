// SPDX-License-Identifier: LGPL-2.1-or-later
#include "libft/status.h"

#include <fmt/format.h>

namespace libft {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::ok: return "ok";
    case Code::invalid: return "invalid";
    case Code::unsupported: return "unsupported";
    case Code::not_found: return "not_found";
    case Code::busy: return "busy";
    case Code::timeout: return "timeout";
    case Code::io: return "io";
    case Code::peer_lost: return "peer_lost";
    case Code::corrupt: return "corrupt";
    case Code::refused: return "refused";
    case Code::fenced: return "fenced";
    case Code::guest_gone: return "guest_gone";
    case Code::exhausted: return "exhausted";
    case Code::cancelled: return "cancelled";
    case Code::internal: return "internal";
  }
  return "internal";
}

Status Status::within(std::string_view doing) const {
  if (ok()) return *this;
  return Status(code_, fmt::format("{}: {}", doing, message_));
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return fmt::format("{}: {}", libft::to_string(code_), message_);
}

}  // namespace libft
