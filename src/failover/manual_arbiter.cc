// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/manual_arbiter.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "failover/answers.h"
#include "os/file.h"
#include "os/real_clock.h"

namespace libft::failover {
namespace {

constexpr std::size_t kPermitBytesMax = 64 << 10;

// Time since boot has no meaning after the next boot, and wall clocks jump: so both are written.
std::string boot_id() {
  auto text = os::read_file("/proc/sys/kernel/random/boot_id", 100);
  return text ? text->substr(0, text->find('\n')) : "";
}

bool harmless(const OwnershipRecord& from, const OwnershipRecord& to) {
  if (to.owner != from.owner) return false;
  if (to.ended) return true;
  return std::all_of(from.in_sync.begin(), from.in_sync.end(),
                     [&](const Incarnation& replica) { return to.lists(replica); });
}

}  // namespace

std::string ManualArbiter::permit_path(const GuestId& guest) const {
  return folder_.directory() + "/#permit-" + guest.name();
}

SwapAnswer ManualArbiter::create(const GuestId& guest, const OwnershipRecord& record) {
  return folder_.create(guest, record);
}

SwapAnswer ManualArbiter::swap(const GuestId& guest, const OwnershipRecord& from,
                               const OwnershipRecord& to) {
  if (harmless(from, to)) return folder_.swap(guest, from, to);
  const ReadAnswer now = folder_.read(guest);
  if (now.outcome == ReadAnswer::Outcome::unknown) return unknown(now.detail);
  if (now.outcome == ReadAnswer::Outcome::missing) return unknown(missing_text(guest));
  if (now.record == to) return won(to);
  if (now.record != from) return lost(now.record);
  if (!take_permit(guest, from))
    return unknown(
        fmt::format("guest {0} waits for a person: make sure that the other host is off, then run "
                    "`ftctl {1} {0}` here",
                    guest.name(), to.owner == from.owner ? "unprotect" : "failover"));
  return folder_.swap(guest, from, to);
}

Status ManualArbiter::permit(const GuestId& guest, const OwnershipRecord& from) {
  FT_TRY(folder_.adopt(guest, from).within("permit a take-over"));
  const Nanos now = os::RealClock().now().since_start;
  const nlohmann::json permission = {
      {"from", to_string(from)}, {"boot", boot_id()}, {"at_ns", now.count()}};
  return os::write_file_atomically(permit_path(guest), permission.dump() + "\n", 0600)
      .within("permit a take-over");
}

bool ManualArbiter::take_permit(const GuestId& guest, const OwnershipRecord& from) const {
  const auto text = os::read_file(permit_path(guest), kPermitBytesMax);
  if (!text) return false;
  // Taken before it is used: a crash in between costs a second command, never a second use.
  if (::unlink(permit_path(guest).c_str()) != 0) return false;
  const auto permission = nlohmann::json::parse(*text, nullptr, false);
  if (!permission.is_object()) return false;
  const auto permitted = permission.find("from"), boot = permission.find("boot"),
             at = permission.find("at_ns");
  if (permitted == permission.end() || boot == permission.end() || at == permission.end())
    return false;
  if (!at->is_number_integer() || *permitted != to_string(from) || *boot != boot_id()) return false;
  const Nanos age = os::RealClock().now().since_start - Nanos{at->get<std::int64_t>()};
  return age >= Nanos{0} && age < kPermitLife;
}

}  // namespace libft::failover
