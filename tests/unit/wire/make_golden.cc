// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes the golden files of the current version to the paths given, those of features to
// the second and those behind it: for a new version only.
#include <cstdio>

#include "unit/wire/golden_frames.h"

namespace {

bool write(const char* path, const libft::test::Bytes& bytes) {
  std::FILE* file = std::fopen(path, "wb");
  if (file == nullptr) return false;
  const bool whole = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  return std::fclose(file) == 0 && whole;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 7) return 2;
  const bool written = write(arguments[1], libft::test::golden_bytes()) &&
                       write(arguments[2], libft::test::golden_log_bytes()) &&
                       write(arguments[3], libft::test::golden_rebase_bytes()) &&
                       write(arguments[4], libft::test::golden_compare_bytes()) &&
                       write(arguments[5], libft::test::golden_vote_bytes()) &&
                       write(arguments[6], libft::test::golden_hold_bytes());
  return written ? 0 : 1;
}
