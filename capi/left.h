// SPDX-License-Identifier: LGPL-2.1-or-later
// What a session that was held leaves to another one, as the one text that crosses the ABI: the
// session's bytes and, of a QEMU of libft's own, where it is. Values; any thread.
#pragma once

#include <optional>
#include <string>

#include "host/qemu_opener.h"
#include "libft/session.h"

namespace libft::capi {

struct Left {
  HeldSession session;
  std::optional<host::HeldQemu> qemu;  // Nothing: the guest is a port's.
};

std::string to_text(const Left& left);
// Code::corrupt, Code::unsupported: as of the bytes.
Result<Left> left_from_text(const std::string& text);

}  // namespace libft::capi
