// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "base/bytes.h"
#include "base/checksum.h"
#include "unit/wire/golden_frames.h"
#include "wire/frame.h"
#include "wire/pages.h"

using namespace libft;
using namespace libft::test;
using namespace libft::wire;

namespace {

// Feeds `bytes` in pieces of `step`; returns the frames' headers and payloads, or why it broke.
struct Taken {
  FrameHeader header;
  Bytes payload;
  Frame frame() const { return {header, payload}; }
};
Result<std::vector<Taken>> read_all(FrameReader& reader, std::span<const std::byte> bytes,
                                    std::size_t step) {
  std::vector<Taken> taken;
  while (!bytes.empty()) {
    const auto space = reader.space();
    REQUIRE(!space.empty());
    const auto now = std::min({step, bytes.size(), space.size()});
    std::memcpy(space.data(), bytes.data(), now);
    reader.stored(now);
    bytes = bytes.subspan(now);
    for (;;) {
      auto frame = reader.next();
      if (!frame) return failure(frame.error());
      if (!*frame) break;
      taken.push_back({(*frame)->header, {(*frame)->payload.begin(), (*frame)->payload.end()}});
    }
  }
  return taken;
}

Result<std::vector<Taken>> read_all(std::span<const std::byte> bytes, std::size_t step = 4096) {
  FrameReader reader(golden_guest());
  return read_all(reader, bytes, step);
}

Bytes golden_file() {
  std::ifstream file(LIBFT_GOLDEN_FILE, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = base::bytes_of(text);
  return Bytes(bytes.begin(), bytes.end());
}

Bytes a_frame(FrameHeader header, const Bytes& payload) {
  header.guest = golden_guest().bytes();
  Bytes frame(kHeaderBytes);
  write_header(frame, header, payload);
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

Result<Message> decode_payload(FrameType type, const Bytes& payload) {
  Frame frame;
  frame.header.type = type;
  frame.header.guest = golden_guest().bytes();
  frame.payload = payload;
  return decode(frame);
}

void add_record(Bytes& to, std::uint16_t type, const Bytes& bytes) {
  base::ByteAppender out(to);
  out.write<std::uint16_t>(type);
  out.write<std::uint16_t>(0);
  out.write<std::uint32_t>(std::uint32_t(bytes.size()));
  out.bytes(bytes);
}

Bytes numbers(std::initializer_list<std::uint64_t> values) {
  Bytes bytes;
  base::ByteAppender out(bytes);
  for (auto value : values) out.write<std::uint64_t>(value);
  return bytes;
}

Bytes payload_of(const Message& message) {
  const Bytes frame = encode(message, golden_guest(), Generation{1});
  return Bytes(frame.begin() + kHeaderBytes, frame.end());
}

}  // namespace

TEST_CASE("the golden file of version 1 is what is written, byte for byte") {
  const Bytes golden = golden_file();
  REQUIRE(!golden.empty());
  CHECK(golden == golden_bytes());
}

TEST_CASE("the golden file of version 1 is read") {
  const Bytes golden = golden_file();
  for (const std::size_t step : {1, 7, 64, 100000}) {
    const auto frames = read_all(golden, step);
    REQUIRE(frames);
    const auto messages = golden_messages();
    REQUIRE(frames->size() == messages.size() + 7);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      CAPTURE(i);
      const auto& taken = (*frames)[i];
      CHECK(taken.header.id.generation == Generation{7});
      const auto message = decode(taken.frame());
      REQUIRE_MESSAGE(message, message.error().to_string());
      CHECK(*message == messages[i]);
    }
  }
}

TEST_CASE("the golden file of holds is what is written, byte for byte, and is read") {
  std::ifstream file(LIBFT_GOLDEN_HOLDS_FILE, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto bytes = base::bytes_of(text);
  const Bytes golden(bytes.begin(), bytes.end());
  REQUIRE(golden == golden_hold_bytes());
  const auto frames = read_all(golden);
  REQUIRE(frames);
  REQUIRE(frames->size() == 1);
  const auto hold = decode(frames->front().frame());
  REQUIRE(hold);
  CHECK(std::get<Hold>(*hold) == Hold{1000, true});
}

TEST_CASE("the bulk frames of the golden file are read") {
  const auto frames = read_all(golden_file());
  REQUIRE(frames);
  const std::size_t first = golden_messages().size();
  const EpochId base{Generation{6}, Epoch{40}}, id{Generation{7}, Epoch{41}};
  for (std::size_t i = first; i < frames->size(); ++i) {
    CHECK(is_bulk((*frames)[i].header.type));
    CHECK(decode((*frames)[i].frame()).error().code() == Code::unsupported);
  }
  const auto sync = decode_pages((*frames)[first].frame());
  REQUIRE(sync);
  CHECK(sync->base == EpochId{});
  const auto probe = decode_probe_chunk((*frames)[first + 1].frame());
  REQUIRE(probe);
  CHECK(probe->checksum == 0x1122334455667788);
  CHECK(probe->bytes.size() == 20);
  const auto begin = decode_epoch_begin((*frames)[first + 2].frame());
  REQUIRE(begin);
  CHECK(*begin == EpochBegin{base, 4, 30, 20, Coding::delta, true, true, true});
  CHECK((*frames)[first + 2].header.id == id);

  const auto pages = decode_pages((*frames)[first + 3].frame());
  REQUIRE(pages);
  CHECK(pages->base == base);
  auto entries = pages->entries;
  std::vector<PageEntry> list;
  while (!entries.empty()) {
    const auto entry = next_entry(entries);
    REQUIRE(entry);
    list.push_back(*entry);
  }
  REQUIRE(list.size() == 4);
  CHECK(list[0].coding == Coding::zero);
  CHECK(list[1].coding == Coding::delta);
  CHECK(list[1].coded.size() == 10);
  CHECK(list[2].coded.size() == 512);
  CHECK(list[2].checksum == 0x33333333);
  CHECK(list[3].page == PageNo{0xabcdef012345});
  CHECK(list[3].coding == Coding::unchanged);

  const auto state = decode_state_chunk((*frames)[first + 4].frame());
  REQUIRE(state);
  CHECK(state->offset == 5);
  const auto end = decode_epoch_end((*frames)[first + 5].frame());
  REQUIRE(end);
  CHECK(*end == EpochEnd{base, 4, 1, 0x99aabbccddeeff00});
  const auto input = decode_input_copy((*frames)[first + 6].frame());
  REQUIRE(input);
  CHECK(input->size() == 20);
}

TEST_CASE("default messages and nobody come back") {
  for (const Message& message :
       {Message(Welcome{}), Message(Refuse{}), Message(Bye{}), Message(ProbeAnswer{})}) {
    const auto frames = read_all(encode(message, golden_guest(), {}));
    REQUIRE(frames);
    const auto back = decode(frames->at(0).frame());
    REQUIRE(back);
    CHECK(*back == message);
  }
  Hello hello;
  hello.guest = "golden";
  const auto frames = read_all(encode(hello, golden_guest(), {}));
  REQUIRE(frames);
  CHECK(*decode(frames->at(0).frame()) == Message(hello));
}

TEST_CASE("every flipped bit of a frame is noticed") {
  const Bytes golden = golden_file();
  for (std::size_t bit = 0; bit < golden.size() * 8; bit += 3) {
    Bytes bytes = golden;
    bytes[bit / 8] ^= std::byte(1u << bit % 8);
    const auto frames = read_all(bytes, 100000);
    // A length that grew only waits; the frames before the bit are whole.
    if (frames) CHECK(frames->size() < golden_messages().size() + 7);
  }
}

TEST_CASE("any bytes are survived, and nothing is read after them") {
  std::mt19937_64 random(1);
  const Bytes golden = golden_file();
  for (int round = 0; round < 3000; ++round) {
    Bytes bytes = golden;
    for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = std::byte(random());
    bytes.resize(random() % bytes.size());
    FrameReader reader;
    const auto frames = read_all(reader, bytes, 1 + random() % 500);
    if (!frames) {
      CHECK(reader.next().error().code() == Code::corrupt);
    }
  }
}

TEST_CASE("garbage on the port is named at its first bytes") {
  for (const char* text : {"GET / HTTP/1.1\r\n", "\x16\x03\x01", "LBFX", "S"}) {
    const auto frames = read_all(base::bytes_of(text));
    REQUIRE(!frames);
    CHECK(frames.error().code() == Code::corrupt);
    CHECK(frames.error().message().find("not libft's") != std::string::npos);
  }
}

TEST_CASE("headers that cannot be served are refused, each for its reason") {
  const auto code_of = [](FrameHeader header) {
    const auto frames = read_all(a_frame(header, {}));
    return frames ? Code::ok : frames.error().code();
  };
  FrameHeader header;
  header.type = FrameType::bye;
  CHECK(code_of(header) == Code::ok);
  header.version = 2;
  CHECK(code_of(header) == Code::unsupported);
  header.version = 0;
  CHECK(code_of(header) == Code::unsupported);
  header.version = 1;
  header.flags = 1u << 5;
  CHECK(code_of(header) == Code::ok);
  header.flags = 1u << 16;
  CHECK(code_of(header) == Code::unsupported);
  header.flags = 0;
  header.type = FrameType{31};
  CHECK(code_of(header) == Code::unsupported);
  header.flags = kFlagSkippable;
  const auto skipped = read_all(a_frame(header, Bytes(100)));
  REQUIRE(skipped);
  CHECK(skipped->empty());

  FrameReader other(*GuestId::from_name("other"));
  CHECK(read_all(other, golden_file(), 1000).error().code() == Code::refused);
  FrameReader any;
  CHECK(read_all(any, golden_file(), 1000));
}

TEST_CASE("a length beyond the limit is corrupt, and reserves nothing") {
  FrameHeader header;
  header.type = FrameType::bye;
  Bytes frame = a_frame(header, {});
  base::store_le<std::uint32_t>(frame.data() + 12, std::uint32_t(kPayloadBytesMax + 1));
  CHECK(read_all(frame).error().code() == Code::corrupt);
  base::store_le<std::uint32_t>(frame.data() + 12, std::uint32_t(kPayloadBytesMax));
  FrameReader reader;
  CHECK(read_all(reader, frame, 1000));
  CHECK(reader.space().size() <= 64u << 10);
}

TEST_CASE("frames of the greatest size pass, whatever the pieces") {
  FrameHeader header;
  header.type = FrameType::bye;
  Bytes stream;
  for (std::size_t size :
       {kPayloadBytesMax, std::size_t{0}, kPayloadBytesMax - 1, std::size_t{70000}}) {
    const Bytes frame = a_frame(header, Bytes(size, std::byte{1}));
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  for (const std::size_t step : {3000u, 65536u, 10u << 20}) {
    const auto frames = read_all(stream, step);
    REQUIRE(frames);
    CHECK(frames->size() == 4);
  }
}

TEST_CASE("unknown records: optional ones are skipped, mandatory ones refused") {
  Bytes payload = payload_of(Ack{{Generation{1}, Epoch{2}}});
  add_record(payload, 0x0777, Bytes(10));
  CHECK(decode_payload(FrameType::ack, payload));
  add_record(payload, 0x8777, Bytes(10));
  const auto refused = decode_payload(FrameType::ack, payload);
  REQUIRE(!refused);
  CHECK(refused.error().code() == Code::unsupported);
  CHECK(refused.error().message().find("8777") != std::string::npos);
}

TEST_CASE("records that are not as specified are corrupt") {
  const auto code_of = [](FrameType type, const Bytes& payload) {
    const auto message = decode_payload(type, payload);
    return message ? Code::ok : message.error().code();
  };
  const Bytes ack = payload_of(Ack{{Generation{1}, Epoch{2}}});
  Bytes payload;
  CHECK(code_of(FrameType::ack, payload) == Code::corrupt);  // missing
  payload = ack;
  payload.insert(payload.end(), ack.begin(), ack.end());
  CHECK(code_of(FrameType::ack, payload) == Code::corrupt);  // twice
  for (std::size_t size = 1; size < ack.size(); ++size) {
    payload.assign(ack.begin(), ack.begin() + std::ptrdiff_t(size));
    CHECK(code_of(FrameType::ack, payload) == Code::corrupt);  // cut
  }
  payload.clear();
  add_record(payload, 0x8020, numbers({1, 2, 3}));
  CHECK(code_of(FrameType::ack, payload) == Code::corrupt);  // left over
  payload.clear();
  for (int i = 0; i < 65; ++i) add_record(payload, std::uint16_t(0x100 + i), {});
  CHECK(code_of(FrameType::bye, payload) == Code::corrupt);  // too many
  CHECK(code_of(FrameType::hold, payload_of(Hold{kHoldMsMax})) == Code::ok);
  CHECK(code_of(FrameType::hold, payload_of(Hold{kHoldMsMax + 1})) == Code::corrupt);

  payload.clear();
  add_record(payload, 0x801B, {std::byte{2}});
  CHECK(code_of(FrameType::probe_answer, payload) == Code::corrupt);
  for (const int code : {0, 15, 500}) {
    payload.clear();
    add_record(payload, 0x8018, {std::byte(code), std::byte(code >> 8)});
    CHECK(code_of(FrameType::refuse, payload) == Code::corrupt);
  }
  CHECK(code_of(FrameType{200}, ack) == Code::unsupported);
}

TEST_CASE("values out of range in messages are corrupt") {
  const auto refused = [](const Message& message) {
    const auto back = decode_payload(FrameType(message.index() + 1), payload_of(message));
    return !back && back.error().code() == Code::corrupt;
  };
  Hello hello;
  hello.guest = "golden";
  CHECK(!refused(hello));
  hello.version_min = 3;
  CHECK(refused(hello));
  hello.version_min = 1;
  hello.guest = "another";
  CHECK(refused(hello));
  hello.guest = "../golden";
  CHECK(refused(hello));
  hello.guest = "golden";
  hello.backup.host = "nobody has a host";
  CHECK(refused(hello));
  hello.backup = golden_replica("a/b", 1);
  CHECK(refused(hello));

  Welcome welcome;
  CHECK(!refused(welcome));
  welcome.version = 2;
  CHECK(refused(welcome));
  welcome.version = 1;
  for (const std::uint32_t size : {0u, 256u, 4097u, 4u << 20}) {
    welcome.shape.page_bytes = size;
    CHECK(refused(welcome));
  }
  welcome.shape.page_bytes = 4096;
  welcome.shape.memory = {{"a", PageNo{10}, 5}, {"b", PageNo{14}, 1}};
  CHECK(refused(welcome));
  welcome.shape.memory = {{"a", PageNo{10}, 5}, {"b", PageNo{15}, 1}};
  CHECK(!refused(welcome));
  welcome.shape.memory = {{"a", PageNo{10}, ~0ull}};
  CHECK(refused(welcome));
  welcome.shape.memory = {{"a", PageNo{~0ull}, 2}};
  CHECK(refused(welcome));
}

TEST_CASE("pages left out of a verification come back, and must ascend") {
  const auto read = [](std::vector<PageRun> left_out) {
    const Message verify =
        Verify{.id = {Generation{2}, Epoch{3}}, .memory_hash = 77, .left_out = std::move(left_out)};
    return decode_payload(FrameType::verify, payload_of(verify));
  };
  const std::vector<PageRun> runs{{PageNo{4}, 2}, {PageNo{9}, 1}};
  const auto back = read(runs);
  REQUIRE(back);
  CHECK(std::get<Verify>(*back).left_out == runs);
  CHECK_FALSE(read({{PageNo{9}, 1}, {PageNo{4}, 2}}));
  CHECK_FALSE(read({{PageNo{4}, 0}}));
  CHECK_FALSE(read({{PageNo{1ull << 56}, 1}}));
}

TEST_CASE("what tells where memories differ comes back, and is refused when it makes no sense") {
  const auto read = [](const Message& verify) {
    return decode_payload(FrameType::verify, payload_of(verify));
  };
  Verify verify{.id = {Generation{2}, Epoch{3}}, .memory_hash = 77, .group_pages = 4};
  verify.groups = {1, 2, 3};
  verify.pages = {{PageNo{4}, 40}, {PageNo{9}, 90}};
  const auto back = read(verify);
  REQUIRE(back);
  CHECK(std::get<Verify>(*back) == verify);
  verify.group_pages = 0;
  CHECK_FALSE(read(verify));
  verify.group_pages = 4;
  verify.pages = {{PageNo{9}, 90}, {PageNo{9}, 90}};
  CHECK_FALSE(read(verify));
}

TEST_CASE("texts for people are cut to their limit, not refused by the peer") {
  const Message message = Refuse{Code::invalid, std::string(10000, 'x')};
  const auto back = decode_payload(FrameType::refuse, payload_of(message));
  REQUIRE(back);
  CHECK(std::get<Refuse>(*back).text.size() == 4096);
}

TEST_CASE("bulk records out of range are corrupt") {
  FrameHeader header;
  EpochBegin good{{}, 1, 100, 100, Coding::raw, false, false, false};
  const auto refused = [&](EpochBegin begin) {
    Bytes bytes;
    append_epoch_begin(bytes, header, begin);
    Frame frame{header, std::span<const std::byte>(bytes).subspan(kHeaderBytes)};
    const auto back = decode_epoch_begin(frame);
    if (back) CHECK(*back == begin);
    return !back;
  };
  CHECK(!refused(good));
  auto bad = good;
  bad.state_bytes = bad.state_coded_bytes = kStateBytesMax + 1;
  CHECK(refused(bad));
  bad = good;
  bad.state_coded_bytes = 99;
  CHECK(refused(bad));
  bad.state_coding = Coding::delta;
  CHECK(!refused(bad));
  bad.state_coded_bytes = 101;
  CHECK(refused(bad));
  bad = good;
  bad.state_coding = Coding::zero;
  CHECK(refused(bad));

  Bytes entry(kPageEntryBytes);
  entry[7] = std::byte{4};  // An unknown coding.
  std::span<const std::byte> entries = entry;
  CHECK(next_entry(entries).error().code() == Code::corrupt);
  entry[7] = std::byte{2};
  entry[8] = std::byte{1};  // One byte that is not there.
  CHECK(next_entry(entries).error().code() == Code::corrupt);
  entries = entries.first(15);
  CHECK(next_entry(entries).error().code() == Code::corrupt);
}

TEST_CASE("the byte reader answers zero past the end, and remembers") {
  const Bytes bytes = numbers({0x0807060504030201});
  base::ByteReader reader(bytes);
  CHECK(reader.read<std::uint16_t>() == 0x0201);
  CHECK(reader.read<std::uint8_t>() == 0x03);
  CHECK(reader.left() == 5);
  CHECK(reader.read<std::uint64_t>() == 0);
  CHECK(reader.failed());
  CHECK(reader.read<std::uint8_t>() == 0);
  CHECK(reader.left() == 0);
  CHECK(!reader.done());
  base::ByteReader huge(bytes);
  CHECK(huge.bytes(~std::size_t{0}).empty());
  CHECK(huge.failed());
}

TEST_CASE("checksums in pieces equal the whole") {
  const Bytes bytes = golden_bytes();
  const auto whole = base::checksum(bytes);
  base::RunningChecksum running;
  for (std::size_t cut = 0; cut < bytes.size(); cut += 97) {
    const auto head = std::span(bytes).first(cut), tail = std::span(bytes).subspan(cut);
    CHECK(base::checksum(head, tail) == whole);
    running.restart();
    running.add(head);
    running.add(tail);
    CHECK(running.value() == whole);
  }
  CHECK(base::checksum({}) == 0x2d06800538d394c2);  // XXH3-64 of nothing, seed 0.
}
