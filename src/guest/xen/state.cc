// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/state.h"

#include <fmt/format.h>

#include "base/bytes.h"

namespace libft::xen {
namespace {

constexpr std::uint32_t kMagic = 0x4e585446;  // "FTXN"
constexpr std::uint16_t kVersion = 1;
constexpr std::uint16_t kMayBeSkipped = 1;
constexpr std::size_t kContextBytesMax = 64u << 20, kDevicesBytesMax = 64u << 20, kParamsMax = 64;
enum RecordType : std::uint16_t { kShape = 1, kContext, kParams, kTsc, kDevices };

void begin_record(base::ByteAppender& to, RecordType type, std::size_t length) {
  to.write<std::uint16_t>(type);
  to.write<std::uint16_t>(0);
  to.write<std::uint32_t>(static_cast<std::uint32_t>(length));
}

Status decode_shape(base::ByteReader body, DomainState& state) {
  const auto uuid = body.bytes(state.uuid.size());
  state.vcpus = body.read<std::uint32_t>();
  if (!body.done()) return Status(Code::corrupt, "shape");
  std::memcpy(state.uuid.data(), uuid.data(), uuid.size());
  return {};
}

Status decode_params(base::ByteReader body, DomainState& state) {
  while (body.left() > 0 && state.params.size() < kParamsMax) {
    HvmParam param;
    param.index = body.read<std::uint32_t>();
    param.value = body.read<std::uint64_t>();
    state.params.push_back(param);
  }
  return body.done() ? Status() : Status(Code::corrupt, "params");
}

Status decode_tsc(base::ByteReader body, DomainState& state) {
  state.tsc.mode = body.read<std::uint32_t>();
  state.tsc.khz = body.read<std::uint32_t>();
  state.tsc.incarnation = body.read<std::uint32_t>();
  state.tsc.nanos = body.read<std::uint64_t>();
  return body.done() ? Status() : Status(Code::corrupt, "tsc");
}

Status decode_record(std::uint16_t type, std::uint16_t flags, std::span<const std::byte> bytes,
                     DomainState& state) {
  switch (type) {
    case kShape: return decode_shape(base::ByteReader(bytes), state);
    case kParams: return decode_params(base::ByteReader(bytes), state);
    case kTsc: return decode_tsc(base::ByteReader(bytes), state);
    case kContext:
      if (bytes.empty() || bytes.size() > kContextBytesMax) return Status(Code::corrupt, "context");
      state.context.assign(bytes.begin(), bytes.end());
      return {};
    case kDevices:
      if (bytes.empty() || bytes.size() > kDevicesBytesMax) return Status(Code::corrupt, "devices");
      state.devices.assign(bytes.begin(), bytes.end());
      return {};
    default:
      if ((flags & kMayBeSkipped) != 0) return {};
      return Status(Code::unsupported,
                    fmt::format("record type {} is of a newer libft: install the same release on "
                                "both hosts",
                                type));
  }
}

}  // namespace

void encode(const DomainState& state, std::vector<std::byte>& bytes) {
  bytes.clear();
  base::ByteAppender to(bytes);
  to.write(kMagic);
  to.write(kVersion);
  to.write<std::uint16_t>(state.devices.empty() ? 4 : 5);
  begin_record(to, kShape, 20);
  to.bytes(std::as_bytes(std::span(state.uuid)));
  to.write(state.vcpus);
  begin_record(to, kContext, state.context.size());
  to.bytes(state.context);
  begin_record(to, kParams, 12 * state.params.size());
  for (const HvmParam& param : state.params) {
    to.write(param.index);
    to.write(param.value);
  }
  begin_record(to, kTsc, 20);
  to.write(state.tsc.mode);
  to.write(state.tsc.khz);
  to.write(state.tsc.incarnation);
  to.write(state.tsc.nanos);
  if (state.devices.empty()) return;
  begin_record(to, kDevices, state.devices.size());
  to.bytes(state.devices);
}

Result<DomainState> decode(std::span<const std::byte> bytes) {
  base::ByteReader reader(bytes);
  const auto magic = reader.read<std::uint32_t>();
  const auto version = reader.read<std::uint16_t>();
  const auto records = reader.read<std::uint16_t>();
  if (reader.failed() || magic != kMagic)
    return failure(Code::corrupt, "the domain's state does not begin as one");
  if (version != kVersion)
    return failure(Code::unsupported,
                   fmt::format("the domain's state is of format {}, this host reads {}: install "
                               "the same release of libft on both",
                               version, kVersion));
  DomainState state;
  unsigned seen = 0;
  for (unsigned i = 0; i < records; ++i) {
    const auto type = reader.read<std::uint16_t>();
    const auto flags = reader.read<std::uint16_t>();
    const auto length = reader.read<std::uint32_t>();
    const auto body = reader.bytes(length);
    if (reader.failed()) return failure(Code::corrupt, "the domain's state is cut short");
    if (type >= kShape && type <= kDevices && (seen & 1u << type) != 0)
      return failure(Code::corrupt, fmt::format("the domain's state has two records {}", type));
    if (type <= kDevices) seen |= 1u << type;
    FT_TRY(decode_record(type, flags, body, state).within("the domain's state"));
  }
  if (!reader.done()) return failure(Code::corrupt, "the domain's state has bytes left over");
  if ((seen & 0x1e) != 0x1e) return failure(Code::corrupt, "the domain's state lacks a record");
  return state;
}

}  // namespace libft::xen
