// SPDX-License-Identifier: LGPL-2.1-or-later
// ft_options: the values of one session's options, over the one table of what they are called, how
// they are stored in ft_settings, and what they mean. One thread at a time.
#pragma once

#include <array>
#include <span>
#include <string>

#include "handle.h"
#include "libft/session.h"

namespace libft::capi {

constexpr std::size_t kTexts = 16;

struct OptionRow {
  const char* name;
  std::int32_t type;
  std::size_t offset;  // In ft_settings.
  std::size_t bytes;   // 4 or 8, of flags and numbers.
  const char* unit;
  const char* initial;
  std::uint64_t min, max;
  const char* help;
};
std::span<const OptionRow> option_rows();

class Options {
 public:
  Options();
  Options(const Options& other) { *this = other; }
  Options& operator=(const Options& other);

  Outcome set(const std::string& name, const char* value);
  Outcome get(const std::string& name, std::string& value) const;
  Outcome set_all(const ft_settings& settings);
  const ft_settings& settings() const { return settings_; }
  SessionOptions session_options() const;

 private:
  Outcome set_row(const OptionRow& row, const std::string& value);
  void point_at_texts();

  ft_settings settings_{};
  std::array<std::string, kTexts> texts_;
};

// Stores `text` as every function of the ABI that hands out a text of unknown length does.
Outcome give_text(const std::string& text, char* into, std::uint64_t capacity,
                  std::uint64_t* length);

}  // namespace libft::capi

struct ft_options : libft::capi::Handle {
  ft_options() : Handle(libft::capi::Kind::options, process) {}
  const libft::capi::OwnProcess process;
  libft::capi::Options values;
};
