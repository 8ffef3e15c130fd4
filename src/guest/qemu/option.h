// SPDX-License-Identifier: LGPL-2.1-or-later
// One argument of QEMU's as its options: "dgram,id=n0,local.type=unix". A comma in a value is
// written twice. Value type, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace libft::qemu {

class Option {
 public:
  explicit Option(std::string_view text);

  // The first part, where it has no '=': "dgram". Empty otherwise.
  const std::string& kind() const { return kind_; }
  void set_kind(std::string kind) { kind_ = std::move(kind); }

  std::optional<std::string> get(std::string_view key) const;  // The last one counts, as in QEMU.
  void set(std::string_view key, std::string_view value);
  void erase(std::string_view key);
  void keep_only(std::string_view key);

  std::string text() const;

 private:
  std::string kind_;
  std::vector<std::pair<std::string, std::string>> pairs_;
};

// Whether `argument` is the option `name`: QEMU takes "-name" and "--name".
bool is_option(std::string_view argument, std::string_view name);

}  // namespace libft::qemu
