// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/key.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "base/hex.h"
#include "os/file.h"
#include "os/random.h"

namespace libft::transport {

Result<Key> make_key() {
  Key key;
  FT_TRY(os::random_bytes(key.bytes));
  return key;
}

std::string to_text(const Key& key) { return base::to_hex(key.bytes); }

Result<Key> key_from_text(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.remove_suffix(1);
  Key key;
  if (!base::from_hex(text, key.bytes))
    return failure(Code::invalid,
                   "a key is one line of 64 hexadecimal digits; make one with: "
                   "ftctl keygen FILE");
  return key;
}

Result<Key> load_key(const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) return failure(os::errno_status("key file " + path));
  if ((about.st_mode & 077) != 0)
    return failure(Code::refused, fmt::format("key file {}: others may read or change it; chmod "
                                              "600 {}",
                                              path, path));
  FT_ASSIGN(const std::string text, os::read_file(path, 4096));
  auto key = key_from_text(text);
  if (!key) return failure(key.error().within("key file " + path));
  return key;
}

}  // namespace libft::transport
