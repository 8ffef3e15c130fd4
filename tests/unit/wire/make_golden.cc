// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes the golden file of the current version to the path given: for a new version only.
#include <cstdio>

#include "unit/wire/golden_frames.h"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const auto bytes = libft::test::golden_bytes();
  std::FILE* file = std::fopen(arguments[1], "wb");
  if (file == nullptr) return 1;
  const bool whole = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  return std::fclose(file) == 0 && whole ? 0 : 1;
}
