// SPDX-License-Identifier: LGPL-2.1-or-later
// From a running guest's command line to its standby's: everything that the guest can see stays.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "guest/qemu/arguments.h"
#include "guest/qemu/option.h"

namespace libft::qemu {
namespace {

// Of this host only, with and without a value.
constexpr std::array kDroppedWithValue = {"qmp",   "qmp-pretty", "monitor",  "mon",    "pidfile",
                                          "D",     "d",          "incoming", "loadvm", "gdb",
                                          "trace", "runas",      "chroot",   "name"};
constexpr std::array kDroppedAlone = {"S", "s", "daemonize"};
// Names of files that must be there under the same name, or be replaced.
constexpr std::array kFiles = {"kernel", "initrd", "bios", "dtb"};

template <std::size_t N>
bool is_one_of(std::string_view argument, const std::array<const char*, N>& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](const char* name) { return is_option(argument, name); });
}

// A character device keeps its id, by which the guest's devices find it.
std::string quiet_chardev(const std::string& value) {
  Option option(value);
  option.set_kind("null");
  option.keep_only("id");
  return option.text();
}

std::string portless_netdev(const std::string& value) {
  Option option(value);
  option.keep_only("id");
  return option.text();
}

template <class Function>
void for_each_value(const Arguments& arguments, std::string_view name, Function function) {
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i)
    if (is_option(arguments[i], name)) function(arguments[i + 1]);
}

void replace_files(Arguments& arguments, const std::map<std::string, std::string>& replacements) {
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i) {
    if (!is_one_of(arguments[i], kFiles)) continue;
    const auto other = replacements.find(arguments[i + 1]);
    if (other != replacements.end()) arguments[i + 1] = other->second;
  }
}

Status connect_nics(Arguments& arguments, const std::vector<NicSockets>& nics) {
  const std::size_t wanted = netdevs_of(arguments).size();
  if (wanted != nics.size())
    return Status(Code::invalid, fmt::format("the guest has {} NICs and this host offers gates for "
                                             "{}: name one gate for each",
                                             wanted, nics.size()));
  std::size_t next = 0;
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i) {
    if (!is_option(arguments[i], "netdev")) continue;
    Option option(arguments[i + 1]);
    option.set("local.type", "unix");
    option.set("local.path", nics[next].guest_path);
    option.set("remote.type", "unix");
    option.set("remote.path", nics[next].gate_path);
    arguments[i + 1] = option.text();
    ++next;
  }
  return {};
}

// The chardev behind the guest agent's port; empty where there is none. A device written as JSON is
// not looked into.
std::string agent_chardev(const Arguments& arguments) {
  std::string chardev;
  for_each_value(arguments, "device", [&](const std::string& value) {
    const Option device(value);
    if (device.get("name") == "org.qemu.guest_agent.0")
      chardev = device.get("chardev").value_or("");
  });
  return chardev;
}

void connect_agent_port(Arguments& arguments, const std::string& path) {
  const std::string id = agent_chardev(arguments);
  if (id.empty()) return;
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i) {
    if (!is_option(arguments[i], "chardev")) continue;
    Option option(arguments[i + 1]);
    if (option.get("id") != id) continue;
    option.set_kind("socket");
    option.set("path", path);
    option.set("server", "on");
    option.set("wait", "off");
    arguments[i + 1] = option.text();
  }
}

void replace_first_value(Arguments& arguments, std::string_view name, const std::string& value) {
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i)
    if (is_option(arguments[i], name)) {
      arguments[i + 1] = value;
      return;
    }
}

void listen_on(Arguments& arguments, const std::string& qmp) {
  Option option("unix:" + qmp);
  option.set("server", "on");
  option.set("wait", "off");
  arguments.push_back("-qmp");
  arguments.push_back(option.text());
}

// Memory from files: of a throw-away instance, or one that shares what another one has.
Status take_memory(Arguments& arguments, const std::vector<std::string>& paths, const char* share) {
  std::size_t backend = 0;
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i) {
    if (!is_option(arguments[i], "object")) continue;
    Option option(arguments[i + 1]);
    if (option.kind() != "memory-backend-memfd") continue;
    if (backend == paths.size()) return Status(Code::internal, "more memory backends than memory");
    option.set_kind("memory-backend-file");
    option.set("mem-path", paths[backend++]);
    option.set("share", share);
    option.erase("seal");
    arguments[i + 1] = option.text();
  }
  return {};
}

// The standby's of a standby that shares another one's memory has its own again.
std::string memory_of_its_own(const std::string& value) {
  Option option(value);
  if (option.kind() != "memory-backend-file" ||
      !option.get("mem-path").value_or("").starts_with("/proc/"))
    return value;
  option.set_kind("memory-backend-memfd");
  option.erase("mem-path");
  return option.text();
}

Result<Arguments> waiting_arguments(const Arguments& shape, const StandbyArguments& here) {
  if (shape.empty()) return failure(Code::corrupt, "the primary's description has no command line");
  Arguments arguments = shape;
  if (!here.binary.empty()) arguments[0] = here.binary;
  replace_files(arguments, here.replacements);
  FT_TRY(connect_nics(arguments, here.paths.nics));
  if (!here.serial.empty()) replace_first_value(arguments, "serial", "file:" + here.serial);
  if (!here.accel.empty()) replace_first_value(arguments, "accel", here.accel);
  listen_on(arguments, here.paths.qmp);
  arguments.insert(arguments.end(), {"-incoming", "defer", "-S"});
  return arguments;
}

}  // namespace

Arguments shape_of(const Arguments& running) {
  Arguments shape;
  for (std::size_t i = 0; i < running.size(); ++i) {
    const std::string& argument = running[i];
    const bool has_value = i + 1 < running.size();
    if (i > 0 && is_one_of(argument, kDroppedAlone)) continue;
    if (i > 0 && has_value && is_one_of(argument, kDroppedWithValue)) {
      ++i;
      continue;
    }
    shape.push_back(argument);
    if (i == 0 || !has_value) continue;
    const std::string& value = running[i + 1];
    if (is_option(argument, "serial") || is_option(argument, "parallel") ||
        is_option(argument, "debugcon")) {
      shape.push_back(value == "none" || value.starts_with("chardev:") ? value : "null");
      ++i;
    } else if (is_option(argument, "chardev")) {
      shape.push_back(quiet_chardev(value));
      ++i;
    } else if (is_option(argument, "netdev")) {
      shape.push_back(portless_netdev(value));
      ++i;
    } else if (is_option(argument, "object")) {
      shape.push_back(memory_of_its_own(value));
      ++i;
    }
  }
  return shape;
}

std::vector<std::string> netdevs_of(const Arguments& shape) {
  std::vector<std::string> names;
  for_each_value(shape, "netdev", [&](const std::string& value) {
    names.push_back(Option(value).get("id").value_or(""));
  });
  return names;
}

std::string agent_socket_of(const Arguments& running) {
  const std::string id = agent_chardev(running);
  std::string path;
  for_each_value(running, "chardev", [&](const std::string& value) {
    const Option option(value);
    // "server" alone, "server=on" and the "nowait" of old command lines all make QEMU listen.
    const bool listens = option.get("server").value_or("off") == "on" ||
                         (value + ",").find(",server,") != std::string::npos;
    if (!id.empty() && option.get("id") == id && option.kind() == "socket" && listens)
      path = option.get("path").value_or("");
  });
  return path;
}

std::vector<std::string> files_of(const Arguments& shape) {
  std::vector<std::string> files;
  for (const char* name : kFiles)
    for_each_value(shape, name, [&](const std::string& value) { files.push_back(value); });
  return files;
}

Result<Arguments> standby_arguments(const Arguments& shape, const StandbyArguments& here) {
  FT_ASSIGN(Arguments arguments, waiting_arguments(shape, here));
  connect_agent_port(arguments, agent_path(here.paths));
  if (!here.memory_paths.empty()) FT_TRY(take_memory(arguments, here.memory_paths, "on"));
  return arguments;
}

Result<Arguments> probe_arguments(const Arguments& standby,
                                  const std::vector<std::string>& memory_paths,
                                  const HostPaths& paths) {
  StandbyArguments here;
  here.paths = paths;
  FT_ASSIGN(Arguments arguments, waiting_arguments(shape_of(standby), here));
  FT_TRY(take_memory(arguments, memory_paths, "off"));
  return arguments;
}

}  // namespace libft::qemu
