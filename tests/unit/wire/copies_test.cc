// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire/copies.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>

#include "base/bytes.h"
#include "unit/wire/golden_frames.h"

using namespace libft;
using namespace libft::test;
using namespace libft::wire;

namespace {

struct Taken {
  FrameType type{};
  EpochId from;
  std::vector<std::pair<unsigned, Bytes>> copies;
};

std::vector<Taken> read_all(const Bytes& stream) {
  std::vector<Taken> all;
  FrameReader reader(golden_guest());
  std::span<const std::byte> rest(stream);
  for (;;) {
    const auto frame = reader.next();
    REQUIRE(frame);
    if (*frame) {
      const auto copies = decode_copies(**frame);
      REQUIRE(copies);
      Taken taken{(*frame)->header.type, (*frame)->header.id, {}};
      for (const FrameCopy& copy : *copies)
        taken.copies.push_back({copy.nic, {copy.bytes.begin(), copy.bytes.end()}});
      all.push_back(std::move(taken));
      continue;
    }
    if (rest.empty()) return all;
    const auto space = reader.space();
    const auto bytes = std::min(space.size(), rest.size());
    std::copy_n(rest.begin(), bytes, space.begin());
    reader.stored(bytes);
    rest = rest.subspan(bytes);
  }
}

Frame with_payload(const Bytes& payload) {
  Frame frame;
  frame.header.type = FrameType::frames_in;
  frame.payload = payload;
  return frame;
}

// One record "copies" of those bytes.
Bytes record_of(std::initializer_list<int> bytes) {
  Bytes payload;
  base::ByteAppender out(payload);
  out.write<std::uint16_t>(0x8051);
  out.write<std::uint16_t>(0);
  out.write<std::uint32_t>(std::uint32_t(bytes.size()));
  for (const int byte : bytes) out.write<std::uint8_t>(std::uint8_t(byte));
  return payload;
}

}  // namespace

TEST_CASE("copies come out as they went in, in order, under their checkpoint") {
  const EpochId first{Generation{2}, Epoch{7}}, second{Generation{2}, Epoch{8}};
  CopiesWriter writer(FrameType::frames_out, golden_guest());
  CHECK(writer.take().empty());
  const Bytes empty, small(60, std::byte{1}), large(kCopyBytesMax, std::byte{2});
  writer.add(first, {0, small});
  writer.add(first, {255, large});
  writer.add(second, {1, empty});
  CHECK(writer.bytes() > small.size() + large.size());
  const auto taken = read_all(writer.take());
  REQUIRE(taken.size() == 2);
  CHECK(taken[0].type == FrameType::frames_out);
  CHECK(taken[0].from == first);
  REQUIRE(taken[0].copies.size() == 2);
  CHECK(taken[0].copies[0] == std::pair{0u, small});
  CHECK(taken[0].copies[1] == std::pair{255u, large});
  CHECK(taken[1].from == second);
  REQUIRE(taken[1].copies.size() == 1);
  CHECK(taken[1].copies[0] == std::pair{1u, empty});
  CHECK(writer.take().empty());
}

TEST_CASE("more copies than one frame may have go into the next") {
  const EpochId from{Generation{1}, Epoch{1}};
  CopiesWriter writer(FrameType::frames_in, golden_guest());
  const Bytes large(kCopyBytesMax, std::byte{9});
  for (int n = 0; n < 40; ++n) writer.add(from, {0, large});
  const auto taken = read_all(writer.take());
  CHECK(taken.size() == 3);
  std::size_t copies = 0;
  for (const Taken& one : taken) copies += one.copies.size();
  CHECK(copies == 40);
}

TEST_CASE("a frame longer than any, cut short, or none at all is corrupt") {
  const Bytes none = record_of({}), cut = record_of({0, 9, 0, 0, 0, 1}),
              header_cut = record_of({0, 9, 0}), too_long = record_of({0, 255, 255, 255, 255});
  for (const Bytes* payload : {&none, &cut, &header_cut, &too_long}) {
    const auto copies = decode_copies(with_payload(*payload));
    REQUIRE_FALSE(copies);
    CHECK(copies.error().code() == Code::corrupt);
  }
  const Bytes whole = record_of({4, 1, 0, 0, 0, 77});
  const auto copies = decode_copies(with_payload(whole));
  REQUIRE(copies);
  REQUIRE(copies->size() == 1);
  CHECK((*copies)[0].nic == 4);
}

TEST_CASE("a checkpoint to be run from an image beside a log is corrupt") {
  Bytes bytes;
  EpochBegin begin;
  begin.rebase = begin.run = true;
  append_epoch_begin(bytes, {}, begin);
  Frame frame;
  frame.payload = std::span<const std::byte>(bytes).subspan(kHeaderBytes);
  CHECK_FALSE(decode_epoch_begin(frame));
}

TEST_CASE("the golden file of comparisons is what is written, byte for byte, and is read") {
  std::ifstream file(LIBFT_GOLDEN_COMPARES_FILE, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = base::bytes_of(text);
  const Bytes golden(bytes.begin(), bytes.end());
  REQUIRE(golden == golden_compare_bytes());

  FrameReader reader(golden_guest());
  std::vector<FrameType> types;
  REQUIRE(reader.space().size() >= golden.size());
  std::copy(golden.begin(), golden.end(), reader.space().begin());
  reader.stored(golden.size());
  for (;;) {
    const auto frame = reader.next();
    REQUIRE(frame);
    if (!*frame) break;
    types.push_back((*frame)->header.type);
    CHECK((*frame)->header.id.generation >= Generation{7});
    if (types.back() == FrameType::epoch_begin) CHECK(decode_epoch_begin(**frame)->run);
    if (types.back() == FrameType::frames_in) CHECK(decode_copies(**frame)->size() == 2);
    if (types.back() == FrameType::frames_out) CHECK((*decode_copies(**frame))[0].nic == 255);
  }
  CHECK(types == std::vector{FrameType::epoch_begin, FrameType::frames_in, FrameType::followed,
                             FrameType::frames_out});
}
