// SPDX-License-Identifier: LGPL-2.1-or-later
// What a running QEMU is, asked over QMP: whether libft can protect it, with everything that is
// missing at once, and what a backup must have in common with it. Session's thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "guest/qemu/arguments.h"
#include "guest/qemu/process_memory.h"
#include "qemu/device_state.h"
#include "qemu/qmp.h"

namespace libft::qemu {

// What both replicas must have in common. Travels as JSON in GuestInfo::compatibility.
struct Shape {
  std::string qemu;     // "7.2.22 (Debian 1:7.2+dfsg-7)"
  std::string machine;  // "pc-i440fx-7.2"
  std::string accelerator;
  std::string processor;  // Model name, where the guest sees the host's own; else empty.
  StateWay way = StateWay::devices_only;
  std::vector<std::uint64_t> memory;            // Bytes of each backend.
  std::map<std::string, std::uint64_t> blocks;  // Every RAM block's size.
  std::vector<std::string> devices;             // "virtio-net-pci, id \"\"; addr 02.0; mac ..."
  std::map<std::string, std::string> files;     // Path to checksum: kernel, initrd, firmware.
  Arguments arguments;                          // shape_of() the command line.
  std::uint32_t vcpus = 1;
};
std::string to_json(const Shape& shape);
Result<Shape> shape_from_json(std::string_view text);
// Everything in which `ours` cannot continue `theirs`; empty when it can. File names may differ.
std::vector<std::string> differences(const Shape& theirs, const Shape& ours);

struct Inspection {
  Shape shape;
  std::vector<std::string> missing;  // Each with its remedy; empty: it can be protected.
};
Result<Inspection> inspect(Qmp& qmp, const Arguments& running,
                           const std::vector<MemoryBackend>& memory,
                           const std::vector<NicSockets>& gates);

// Pieces of the above that depend on text alone, for tests.
struct RamBlock {
  std::string name;
  std::uint64_t bytes = 0;
};
std::vector<RamBlock> parse_ram_blocks(const std::string& info_ramblock);
// Blocks that the guest can write and that are not among `covered`.
std::vector<RamBlock> uncovered_blocks(const std::vector<RamBlock>& blocks,
                                       const std::vector<std::string>& covered);
std::vector<std::string> parse_devices(const std::string& info_qtree);
// The Ethernet addresses among what parse_devices() found, one for each NIC.
std::vector<std::array<std::uint8_t, 6>> addresses_of(const std::vector<std::string>& devices);
// "net0 (user)" for each network back end that no gate can cover.
std::vector<std::string> ungated_nics(const std::string& info_network);

}  // namespace libft::qemu
