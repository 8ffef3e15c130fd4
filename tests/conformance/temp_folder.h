// SPDX-License-Identifier: LGPL-2.1-or-later
// A folder for one test, removed with everything in it when the test is over.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace libft::conformance {

class TempFolder {
 public:
  TempFolder() {
    char name[] = "/tmp/libft-test-XXXXXX";
    if (::mkdtemp(name)) path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace libft::conformance
