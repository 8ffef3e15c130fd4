// SPDX-License-Identifier: LGPL-2.1-or-later
// What a machine is made of. A value; equal options make equal machines.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "disk.h"

namespace libft::machine {

// What executes first.
enum class Boot {
  supervisor,  // The image, in supervisor mode, over the machine's own SBI.
  machine,  // The image is the firmware: at the beginning of memory, in machine mode, without SBI.
};

// How several harts execute while the machine lives by itself.
enum class Smp {
  turns,    // In turns of a quantum on one thread: their order is determined.
  threads,  // Each on a thread of its own, in rounds that are recorded (crew.h).
};

struct MachineOptions {
  std::uint64_t memory_bytes = std::uint64_t{128} << 20;
  unsigned harts = 1;  // 1 to 8.
  Smp smp = Smp::turns;
  std::uint64_t quantum = 5000;  // Instructions a turn: fairness against the cost of a turn.
  // One instruction is 4 ns of the guest's time: about what this interpreter needs for it, so that
  // the guest's clock neither waits for the host's nor runs away from it.
  std::uint64_t steps_per_tick = 25;
  Boot boot = Boot::supervisor;
  std::vector<std::byte> kernel;  // A flat image, or Linux's Image.
  std::vector<std::byte> initrd;
  std::string command_line;
  std::array<std::uint8_t, 6> mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
  // One of them, or none.
  std::shared_ptr<const std::vector<std::byte>> disk;  // Read-only.
  std::shared_ptr<Disk> writable_disk;                 // This machine's alone.
};

}  // namespace libft::machine
