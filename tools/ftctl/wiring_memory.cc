// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_memory.h"

#include <fmt/format.h>

#include <charconv>

#include "guest/memory/busy_guest.h"
#include "output/memory_gate.h"
#include "report.h"

namespace libft::ftctl {

namespace {

constexpr char kPrefix[] = "memory:";

Result<std::uint64_t> number_in(const std::string& spec, const std::string& key,
                                std::uint64_t usual) {
  const std::string rest = "," + spec.substr(sizeof kPrefix - 1);
  const std::size_t at = rest.find("," + key + "=");
  if (at == std::string::npos) return usual;
  const char* begin = rest.data() + at + key.size() + 2;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(begin, rest.data() + rest.size(), number);
  if (error == std::errc() && (*end == ',' || end == rest.data() + rest.size())) return number;
  return failure(with_remedy(Code::invalid, fmt::format("guest {}: {} is no number", spec, key),
                             "memory:mib=64,pages=50"));
}

Result<Replica> with_gate(std::unique_ptr<Guest> guest) {
  FT_ASSIGN(auto gate, output::MemoryGate::create({}, [](std::span<const std::byte>) {}));
  return Replica{std::move(gate), std::move(guest), nullptr};
}

}  // namespace

bool is_memory_guest(const std::string& spec) { return spec.starts_with(kPrefix); }

Result<Replica> open_memory_guest(const std::string& spec) {
  FT_ASSIGN(const std::uint64_t mib, number_in(spec, "mib", 64));
  FT_ASSIGN(const std::uint64_t pages, number_in(spec, "pages", 50));
  if (mib == 0 || mib > (1u << 20)) {
    return failure(Code::invalid, fmt::format("guest {}: mib is from 1 to 1048576", spec));
  }
  return with_gate(guest::make_busy(guest::make_memory_guest(mib * 256, 1), pages));
}

Result<Replica> open_memory_standby(const GuestInfo& primary) {
  return with_gate(guest::make_busy(guest::make_memory_standby(primary.pages()), 50));
}

}  // namespace libft::ftctl
