// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/memory_free.h"

#include <charconv>
#include <string_view>

#include "os/file.h"

namespace libft::os {

std::uint64_t memory_bytes_free() {
  constexpr std::string_view kKey = "MemAvailable:";
  const auto text = read_file("/proc/meminfo", 64u << 10);
  if (!text) return 0;
  const auto key = text->find(kKey);
  if (key == std::string::npos) return 0;
  const auto digit = text->find_first_of("0123456789", key);
  if (digit == std::string::npos) return 0;
  std::uint64_t kib = 0;
  std::from_chars(text->data() + digit, text->data() + text->size(), kib);
  return kib << 10;
}

}  // namespace libft::os
