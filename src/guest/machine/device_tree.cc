// SPDX-License-Identifier: LGPL-2.1-or-later
#include "device_tree.h"

#include <fmt/format.h>

#include "clint.h"
#include "fdt.h"
#include "hart.h"
#include "layout.h"
#include "plic.h"
#include "uart.h"
#include "virtio_mmio.h"

namespace libft::machine {

namespace {

constexpr std::uint32_t kPlicHandle = 100, kFinisherHandle = 101;
constexpr std::uint32_t kUartHertz = 3686400;

std::uint32_t handle_of(unsigned hart) { return hart + 1; }

class Tree {
 public:
  explicit Tree(const MachineOptions& options) : options_(options) {}

  std::vector<std::byte> write(std::uint64_t initrd_at) {
    fdt_.begin("");
    fdt_.cells("#address-cells", {2});
    fdt_.cells("#size-cells", {2});
    fdt_.text("compatible", "libft,machine");
    fdt_.text("model", "libft,machine");
    chosen(initrd_at);
    processors();
    begin("memory", kMemoryBase);
    fdt_.text("device_type", "memory");
    reg(kMemoryBase, options_.memory_bytes);
    fdt_.end();
    fdt_.begin("soc");
    fdt_.cells("#address-cells", {2});
    fdt_.cells("#size-cells", {2});
    fdt_.text("compatible", "simple-bus");
    fdt_.flag("ranges");
    devices();
    fdt_.end();
    fdt_.end();
    return fdt_.finish();
  }

 private:
  void begin(const char* name, std::uint64_t at) { fdt_.begin(fmt::format("{}@{:x}", name, at)); }

  void reg(std::uint64_t base, std::uint64_t bytes) {
    const auto high = [](std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); };
    const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
    fdt_.cells("reg", {high(base), low(base), high(bytes), low(bytes)});
  }

  void chosen(std::uint64_t initrd_at) {
    fdt_.begin("chosen");
    fdt_.text("bootargs", options_.command_line);
    fdt_.text("stdout-path", fmt::format("/soc/serial@{:x}", kUartBase));
    if (!options_.initrd.empty()) {
      fdt_.cells("linux,initrd-start", {0, static_cast<std::uint32_t>(initrd_at)});
      fdt_.cells("linux,initrd-end",
                 {0, static_cast<std::uint32_t>(initrd_at + options_.initrd.size())});
    }
    fdt_.end();
  }

  void processors() {
    fdt_.begin("cpus");
    fdt_.cells("#address-cells", {1});
    fdt_.cells("#size-cells", {0});
    fdt_.cells("timebase-frequency", {static_cast<std::uint32_t>(kTicksPerSecond)});
    for (unsigned hart = 0; hart < options_.harts; ++hart) {
      begin("cpu", hart);
      fdt_.text("device_type", "cpu");
      fdt_.cells("reg", {hart});
      fdt_.text("status", "okay");
      fdt_.text("compatible", "riscv");
      fdt_.text("riscv,isa", "rv64imac");
      fdt_.text("mmu-type", "riscv,sv39");
      fdt_.begin("interrupt-controller");
      fdt_.cells("#interrupt-cells", {1});
      fdt_.flag("interrupt-controller");
      fdt_.text("compatible", "riscv,cpu-intc");
      fdt_.cells("phandle", {handle_of(hart)});
      fdt_.end();
      fdt_.end();
    }
    fdt_.end();
  }

  void interrupts_of_harts(std::uint32_t first, std::uint32_t second) {
    std::vector<std::uint32_t> cells;
    for (unsigned hart = 0; hart < options_.harts; ++hart)
      cells.insert(cells.end(), {handle_of(hart), first, handle_of(hart), second});
    fdt_.cells("interrupts-extended", cells);
  }

  void interrupt(unsigned source) {
    fdt_.cells("interrupt-parent", {kPlicHandle});
    fdt_.cells("interrupts", {source});
  }

  void devices() {
    finisher();
    begin("clint", kClintBase);
    fdt_.texts("compatible", {"sifive,clint0", "riscv,clint0"});
    reg(kClintBase, Clint::kBytes);
    interrupts_of_harts(kMachineSoftware, kMachineTimer);
    fdt_.end();

    begin("plic", kPlicBase);
    fdt_.texts("compatible", {"sifive,plic-1.0.0", "riscv,plic0"});
    reg(kPlicBase, Plic::kBytes);
    fdt_.cells("#interrupt-cells", {1});
    fdt_.cells("#address-cells", {0});
    fdt_.flag("interrupt-controller");
    fdt_.cells("riscv,ndev", {Plic::kSources - 1});
    fdt_.cells("phandle", {kPlicHandle});
    interrupts_of_harts(kMachineExternal, kSupervisorExternal);
    fdt_.end();

    begin("serial", kUartBase);
    fdt_.text("compatible", "ns16550a");
    reg(kUartBase, Uart::kBytes);
    fdt_.cells("clock-frequency", {kUartHertz});
    interrupt(kUartSource);
    fdt_.end();

    virtio(kNetSlot);
    if (options_.disk || options_.writable_disk) virtio(kBlockSlot);
    virtio(kEntropySlot);
  }

  void finisher() {
    begin("test", kFinisherBase);
    fdt_.texts("compatible", {"sifive,test1", "sifive,test0", "syscon"});
    reg(kFinisherBase, 0x1000);
    fdt_.cells("phandle", {kFinisherHandle});
    fdt_.end();
  }

  void virtio(unsigned slot) {
    const std::uint64_t base = kVirtioBase + slot * kVirtioStride;
    begin("virtio", base);
    fdt_.text("compatible", "virtio,mmio");
    reg(base, VirtioMmio::kBytes);
    interrupt(slot + 1);
    fdt_.end();
  }

  const MachineOptions& options_;
  FdtWriter fdt_;
};

}  // namespace

std::vector<std::byte> device_tree(const MachineOptions& options, std::uint64_t initrd_at) {
  return Tree(options).write(initrd_at);
}

}  // namespace libft::machine
