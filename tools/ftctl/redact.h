// SPDX-License-Identifier: LGPL-2.1-or-later
// Takes secrets out of a text that is shown to others. Pure; any thread.
#pragma once

#include <string>

namespace libft::ftctl {

// Keys (64 or more hexadecimal digits in a row), names and passwords in URLs, and the values of
// what calls itself a password, a secret, a token or data of one.
std::string redact(const std::string& text);

}  // namespace libft::ftctl
