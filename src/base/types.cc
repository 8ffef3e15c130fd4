// SPDX-License-Identifier: LGPL-2.1-or-later
#include "libft/types.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "base/hex.h"

namespace libft {
namespace {

constexpr std::size_t kNameMax = 64;

bool name_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

}  // namespace

Result<GuestId> GuestId::from_name(std::string_view name) {
  // "." and ".." would be folders to the file arbiter.
  const bool dots = name.find_first_not_of('.') == std::string_view::npos;
  if (name.size() > kNameMax || dots || !std::all_of(name.begin(), name.end(), name_character))
    return failure(Code::invalid,
                   fmt::format("guest name \"{}\": use 1 to {} letters, digits, '.', '_' or '-'",
                               name.substr(0, kNameMax), kNameMax));
  GuestId id;
  id.name_ = name;
  const XXH128_hash_t hash = XXH3_128bits(name.data(), name.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::copy(std::begin(canonical.digest), std::end(canonical.digest), id.bytes_.begin());
  return id;
}

std::string to_string(const EpochId& id) {
  return fmt::format("{}.{}", id.generation.value, id.epoch.value);
}

std::string to_string(const Incarnation& incarnation) {
  return fmt::format("{}/{}", incarnation.host, base::to_hex(incarnation.id));
}

Result<Incarnation> incarnation_from_string(std::string_view text) {
  const auto slash = text.find('/');
  Incarnation incarnation;
  if (slash == std::string_view::npos || slash > kNameMax ||
      !base::from_hex(text.substr(slash + 1), incarnation.id))
    return failure(Code::corrupt, fmt::format("\"{}\" is not an incarnation (host/32 hex digits)",
                                              text.substr(0, 120)));
  incarnation.host = text.substr(0, slash);
  return incarnation;
}

}  // namespace libft
