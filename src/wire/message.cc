// SPDX-License-Identifier: LGPL-2.1-or-later
// Each message has one function records(io, message) that lists its records and their fields in the
// order of FORMAT.md, section 3. Run with a Writer it encodes, with a Reader it decodes: the two
// cannot disagree.
#include "wire/message.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "wire/frame.h"
#include "wire/pages.h"
#include "wire/records.h"

namespace libft::wire {
namespace {

constexpr std::size_t kStringBytesMax = 1u << 20;
constexpr std::size_t kTextBytesMax = 4096;
constexpr std::size_t kHostBytesMax = 64;
constexpr std::size_t kRegionsMax = 4096;
constexpr std::size_t kRunsMax = 1u << 16;
constexpr std::uint64_t kPageNumberEnd = 1ull << 56;

// Writes the fields of one record.
class FieldWriter {
 public:
  explicit FieldWriter(std::vector<std::byte>& to) : to_(to) {}

  template <std::unsigned_integral T>
  void number(const T& value) {
    to_.write(value);
  }
  void flag(const bool& value) { to_.write<std::uint8_t>(value ? 1 : 0); }
  void string(const std::string& value, std::size_t bytes_max = kStringBytesMax) {
    const auto size = std::min(value.size(), bytes_max);
    to_.write(std::uint32_t(size));
    to_.bytes(base::bytes_of(value).first(size));
  }
  void raw(const std::array<std::uint8_t, 16>& value) {
    to_.bytes(std::as_bytes(std::span(value)));
  }
  std::size_t count(std::size_t value, std::size_t) {
    to_.write(std::uint32_t(value));
    return value;
  }
  void demand(bool, const char*) {}  // Our own messages are right.

 private:
  base::ByteAppender to_;
};

// Reads them. The first thing that is wrong stays as the reason; what is read after it is ignored.
class FieldReader {
 public:
  explicit FieldReader(base::ByteReader from) : from_(from) {}

  template <std::unsigned_integral T>
  void number(T& value) {
    value = from_.read<T>();
  }
  void flag(bool& value) {
    const auto byte = from_.read<std::uint8_t>();
    demand(byte <= 1, "a flag is neither 0 nor 1");
    value = byte == 1;
  }
  void string(std::string& value, std::size_t bytes_max = kStringBytesMax) {
    const auto size = from_.read<std::uint32_t>();
    demand(size <= bytes_max, "a string is too long");
    if (!wrong_.empty()) return;
    const auto bytes = from_.bytes(size);
    value.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void raw(std::array<std::uint8_t, 16>& value) {
    const auto bytes = from_.bytes(value.size());
    if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), bytes.size());
  }
  std::size_t count(std::size_t, std::size_t max) {
    const auto value = from_.read<std::uint32_t>();
    demand(value <= max, "a list is too long");
    return wrong_.empty() ? value : 0;
  }
  void demand(bool right, const char* wrong) {
    if (from_.failed()) wrong = "fields are missing";
    if (wrong_.empty() && (!right || from_.failed())) wrong_ = wrong;
  }
  std::string_view finish() {
    demand(from_.done(), "bytes are left over");
    return wrong_;
  }

 private:
  base::ByteReader from_;
  std::string_view wrong_;
};

template <class Fields, class Id>
void fields_of_id(Fields& f, Id& id) {
  f.number(id.generation.value);
  f.number(id.epoch.value);
}

template <class Fields, class Who>
void fields_of_incarnation(Fields& f, Who& who) {
  f.raw(who.id);
  f.string(who.host, kHostBytesMax);
  f.demand(who.host.find('/') == std::string::npos, "a host name holds a '/'");
  f.demand(!who.nobody() || who.host.empty(), "nobody has a host name");
}

template <class Fields, class Region>
void fields_of_region(Fields& f, Region& region, std::uint64_t& end) {
  f.string(region.name);
  f.number(region.first.value);
  f.number(region.pages);
  f.demand(region.first.value >= end, "memory regions overlap or do not ascend");
  f.demand(region.pages < kPageNumberEnd && region.first.value < kPageNumberEnd - region.pages,
           "page numbers beyond 2^56");
  end = region.first.value + region.pages;
}

template <class Fields, class Shape>
void fields_of_shape(Fields& f, Shape& shape) {
  f.string(shape.driver);
  f.string(shape.description);
  f.string(shape.compatibility);
  f.number(shape.page_bytes);
  f.demand(shape.page_bytes >= 512 && shape.page_bytes <= kPageBytesMax &&
               (shape.page_bytes & (shape.page_bytes - 1)) == 0,
           "the page size is not a power of two from 512 to 2 MiB");
  f.number(shape.vcpus);
  const std::size_t regions = f.count(shape.memory.size(), kRegionsMax);
  if constexpr (!std::is_const_v<Shape>) shape.memory.clear();
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < regions; ++i) {
    // One at a time: a count that lies cannot reserve more than a few regions beyond what came.
    if constexpr (!std::is_const_v<Shape>) shape.memory.emplace_back();
    fields_of_region(f, shape.memory[i], end);
  }
}

template <class Fields, class Runs>
void fields_of_runs(Fields& f, Runs& runs) {
  const std::size_t count = f.count(runs.size(), kRunsMax);
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if constexpr (!std::is_const_v<Runs>) runs.emplace_back();
    f.number(runs[i].first.value);
    f.number(runs[i].count);
    f.demand(runs[i].count > 0 && runs[i].first.value >= end, "runs of pages do not ascend");
    f.demand(runs[i].count < kPageNumberEnd && runs[i].first.value < kPageNumberEnd - runs[i].count,
             "page numbers beyond 2^56");
    end = runs[i].first.value + runs[i].count;
  }
}

template <class Fields, class M>
void fields_of_groups(Fields& f, M& m) {
  f.number(m.group_pages);
  f.demand(m.group_pages > 0, "groups of no pages");
  const std::size_t count = f.count(m.groups.size(), kVerifyGroupsMax);
  for (std::size_t i = 0; i < count; ++i) {
    if constexpr (!std::is_const_v<M>) m.groups.emplace_back();
    f.number(m.groups[i]);
  }
}

template <class Fields, class Pages>
void fields_of_page_hashes(Fields& f, Pages& pages) {
  const std::size_t count = f.count(pages.size(), kVerifyPagesMax);
  for (std::size_t i = 0; i < count; ++i) {
    if constexpr (!std::is_const_v<Pages>) pages.emplace_back();
    f.number(pages[i].page.value);
    f.number(pages[i].hash);
    f.demand(i == 0 || pages[i - 1].page < pages[i].page, "hashed pages do not ascend");
  }
}

// --- the messages, as in FORMAT.md, section 3 --------------------------------------------------

template <class Io, class M>
void text(Io& io, M& m) {
  io.optional(0x0019, [&](auto& f) { f.string(m.text, kTextBytesMax); });
}

template <class Io>
void records(Io& io, auto& m, const Hello*) {
  io.record(0x8001, [&](auto& f) {
    f.number(m.version_min);
    f.number(m.version_max);
    f.demand(m.version_min <= m.version_max, "lowest version above the highest");
  });
  io.record(0x8002, [&](auto& f) { f.number(m.features); });
  io.record(0x8003, [&](auto& f) { f.string(m.guest, 64); });
  io.record(0x8004, [&](auto& f) { fields_of_incarnation(f, m.backup); });
  io.record(0x8005, [&](auto& f) { fields_of_id(f, m.newest_complete); });
  io.record(0x8006, [&](auto& f) { fields_of_incarnation(f, m.image_of); });
  io.optional(0x0007, [&](auto& f) { f.number(m.memory_bytes_free); });
  io.record(0x8008, [&](auto& f) { fields_of_shape(f, m.shape); });
}

template <class Io>
void records(Io& io, auto& m, const Welcome*) {
  io.record(0x8010, [&](auto& f) {
    f.number(m.version);
    f.demand(m.version >= kVersionOldest && m.version <= kVersion, "a version not offered");
  });
  io.record(0x8002, [&](auto& f) { f.number(m.features); });
  io.record(0x8004, [&](auto& f) { fields_of_incarnation(f, m.primary); });
  io.record(0x8008, [&](auto& f) { fields_of_shape(f, m.shape); });
  io.record(0x8011, [&](auto& f) { f.flag(m.resume); });
  io.optional(0x0012, [&](auto& f) {
    f.number(m.heartbeat_token);
    f.number(m.heartbeat_port);
    f.number(m.heartbeat_interval_ms);
  });
}

template <class Io>
void records(Io& io, auto& m, const Refuse*) {
  io.record(0x8018, [&](auto& f) {
    auto code = std::uint16_t(m.code);
    f.number(code);
    f.demand(code >= 1 && code <= std::uint16_t(Code::internal), "an unknown code");
    if constexpr (!std::is_const_v<std::remove_reference_t<decltype(m)>>) m.code = Code(code);
  });
  text(io, m);
}

template <class Io>
void records(Io& io, auto& m, const SyncRound*) {
  io.record(0x801A, [&](auto& f) {
    f.number(m.round);
    f.number(m.pages_sent);
    f.number(m.pages_total);
  });
}

template <class Io>
void records(Io& io, auto& m, const ProbeAnswer*) {
  io.record(0x801B, [&](auto& f) { f.flag(m.loadable); });
  text(io, m);
}

template <class Io>
void records(Io& io, auto& m, const Ack*) {
  io.record(0x8020, [&](auto& f) { fields_of_id(f, m.id); });
}

template <class Io>
void records(Io& io, auto& m, const Joined*) {
  io.record(0x8021, [&](auto& f) { f.number(m.generation.value); });
}

template <class Io>
void records(Io& io, auto& m, const SwitchOver*) {
  io.record(0x8020, [&](auto& f) { fields_of_id(f, m.id); });
}

template <class Io>
void records(Io& io, auto& m, const Ended*) {
  io.record(0x8021, [&](auto& f) { f.number(m.generation.value); });
  text(io, m);
}

template <class Io>
void records(Io& io, auto& m, const Bye*) {
  text(io, m);
}

template <class Io>
void records(Io& io, auto& m, const Verify*) {
  io.record(0x8020, [&](auto& f) { fields_of_id(f, m.id); });
  io.record(0x8022, [&](auto& f) { f.number(m.memory_hash); });
  io.unless_empty(0x8023, m.left_out, [&](auto& f) { fields_of_runs(f, m.left_out); });
  io.unless_empty(0x0024, m.groups, [&](auto& f) { fields_of_groups(f, m); });
  io.unless_empty(0x0025, m.pages, [&](auto& f) { fields_of_page_hashes(f, m.pages); });
}

template <class Io>
void records(Io& io, auto& m, const Followed*) {
  io.record(0x8020, [&](auto& f) { fields_of_id(f, m.id); });
  io.if_there(0x0026, m.caught_up, [](auto& f, auto& id) { fields_of_id(f, id); });
}

template <class Io>
void records(Io& io, auto& m, const Change*) {
  io.record(0x8002, [&](auto& f) { f.number(m.features); });
}

template <class Io>
void records(Io& io, auto& m, const Vote*) {
  io.record(0x8020, [&](auto& f) { fields_of_id(f, m.id); });
  io.record(0x8027, [&](auto& f) {
    f.flag(m.executed);
    f.number(m.said);
  });
  io.if_there(0x0028, m.hash, [](auto& f, auto& hash) { f.number(hash); });
}

template <class Io>
void records(Io& io, auto& m, const ImageWanted*) {
  io.record(0x8020, [&](auto& f) { fields_of_id(f, m.id); });
}

template <class Io>
void records(Io& io, auto& m, const Hold*) {
  io.record(0x8029, [&](auto& f) {
    f.number(m.at_most_ms);
    f.demand(m.at_most_ms <= kHoldMsMax, "a hold is too long");
    f.flag(m.answer);
  });
}

// --- the two directions ------------------------------------------------------------------------

class Writer {
 public:
  explicit Writer(std::vector<std::byte>& to) : to_(to) {}
  void record(RecordType type, auto&& list) {
    base::ByteAppender out(to_);
    write_record_header(out, type, 0);
    const std::size_t begin = to_.size();
    FieldWriter writer(to_);
    list(writer);
    base::store_le(to_.data() + begin - sizeof(std::uint32_t), std::uint32_t(to_.size() - begin));
  }
  void optional(RecordType type, auto&& list) { record(type, list); }
  void unless_empty(RecordType type, const auto& what, auto&& list) {
    if (!what.empty()) record(type, list);
  }
  void if_there(RecordType type, const auto& what, auto&& list) {
    if (what) record(type, [&](auto& f) { list(f, *what); });
  }

 private:
  std::vector<std::byte>& to_;
};

class Reader {
 public:
  explicit Reader(Records& from) : from_(from) {}
  void record(RecordType type, auto&& list) {
    if (!status_.ok()) return;
    auto bytes = from_.require(type);
    if (bytes)
      read(type, *bytes, list);
    else
      status_ = bytes.error();
  }
  void optional(RecordType type, auto&& list) {
    if (!status_.ok()) return;
    if (auto bytes = from_.take(type)) read(type, *bytes, list);
  }
  void unless_empty(RecordType type, const auto&, auto&& list) { optional(type, list); }
  void if_there(RecordType type, auto& what, auto&& list) {
    optional(type, [&](auto& f) { list(f, what.emplace()); });
  }
  Status finish() {
    if (status_.ok()) status_ = from_.all_understood();
    return status_;
  }

 private:
  void read(RecordType type, base::ByteReader bytes, auto&& list) {
    FieldReader reader(bytes);
    list(reader);
    if (const auto wrong = reader.finish(); !wrong.empty())
      status_ = Status(Code::corrupt, fmt::format("record {:04x}: {}", type, wrong));
  }
  Records& from_;
  Status status_;
};

// Types 1.. are the alternatives of Message, in order.
static_assert(std::is_same_v<std::variant_alternative_t<0, Message>, Hello> &&
              std::is_same_v<std::variant_alternative_t<5, Message>, Ack> &&
              std::is_same_v<std::variant_alternative_t<9, Message>, Bye>);
static_assert(int(FrameType::hello) == 1 && int(FrameType::ack) == 6 && int(FrameType::bye) == 10);
static_assert(std::variant_size_v<Message> == 16 && int(FrameType::hold) == 16);

template <class M>
Result<Message> decode_as(Records& from) {
  M message;
  Reader reader(from);
  records(reader, message, static_cast<const M*>(nullptr));
  FT_TRY(reader.finish());
  return Message(std::move(message));
}

Result<Message> decode_type(FrameType type, Records& from) {
  switch (type) {
    case FrameType::hello: return decode_as<Hello>(from);
    case FrameType::welcome: return decode_as<Welcome>(from);
    case FrameType::refuse: return decode_as<Refuse>(from);
    case FrameType::sync_round: return decode_as<SyncRound>(from);
    case FrameType::probe_answer: return decode_as<ProbeAnswer>(from);
    case FrameType::ack: return decode_as<Ack>(from);
    case FrameType::joined: return decode_as<Joined>(from);
    case FrameType::switch_over: return decode_as<SwitchOver>(from);
    case FrameType::ended: return decode_as<Ended>(from);
    case FrameType::bye: return decode_as<Bye>(from);
    case FrameType::verify: return decode_as<Verify>(from);
    case FrameType::followed: return decode_as<Followed>(from);
    case FrameType::change: return decode_as<Change>(from);
    case FrameType::vote: return decode_as<Vote>(from);
    case FrameType::image_wanted: return decode_as<ImageWanted>(from);
    case FrameType::hold: return decode_as<Hold>(from);
    default: break;
  }
  return failure(Code::unsupported, fmt::format("frame type {} is not a message", unsigned(type)));
}

Status check_name(const Message& message, const FrameHeader& header) {
  const auto* hello = std::get_if<Hello>(&message);
  if (!hello) return {};
  const auto id = GuestId::from_name(hello->guest);
  if (!id) return Status(Code::corrupt, id.error().message());
  if (id->bytes() != header.guest)
    return Status(Code::corrupt, "the guest's name does not match the frame's guest id");
  return {};
}

}  // namespace

std::vector<std::byte> encode(const Message& message, const GuestId& guest, Generation generation) {
  std::vector<std::byte> frame(kHeaderBytes);
  Writer writer(frame);
  std::visit([&](const auto& m) { records(writer, m, &m); }, message);

  FrameHeader header;
  header.type = FrameType(message.index() + 1);
  // Hello and Refuse must be readable before a version is agreed upon.
  const bool early = header.type == FrameType::hello || header.type == FrameType::refuse;
  header.version = early ? kVersionOldest : kVersion;
  header.guest = guest.bytes();
  header.id.generation = generation;
  write_header(frame, header, std::span<const std::byte>(frame).subspan(kHeaderBytes));
  return frame;
}

Result<Message> decode(const Frame& frame) {
  if (is_bulk(frame.header.type))
    return failure(Code::unsupported, fmt::format("frame type {} is bulk data, not a message",
                                                  unsigned(frame.header.type)));
  const auto where = fmt::format("message type {}", unsigned(frame.header.type));
  auto parsed = Records::parse(frame.payload);
  if (!parsed) return failure(parsed.error().within(where));
  auto message = decode_type(frame.header.type, *parsed);
  if (!message) return failure(message.error().within(where));
  FT_TRY(check_name(*message, frame.header).within(where));
  return message;
}

}  // namespace libft::wire
