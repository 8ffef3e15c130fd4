// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>

#include <cstring>

#include "guest/machine/device_tree.h"
#include "guest/machine/fdt.h"
#include "guest/machine/plic.h"
#include "guest/machine/uart.h"
#include "guest/machine/virtio_devices.h"

using namespace libft;
using namespace libft::machine;

namespace {

constexpr std::uint64_t kBase = 0x80000000;

// A driver with one queue of 8 entries.
struct Driver {
  Memory& memory;
  VirtioMmio& device;
  std::uint64_t at = kBase + 0x1000;
  std::uint16_t offered = 0;

  void set(std::uint64_t reg, std::uint32_t value) { device.store(reg, 4, value); }
  std::uint32_t get(std::uint64_t reg) { return static_cast<std::uint32_t>(device.load(reg, 4)); }

  void start(std::uint32_t queue) {
    for (const std::uint32_t status : {0u, 3u, 11u}) set(0x70, status);
    set(0x30, queue);
    set(0x38, 8);
    set(0x80, static_cast<std::uint32_t>(at));
    set(0x90, static_cast<std::uint32_t>(at + 0x400));
    set(0xa0, static_cast<std::uint32_t>(at + 0x800));
    set(0x44, 1);
    set(0x70, 15);
  }
  template <class T>
  void put(std::uint64_t to, T value) {
    memory.write(to, std::as_bytes(std::span(&value, 1)));
  }
  template <class T>
  T look(std::uint64_t from) {
    T value;
    std::memcpy(&value, memory.at(from), sizeof value);
    return value;
  }
  void descriptor(std::uint16_t index, std::uint64_t address, std::uint32_t bytes,
                  std::uint16_t flags, std::uint16_t next = 0) {
    put(at + 16 * index, address);
    put(at + 16 * index + 8, bytes);
    put(at + 16 * index + 12, flags);
    put(at + 16 * index + 14, next);
  }
  void offer(std::uint16_t head, std::uint32_t queue) {
    put<std::uint16_t>(at + 0x400 + 4 + 2 * (offered % 8), head);
    put<std::uint16_t>(at + 0x400 + 2, ++offered);
    set(0x50, queue);
  }
  std::uint16_t used() { return look<std::uint16_t>(at + 0x802); }
};

}  // namespace

TEST_CASE("a device tree that its own specification describes") {
  FdtWriter writer;
  writer.begin("");
  writer.text("model", "x");
  writer.begin("cpu@0");
  writer.cells("reg", {7});
  writer.flag("model");
  writer.end();
  writer.end();
  const std::vector<std::byte> blob = writer.finish();
  const auto big = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i)
      value = value << 8 | std::to_integer<std::uint32_t>(blob[at + i]);
    return value;
  };
  CHECK(big(0) == 0xd00dfeed);
  CHECK(big(4) == blob.size());
  CHECK(big(8) == 56);  // The structure begins,
  CHECK(big(56) == 1);  // with the root,
  CHECK(big(64) == 3);  // that has a property
  CHECK(big(68) == 2);  // of two bytes.
  CHECK(big(big(8) + big(36) - 4) == 9);
  CHECK(big(32) == 10);  // "model" is kept once, then "reg".
}

TEST_CASE("the highest priority is claimed first, and served until it is completed") {
  Plic plic;
  plic.store(4 * 3, 4, 1);
  plic.store(4 * 5, 4, 2);
  plic.store(0x2080, 4, 1 << 3 | 1 << 5);  // Context 1.
  plic.set_level(3, true);
  plic.set_level(5, true);
  CHECK(plic.interrupts(1));
  CHECK_FALSE(plic.interrupts(0));
  CHECK(plic.load(0x201004, 4) == 5);
  CHECK(plic.load(0x201004, 4) == 3);
  CHECK_FALSE(plic.interrupts(1));
  plic.store(0x201004, 4, 5);
  CHECK(plic.interrupts(1));  // Its device still asks.
  plic.store(0x201000, 4, 2);
  CHECK_FALSE(plic.interrupts(1));  // Not above the threshold.
}

TEST_CASE("a serial port sends at once and keeps what it received") {
  std::string sent;
  Uart uart([&](std::byte byte) { sent += static_cast<char>(byte); });
  uart.store(0, 1, 'x');
  CHECK(sent == "x");
  CHECK_FALSE(uart.interrupts());
  uart.store(1, 1, 1);
  const std::array<std::byte, 2> typed{std::byte{'a'}, std::byte{'b'}};
  uart.receive(typed);
  CHECK(uart.interrupts());
  CHECK((uart.load(5, 1) & 1) == 1);
  CHECK(uart.load(0, 1) == 'a');
  CHECK(uart.load(0, 1) == 'b');
  CHECK_FALSE(uart.interrupts());
  CHECK((uart.load(5, 1) & 1) == 0);
}

TEST_CASE("a disk reads sectors, and refuses what is beyond its end, and writes") {
  Memory memory(kBase, 1 << 20);
  auto image = std::make_shared<std::vector<std::byte>>(4 * 512);
  std::ranges::fill(std::span(*image).subspan(512, 512), std::byte{0x77});
  VirtioBlock block(memory, image);
  Driver driver{memory, block};
  CHECK(driver.get(0) == 0x74726976);
  CHECK(block.load(0x100, 8) == 4);
  driver.start(0);
  const std::uint64_t header = kBase + 0x4000, data = kBase + 0x5000, status = kBase + 0x6000;
  const auto request = [&](std::uint32_t kind, std::uint64_t sector) {
    driver.put(header, kind);
    driver.put(header + 8, sector);
    driver.put<std::uint8_t>(status, 0xff);
    driver.descriptor(0, header, 16, 1, 1);
    driver.descriptor(1, data, 512, 1 | 2, 2);
    driver.descriptor(2, status, 1, 2);
    driver.offer(0, 0);
    return driver.look<std::uint8_t>(status);
  };
  CHECK(request(0, 1) == 0);
  CHECK(driver.look<std::uint8_t>(data + 511) == 0x77);
  CHECK(driver.used() == 1);
  CHECK(block.interrupts());
  driver.set(0x64, 1);
  CHECK_FALSE(block.interrupts());
  CHECK(request(0, 4) == 1);
  CHECK(request(0, ~std::uint64_t{0}) == 1);
  CHECK(request(1, 0) == 2);
}

TEST_CASE("a writable disk keeps what was written, and knows which pages that were") {
  Memory memory(kBase, 1 << 20);
  std::vector<std::byte> contents(4 * kPageBytes);
  constexpr std::uint64_t kDisk = 0x200000000;
  Memory disk(kDisk, contents);
  VirtioBlock block(memory, disk);
  Driver driver{memory, block};
  driver.start(0);
  const std::uint64_t header = kBase + 0x4000, data = kBase + 0x5000, status = kBase + 0x6000;
  const auto request = [&](std::uint32_t kind, std::uint64_t sector, std::uint32_t bytes) {
    driver.put(header, kind);
    driver.put(header + 8, sector);
    driver.put<std::uint8_t>(status, 0xff);
    driver.descriptor(0, header, 16, 1, 1);
    driver.descriptor(1, data, bytes, kind == 0 ? 1 | 2 : 1, 2);
    driver.descriptor(2, status, 1, 2);
    driver.offer(0, 0);
    return driver.look<std::uint8_t>(status);
  };
  const std::uint64_t before = disk.hash();
  disk.clear_written();
  driver.put<std::uint64_t>(data, 0x1234567890abcdef);
  CHECK(request(1, 8, 512) == 0);  // The first of its second page.
  CHECK(std::memcmp(contents.data() + 4096, memory.at(data), 512) == 0);
  PageSet written;
  disk.take_written(written);
  CHECK(written.pages() == 1);
  CHECK(written.contains(PageNo{kDisk / kPageBytes + 1}));
  CHECK(disk.hash() != before);
  driver.put<std::uint64_t>(data, 0);
  CHECK(request(0, 8, 512) == 0);
  CHECK(driver.look<std::uint64_t>(data) == 0x1234567890abcdef);
  CHECK(request(4, 0, 512) == 0);   // Flush.
  CHECK(request(1, 31, 512) == 0);  // The last one.
  CHECK(request(1, 31, 1024) == 1);
  CHECK(request(1, 0, 100) == 1);
  CHECK(request(1, ~std::uint64_t{0}, 512) == 1);
  CHECK(request(13, 0, 512) == 2);
}

TEST_CASE("a chain that makes no sense breaks the queue, and nothing else") {
  Memory memory(kBase, 1 << 20);
  VirtioNet net(memory, {}, [](auto) {});
  const auto status_after = [&](auto chain) {
    Driver driver{memory, net};
    driver.start(1);
    chain(driver);
    driver.offer(0, 1);
    return driver.get(0x70);
  };
  constexpr std::uint32_t kNeedsReset = 64;
  CHECK((status_after([](Driver& d) { d.descriptor(0, kBase, 64, 0); }) & kNeedsReset) == 0);
  CHECK((status_after([](Driver& d) { d.descriptor(0, kBase, 64, 1, 0); }) & kNeedsReset) != 0);
  CHECK((status_after([](Driver& d) { d.descriptor(0, kBase, 64, 1, 99); }) & kNeedsReset) != 0);
  CHECK((status_after([](Driver& d) { d.descriptor(0, kBase + (1 << 20) - 8, 64, 0); }) &
         kNeedsReset) != 0);
  CHECK((status_after([](Driver& d) { d.descriptor(0, ~std::uint64_t{0} - 3, 64, 0); }) &
         kNeedsReset) != 0);
}

TEST_CASE("frames wait for a driver that has no room, and are dropped beyond the limit") {
  Memory memory(kBase, 1 << 20);
  VirtioNet net(memory, {}, [](auto) {});
  const std::array<std::byte, 60> frame{};
  CHECK_FALSE(net.receive(frame));  // Nobody is at home.
  Driver driver{memory, net};
  driver.start(0);
  for (std::uint32_t i = 0; i < VirtioNet::kBacklogMax; ++i) CHECK(net.receive(frame));
  CHECK_FALSE(net.receive(frame));
  driver.descriptor(0, kBase + 0x4000, 2048, 2);
  driver.offer(0, 0);
  CHECK(driver.used() == 1);
  CHECK(driver.look<std::uint32_t>(driver.at + 0x804 + 4) == 72);
  CHECK(net.receive(frame));
}

TEST_CASE("entropy is asked for, and comes when it is delivered") {
  Memory memory(kBase, 1 << 20);
  std::uint32_t asked = 0;
  VirtioEntropy entropy(memory, [&](std::uint32_t bytes) { asked = bytes; });
  Driver driver{memory, entropy};
  driver.start(0);
  driver.descriptor(0, kBase + 0x4000, 16, 2);
  driver.offer(0, 0);
  CHECK(asked == 16);
  CHECK(driver.used() == 0);
  std::array<std::byte, 16> bytes;
  bytes.fill(std::byte{0x42});
  entropy.receive(bytes);
  CHECK(driver.used() == 1);
  CHECK(driver.look<std::uint8_t>(kBase + 0x400f) == 0x42);
  entropy.receive(bytes);  // Nobody asked.
  CHECK(driver.used() == 1);
}
