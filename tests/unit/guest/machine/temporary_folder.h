// SPDX-License-Identifier: LGPL-2.1-or-later
// A folder for one test, which removes it.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace libft::test {

inline std::string temporary_folder() {
  std::string path = (std::filesystem::temp_directory_path() / "libft-machine-XXXXXX").string();
  REQUIRE(::mkdtemp(path.data()) != nullptr);
  return path;
}

}  // namespace libft::test
