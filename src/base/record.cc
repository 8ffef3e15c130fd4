// SPDX-License-Identifier: LGPL-2.1-or-later
// The arbiter's record as text: one line of JSON, the same in every arbiter.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "libft/arbiter.h"

namespace libft {

bool OwnershipRecord::lists(const Incarnation& replica) const {
  return std::find(in_sync.begin(), in_sync.end(), replica) != in_sync.end();
}

std::string to_string(const OwnershipRecord& record) {
  auto in_sync = nlohmann::json::array();
  for (const auto& replica : record.in_sync) in_sync.push_back(to_string(replica));
  const nlohmann::ordered_json json = {{"generation", record.generation.value},
                                       {"owner", to_string(record.owner)},
                                       {"in_sync", in_sync},
                                       {"ended", record.ended}};
  return json.dump();
}

Result<OwnershipRecord> record_from_string(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto bad = [&](std::string_view what) {
    return failure(Code::corrupt,
                   fmt::format("arbiter's record: {}: {}", what, text.substr(0, 200)));
  };
  if (!json.is_object()) return bad("not a JSON object");
  const auto generation = json.find("generation"), owner = json.find("owner"),
             in_sync = json.find("in_sync"), ended = json.find("ended");
  if (generation == json.end() || !generation->is_number_unsigned()) return bad("no generation");
  if (owner == json.end() || !owner->is_string()) return bad("no owner");
  if (in_sync == json.end() || !in_sync->is_array()) return bad("no in_sync");
  if (ended == json.end() || !ended->is_boolean()) return bad("no ended");
  OwnershipRecord record;
  record.generation = Generation{generation->get<std::uint64_t>()};
  record.ended = ended->get<bool>();
  FT_ASSIGN(record.owner, incarnation_from_string(owner->get<std::string>()));
  for (const auto& entry : *in_sync) {
    if (!entry.is_string()) return bad("in_sync holds something else than text");
    FT_ASSIGN(auto replica, incarnation_from_string(entry.get<std::string>()));
    record.in_sync.push_back(std::move(replica));
  }
  return record;
}

}  // namespace libft
