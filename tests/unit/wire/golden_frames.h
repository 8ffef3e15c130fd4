// SPDX-License-Identifier: LGPL-2.1-or-later
// One frame of every type, with every field set: what golden/v1.bin holds. Changing this means a
// new version of the format, with a new file. One thread.
#pragma once

#include <vector>

#include "wire/copies.h"
#include "wire/frame.h"
#include "wire/log.h"
#include "wire/pages.h"

namespace libft::test {

using Bytes = std::vector<std::byte>;

inline const GuestId& golden_guest() {
  static const GuestId guest = *GuestId::from_name("golden");
  return guest;
}

inline Incarnation golden_replica(std::string host, std::uint8_t seed) {
  Incarnation incarnation;
  incarnation.host = std::move(host);
  for (std::size_t i = 0; i < incarnation.id.size(); ++i)
    incarnation.id[i] = std::uint8_t(seed + i);
  return incarnation;
}

inline wire::GuestShape golden_shape() {
  wire::GuestShape shape;
  shape.driver = "qemu";
  shape.description = "QEMU 7.2.22, pc-i440fx-7.2, tcg, 128 MiB";
  shape.compatibility = R"({"machine":"pc-i440fx-7.2"})";
  shape.page_bytes = 4096;
  shape.vcpus = 2;
  shape.memory = {{"ram", PageNo{0}, 786432}, {"ram-high", PageNo{1048576}, 4096}};
  return shape;
}

inline std::vector<wire::Message> golden_messages() {
  using namespace wire;
  const EpochId id{Generation{7}, Epoch{41}};
  Hello hello;
  hello.features = feature::delta_pages | feature::delta_state | feature::input_copies;
  hello.guest = "golden";
  hello.backup = golden_replica("beta", 16);
  hello.newest_complete = id;
  hello.image_of = golden_replica("alpha", 1);
  hello.memory_bytes_free = 1ull << 34;
  hello.shape = golden_shape();
  Welcome welcome;
  welcome.features = feature::delta_pages;
  welcome.primary = golden_replica("alpha", 1);
  welcome.shape = golden_shape();
  welcome.resume = true;
  welcome.heartbeat_token = 0x0123456789abcdef;
  welcome.heartbeat_port = 7071;
  welcome.heartbeat_interval_ms = 50;
  return {hello,
          welcome,
          Refuse{Code::fenced, "another replica owns the guest"},
          SyncRound{2, 100, 4096},
          ProbeAnswer{true, "loaded"},
          Ack{id},
          Joined{Generation{8}},
          SwitchOver{id},
          Ended{Generation{9}, "shut down"},
          Bye{"stopped by its owner"},
          Verify{.id = id, .memory_hash = 0xfedcba9876543210}};
}

inline Bytes golden_pages(wire::FrameType type, EpochId id, EpochId base) {
  constexpr std::size_t kPage = 512;
  Bytes buffer(wire::PagesFrameWriter::bytes_needed(4, kPage));
  wire::FrameHeader header;
  header.type = type;
  header.guest = golden_guest().bytes();
  header.id = id;
  wire::PagesFrameWriter writer(buffer, header, base, 0);
  writer.add(PageNo{1}, wire::Coding::zero, 0, 0x11111111);
  writer.room()[0] = std::byte{3};  // Skip three words, change one.
  writer.room()[1] = std::byte{1};
  for (std::size_t i = 0; i < 8; ++i) writer.room()[2 + i] = std::byte(i);
  writer.add(PageNo{2}, wire::Coding::delta, 10, 0x22222222);
  for (std::size_t i = 0; i < kPage; ++i) writer.room()[i] = std::byte(i);
  writer.add(PageNo{3}, wire::Coding::raw, kPage, 0x33333333);
  writer.add(PageNo{0xabcdef012345}, wire::Coding::unchanged, 0, 0x44444444);
  const auto frame = writer.finish();
  return Bytes(frame.begin(), frame.end());
}

// All frames, one after the other.
inline Bytes golden_bytes() {
  using namespace wire;
  Bytes all;
  const auto append = [&all](const Bytes& frame) {
    all.insert(all.end(), frame.begin(), frame.end());
  };
  for (const Message& message : golden_messages())
    append(encode(message, golden_guest(), Generation{7}));

  const EpochId base{Generation{6}, Epoch{40}}, id{Generation{7}, Epoch{41}};
  FrameHeader header;
  header.guest = golden_guest().bytes();
  header.id = {Generation{7}, Epoch{0}};
  append(golden_pages(FrameType::sync_pages, header.id, {}));
  const Bytes state(20, std::byte{0xa5});
  append_probe_chunk(all, header, {20, 0, 0x1122334455667788, state});
  header.id = id;
  EpochBegin begin{base, 4, 30, 20, Coding::delta, true, true, true};
  append_epoch_begin(all, header, begin);
  append(golden_pages(FrameType::epoch_pages, id, base));
  append_state_chunk(all, header, {base, 5, state});
  append_epoch_end(all, header, {base, 4, 1, 0x99aabbccddeeff00});
  append(encode_input_copy(golden_guest(), id, state));
  return all;
}

// What belongs to the feature `logs`.
inline wire::LogEpoch golden_log() {
  using Kind = GuestInput::Kind;
  wire::LogEpoch log;
  log.id = {Generation{7}, Epoch{41}};
  log.base = {Generation{6}, Epoch{40}};
  wire::append_input(log.coded, Position{1000}, Position{1000},
                     {Kind::frame, Bytes(60, std::byte{0xa5})});
  wire::append_input(log.coded, Position{1000}, Position{1300}, {Kind::console, {std::byte{'x'}}});
  wire::append_input(log.coded, Position{1300}, Position{1ull << 40},
                     {Kind::entropy, Bytes(200, std::byte{0x5a})});
  log.mark = {.from = Position{1000},
              .until = Position{(1ull << 40) + 7},
              .inputs = 3,
              .bytes = log.coded.size(),
              .hash = 0x0123456789abcdef,
              .said = 0x1032547698badcfe,
              .guest_ended = true,
              .guest_paused = true,
              .released = {Generation{6}, Epoch{38}}};
  return log;
}

inline Bytes golden_log_bytes() {
  Bytes all =
      wire::encode(wire::Followed{{Generation{7}, Epoch{41}}}, golden_guest(), Generation{7});
  const Bytes log = wire::encode_log(golden_guest(), golden_log());
  all.insert(all.end(), log.begin(), log.end());
  return all;
}

// What the features `rebases`, `changes` and `delays` add.
inline Bytes golden_rebase_bytes() {
  using namespace wire;
  auto welcome = std::get<Welcome>(golden_messages()[1]);
  welcome.features = feature::logs | feature::rebases;
  Bytes all = encode(welcome, golden_guest(), Generation{7});
  FrameHeader header;
  header.guest = golden_guest().bytes();
  header.id = {Generation{7}, Epoch{45}};
  append_epoch_begin(all, header,
                     {.base = {Generation{6}, Epoch{40}},
                      .pages = 4,
                      .state_bytes = 30,
                      .state_coded_bytes = 20,
                      .state_coding = Coding::delta,
                      .guest_paused = true,
                      .rebase = true});
  const Bytes change =
      encode(Change{feature::logs | feature::executed}, golden_guest(), Generation{7});
  all.insert(all.end(), change.begin(), change.end());
  const Followed late{{Generation{7}, Epoch{46}}, EpochId{Generation{7}, Epoch{48}}};
  const Bytes followed = encode(late, golden_guest(), Generation{7});
  all.insert(all.end(), followed.begin(), followed.end());
  return all;
}

// What the feature `compares` adds.
inline Bytes golden_compare_bytes() {
  using namespace wire;
  Bytes all;
  FrameHeader header;
  header.guest = golden_guest().bytes();
  header.id = {Generation{7}, Epoch{45}};
  append_epoch_begin(all, header,
                     {.base = {Generation{6}, Epoch{40}},
                      .pages = 4,
                      .state_bytes = 30,
                      .state_coded_bytes = 20,
                      .state_coding = Coding::delta,
                      .run = true});
  const auto append = [&all](const Bytes& frames) {
    all.insert(all.end(), frames.begin(), frames.end());
  };
  const Bytes small(60, std::byte{0xa5}), large(1514, std::byte{0x5a});
  CopiesWriter in(FrameType::frames_in, golden_guest());
  in.add(header.id, {0, small});
  in.add(header.id, {3, large});
  append(in.take());
  append(encode(Followed{header.id}, golden_guest(), Generation{8}));
  CopiesWriter out(FrameType::frames_out, golden_guest());
  out.add(header.id, {255, large});
  append(out.take());
  return all;
}

// What the feature `votes` adds.
inline std::vector<wire::Message> golden_votes() {
  const EpochId id{Generation{7}, Epoch{41}};
  return {wire::Vote{id, true, 0x1032547698badcfe, 0x0123456789abcdef}, wire::Vote{id, false},
          wire::ImageWanted{id}};
}

inline Bytes golden_vote_bytes() {
  Bytes all;
  for (const wire::Message& message : golden_votes()) {
    const Bytes frame = wire::encode(message, golden_guest(), Generation{7});
    all.insert(all.end(), frame.begin(), frame.end());
  }
  return all;
}

// What the feature `holds` adds.
inline Bytes golden_hold_bytes() {
  return wire::encode(wire::Hold{.at_most_ms = 1000, .answer = true}, golden_guest(),
                      Generation{7});
}

}  // namespace libft::test
