// SPDX-License-Identifier: LGPL-2.1-or-later
#include "spec.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "base/checksum.h"

namespace libft::machine {

namespace {

constexpr char kRemedy[] =
    "; remedy: machine:IMAGE[,mib=N][,harts=N][,smp=turns|threads][,quantum=N]"
    "[,mac=A:B:C:D:E:F][,initrd=FILE][,disk=FILE][,rwdisk=FILE][,append=TEXT]";

Status invalid(std::string what) { return Status(Code::invalid, std::move(what) + kRemedy); }

Result<std::vector<std::byte>> read_file(const std::string& name) {
  std::ifstream in(name, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in.is_open() || in.bad()) return failure(invalid(name + " cannot be read"));
  const auto bytes = std::as_bytes(std::span(text));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

template <class T>
Status read_number(std::string_view key, std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return {};
  return invalid(fmt::format("{} is no number for {}", text, key));
}

Status read_mac(const std::string& text, std::array<std::uint8_t, 6>& mac) {
  std::array<unsigned, 6> bytes{};
  char end = 0;
  if (std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &bytes[0], &bytes[1], &bytes[2],
                  &bytes[3], &bytes[4], &bytes[5], &end) != 6) {
    return invalid(text + " is no MAC address");
  }
  for (std::size_t i = 0; i < mac.size(); ++i) mac[i] = static_cast<std::uint8_t>(bytes[i]);
  return {};
}

Status read_disk(const std::string& name, MachineOptions& options, std::string& disk_file) {
  FT_ASSIGN(std::vector<std::byte> bytes, read_file(name));
  options.disk = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  disk_file = name;
  return {};
}

Status read_key(std::string_view key, const std::string& value, MachineOptions& options,
                std::string& disk_file) {
  if (key == "mib") {
    std::uint64_t mib = 0;
    FT_TRY(read_number(key, value, mib));
    if (mib < 4 || mib > 2048) return invalid("a machine has 4 to 2048 MiB");
    options.memory_bytes = mib << 20;
    return {};
  }
  if (key == "harts") {
    FT_TRY(read_number(key, value, options.harts));
    if (options.harts < 1 || options.harts > 8) return invalid("a machine has 1 to 8 harts");
    return {};
  }
  if (key == "smp") {
    if (value != "turns" && value != "threads") return invalid("smp is turns or threads");
    options.smp = value == "turns" ? Smp::turns : Smp::threads;
    return {};
  }
  if (key == "quantum") return read_number(key, value, options.quantum);
  if (key == "mac") return read_mac(value, options.mac);
  if ((key == "disk" || key == "rwdisk") && !disk_file.empty())
    return invalid("a machine has one disk");
  if (key == "disk") return read_disk(value, options, disk_file);
  if (key == "rwdisk") {
    disk_file = value;
    FT_ASSIGN(options.writable_disk, Disk::open(value));
    return {};
  }
  if (key == "initrd") {
    FT_ASSIGN(options.initrd, read_file(value));
    return {};
  }
  return invalid(fmt::format("{} is not known", key));
}

}  // namespace

Status read_spec(std::string_view spec, MachineOptions& options, std::string& disk_file) {
  constexpr std::string_view kAppend = ",append=";
  if (const std::size_t at = spec.find(kAppend); at != std::string_view::npos) {
    options.command_line = spec.substr(at + kAppend.size());
    spec = spec.substr(0, at);
  }
  const std::size_t image = spec.find(',');
  FT_ASSIGN(options.kernel, read_file(std::string(spec.substr(0, image))));
  while (spec.find(',') != std::string_view::npos) {
    spec.remove_prefix(spec.find(',') + 1);
    const std::string_view item = spec.substr(0, spec.find(','));
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) return invalid(fmt::format("{} has no value", item));
    FT_TRY(
        read_key(item.substr(0, equals), std::string(item.substr(equals + 1)), options, disk_file));
  }
  return {};
}

// Its last field is the disk's name, which may contain anything. What was added since the first
// release stands there only when the guest has it, so that an older peer takes every other guest.
std::string compatibility_of(const MachineOptions& options, const std::string& disk_file) {
  const std::string writable =
      options.writable_disk ? fmt::format("writable={} ", options.writable_disk->bytes().size())
                            : "";
  return fmt::format(
      "memory={} harts={} smp={} quantum={} steps={} boot={} mac={:02x} disk={:x} {}file={}",
      options.memory_bytes, options.harts, static_cast<int>(options.smp), options.quantum,
      options.steps_per_tick, static_cast<int>(options.boot), fmt::join(options.mac, ":"),
      options.disk ? base::checksum(*options.disk) : 0, writable, disk_file);
}

Status read_compatibility(std::string_view text, MachineOptions& options, std::string& disk_file,
                          const std::string& own_file) {
  const std::string line(text);
  int boot = 0, smp = 0, rest_at = 0;
  std::array<char, 18> mac{};
  unsigned long long memory = 0, quantum = 0, steps = 0, disk = 0, writable = 0;
  const int known = std::sscanf(
      line.c_str(),
      "memory=%llu harts=%u smp=%d quantum=%llu steps=%llu boot=%d mac=%17s disk=%llx %n", &memory,
      &options.harts, &smp, &quantum, &steps, &boot, mac.data(), &disk, &rest_at);
  int file_at = 0;
  if (known == 8 && rest_at != 0) {
    const char* const rest = line.c_str() + rest_at;
    std::sscanf(rest, "file=%n", &file_at);
    if (file_at == 0) std::sscanf(rest, "writable=%llu file=%n", &writable, &file_at);
  }
  if (file_at == 0 || boot < 0 || boot > static_cast<int>(Boot::machine) || smp < 0 ||
      smp > static_cast<int>(Smp::threads)) {
    return Status(Code::refused, "the primary's machine is of a kind that is not known here");
  }
  options.memory_bytes = memory;
  options.smp = static_cast<Smp>(smp);
  options.quantum = quantum;
  options.steps_per_tick = steps;
  options.boot = static_cast<Boot>(boot);
  FT_TRY(read_mac(mac.data(), options.mac));
  const std::string file = line.substr(static_cast<std::size_t>(rest_at + file_at));
  if (file.empty()) return {};
  if (writable != 0) {
    disk_file = file;
    FT_ASSIGN(options.writable_disk,
              Disk::open_or_make(own_file.empty() ? file : own_file, writable));
    return {};
  }
  return read_disk(file, options, disk_file).within("the primary's disk");
}

}  // namespace libft::machine
