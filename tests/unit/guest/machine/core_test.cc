// SPDX-License-Identifier: LGPL-2.1-or-later
// What the comparison with QEMU cannot show: exact counts, and that caches never show.
#include "guest/machine/core.h"

#include <doctest/doctest.h>

#include "small_machine.h"

using namespace libft;
using namespace libft::machine;
using test::kBase;
using test::SmallMachine;

namespace {

constexpr std::uint32_t kNop = 0x00000013, kAddA0 = 0x00150513 /* addi a0, a0, 1 */,
                        kWfi = 0x10500073, kFenceI = 0x0000100f;

std::uint64_t table_entry(std::uint64_t address, std::uint64_t flags) {
  return address >> 12 << 10 | flags;
}

// A loop that counts a0 up: addi a0, a0, 1; j -4.
void count_up(SmallMachine& m) { m.program({kAddA0, 0xffdff06f}); }

}  // namespace

TEST_CASE("exactly as many instructions as were asked for") {
  SmallMachine m;
  count_up(m);
  CHECK(m.run(1).steps == 1);
  CHECK(m.x(10) == 1);
  CHECK(m.core.hart.pc == kBase + 4);
  CHECK(m.run(2).steps == 2);
  CHECK(m.x(10) == 2);
  CHECK(m.run(100001).steps == 100001);
  CHECK(m.core.hart.steps == 100004);
  CHECK(m.x(10) == 50002);
}

TEST_CASE("slices of any size come to the same") {
  for (const std::uint64_t slice : {1, 2, 3, 7, 64, 1000}) {
    SmallMachine m;
    count_up(m);
    while (m.position < 10000) m.run(std::min<std::uint64_t>(slice, 10000 - m.position));
    CHECK(m.x(10) == 5000);
    CHECK(m.core.hart.pc == kBase);
  }
}

TEST_CASE("a fetch that fails counts as an instruction, so that a lost program ends its run") {
  SmallMachine m;
  m.core.hart.pc = 0x1000;
  m.core.hart.mtvec = 0x2000;
  CHECK(m.run(10).steps == 10);
  CHECK(m.core.hart.pc == 0x2000);
  CHECK(m.core.hart.mcause == static_cast<std::uint64_t>(Cause::fetch_access));
}

TEST_CASE("an instruction on two pages") {
  SmallMachine m;
  m.program({kAddA0, kAddA0}, kBase + kPageBytes - 2);
  m.core.hart.pc = kBase + kPageBytes - 2;
  CHECK(m.run(2).steps == 2);
  CHECK(m.x(10) == 2);
  CHECK(m.core.hart.pc == kBase + kPageBytes + 6);
}

TEST_CASE("a store to the next instruction takes effect at once") {
  SmallMachine m;
  m.program({0x00b62023 /* sw a1, 0(a2) */, kNop});
  m.core.hart.pc = kBase + 4;
  m.run(1);  // The nop is decoded now.
  m.core.hart.pc = kBase;
  m.core.hart.x[11] = kAddA0;
  m.core.hart.x[12] = kBase + 4;
  m.run(2);
  CHECK(m.x(10) == 1);
}

TEST_CASE("code that is overwritten again and again is data") {
  SmallMachine m;
  // sd a0, 256(a2); addi a0, a0, 1; j -8: on its own page.
  m.program({0x10a63023, kAddA0, 0xff9ff06f});
  m.core.hart.x[12] = kBase;
  m.run(3000);
  CHECK(m.load64(kBase + 256) == 999);
  CHECK(m.x(10) == 1000);
}

TEST_CASE("written pages are reported once, also those that a misaligned store shares") {
  SmallMachine m;
  m.program({0x00a63023 /* sd a0, 0(a2) */, 0xffdff06f});
  m.core.hart.x[12] = kBase + 3 * kPageBytes - 4;
  PageSet written;
  m.memory.take_written(written);
  m.run(2);
  m.memory.take_written(written);
  const std::uint64_t first = kBase / kPageBytes;
  CHECK(written.pages() == 2);
  CHECK(written.contains(PageNo{first + 2}));
  CHECK(written.contains(PageNo{first + 3}));
  m.memory.take_written(written);
  CHECK(written.empty());
  m.run(1);
  m.memory.take_written(written);
  CHECK(written.pages() == 2);
}

TEST_CASE("the hash follows memory, whatever the caches hold") {
  SmallMachine one, other;
  const std::uint64_t empty = one.memory.hash();
  CHECK(other.memory.hash() == empty);
  count_up(one);
  one.store64(kBase + 0x5000, 7);
  const std::uint64_t filled = one.memory.hash();
  CHECK(filled != empty);
  other.store64(kBase + 0x5000, 7);
  CHECK(other.memory.hash() != filled);
  count_up(other);
  CHECK(other.memory.hash() == filled);
  other.store64(kBase + 0x5000, 0);
  other.store64(kBase + 0x6000, 7);  // The same content elsewhere.
  CHECK(other.memory.hash() != filled);
}

TEST_CASE("a hash costs the pages that were written since the last one") {
  SmallMachine m;
  CHECK(m.memory.unhashed() == m.memory.pages());
  m.memory.hash();
  CHECK(m.memory.unhashed() == 0);
  m.program({0x00a63023 /* sd a0, 0(a2) */, kAddA0, 0xff9ff06f});
  m.core.hart.x[12] = kBase + 0x5000;
  m.run(3000);
  CHECK(m.memory.unhashed() == 2);  // The program's, and the one it writes to.
  const std::uint64_t before = m.memory.hash();
  m.run(2);
  CHECK(m.memory.unhashed() == 1);
  m.run(3);  // The loop's first instruction is the store.
  CHECK(m.memory.unhashed() == 1);
  CHECK(m.memory.hash() != before);
}

TEST_CASE("a store to a page table takes effect without SFENCE.VMA") {
  SmallMachine m;
  // ld a0, 0(a1); sd a2, 0(a3); ld a4, 0(a1): in supervisor mode, a1 in a page that changes.
  m.program({0x0005b503, 0x00c6b023, 0x0005b703});
  constexpr std::uint64_t kRoot = kBase + 0x10000, kMiddle = kBase + 0x11000,
                          kLeaves = kBase + 0x12000, kOne = kBase + 0x20000, kTwo = kBase + 0x21000;
  m.store64(kRoot, table_entry(kMiddle, 1));
  m.store64(kRoot + 16, table_entry(kBase, 0xcf));  // 1 GiB, as it is.
  m.store64(kMiddle, table_entry(kLeaves, 1));
  m.store64(kLeaves, table_entry(kOne, 0xc3));
  m.store64(kOne, 111);
  m.store64(kTwo, 222);
  Hart& hart = m.core.hart;
  hart.satp = std::uint64_t{8} << 60 | kRoot >> 12;
  hart.mode = Mode::supervisor;
  hart.x[11] = 0;
  hart.x[12] = table_entry(kTwo, 0xc3);
  hart.x[13] = kLeaves;
  m.run(3);
  CHECK(m.x(10) == 111);
  CHECK(m.x(14) == 222);
}

TEST_CASE("A and D are set by the access that needs them") {
  SmallMachine m;
  m.program({0x0005b503 /* ld a0, 0(a1) */, 0x00a5b023 /* sd a0, 0(a1) */});
  constexpr std::uint64_t kRoot = kBase + 0x10000;
  m.store64(kRoot + 16, table_entry(kBase, 0xcf));
  m.store64(kRoot + 24, table_entry(kBase, 0x07));
  Hart& hart = m.core.hart;
  hart.satp = std::uint64_t{8} << 60 | kRoot >> 12;
  hart.mode = Mode::supervisor;
  hart.x[11] = 0xc0020000;
  m.run(1);
  CHECK(m.load64(kRoot + 24) == table_entry(kBase, 0x47));
  m.run(1);
  CHECK(m.load64(kRoot + 24) == table_entry(kBase, 0xc7));
}

TEST_CASE("WFI ends the run, and a pending interrupt ends WFI") {
  SmallMachine m;
  m.program({kWfi, kAddA0});
  Run run = m.run(100);
  CHECK(run.exit == Exit::waiting);
  CHECK(run.steps == 1);
  CHECK_FALSE(m.core.hart.runnable());
  m.core.hart.lines = bit(kMachineTimer);
  CHECK_FALSE(m.core.hart.runnable());  // Not one that it waits for.
  m.core.hart.mie = bit(kMachineTimer);
  CHECK(m.core.hart.runnable());
  run = m.run(1);  // Interrupts are off: it just goes on.
  CHECK(m.x(10) == 1);
}

TEST_CASE("time is the position, and counters count what they are named after") {
  SmallMachine m;
  m.program({kNop, 0xc0102573 /* rdtime a0 */, 0xc00025f3 /* rdcycle a1 */,
             0x00000000 /* illegal */, 0xc0202673 /* rdinstret a2 */, 0xc00026f3 /* rdcycle a3 */});
  m.core.hart.mtvec = kBase + 16;
  m.position = 1000;
  m.run(6);
  CHECK(m.x(10) == 1001 / 25);
  CHECK(m.x(11) == 2);
  CHECK(m.x(12) == 3);  // The illegal instruction did not retire.
  CHECK(m.x(13) == 5);
}

TEST_CASE("SC fails without a reservation, and a reservation is for its address") {
  SmallMachine m;
  m.program({0x1005b52f /* lr.d a0, (a1) */, 0x18d5b62f /* sc.d a2, a3, (a1) */,
             0x18d5b72f /* sc.d a4, a3, (a1) */, 0x1005b52f, 0x18d7b82f /* sc.d a6, a3, (a5) */,
             kFenceI});
  m.core.hart.x[11] = kBase + 0x4000;
  m.core.hart.x[13] = 5;
  m.core.hart.x[15] = kBase + 0x5000;
  m.run(5);
  CHECK(m.x(12) == 0);
  CHECK(m.load64(kBase + 0x4000) == 5);
  CHECK(m.x(14) == 1);
  CHECK(m.x(16) == 1);
  CHECK(m.load64(kBase + 0x5000) == 0);
}
