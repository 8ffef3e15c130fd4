// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ending.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "report.h"
#include "state_file.h"

namespace libft::ftctl {

namespace {

using Json = nlohmann::json;

constexpr End kAll[] = {End::guest_ended, End::handed_over, End::left, End::fenced,
                        End::failed,      End::refused,     End::usage};

std::optional<End> end_from(std::string_view text) {
  for (const End how : kAll) {
    if (to_string(how) == text) return how;
  }
  return std::nullopt;
}

}  // namespace

std::string_view to_string(End how) {
  switch (how) {
    case End::guest_ended: return "guest_ended";
    case End::handed_over: return "handed_over";
    case End::left: return "left";
    case End::fenced: return "fenced";
    case End::failed: return "failed";
    case End::refused: return "refused";
    case End::usage: return "usage";
  }
  return "failed";
}

Ending ending_of(const Status& status) {
  const int code = exit_code(status.code());
  End how = End::failed;
  if (code == kUsage) how = End::usage;
  if (code == kFenced) how = End::fenced;
  if (code == kRefused) how = End::refused;
  return {code, how, status.message()};
}

Status write_ending(const std::string& file, const Ending& ending) {
  const Json json{{"pid", ::getpid()},
                  {"code", ending.code},
                  {"end", to_string(ending.how)},
                  {"why", ending.why}};
  return replace_file(file, json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::optional<Ending> read_ending(const std::string& file, pid_t pid) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  const Json json = Json::parse(text.str(), nullptr, false);
  try {
    if (json.at("pid").get<pid_t>() != pid) return std::nullopt;
    const auto how = end_from(json.at("end").get<std::string>());
    if (!how) return std::nullopt;
    return Ending{json.at("code").get<int>(), *how, json.at("why").get<std::string>()};
  } catch (const Json::exception&) {  // None, or half of one: it was killed.
    return std::nullopt;
  }
}

}  // namespace libft::ftctl
