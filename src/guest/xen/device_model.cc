// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/device_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>

namespace libft::xen {
namespace {

// What libxl 4.17 to 4.20 writes (tools/libs/light/libxl_dm.c) and libft can write again.
const std::set<std::string> kFlags{"-no-shutdown", "-nodefaults", "-no-user-config", "-no-acpi"};
const std::set<std::string> kValues{"-m",      "-smp",    "-machine", "-boot", "-kernel", "-initrd",
                                    "-append", "-serial", "-display", "-vnc",  "-vga"};
// Each of them has one value with which nothing leaves the guest past a gate or hides in a file.
const std::map<std::string, std::set<std::string>> kOnly{{"-serial", {"pty", "null", "none"}},
                                                         {"-display", {"none"}},
                                                         {"-vnc", {"none"}},
                                                         {"-vga", {"none"}}};
// Remade, or of no concern to the backup.
const std::set<std::string> kForgotten{"-xen-domid", "-name", "-chardev", "-mon", "-incoming"};
const std::set<std::string> kNicModels{"e1000", "rtl8139"};
constexpr std::size_t kOptionsMax = 64, kNicsMax = 8, kTextMax = 4096;

std::string may_be(const std::string& name) {
  return fmt::format("{}", fmt::join(kOnly.at(name), ", "));
}

// "e1000,id=nic0,netdev=net0,mac=..." as its parts; the first has the key "".
std::map<std::string, std::string> parts_of(const std::string& text) {
  std::map<std::string, std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos)
      parts[""] = part;
    else
      parts[part.substr(0, equals)] = part.substr(equals + 1);
    at = comma + 1;
  }
  return parts;
}

std::optional<unsigned> number_after(const std::string& text, std::string_view prefix) {
  unsigned number = 0;
  if (!text.starts_with(prefix)) return std::nullopt;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + prefix.size(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

std::optional<EmulatedNic> nic_from(const std::string& device) {
  auto parts = parts_of(device);
  const auto index = number_after(parts["id"], "nic");
  if (!kNicModels.contains(parts[""]) || !index || parts["netdev"] != fmt::format("net{}", *index))
    return std::nullopt;
  return EmulatedNic{*index, parts[""], parts["mac"]};
}

bool is_taps(const std::string& netdev) {
  auto parts = parts_of(netdev);
  return parts["type"] == "tap" && parts["script"] == "no" && number_after(parts["id"], "net");
}

bool is_mac(const std::string& text) {
  if (text.size() != 17) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (i % 3 == 2 ? text[i] != ':' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0)
      return false;
  return true;
}

bool is_machine(const std::string& text) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789-.,=";
  return (text.starts_with("xenfv") || text.starts_with("pc")) &&
         text.find_first_not_of(kAllowed) == std::string::npos;
}

std::string wrong_value(const DeviceOption& option) {
  const auto only = kOnly.find(option.name);
  if (only != kOnly.end() && !only->second.contains(option.value))
    return fmt::format("its device model has \"{} {}\": libft continues only {}", option.name,
                       option.value, may_be(option.name));
  if (option.name == "-machine" && !is_machine(option.value))
    return fmt::format("its device model is the machine \"{}\", which libft does not know",
                       option.value);
  return {};
}

// Reads a command line, option by option.
class Reader {
 public:
  Reader(std::span<const std::string> arguments, std::vector<std::string>& missing)
      : arguments_(arguments), missing_(missing) {}

  DeviceModelShape read() {
    while (at_ < arguments_.size()) take(arguments_[at_++]);
    return std::move(shape_);
  }

 private:
  std::string value() { return at_ < arguments_.size() ? arguments_[at_++] : std::string(); }

  void take(const std::string& name) {
    if (name == "-S") return;
    if (kForgotten.contains(name)) {
      (void)value();
    } else if (kFlags.contains(name)) {
      shape_.options.push_back({name, {}});
    } else if (kValues.contains(name)) {
      shape_.options.push_back({name, value()});
      if (auto wrong = wrong_value(shape_.options.back()); !wrong.empty())
        missing_.push_back(std::move(wrong));
    } else if (name == "-device") {
      take_device(value());
    } else if (name == "-netdev") {
      if (const std::string netdev = value(); !is_taps(netdev)) refuse(name, netdev);
    } else {
      refuse(name, at_ < arguments_.size() && !arguments_[at_].starts_with('-') ? value() : "");
    }
  }

  void take_device(const std::string& device) {
    if (auto nic = nic_from(device))
      shape_.nics.push_back(std::move(*nic));
    else
      refuse("-device", device);
  }

  void refuse(const std::string& name, const std::string& value) {
    missing_.push_back(fmt::format("its device model has \"{}{}{}\", which libft does not remake",
                                   name, value.empty() ? "" : " ", value));
  }

  std::span<const std::string> arguments_;
  std::vector<std::string>& missing_;
  std::size_t at_ = 0;
  DeviceModelShape shape_;
};

}  // namespace

DeviceModelShape read_arguments(std::span<const std::string> arguments,
                                std::vector<std::string>& missing) {
  return Reader(arguments, missing).read();
}

Status check(const DeviceModelShape& shape) {
  const auto refused = [](const std::string& why) {
    return Status(Code::refused, "the primary's device model: " + why);
  };
  if (shape.options.size() > kOptionsMax || shape.nics.size() > kNicsMax)
    return refused("too many options");
  for (const DeviceOption& option : shape.options) {
    const bool flag = kFlags.contains(option.name) && option.value.empty();
    if ((!flag && !kValues.contains(option.name)) || option.value.size() > kTextMax ||
        option.value.find('\0') != std::string::npos)
      return refused("the option " + option.name);
    if (const auto wrong = wrong_value(option); !wrong.empty()) return refused(wrong);
  }
  for (const EmulatedNic& nic : shape.nics)
    if (!kNicModels.contains(nic.model) || !is_mac(nic.mac) || nic.index > 4096)
      return refused("an interface of the model " + nic.model);
  return {};
}

std::vector<std::string> waiting_arguments(const DeviceModelShape& shape, DomId domain,
                                           const std::string& name) {
  std::vector<std::string> words{
      "-xen-domid", std::to_string(domain),
      "-chardev",   "socket,id=libxl-cmd,path=" + qmp_path(domain) + ",server=on,wait=off",
      "-mon",       "chardev=libxl-cmd,mode=control",
      "-name",      name};
  for (const DeviceOption& option : shape.options) {
    words.push_back(option.name);
    if (!kFlags.contains(option.name)) words.push_back(option.value);
  }
  for (const EmulatedNic& nic : shape.nics) {
    words.insert(words.end(), {"-device", fmt::format("{0},id=nic{1},netdev=net{1},mac={2}",
                                                      nic.model, nic.index, nic.mac)});
    words.insert(words.end(),
                 {"-netdev", fmt::format("type=tap,id=net{},ifname={},script=no,downscript=no",
                                         nic.index, emulated_interface(domain, nic.index))});
  }
  words.insert(words.end(), {"-S", "-incoming", "defer"});
  return words;
}

std::string qmp_path(DomId domain) { return fmt::format("/run/xen/qmp-libxl-{}", domain); }

std::string emulated_interface(DomId domain, unsigned nic) {
  return fmt::format("vif{}.{}-emu", domain, nic);
}

}  // namespace libft::xen
