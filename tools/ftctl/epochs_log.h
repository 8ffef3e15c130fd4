// SPDX-License-Identifier: LGPL-2.1-or-later
// The EpochsLog is the file of --epochs-log: one JSON line an epoch, for people. Where it can no
// longer be written, protection goes on, and the records are missed loudly, once. One thread.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "libft/status.h"

namespace libft::ftctl {

class EpochsLog {
 public:
  EpochsLog() = default;  // Keeps nothing.

  // Appends to `path`; an empty one keeps nothing. Fails with cause and remedy.
  static Result<EpochsLog> open(const std::string& path);

  // After a failure, which it returns with cause and remedy, nothing more is written.
  Status write(const std::string& record);

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
};

}  // namespace libft::ftctl
