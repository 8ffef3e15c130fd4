// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes the first inputs of fuzz_assembler into the folder given: the first byte chooses the mode.
#include <fstream>
#include <string>

#include "fuzz/assembler_streams.h"

using libft::test::Bytes;

static bool write(const std::string& path, char how, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.put(how);
  file.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  return bool(file.flush());
}

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const std::string folder = arguments[1];
  const auto [first, second, rebase] = libft::test::fuzz_streams();
  Bytes both = first;
  both.insert(both.end(), second.begin(), second.end());
  Bytes rebased = second;
  rebased.insert(rebased.end(), rebase.begin(), rebase.end());
  const bool written = write(folder + "/from-nothing", 0, both) &&
                       write(folder + "/from-nothing-repaired", 2, both) &&
                       write(folder + "/second-epoch", 1, second) &&
                       write(folder + "/rebase", 1, rebased) &&
                       write(folder + "/second-epoch-repaired", 3, second);
  return written ? 0 : 1;
}
