// SPDX-License-Identifier: LGPL-2.1-or-later
// Whole small files: records, keys, configuration. A reader sees the old text or the new one, never
// a part, also after a crash of the host. Any thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "libft/status.h"
#include "os/fd.h"

namespace libft::os {

// Replaces the file, or creates it with `mode`. On failure the old file is as it was; only when the
// folder could not be synced may either text be there after a crash of the host.
Status write_file_atomically(const std::string& path, std::string_view text, mode_t mode = 0644);

// Reads the whole file; Code::exhausted if it has more than `bytes_max`.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max);

// Writes all of `text` to `fd`, however many writes that takes.
Status write_all(int fd, std::string_view text);

}  // namespace libft::os
