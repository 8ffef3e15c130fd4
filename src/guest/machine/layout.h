// SPDX-License-Identifier: LGPL-2.1-or-later
// Where things are in the machine's physical address space: as on QEMU's `virt`, so that a guest
// runs on both. docs/MACHINE.md has the table.
#pragma once

#include <cstdint>

namespace libft::machine {

inline constexpr std::uint64_t kFinisherBase = 0x100000;  // SiFive's test device: power off, reset.
inline constexpr std::uint64_t kClintBase = 0x2000000;
inline constexpr std::uint64_t kPlicBase = 0xc000000;
inline constexpr std::uint64_t kUartBase = 0x10000000;
inline constexpr unsigned kUartSource = 10;
inline constexpr std::uint64_t kVirtioBase = 0x10001000, kVirtioStride = 0x1000;
inline constexpr unsigned kNetSlot = 0, kBlockSlot = 1, kEntropySlot = 2;  // Source: slot + 1.
inline constexpr std::uint64_t kMemoryBase = 0x80000000;
inline constexpr std::uint64_t kKernelOffset = 0x200000;  // Below it firmware would be.
// Behind all memory: where sessions, and nobody in the guest, see a writable disk.
inline constexpr std::uint64_t kDiskBase = std::uint64_t{2} << 32;
inline constexpr std::uint64_t kTicksPerSecond = 10'000'000;

}  // namespace libft::machine
