// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core.h"

#include <algorithm>

namespace libft::machine {

Core::Core(Memory& memory, const Bus& bus, Clock clock, bool has_firmware)
    : memory_(memory), bus_(bus), clock_(clock), has_firmware_(has_firmware) {
  // The labels of run() are known within it only.
  [[maybe_unused]] static const Run labels_are_known = run(0, 0);
  memory_.add_observer(*this);
}

void Core::drop_writable(const std::byte* page) {
  for (Tlb& tlb : tlbs_) {
    if (!tlb.used) continue;
    for (TlbEntry& entry : tlb.write) {
      if (entry.tag + entry.addend == reinterpret_cast<std::uint64_t>(page)) entry = {};
    }
  }
}

void Core::drop_writable() {
  for (Tlb& tlb : tlbs_)
    if (tlb.used) std::ranges::fill(tlb.write, TlbEntry{});
}

void Core::drop_page(const std::byte* page, const DecodedPage* code) {
  const auto host = reinterpret_cast<std::uint64_t>(page);
  for (Tlb& tlb : tlbs_) {
    if (!tlb.used) continue;
    for (TlbEntry& entry : tlb.read)
      if (entry.tag + entry.addend == host) entry = {};
    for (TlbEntry& entry : tlb.write)
      if (entry.tag + entry.addend == host) entry = {};
    for (FetchEntry& entry : tlb.fetch)
      if (code != nullptr && entry.page == code) entry = {};
  }
  if (hart.reserved && memory_.at(hart.reserved_physical & ~(kPageBytes - 1)) == page)
    hart.reserved = false;  // Others may write there now.
}

void Core::drop_all() {
  dropped_ = true;
  for (Tlb& tlb : tlbs_)
    if (tlb.used) tlb = {};
}

}  // namespace libft::machine
