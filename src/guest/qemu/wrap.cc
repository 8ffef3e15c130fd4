// SPDX-License-Identifier: LGPL-2.1-or-later
// Completing a user's own command line. QEMU merges several -machine options, so that most of what
// is missing is simply appended.
#include <fmt/format.h>

#include <algorithm>

#include "guest/qemu/arguments.h"
#include "guest/qemu/option.h"

namespace libft::qemu {
namespace {

constexpr std::uint64_t kDefaultMemory = 128ull << 20;  // QEMU's own.

struct Found {
  std::uint64_t memory_bytes = kDefaultMemory;
  std::string memory_backend;                 // -machine memory-backend=
  std::map<std::string, std::string> memfds;  // id -> whole option, of memory-backend-memfd objects
  bool nodefaults = false;
  bool no_display_memory = false;  // -vga none, or no default devices at all.
  bool no_nic_default = false;     // Some -net, -nic, -netdev is given.
  bool configuration_off = false;
  bool no_shutdown = false;
  std::size_t netdevs = 0;
  std::vector<std::string> refusals;
};

void look_at_memory(Found& found, std::string_view name, const std::string& value) {
  if (name == "m") {
    const Option option(value);
    const auto size = memory_size(option.get("size").value_or(option.kind()));
    if (size)
      found.memory_bytes = *size;
    else
      found.refusals.push_back("-m " + value + ": " + size.error().message());
    if (option.get("maxmem"))
      found.refusals.push_back(
          "-m ...,maxmem=: memory that is plugged in later is not protected; "
          "leave it out");
  } else if (name == "machine" || name == "M") {
    found.memory_backend = Option(value).get("memory-backend").value_or(found.memory_backend);
  } else if (name == "object") {
    const Option option(value);
    if (option.kind() == "memory-backend-memfd")
      found.memfds[option.get("id").value_or("")] = value;
    else if (option.kind().starts_with("memory-backend"))
      found.refusals.push_back(
          fmt::format("-object {}: only memory-backend-memfd,share=on can be "
                      "protected; leave it out and libft adds one",
                      option.kind()));
  } else if (name == "numa" && value.find("mem=") != std::string::npos) {
    found.refusals.push_back("-numa mem=: use memdev= with memory-backend-memfd,share=on");
  }
}

void look_at_network(Found& found, std::string_view name, const std::string& value) {
  if (name == "netdev") {
    found.no_nic_default = true;
    ++found.netdevs;
  } else if (name == "nic" || name == "net") {
    found.no_nic_default = true;
    if (value != "none")
      found.refusals.push_back(fmt::format(
          "-{} {}: its output cannot be held; write -netdev and -device instead", name, value));
  }
}

// What can be seen here is refused before anything runs; what QEMU makes of -blockdev, and of files
// that it may not write, is asked of it when it has started.
void look_at_disk(Found& found, std::string_view name, const std::string& value) {
  constexpr std::string_view kWritable[] = {"hda", "hdb", "hdc",      "hdd",   "fda",
                                            "fdb", "sd",  "mtdblock", "pflash"};
  const auto refuse = [&](std::string_view remedy) {
    found.refusals.push_back(
        fmt::format("-{} {}: a disk that the guest can write, and no gate covers disks yet: {}, or "
                    "keep its data on a server",
                    name, value, remedy));
  };
  if (std::find(std::begin(kWritable), std::end(kWritable), name) != std::end(kWritable))
    return refuse("write -drive file=...,readonly=on");
  if (name != "drive") return;
  const Option option(value);
  const bool has_medium = option.get("file") || option.get("file.filename") || option.get("driver");
  const std::string given =
      option.get("readonly").value_or(option.get("read-only").value_or("off"));
  const bool read_only = given == "on" || given == "yes" || given == "true" || given == "y" ||
                         option.get("media").value_or("disk") == "cdrom";
  if (has_medium && !read_only) refuse("add readonly=on");
}

void look_at(Found& found, std::string_view name, const std::string& value) {
  look_at_memory(found, name, value);
  look_at_network(found, name, value);
  look_at_disk(found, name, value);
  if (name == "vga" && value == "none") found.no_display_memory = true;
  if (name == "global" && value == "migration.send-configuration=off")
    found.configuration_off = true;
}

Found look(const Arguments& arguments) {
  Found found;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    if (is_option(arguments[i], "nodefaults")) found.nodefaults = true;
    if (is_option(arguments[i], "no-shutdown")) found.no_shutdown = true;
    if (!arguments[i].starts_with('-') || i + 1 == arguments.size()) continue;
    std::string_view name = std::string_view(arguments[i]).substr(1);
    if (name.starts_with('-')) name.remove_prefix(1);
    look_at(found, name, arguments[i + 1]);
  }
  return found;
}

void check(Found& found, const HostPaths& paths) {
  if (!found.nodefaults && !found.no_nic_default)
    found.refusals.push_back(
        "without -nodefaults QEMU gives the guest a NIC on user networking that "
        "no gate covers: add -nic none, or -netdev and -device");
  if (!found.nodefaults && !found.no_display_memory)
    found.refusals.push_back(
        "the default VGA card has memory of its own that cannot be protected: "
        "add -vga none (and use a serial console, or virtio-gpu-pci)");
  if (found.netdevs != paths.nics.size())
    found.refusals.push_back(
        fmt::format("{} -netdev and gates for {}: name one gate for each -netdev", found.netdevs,
                    paths.nics.size()));
  for (const auto& [id, value] : found.memfds)
    if (Option(value).get("share").value_or("off") != "on")
      found.refusals.push_back("-object " + value + ": add share=on");
}

std::string gated(const std::string& value, const NicSockets& sockets) {
  Option option(value);
  option.set_kind("dgram");
  option.keep_only("id");
  option.set("local.type", "unix");
  option.set("local.path", sockets.guest_path);
  option.set("remote.type", "unix");
  option.set("remote.path", sockets.gate_path);
  return option.text();
}

}  // namespace

Result<Arguments> wrap_arguments(const Arguments& original, const HostPaths& paths) {
  if (original.empty()) return failure(Code::invalid, "no command was given");
  Found found = look(original);
  check(found, paths);
  if (!found.refusals.empty())
    return failure(Code::unsupported, fmt::format("this QEMU cannot be protected as it is: {}",
                                                  fmt::join(found.refusals, "; ")));
  Arguments arguments = original;
  std::size_t nic = 0;
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i)
    if (is_option(arguments[i], "netdev")) {
      arguments[i + 1] = gated(arguments[i + 1], paths.nics[nic++]);
      ++i;
    }
  const auto add = [&](std::string name, std::string value) {
    arguments.push_back(std::move(name));
    if (!value.empty()) arguments.push_back(std::move(value));
  };
  if (found.memfds.empty()) {
    add("-object",
        fmt::format("memory-backend-memfd,id=libft-ram,size={},share=on", found.memory_bytes));
    add("-machine", "memory-backend=libft-ram");
  }
  add("-machine", "suppress-vmdesc=on");
  if (!found.configuration_off) add("-global", "migration.send-configuration=off");
  Option qmp("unix:" + paths.qmp);
  qmp.set("server", "on");
  qmp.set("wait", "off");
  add("-qmp", qmp.text());
  if (!found.no_shutdown) add("-no-shutdown", "");
  return arguments;
}

}  // namespace libft::qemu
