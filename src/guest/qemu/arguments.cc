// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/arguments.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>

#include "guest/qemu/option.h"
#include "os/fd.h"
#include "os/file.h"

namespace libft::qemu {
namespace {

using Json = nlohmann::json;

void append(Arguments& arguments, std::initializer_list<std::string> more) {
  arguments.insert(arguments.end(), more);
}

std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) text += c == ',' ? std::string(",,") : std::string(1, c);
  return text;
}

std::string netdev(std::string_view id, const NicSockets& sockets) {
  return fmt::format("dgram,id={},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                     id, escaped(sockets.guest_path), escaped(sockets.gate_path));
}

std::string monitor(const std::string& path) {
  return fmt::format("unix:{},server=on,wait=off", escaped(path));
}

std::string backend(std::string_view id, std::uint64_t bytes) {
  return fmt::format("memory-backend-memfd,id={},size={},share=on", id, bytes);
}

// A guest that shut down must not take its last output along: QEMU stays until libft ends it. The
// description of the device state (vmdesc) is for tools that libft does not use. Without the
// configuration section a state saved without memory can be loaded by migrate-incoming.
void append_protection(Arguments& arguments, const std::string& memory_id, std::uint64_t bytes,
                       const std::string& qmp) {
  append(arguments, {"-object", backend(memory_id, bytes)});
  append(arguments, {"-machine", "memory-backend=" + memory_id + ",suppress-vmdesc=on"});
  append(arguments, {"-global", "migration.send-configuration=off"});
  append(arguments, {"-qmp", monitor(qmp), "-no-shutdown"});
}

// After the NICs, whose slots stay what they were without it.
void append_agent(Arguments& arguments, const std::string& path) {
  append(arguments, {"-chardev", fmt::format("socket,id=libft-agent,path={},server=on,wait=off",
                                             escaped(path))});
  append(arguments, {"-device", "virtio-serial-pci,id=libft-serial"});
  append(arguments, {"-device", "virtserialport,chardev=libft-agent,name=org.qemu.guest_agent.0"});
}

Result<std::uint64_t> json_size(const Json& value) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_string()) return memory_size(value.get<std::string>());
  return failure(Code::invalid, "\"memory\" is a number of bytes or a text as \"128M\"");
}

Status take_nics(const Json& value, std::vector<NicDescription>& nics) {
  if (!value.is_array()) return Status(Code::invalid, "\"nics\" is a list");
  for (const Json& entry : value) {
    if (!entry.is_object()) return Status(Code::invalid, "each of \"nics\" is an object");
    NicDescription nic;
    for (const auto& [key, text] : entry.items()) {
      if (!text.is_string() || (key != "model" && key != "mac"))
        return Status(Code::invalid, "a NIC has \"model\" and \"mac\", both texts; not " + key);
      (key == "model" ? nic.model : nic.mac) = text.get<std::string>();
    }
    nics.push_back(std::move(nic));
  }
  return {};
}

Status take_key(const std::string& key, const Json& value, QemuDescription& into) {
  const std::pair<const char*, std::string*> texts[] = {
      {"binary", &into.binary}, {"machine", &into.machine}, {"accel", &into.accel},
      {"kernel", &into.kernel}, {"initrd", &into.initrd},   {"append", &into.append},
      {"serial", &into.serial}};
  for (const auto& [name, target] : texts) {
    if (key != name) continue;
    if (!value.is_string()) return Status(Code::invalid, fmt::format("\"{}\" is a text", key));
    *target = value.get<std::string>();
    return {};
  }
  if (key == "memory") {
    FT_ASSIGN(into.memory_bytes, json_size(value));
    return {};
  }
  if (key == "guest_agent" && value.is_boolean()) {
    into.guest_agent = value.get<bool>();
    return {};
  }
  if (key == "nics") return take_nics(value, into.nics);
  if (key == "vcpus" && value.is_number_unsigned() && value.get<std::uint64_t>() <= 4096) {
    into.vcpus = value.get<std::uint32_t>();
    return {};
  }
  if (key == "extra" && value.is_array()) {
    for (const Json& argument : value) {
      if (!argument.is_string()) return Status(Code::invalid, "\"extra\" is a list of texts");
      into.extra.push_back(argument.get<std::string>());
    }
    return {};
  }
  return Status(
      Code::invalid,
      fmt::format("unknown key or wrong kind of value: \"{}\". Keys are binary, machine, "
                  "accel, memory, vcpus, kernel, initrd, append, serial, nics, guest_agent, "
                  "extra",
                  key));
}

}  // namespace

Result<std::uint64_t> memory_size(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::string_view units = "BKMGT";
  std::size_t power = 2;  // A bare number counts MiB.
  if (!unit.empty())
    power = units.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
  if (error != std::errc() || unit.size() > 1 || power == std::string_view::npos || number == 0 ||
      number > (1ull << 50 >> (10 * power)))
    return failure(Code::invalid, fmt::format("\"{}\" is no size of memory", text));
  return number << (10 * power);
}

Result<QemuDescription> description_from_json(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return failure(Code::invalid, "the guest's description is no JSON object");
  QemuDescription description;
  for (const auto& [key, value] : json.items()) {
    const Status status = take_key(key, value, description);
    if (!status.ok()) return failure(status.within("guest's description"));
  }
  if (description.vcpus == 0) return failure(Code::invalid, "a guest needs at least one vCPU");
  return description;
}

// Opening /dev/kvm on a processor that shows neither flag can hang or crash nested hosts: the flag
// comes first.
std::string choose_accelerator() {
  const auto cpu = os::read_file("/proc/cpuinfo", 16u << 20);
  const auto has = [&](std::string_view flag) {
    return cpu && (cpu->find(fmt::format(" {} ", flag)) != std::string::npos ||
                   cpu->find(fmt::format(" {}\n", flag)) != std::string::npos);
  };
  if (!has("vmx") && !has("svm")) return "tcg";
  const os::ScopedFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  return kvm.valid() ? "kvm" : "tcg";
}

std::string agent_path(const HostPaths& paths) {
  return paths.agent.empty() ? paths.qmp + ".agent" : paths.agent;
}

Result<Arguments> arguments_for(const QemuDescription& description, const HostPaths& paths) {
  if (paths.nics.size() != description.nics.size())
    return failure(Code::invalid, fmt::format("{} NICs, and sockets for {}: each NIC needs a gate",
                                              description.nics.size(), paths.nics.size()));
  Arguments arguments{description.binary, "-nodefaults", "-no-user-config", "-display", "none"};
  append(arguments, {"-machine", description.machine});
  append(arguments,
         {"-accel", description.accel.empty() ? choose_accelerator() : description.accel});
  append(arguments, {"-m", fmt::format("{}B", description.memory_bytes)});
  append(arguments, {"-smp", std::to_string(description.vcpus)});
  append_protection(arguments, "ram", description.memory_bytes, paths.qmp);
  if (!description.kernel.empty()) append(arguments, {"-kernel", description.kernel});
  if (!description.initrd.empty()) append(arguments, {"-initrd", description.initrd});
  if (!description.append.empty()) append(arguments, {"-append", description.append});
  append(arguments,
         {"-serial", description.serial.empty() ? "null" : "file:" + description.serial});
  for (std::size_t i = 0; i < description.nics.size(); ++i) {
    const NicDescription& nic = description.nics[i];
    append(arguments, {"-netdev", netdev(fmt::format("net{}", i), paths.nics[i])});
    append(arguments, {"-device", fmt::format("{},netdev=net{}{}{}", nic.model, i,
                                              nic.mac.empty() ? "" : ",mac=", nic.mac)});
  }
  if (description.guest_agent) append_agent(arguments, agent_path(paths));
  arguments.insert(arguments.end(), description.extra.begin(), description.extra.end());
  return arguments;
}

std::string qemu_args(std::uint64_t memory_bytes, const HostPaths& paths,
                      std::string_view preload) {
  std::string text = fmt::format("LD_PRELOAD={}   (in the environment)\n", preload);
  text += fmt::format("-object {}\n", backend("libft-ram", memory_bytes));
  text += "-machine memory-backend=libft-ram,suppress-vmdesc=on\n";
  text += "-global migration.send-configuration=off\n";
  text += fmt::format("-qmp {}\n-no-shutdown\n", monitor(paths.qmp));
  for (std::size_t i = 0; i < paths.nics.size(); ++i)
    text += fmt::format("-netdev {}\n", netdev(fmt::format("net{}", i), paths.nics[i]));
  return text;
}

}  // namespace libft::qemu
