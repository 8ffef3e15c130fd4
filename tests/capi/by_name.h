// SPDX-License-Identifier: LGPL-2.1-or-later
// A session by options alone, and a folder for what its hosts share.
#pragma once

#include <doctest/doctest.h>
#include <libft.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Folder {
  Folder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path = "/tmp/libft-capi.XXXXXX";
};

inline ft_session* session_by_name(const Pairs& all) {
  ft_options* options = nullptr;
  REQUIRE(ft_options_new(&options, nullptr) == FT_OK);
  for (const auto& option : all)
    REQUIRE_MESSAGE(
        ft_options_set(options, option.first.c_str(), option.second.c_str(), nullptr) == FT_OK,
        option.first);
  ft_session* session = nullptr;
  REQUIRE(ft_session_new(options, &session, nullptr) == FT_OK);
  ft_options_free(options);
  return session;
}
