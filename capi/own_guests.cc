// SPDX-License-Identifier: LGPL-2.1-or-later
#include "own_guests.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <string_view>
#include <utility>

#include "folder.h"
#include "guest/memory/busy_guest.h"
#include "output/memory_gate.h"
#include "split.h"

namespace libft::capi {
namespace {

constexpr std::string_view kMemory = "memory:", kQemu = "qemu:", kXen = "xen:",
                           kMachine = "machine:";
constexpr std::uint64_t kMemoryBytesMin = 2u << 20;
constexpr std::uint32_t kNicsMax = 16;

Result<std::uint64_t> number_in(const std::string& spec, const std::string& key,
                                std::uint64_t usual) {
  for (const std::string& part : split(spec.substr(kMemory.size()))) {
    if (!part.starts_with(key + "=")) continue;
    const char* begin = part.data() + key.size() + 1;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(begin, part.data() + part.size(), number);
    if (error == std::errc() && end == part.data() + part.size() && number <= 1u << 20)
      return number;
    return failure(Code::invalid, fmt::format("guest {}: {} is no number from 0 to 1048576; "
                                              "remedy: memory:mib=64,pages=50",
                                              spec, key));
  }
  return usual;
}

Result<Replica> with_gate(std::unique_ptr<guest::MemoryGuest> guest, std::uint64_t pages) {
  FT_ASSIGN(auto gate, output::MemoryGate::create({}, [](std::span<const std::byte>) {}));
  return Replica{std::move(gate), guest::make_busy(std::move(guest), pages), nullptr};
}

Result<Replica> open_memory(const std::string& spec) {
  FT_ASSIGN(const std::uint64_t mib, number_in(spec, "mib", 64));
  FT_ASSIGN(const std::uint64_t pages, number_in(spec, "pages", 50));
  if (mib == 0)
    return failure(Code::invalid, fmt::format("guest {}: it has no memory; remedy: mib=64", spec));
  return with_gate(guest::make_memory_guest(mib * 256, 1), pages);
}

}  // namespace

Outcome OwnGuests::check(const std::string& spec) {
  for (const std::string_view prefix : {kMemory, kQemu, kXen, kMachine})
    if (spec.starts_with(prefix)) return {};
  return {FT_E_UNSUPPORTED, fmt::format("guest {}: libft has no such driver here", spec),
          "use qemu:FILE.json, qemu:pid=NUMBER,qmp=PATH, xen:NAME, machine:IMAGE, "
          "memory:mib=64,pages=50, or a guest port"};
}

Outcome OwnGuests::qemu_arguments(const Options& options, std::uint64_t memory_bytes,
                                  std::uint32_t nics, std::string& into) {
  FT_GET(const GuestId guest, GuestId::from_name(options.settings().name));
  if (memory_bytes < kMemoryBytesMin || memory_bytes % kMemoryBytesMin != 0)
    return {FT_E_INVALID, "a guest's memory is a multiple of 2 MiB", "round it up"};
  if (nics > kNicsMax) return {FT_E_INVALID, fmt::format("there are at most {} NICs", kNicsMax)};
  host::QemuSite site;
  site.state_dir = options.settings().state_dir;
  site.preload = preload_object();
  into = host::arguments_to_add(site, guest.name(), memory_bytes, nics);
  return {};
}

Result<Replica> OwnGuests::open(const std::string& spec, const std::vector<std::string>& command,
                                std::shared_ptr<qemu::QmpRelay> qmp) {
  if (held_) return take_up(false, std::move(qmp));
  if (command.empty() && spec.starts_with(kMemory)) return open_memory(spec);
  if (command.empty() && spec.starts_with(kXen))
    return remember(xen().attach(spec.substr(kXen.size())));
  if (command.empty() && spec.starts_with(kMachine))
    return machine().start(spec.substr(kMachine.size()));
  FT_ASSIGN(host::QemuOpener opener, qemu());
  if (!command.empty()) return remember(opener.wrap(command));
  const std::string rest = spec.substr(kQemu.size());
  if (rest.ends_with(".json")) return remember(opener.start(rest));
  FT_ASSIGN(const host::QemuAttachment to, host::parse_attachment(rest, std::move(qmp)));
  return remember(opener.attach(to));
}

Result<Replica> OwnGuests::take_up(bool standby, std::shared_ptr<qemu::QmpRelay> qmp) {
  auto held = *std::exchange(held_, std::nullopt);
  held.standby = standby;
  if (held.qmp.empty()) held.relay = std::move(qmp);
  FT_ASSIGN(host::QemuOpener opener, qemu());
  return remember(opener.take_up(held));
}

Result<Replica> OwnGuests::standby(const GuestInfo& primary) {
  if (held_) return take_up(true, nullptr);
  if (primary.driver == "memory") return with_gate(guest::make_memory_standby(primary.pages()), 50);
  if (primary.driver == "qemu") {
    FT_ASSIGN(host::QemuOpener opener, qemu());
    return remember(opener.standby(primary, ++standbys_, [this](pid_t pid, const std::string& qmp) {
      const std::scoped_lock lock(mutex_);
      place_ = {pid, qmp, {}};
    }));
  }
  if (primary.driver == "xen") return remember(xen().standby(primary));
  if (primary.driver == "machine") return machine().standby(primary);
  return failure(Code::unsupported,
                 fmt::format("the primary's guest is of driver \"{}\"; remedy: give the backup a "
                             "standby port that makes such a guest",
                             primary.driver));
}

Result<host::QemuOpener> OwnGuests::qemu() const {
  const ft_settings& s = options_.settings();
  host::QemuSite site;
  site.state_dir = s.state_dir;
  std::error_code error;
  std::filesystem::create_directories(site.state_dir, error);
  if (error)
    return failure(Code::io, fmt::format("make {}: {}; remedy: set the option state_dir",
                                         site.state_dir, error.message()));
  site.taps = split(s.tap);
  site.preload = preload_object();
  site.held_bytes_max = s.held_bytes_max;
  site.set_running = s.resume != 0;
  site.redeliver_input = s.redeliver_input != 0;
  return host::QemuOpener(std::move(site), guest_, guard_, log_);
}

host::XenOpener OwnGuests::xen() const {
  host::XenSite site;
  site.module = xen_module();
  site.adopt = xen_adopt();
  site.open_gate = output::open_plug_gate;
  site.held_bytes_max = options_.settings().held_bytes_max;
  return {std::move(site), guest_, guard_, log_};
}

host::MachineOpener OwnGuests::machine() const {
  const ft_settings& s = options_.settings();
  return {{split(s.tap), s.held_bytes_max, s.redeliver_input != 0, s.disk}, guard_, log_};
}

Result<Replica> OwnGuests::remember(Result<host::OpenedXen> opened) {
  if (!opened) return failure(std::move(opened.error()));
  const std::scoped_lock lock(mutex_);
  place_ = {0, {}, opened->domain};
  return std::move(opened->replica);
}

Result<Replica> OwnGuests::remember(Result<host::OpenedQemu> opened) {
  if (!opened) return failure(std::move(opened.error()));
  const std::scoped_lock lock(mutex_);
  place_ = {opened->pid, opened->qmp, {}, opened->descriptors};
  return std::move(opened->replica);
}

std::optional<OwnGuests::Place> OwnGuests::place() const {
  const std::scoped_lock lock(mutex_);
  return place_;
}

}  // namespace libft::capi
