// SPDX-License-Identifier: LGPL-2.1-or-later
#include "options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "libft/types.h"
#include "own_guests.h"
#include "structs.h"

namespace libft::capi {
namespace {

constexpr std::uint64_t kHour_us = 3600ull * 1000 * 1000;
constexpr std::uint64_t kMost = ~0ull;

#define FT_TEXT(field, initial, help) \
  { #field, FT_OPTION_TEXT, offsetof(ft_settings, field), 0, "", initial, 0, 0, help }
#define FT_FLAG(field, initial, help) \
  { #field, FT_OPTION_FLAG, offsetof(ft_settings, field), 4, "", initial, 0, 1, help }
#define FT_NUMBER(field, unit, initial, min, max, help)                                       \
  {                                                                                           \
#field, FT_OPTION_NUMBER, offsetof(ft_settings, field), sizeof(ft_settings::field), unit, \
        initial, min, max, help                                                               \
  }

constexpr OptionRow kRows[] = {
    FT_TEXT(name, "", "the guest's name, the same on both hosts: 1 to 64 of [A-Za-z0-9._-]"),
    FT_TEXT(host, "", "this host's name; empty: what the system says"),
    FT_TEXT(guest, "",
            "a guest of libft's own: qemu:FILE.json, qemu:pid=NUMBER,qmp=PATH, xen:NAME, "
            "machine:IMAGE,mib=128 or memory:mib=64,pages=50; empty: a port"),
    FT_TEXT(arbiter, "", "file:/DIR, etcd:http://HOST:2379 or manual:/DIR; empty: a port"),
    FT_TEXT(fence, "none", "none, or exec:/PROGRAM"),
    FT_TEXT(listen, "", "where backups connect: tcp:HOST:PORT or unix:/PATH; empty: offer them"),
    FT_TEXT(peer, "", "the other hosts' `listen`, separated by commas; empty: a dial port"),
    FT_TEXT(heartbeat, "",
            "one or two addresses HOST:PORT for heartbeats, separated by commas; none: no "
            "heartbeats; empty: as `listen`, port + 1"),
    FT_TEXT(key_file, "",
            "the key that authenticates the hosts to each other, by TLS: a file of 64 hexadecimal "
            "digits that only its owner may read"),
    FT_TEXT(earlier, "",
            "protect: the incarnation of this host whose guest was re-attached to; its record is "
            "won by a swap"),
    FT_TEXT(tap, "", "guests of libft's own: a TAP device for each NIC, separated by commas"),
    FT_TEXT(state_dir, "/run/libft", "guests of libft's own: a folder for their sockets and logs"),
    FT_TEXT(
        strategy, "checkpoint",
        "protect: how the backup is kept equal: checkpoint; of qemu: guests, compare too; of "
        "machine: guests, hybrid, replay and lockstep too"),
    FT_TEXT(
        check, "",
        "backup of machine: guests: a program that looks at the copy before the primary's output "
        "leaves; empty: nobody does"),
    FT_TEXT(disk, "",
            "backup of machine: guests: this host's file for the guest's writable disk; empty: the "
            "primary's name of it"),
    FT_TEXT(held, "",
            "goes on in the place of a session that was held: the text of its ft_session_hold; "
            "empty: begins anew"),
    FT_FLAG(insecure, "0", "permit a peer on another host without a key: anybody may be it"),
    FT_FLAG(adaptive, "1", "0: a checkpoint every `interval_us`, whatever the guest does"),
    FT_FLAG(automatic_failover, "1", "0: only ft_session_switch_over and ft_session_fail_over"),
    FT_FLAG(
        anew, "0",
        "protect: the life of the guest that the arbiter's record names is over for good: it is "
        "given up, wherever it is"),
    FT_FLAG(resume, "0", "qemu: a guest that stands still when libft comes is to run"),
    FT_FLAG(redeliver_input, "1", "after a fail-over, deliver what came in since that epoch"),
    FT_FLAG(locate_difference, "1",
            "backup: executions that came apart are executed again, to say where; takes as much "
            "memory as the guest has, and five times as much meanwhile"),
    FT_NUMBER(inflight_max, "epochs", "2", 1, 64, "captured and not yet acknowledged"),
    FT_NUMBER(sync_rounds_max, "rounds", "12", 1, 1000,
              "of the first synchronisation: then it joins regardless"),
    FT_NUMBER(heartbeat_missed_max, "heartbeats", "3", 1, 1000,
              "so many missed in a row on every path: suspected"),
    FT_NUMBER(interval_us, "us", "25000", 1000, kHour_us,
              "shortest time between checkpoints while no output waits"),
    FT_NUMBER(floor_us, "us", "4000", 0, kHour_us,
              "shortest run between two pauses when output waits"),
    FT_NUMBER(idle_us, "us", "1000000", 1000, kHour_us,
              "longest time between two checkpoints of an idle guest"),
    FT_NUMBER(staging_bytes, "bytes", "67108864", 4096, kMost,
              "memory ready for the pages of an epoch, for each in flight and one more"),
    FT_NUMBER(held_bytes_max, "bytes", "67108864", 4096, kMost,
              "of output that a gate of libft's own holds"),
    FT_NUMBER(reference_bytes_max, "bytes", "18446744073709551615", 0, kMost,
              "of the image that pages are delta-coded against; the default: the whole guest"),
    FT_NUMBER(sync_pages_left, "pages", "2000", 0, kMost,
              "the first synchronisation joins when a round leaves no more than this"),
    FT_NUMBER(head_start_us, "us", "25000", 0, kHour_us,
              "what a suspecting backup leaves to a primary that may live"),
    FT_NUMBER(arbiter_timeout_us, "us", "2000000", 1000, kHour_us,
              "then the arbiter's answer counts as unknown, and is asked again"),
    FT_NUMBER(heartbeat_interval_us, "us", "50000", 1000, kHour_us, "between two heartbeats"),
    FT_NUMBER(stuck_after_us, "us", "5000000", 1000, kHour_us,
              "the heart beats but the peer's session stands still: suspected"),
    FT_NUMBER(follow_max_us, "us", "50000", 1000, kHour_us,
              "replay: how far the backup may lag before the guest is slowed"),
    FT_NUMBER(hash_interval_us, "us", "500000", 1000, kHour_us,
              "replay, lockstep: between two comparisons of the whole state"),
    FT_NUMBER(log_bytes_max, "bytes", "67108864", 4096, kMost,
              "replay, lockstep: log not yet acknowledged; beyond, the backup is given up"),
    FT_NUMBER(rebase_interval_us, "us", "1000000", 10000, kHour_us,
              "hybrid: between two checkpoints; a take-over has about so much left to execute"),
    FT_NUMBER(
        follow_delay_us, "us", "0", 0, 24 * kHour_us,
        "backup, replay: it executes so much later than it could; a take-over executes what is "
        "left first"),
    FT_NUMBER(delay_bytes_max, "bytes", "268435456", 4096, kMost,
              "backup, replay: log that waits for that; beyond, the oldest is executed before its "
              "time"),
};

#undef FT_TEXT
#undef FT_FLAG
#undef FT_NUMBER

static_assert(std::count_if(std::begin(kRows), std::end(kRows), [](const OptionRow& row) {
                return row.type == FT_OPTION_TEXT;
              }) == kTexts);

const OptionRow* find_row(std::string_view name) {
  const auto found = std::find_if(std::begin(kRows), std::end(kRows),
                                  [&](const OptionRow& row) { return row.name == name; });
  return found == std::end(kRows) ? nullptr : found;
}

std::uint64_t number_at(const ft_settings& settings, const OptionRow& row) {
  const char* at = reinterpret_cast<const char*>(&settings) + row.offset;
  std::uint32_t narrow = 0;
  std::uint64_t wide = 0;
  if (row.bytes == sizeof narrow) {
    std::memcpy(&narrow, at, sizeof narrow);
    return narrow;
  }
  std::memcpy(&wide, at, sizeof wide);
  return wide;
}

void store_number(ft_settings& settings, const OptionRow& row, std::uint64_t value) {
  char* at = reinterpret_cast<char*>(&settings) + row.offset;
  const auto narrow = static_cast<std::uint32_t>(value);
  if (row.bytes == sizeof narrow)
    std::memcpy(at, &narrow, sizeof narrow);
  else
    std::memcpy(at, &value, sizeof value);
}

Outcome unknown_option(const std::string& name) {
  return {FT_E_NOT_FOUND, fmt::format("there is no option \"{}\"", name),
          "ft_option_describe lists them"};
}

Outcome wrong_value(const OptionRow& row, const std::string& value) {
  return {FT_E_INVALID, fmt::format("option {}: \"{}\" does not do", row.name, value),
          fmt::format("give a number from {} to {} {}", row.min, row.max, row.unit)};
}

const char* text_at(const ft_settings& settings, const OptionRow& row) {
  const char* text = nullptr;
  std::memcpy(&text, reinterpret_cast<const char*>(&settings) + row.offset, sizeof text);
  return text;
}

Nanos from_us(std::uint64_t us) { return std::chrono::microseconds{us}; }

}  // namespace

std::span<const OptionRow> option_rows() { return kRows; }

Options::Options() {
  settings_.struct_size = sizeof settings_;
  for (const OptionRow& row : kRows) (void)set_row(row, row.initial);
}

Options& Options::operator=(const Options& other) {
  settings_ = other.settings_;
  texts_ = other.texts_;
  point_at_texts();
  return *this;
}

// The texts are the table's first rows.
void Options::point_at_texts() {
  for (std::size_t i = 0; i < kTexts; ++i) {
    const char* text = texts_[i].c_str();
    std::memcpy(reinterpret_cast<char*>(&settings_) + kRows[i].offset, &text, sizeof text);
  }
}

Outcome Options::set_row(const OptionRow& row, const std::string& value) {
  if (row.type == FT_OPTION_TEXT) {
    texts_[static_cast<std::size_t>(&row - kRows)] = value;
    point_at_texts();
    return {};
  }
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < row.min ||
      number > row.max)
    return wrong_value(row, value);
  store_number(settings_, row, number);
  return {};
}

Outcome Options::set(const std::string& name, const char* value) {
  const OptionRow* row = find_row(name);
  if (row == nullptr) return unknown_option(name);
  return set_row(*row, value == nullptr ? row->initial : value);
}

Outcome Options::get(const std::string& name, std::string& value) const {
  const OptionRow* row = find_row(name);
  if (row == nullptr) return unknown_option(name);
  value = row->type == FT_OPTION_TEXT ? texts_[static_cast<std::size_t>(row - kRows)]
                                      : std::to_string(number_at(settings_, *row));
  return {};
}

Outcome Options::set_all(const ft_settings& settings) {
  Options changed(*this);
  for (const OptionRow& row : kRows) {
    // A caller of an older libft has no such field: its value stays.
    const std::size_t bytes = row.type == FT_OPTION_TEXT ? sizeof(char*) : row.bytes;
    if (row.offset + bytes > settings.struct_size) continue;
    const char* text = row.type == FT_OPTION_TEXT ? text_at(settings, row) : nullptr;
    const std::string value = row.type == FT_OPTION_TEXT ? (text == nullptr ? row.initial : text)
                                                         : std::to_string(number_at(settings, row));
    // Appended fields are zero where their caller has nothing to say.
    const bool unsaid = row.offset >= kSettingsBytesMin && row.type == FT_OPTION_NUMBER &&
                        number_at(settings, row) == 0;
    FT_CHECK(changed.set_row(row, unsaid ? row.initial : value));
  }
  *this = changed;
  return {};
}

SessionOptions Options::session_options() const {
  const ft_settings& s = settings_;
  SessionOptions options;
  options.strategy = strategy_from(s.strategy).value_or(Strategy::checkpoint);  // Checked before.
  options.follow_max = from_us(s.follow_max_us);
  options.hash_interval = from_us(s.hash_interval_us);
  options.log_bytes_max = s.log_bytes_max;
  options.rebase_interval = from_us(s.rebase_interval_us);
  options.locate_difference = s.locate_difference != 0;
  options.follow_delay = from_us(s.follow_delay_us);
  options.delay_bytes_max = s.delay_bytes_max;
  options.adaptive = s.adaptive != 0;
  options.interval = from_us(s.interval_us);
  options.floor = from_us(s.floor_us);
  options.idle = std::max(from_us(s.idle_us), options.interval);
  options.inflight_max = s.inflight_max;
  options.staging_bytes = s.staging_bytes;
  options.reference_bytes_max = s.reference_bytes_max;
  options.sync_rounds_max = s.sync_rounds_max;
  options.sync_pages_left = s.sync_pages_left;
  options.automatic_failover = s.automatic_failover != 0;
  options.head_start = from_us(s.head_start_us);
  options.arbiter_timeout = from_us(s.arbiter_timeout_us);
  options.redeliver_input = s.redeliver_input != 0;
  options.detector.interval = from_us(s.heartbeat_interval_us);
  options.detector.missed_max = s.heartbeat_missed_max;
  options.detector.stuck_after = from_us(s.stuck_after_us);
  return options;
}

Outcome give_text(const std::string& text, char* into, std::uint64_t capacity,
                  std::uint64_t* length) {
  if (length != nullptr) *length = text.size();
  if (into == nullptr && capacity != 0)
    return {FT_E_INVALID, "the buffer is null and its capacity is not 0", "give a buffer"};
  if (text.size() >= capacity)
    return {FT_E_EXHAUSTED, fmt::format("the text needs {} bytes", text.size() + 1),
            "call again with a larger buffer"};
  std::memcpy(into, text.c_str(), text.size() + 1);
  return {};
}

}  // namespace libft::capi

using namespace libft::capi;

extern "C" {

std::uint32_t ft_option_count(void) { return static_cast<std::uint32_t>(option_rows().size()); }

std::int32_t ft_option_describe(std::uint32_t index, ft_option* into, ft_error* error) {
  return guarded("options", error, [&]() -> Outcome {
    FT_CHECK(check_out(into));
    if (index >= option_rows().size())
      return {FT_E_NOT_FOUND, "there are not so many options", "stop at ft_option_count()"};
    const OptionRow& row = option_rows()[index];
    const ft_option full{sizeof full, row.type, row.name, row.unit,
                         row.initial, row.help, row.min,  row.max};
    give_struct(full, *into);
    return {};
  });
}

std::int32_t ft_options_new(ft_options** options, ft_error* error) {
  return guarded("options", error, [&]() -> Outcome {
    if (options == nullptr) return {FT_E_INVALID, "there is no place for the handle"};
    *options = nullptr;
    *options = new ft_options;
    return {};
  });
}

std::int32_t ft_options_free(ft_options* options) {
  return guarded("options", nullptr, [&]() -> Outcome {
    if (options == nullptr) return {};  // As free(): nothing to do.
    FT_CHECK(check_handle(options, Kind::options));
    delete options;
    return {};
  });
}

std::int32_t ft_options_set(ft_options* options, const char* name, const char* value,
                            ft_error* error) {
  return guarded("options", error, [&]() -> Outcome {
    FT_CHECK(check_handle(options, Kind::options));
    if (name == nullptr) return {FT_E_INVALID, "the option's name is null"};
    return options->values.set(name, value);
  });
}

std::int32_t ft_options_get(const ft_options* options, const char* name, char* into,
                            std::uint64_t capacity, std::uint64_t* length, ft_error* error) {
  return guarded("options", error, [&]() -> Outcome {
    FT_CHECK(check_handle(options, Kind::options));
    if (name == nullptr) return {FT_E_INVALID, "the option's name is null"};
    std::string value;
    FT_CHECK(options->values.get(name, value));
    return give_text(value, into, capacity, length);
  });
}

std::int32_t ft_options_qemu_arguments(const ft_options* options, std::uint64_t memory_bytes,
                                       std::uint32_t nics, char* into, std::uint64_t capacity,
                                       std::uint64_t* length, ft_error* error) {
  return guarded("options", error, [&]() -> Outcome {
    FT_CHECK(check_handle(options, Kind::options));
    std::string text;
    FT_CHECK(OwnGuests::qemu_arguments(options->values, memory_bytes, nics, text));
    return give_text(text, into, capacity, length);
  });
}

std::int32_t ft_options_set_settings(ft_options* options, const ft_settings* settings,
                                     ft_error* error) {
  return guarded("options", error, [&]() -> Outcome {
    FT_CHECK(check_handle(options, Kind::options));
    if (settings == nullptr || settings->struct_size < kSettingsBytesMin)
      return {FT_E_INVALID, "the settings are null, or their struct_size is not set"};
    ft_settings full{};
    FT_CHECK(take_struct(settings, kSettingsBytesMin, full));
    return options->values.set_all(full);
  });
}

std::int32_t ft_options_get_settings(const ft_options* options, ft_settings* settings,
                                     ft_error* error) {
  return guarded("options", error, [&]() -> Outcome {
    FT_CHECK(check_handle(options, Kind::options));
    FT_CHECK(check_out(settings));
    give_struct(options->values.settings(), *settings);
    return {};
  });
}
}
