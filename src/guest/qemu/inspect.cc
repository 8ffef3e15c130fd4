// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/inspect.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "guest/qemu/option.h"
#include "os/fd.h"
#include "os/file.h"

namespace libft::qemu {
namespace {

// Above this the second way of saving state would cost more than a pause may.
constexpr std::uint64_t kCarriedBytesMax = 4ull << 20;

Result<std::string> file_sum(const std::string& path) {
  const os::ScopedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return failure(os::errno_status("open " + path));
  struct stat about {};
  if (::fstat(fd.get(), &about) != 0) return failure(os::errno_status("look at " + path));
  const auto bytes = static_cast<std::size_t>(about.st_size);
  if (bytes == 0) return std::string("empty");
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return failure(os::errno_status("read " + path));
  const XXH128_hash_t sum = XXH3_128bits(data, bytes);
  ::munmap(data, bytes);
  return fmt::format("{:016x}{:016x}", sum.high64, sum.low64);
}

std::string processor_model() {
  const auto text = os::read_file("/proc/cpuinfo", 16u << 20);
  const std::size_t at = text ? text->find("model name") : std::string::npos;
  if (at == std::string::npos) return "unknown";
  const std::size_t begin = text->find(':', at) + 2;
  return text->substr(begin, text->find('\n', begin) - begin);
}

Status ask_version(Qmp& qmp, Shape& shape) {
  FT_ASSIGN(const Json version, qmp.execute("query-version"));
  const auto number = version.find("qemu");
  if (number == version.end() || !number->is_object())
    return Status(Code::corrupt, "query-version: no version");
  shape.qemu = fmt::format("{}.{}.{}", number_at(*number, "major"), number_at(*number, "minor"),
                           number_at(*number, "micro"));
  const std::string package = text_at(version, "package");
  if (!package.empty()) shape.qemu += " (" + package + ")";
  return {};
}

Status ask_machine(Qmp& qmp, const Arguments& running, Shape& shape) {
  FT_TRY(ask_version(qmp, shape));
  FT_ASSIGN(const Json type, qmp.execute("qom-get", {{"path", "/machine"}, {"property", "type"}}));
  shape.machine = type.is_string() ? type.get<std::string>() : "";
  if (shape.machine.ends_with("-machine")) shape.machine.resize(shape.machine.size() - 8);
  FT_ASSIGN(const Json kvm, qmp.execute("query-kvm"));
  shape.accelerator = kvm.is_object() && flag_at(kvm, "enabled") ? "kvm" : "tcg";
  const bool host_cpu = std::any_of(running.begin(), running.end(), [](const std::string& word) {
    return word == "host" || word.starts_with("host,");
  });
  if (shape.accelerator == "kvm" && host_cpu) shape.processor = processor_model();
  FT_ASSIGN(const Json cpus, qmp.execute("query-cpus-fast"));
  shape.vcpus = static_cast<std::uint32_t>(cpus.size());
  return {};
}

// An alias such as "pc" is another machine in the next QEMU: the standby gets the version.
void pin_machine(Shape& shape) {
  for (std::size_t i = 1; i + 1 < shape.arguments.size(); ++i) {
    if (!is_option(shape.arguments[i], "machine") && !is_option(shape.arguments[i], "M")) continue;
    Option option(shape.arguments[i + 1]);
    if (option.kind().empty() && !option.get("type")) continue;
    option.erase("type");
    option.set_kind(shape.machine);
    shape.arguments[i + 1] = option.text();
    return;
  }
  shape.arguments.insert(shape.arguments.end(), {"-machine", shape.machine});
}

void check_memory(Inspection& found, const std::vector<MemoryBackend>& memory) {
  if (memory.empty())
    found.missing.push_back(
        "guest memory is not shared: start QEMU with -object "
        "memory-backend-memfd,id=ram,size=SIZE,share=on -machine memory-backend=ram");
  for (const MemoryBackend& backend : memory) {
    found.shape.memory.push_back(backend.bytes);
    if (!backend.shared)
      found.missing.push_back("a memory-backend-memfd is private: add share=on to it");
  }
}

Status ask_blocks(Qmp& qmp, Inspection& found) {
  FT_ASSIGN(const Json backends, qmp.execute("query-memdev"));
  std::vector<std::string> covered;
  for (const Json& backend : backends)
    if (backend.is_object() && flag_at(backend, "share")) {
      covered.push_back(text_at(backend, "id"));
      covered.push_back("/objects/" + text_at(backend, "id"));
    }
  covered.push_back("pc.ram");  // What old machine types call the memory-backend of the machine.
  FT_ASSIGN(const std::string text, qmp.human("info ramblock"));
  const std::vector<RamBlock> blocks = parse_ram_blocks(text);
  for (const RamBlock& block : blocks) found.shape.blocks[block.name] = block.bytes;
  std::uint64_t carried = 0;
  const std::vector<RamBlock> uncovered = uncovered_blocks(blocks, covered);
  for (const RamBlock& block : uncovered) carried += block.bytes;
  if (carried > 0) found.shape.way = StateWay::migration;
  for (const RamBlock& block : uncovered)
    if (carried > kCarriedBytesMax)
      found.missing.push_back(fmt::format(
          "memory \"{}\" ({} KiB) is outside the shared guest memory and the guest can write it: "
          "leave the device out (-vga none for vga.vram; virtio-gpu-pci keeps its memory in the "
          "guest's)",
          block.name, block.bytes >> 10));
  return {};
}

Status ask_state_way(Qmp& qmp, const Arguments& running, Inspection& found) {
  FT_ASSIGN(const Json commands, qmp.execute("query-commands"));
  const bool devices_only = std::any_of(commands.begin(), commands.end(), [](const Json& command) {
    return command.is_object() && text_at(command, "name") == "xen-save-devices-state";
  });
  if (!devices_only) found.shape.way = StateWay::migration;
  const bool off = std::any_of(running.begin(), running.end(), [](const std::string& word) {
    return word == "migration.send-configuration=off" ||
           word == "driver=migration,property=send-configuration,value=off";
  });
  if (!off)
    found.missing.push_back(
        "the state would carry a configuration section: add -global "
        "migration.send-configuration=off");
  FT_ASSIGN(const Json migration, qmp.execute("query-migrate"));
  const auto blocked = migration.find("blocked-reasons");
  if (blocked != migration.end() && blocked->is_array())
    for (const Json& reason : *blocked)
      if (reason.is_string())
        found.missing.push_back("a device cannot be saved: " + reason.get<std::string>());
  return {};
}

void check_disk(const Json& disk, std::vector<std::string>& missing) {
  const auto inserted = disk.is_object() ? disk.find("inserted") : disk.end();
  if (!disk.is_object() || inserted == disk.end() || !inserted->is_object()) return;
  const std::string device = text_at(disk, "device");
  const std::string name =
      fmt::format("disk \"{}\" ({})", device.empty() ? text_at(disk, "qdev") : device,
                  text_at(*inserted, "file"));
  if (!flag_at(*inserted, "ro"))
    missing.push_back(name +
                      " is writable and no gate covers disks yet: attach it with readonly=on, "
                      "or keep its data on a server");
  const auto cache = inserted->find("cache");
  if (cache != inserted->end() && cache->is_object() && flag_at(*cache, "direct"))
    missing.push_back(name +
                      " reads past the page cache, which hides writes to memory from the "
                      "kernel: use cache.direct=off");
}

Status ask_disks(Qmp& qmp, Inspection& found) {
  FT_ASSIGN(const Json disks, qmp.execute("query-block"));
  for (const Json& disk : disks) check_disk(disk, found.missing);
  return {};
}

bool passes_through(const std::string& device) {
  for (const char* kind : {"vfio-", "vhost-", "usb-host", "ivshmem-", "scsi-block", "scsi-generic"})
    if (device.starts_with(kind)) return true;
  return false;
}

Status ask_devices(Qmp& qmp, Inspection& found) {
  FT_ASSIGN(const std::string tree, qmp.human("info qtree"));
  found.shape.devices = parse_devices(tree);
  for (const std::string& device : found.shape.devices)
    if (passes_through(device))
      found.missing.push_back("device " + device +
                              " is passed through from this host: a backup cannot continue it");
  return {};
}

Status ask_network(Qmp& qmp, const Arguments& running, const std::vector<NicSockets>& gates,
                   Inspection& found) {
  FT_ASSIGN(const std::string text, qmp.human("info network"));
  for (const std::string& nic : ungated_nics(text))
    found.missing.push_back("network " + nic +
                            " is covered by no gate: use -netdev dgram towards libft's gate "
                            "(ftctl qemu-args prints it)");
  for (std::size_t i = 1; i + 1 < running.size(); ++i) {
    if (!is_option(running[i], "netdev")) continue;
    const Option option(running[i + 1]);
    const std::string path = option.get("remote.path").value_or("");
    if (option.kind() != "dgram" || path.empty()) continue;
    const bool gated = std::any_of(gates.begin(), gates.end(),
                                   [&](const NicSockets& gate) { return gate.gate_path == path; });
    if (!gated)
      found.missing.push_back(
          fmt::format("network {} sends to {}, where libft has no gate: name "
                      "this path for its gate",
                      option.get("id").value_or(""), path));
  }
  return {};
}

}  // namespace

Result<Inspection> inspect(Qmp& qmp, const Arguments& running,
                           const std::vector<MemoryBackend>& memory,
                           const std::vector<NicSockets>& gates) {
  Inspection found;
  found.shape.arguments = shape_of(running);
  FT_TRY(ask_machine(qmp, running, found.shape));
  pin_machine(found.shape);
  check_memory(found, memory);
  FT_TRY(ask_blocks(qmp, found));
  FT_TRY(ask_state_way(qmp, running, found));
  FT_TRY(ask_disks(qmp, found));
  FT_TRY(ask_devices(qmp, found));
  FT_TRY(ask_network(qmp, running, gates, found));
  for (const std::string& file : files_of(found.shape.arguments)) {
    const auto sum = file_sum(file);
    found.shape.files[file] = sum ? *sum : "unreadable";
  }
  return found;
}

// "   ram    4 KiB  0x0... 0x0... 0x0000000008000000": name first, total size last.
std::vector<RamBlock> parse_ram_blocks(const std::string& text) {
  std::vector<RamBlock> blocks;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    std::string name;
    std::string last;
    words >> name;
    while (words >> word)
      if (word.starts_with("0x")) last = word;
    if (!name.empty() && !last.empty())
      blocks.push_back({name, std::strtoull(last.c_str(), nullptr, 16)});
  }
  return blocks;
}

// ROMs are the same on both hosts (their build is compared), and the tables that QEMU generates for
// firmware (/rom@...) are generated again by the backup at the next boot.
std::vector<RamBlock> uncovered_blocks(const std::vector<RamBlock>& blocks,
                                       const std::vector<std::string>& covered) {
  std::vector<RamBlock> uncovered;
  for (const RamBlock& block : blocks) {
    const bool fixed = block.name.starts_with("/rom@") || block.name.ends_with(".rom") ||
                       block.name.ends_with(".bios");
    const bool in_memfd = std::find(covered.begin(), covered.end(), block.name) != covered.end();
    if (!fixed && !in_memfd) uncovered.push_back(block);
  }
  return uncovered;
}

std::vector<std::string> parse_devices(const std::string& text) {
  std::vector<std::string> devices;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t begin = line.find_first_not_of(' ');
    if (begin == std::string::npos) continue;
    const std::string words = line.substr(begin);
    if (words.starts_with("dev: "))
      devices.push_back(words.substr(5));
    else if (!devices.empty() && (words.starts_with("addr = ") || words.starts_with("mac = ")))
      devices.back() += "; " + words;
  }
  return devices;
}

std::vector<std::array<std::uint8_t, 6>> addresses_of(const std::vector<std::string>& devices) {
  std::vector<std::array<std::uint8_t, 6>> addresses;
  for (const std::string& device : devices) {
    const std::size_t at = device.find("; mac = \"");
    if (at == std::string::npos) continue;
    std::array<std::uint8_t, 6> bytes{};
    if (std::sscanf(device.c_str() + at, "; mac = \"%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx\"",
                    &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5]) == 6)
      addresses.push_back(bytes);
  }
  return addresses;
}

std::vector<std::string> ungated_nics(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find("type=");
    const std::size_t colon = line.find(": ");
    if (at == std::string::npos || colon == std::string::npos || colon > at) continue;
    const std::string type = line.substr(at + 5, line.find_first_of(",\r", at) - at - 5);
    if (type == "nic" || type == "dgram") continue;
    const std::size_t begin = line.find_first_not_of(" \\");
    found.push_back(fmt::format("{} ({})", line.substr(begin, colon - begin), type));
  }
  return found;
}

}  // namespace libft::qemu
