// SPDX-License-Identifier: LGPL-2.1-or-later
// Logs on the wire: the golden bytes, and what a peer could send instead.
#include "wire/log.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

#include "base/bytes.h"
#include "unit/wire/golden_frames.h"

using namespace libft;
using namespace libft::test;
using namespace libft::wire;

namespace {

struct Taken {
  FrameHeader header;
  Bytes payload;
  Frame frame() const { return {header, payload}; }
};

std::vector<Taken> cut(const Bytes& bytes) {
  FrameReader reader(golden_guest());
  std::vector<Taken> taken;
  for (std::span<const std::byte> rest = bytes; !rest.empty();) {
    const auto space = reader.space();
    const auto now = rest.first(std::min(rest.size(), space.size()));
    std::ranges::copy(now, space.begin());
    reader.stored(now.size());
    rest = rest.subspan(now.size());
    for (;;) {
      auto frame = reader.next();
      REQUIRE_MESSAGE(frame, frame.error().to_string());
      if (!*frame) break;
      taken.push_back({(*frame)->header, {(*frame)->payload.begin(), (*frame)->payload.end()}});
    }
  }
  return taken;
}

Bytes coded(std::initializer_list<int> bytes) {
  Bytes list;
  for (const int byte : bytes) list.push_back(std::byte(byte));
  return list;
}

Code code_of(const Bytes& input) {
  std::span<const std::byte> rest = input;
  const auto taken = next_input(rest, Position{1});
  return taken ? Code{} : taken.error().code();
}

}  // namespace

TEST_CASE("the golden file of logs is what is written, byte for byte, and is read") {
  std::ifstream file(LIBFT_GOLDEN_LOGS_FILE, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = base::bytes_of(text);
  const Bytes golden(bytes.begin(), bytes.end());
  REQUIRE(golden == golden_log_bytes());

  const auto frames = cut(golden);
  REQUIRE(frames.size() == 2);
  const auto followed = decode(frames[0].frame());
  REQUIRE(followed);
  CHECK(*followed == Message(Followed{{Generation{7}, Epoch{41}}}));

  // A backup that is late by choice says more than the golden file has.
  const Followed late{{Generation{7}, Epoch{41}}, EpochId{Generation{7}, Epoch{49}}};
  const auto said = cut(encode(late, golden_guest(), Generation{7}));
  REQUIRE(said.size() == 1);
  const auto read = decode(said[0].frame());
  REQUIRE(read);
  CHECK(*read == Message(late));

  CHECK(frames[1].header.id == golden_log().id);
  const auto log = decode_log(frames[1].frame());
  REQUIRE(log);
  CHECK(log->base == golden_log().base);
  CHECK(log->sequence == 0);
  CHECK(std::ranges::equal(log->coded, golden_log().coded));
  CHECK(log->mark == golden_log().mark);
  CHECK(log->checksum == log_checksum(golden_log()));
}

TEST_CASE("the golden file of rebases is what is written, byte for byte, and is read") {
  std::ifstream file(LIBFT_GOLDEN_REBASES_FILE, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = base::bytes_of(text);
  const Bytes golden(bytes.begin(), bytes.end());
  REQUIRE(golden == golden_rebase_bytes());

  const auto frames = cut(golden);
  REQUIRE(frames.size() == 4);
  const auto followed = decode(frames[3].frame());
  REQUIRE(followed);
  CHECK(std::get<Followed>(*followed).id == EpochId{Generation{7}, Epoch{46}});
  CHECK(std::get<Followed>(*followed).caught_up == EpochId{Generation{7}, Epoch{48}});
  const auto change = decode(frames[2].frame());
  REQUIRE(change);
  CHECK(std::get<Change>(*change).features == (feature::logs | feature::executed));
  const auto welcome = decode(frames[0].frame());
  REQUIRE(welcome);
  CHECK(std::get<Welcome>(*welcome).features == (feature::logs | feature::rebases));
  const auto begin = decode_epoch_begin(frames[1].frame());
  REQUIRE(begin);
  CHECK(begin->rebase);
  CHECK(begin->guest_paused);
  CHECK_FALSE(begin->first);
  CHECK(begin->base == EpochId{Generation{6}, Epoch{40}});
}

TEST_CASE("the golden file of votes is what is written, byte for byte, and is read") {
  std::ifstream file(LIBFT_GOLDEN_VOTES_FILE, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = base::bytes_of(text);
  const Bytes golden(bytes.begin(), bytes.end());
  REQUIRE(golden == golden_vote_bytes());
  const auto frames = cut(golden);
  REQUIRE(frames.size() == golden_votes().size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto message = decode(frames[i].frame());
    REQUIRE(message);
    CHECK(*message == golden_votes()[i]);
  }
}

TEST_CASE("a first image that is to take another's place is refused") {
  Bytes bytes;
  FrameHeader header;
  header.guest = golden_guest().bytes();
  header.id = {Generation{1}, Epoch{2}};
  append_epoch_begin(bytes, header, {.first = true, .rebase = true});
  const auto begin = decode_epoch_begin(cut(bytes)[0].frame());
  REQUIRE_FALSE(begin);
  CHECK(begin.error().code() == Code::corrupt);
}

TEST_CASE("a log without inputs is one small frame, and a long one is several") {
  LogEpoch empty;
  empty.id = {Generation{1}, Epoch{2}};
  empty.base = {Generation{1}, Epoch{1}};
  CHECK(encode_log(golden_guest(), empty).size() < 250);
  LogEpoch large = empty;
  std::mt19937_64 random(7);
  Position at{0};
  while (large.coded.size() < (3u << 20)) {
    Bytes frame(random() % 1500);
    std::ranges::generate(frame, [&] { return std::byte(random()); });
    const Position next{at.value + random() % 1000000};
    append_input(large.coded, at, next, {GuestInput::Kind::frame, frame});
    at = next;
  }
  const auto frames = cut(encode_log(golden_guest(), large));
  CHECK(frames.size() >= 3);
  Bytes together;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto log = decode_log(frames[i].frame());
    REQUIRE(log);
    CHECK(log->sequence == i);
    CHECK(log->mark.has_value() == (i + 1 == frames.size()));
    together.insert(together.end(), log->coded.begin(), log->coded.end());
  }
  CHECK(together == large.coded);
}

TEST_CASE("inputs come back as they went") {
  Bytes all;
  std::vector<LoggedInput> inputs;
  Position before{5};
  for (const std::uint64_t distance : {0ull, 1ull, 127ull, 128ull, 1ull << 62}) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kInputBytesMax}) {
      const Position at{before.value + distance};
      inputs.push_back({at, {GuestInput::Kind::entropy, Bytes(size, std::byte{9})}});
      append_input(all, before, at, inputs.back().input);
      before = at;
      if (distance > 1000) break;
    }
  }
  std::span<const std::byte> rest = all;
  before = Position{5};
  for (const LoggedInput& input : inputs) {
    const auto taken = next_input(rest, before);
    REQUIRE(taken);
    CHECK(*taken == input);
    before = taken->at;
  }
  CHECK(rest.empty());
}

TEST_CASE("an input that is none is corrupt") {
  CHECK(code_of(coded({0})) == Code::corrupt);                    // No kind.
  CHECK(code_of(coded({0, 0})) == Code::corrupt);                 // No length.
  CHECK(code_of(coded({0, 4, 0})) == Code::corrupt);              // Unknown kind.
  CHECK(code_of(coded({0, 0, 2, 1})) == Code::corrupt);           // Too few bytes.
  CHECK(code_of(coded({0, 0, 0x81, 0x80, 4})) == Code::corrupt);  // 65,537 bytes.
  CHECK(code_of(coded({0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2, 0, 0})) ==
        Code::corrupt);  // More than 64 bits.
  CHECK(code_of(coded({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0})) ==
        Code::corrupt);  // A position beyond 2^64.
  CHECK(code_of(coded({0, 0, 1, 1})) == Code{});
}

TEST_CASE("a mark that cannot be is corrupt") {
  const auto refused = [](auto spoil) {
    LogEpoch log = golden_log();
    spoil(log);
    const auto frames = cut(encode_log(golden_guest(), log));
    const auto decoded = decode_log(frames.back().frame());
    return !decoded && decoded.error().code() == Code::corrupt;
  };
  CHECK_FALSE(refused([](LogEpoch&) {}));
  CHECK(refused([](LogEpoch& log) { log.mark.until = Position{999}; }));
  CHECK(refused([](LogEpoch& log) { log.mark.bytes = kLogBytesMax + 1; }));
  CHECK(refused([](LogEpoch& log) { log.mark.inputs = log.mark.bytes + 1; }));
}
