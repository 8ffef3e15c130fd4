// SPDX-License-Identifier: LGPL-2.1-or-later
// Encoder to assembler: what was captured is what is applied, or nothing is.
#include <doctest/doctest.h>

#include <set>

#include "os/inline_executor.h"
#include "os/thread_pool.h"
#include "unit/strategy/world.h"
#include "wire/pages.h"

using namespace libft;
using namespace libft::test;
using checkpoint::EncoderOptions;
using checkpoint::EncodeStatistics;
using checkpoint::EpochEncoder;

namespace {

const GuestId kGuest = *GuestId::from_name("guest-1");

std::vector<std::uint64_t> all_pages(const Memory& memory) {
  std::vector<std::uint64_t> all(memory.pages());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}

// A primary that writes pages at random and sends them.
struct Primary {
  explicit Primary(Executor& executor, EncoderOptions options = {}, std::uint64_t seed = 1,
                   std::uint64_t low = 40, std::uint64_t high = 24, std::uint32_t page_bytes = 4096)
      : memory(low, high, page_bytes),
        random(seed),
        encoder(kGuest, memory.info(), executor, options),
        state(random_bytes(3001, random)) {}

  Status sync() {
    encoder.reset();
    const auto& low = memory.info().memory[0];
    const auto& high = memory.info().memory[1];
    FT_TRY(encoder.encode_sync(Generation{1}, low.first, low.bytes, wire.sink()));
    return encoder.encode_sync(Generation{1}, high.first, high.bytes, wire.sink());
  }
  std::vector<std::uint64_t> write(std::size_t count) {
    std::vector<std::uint64_t> written;
    for (std::size_t i = 0; i < count; ++i) {
      written.push_back(random() % memory.pages());
      scribble(memory.page(written.back()), random);
    }
    for (int i = 0; i < 20; ++i) state[random() % state.size()] = std::byte(random());
    if (random() % 4 == 0) state.resize(2900 + random() % 200);
    return written;
  }
  Result<EncodeStatistics> send(EpochId id, const std::vector<std::uint64_t>& written,
                                bool first = false) {
    Captured captured(memory, id, written, state);
    captured.epoch.first = first;
    return encoder.encode(captured.epoch, wire.sink());
  }

  Memory memory;
  Random random;
  EpochEncoder encoder;
  Bytes state;
  Wire wire;
};

void check_same(Primary& primary, Backup& backup) {
  CHECK(primary.memory == backup.memory);
  const auto state = backup.assembler.state();
  CHECK(Bytes(state.begin(), state.end()) == primary.state);
}

// Sync, a first epoch, then many; compared after each.
void run_stream(Executor& executor, EncoderOptions options, std::uint64_t seed, int epochs) {
  CAPTURE(seed);
  Primary primary(executor, options, seed);
  Backup backup(kGuest);
  for (auto index : all_pages(primary.memory)) scribble(primary.memory.page(index), primary.random);
  REQUIRE(primary.sync().ok());
  for (int n = 1; n <= epochs; ++n) {
    const auto written = primary.write(primary.random() % 60);
    const auto statistics = primary.send(id_of(1, std::uint64_t(n)), written, n == 1);
    REQUIRE(statistics);
    CHECK(statistics->zero + statistics->delta + statistics->raw + statistics->unchanged ==
          statistics->pages);
    const Status fed = backup.feed(primary.wire.bytes, 1 + primary.random() % 9000);
    REQUIRE_MESSAGE(fed.ok(), fed.to_string());
    primary.wire.bytes.clear();
    CHECK(backup.newest.id == id_of(1, std::uint64_t(n)));
    check_same(primary, backup);
  }
}

// A synchronised pair at epoch 1.
struct Pair {
  explicit Pair(EncoderOptions options = {}) : primary(executor, options), backup(kGuest) {
    for (auto index : all_pages(primary.memory))
      fill_random(primary.memory.page(index), primary.random);
    REQUIRE(primary.sync().ok());
    REQUIRE(primary.send(id_of(1, 1), {}, true));
    deliver();
  }
  void deliver() {
    const Status fed = backup.feed(primary.wire.bytes);
    REQUIRE_MESSAGE(fed.ok(), fed.to_string());
    primary.wire.bytes.clear();
  }
  os::InlineExecutor executor;
  Primary primary;
  Backup backup;
};

}  // namespace

TEST_CASE("random guests arrive as they were, with every kind of reference image") {
  os::InlineExecutor inline_executor;
  os::ThreadPool pool(3);
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    run_stream(inline_executor, {}, seed, 30);
    run_stream(pool, {}, seed, 30);
    run_stream(inline_executor, {.reference_bytes_max = 10 * 4096}, seed, 30);
    run_stream(pool, {.reference_bytes_max = 3 * 4096 + 5}, seed, 30);
    run_stream(inline_executor, {.reference_bytes_max = 0}, seed, 10);
    run_stream(inline_executor, {.delta = false, .delta_state = false}, seed, 10);
  }
}

TEST_CASE("epochs of several waves, and pages of 2 MiB") {
  os::ThreadPool pool(2);
  {
    Primary primary(pool, {.reference_bytes_max = 700 * 512}, 7, 3000, 500, 512);
    Backup backup(kGuest, 3000, 500, 512);
    REQUIRE(primary.sync().ok());
    for (std::uint64_t n = 1; n < 5; ++n) {
      REQUIRE(primary.send(id_of(1, n), primary.write(6000), n == 1));
      REQUIRE(backup.feed(primary.wire.bytes).ok());
      primary.wire.bytes.clear();
      check_same(primary, backup);
    }
  }
  Primary primary(pool, {}, 8, 3, 2, wire::kPageBytesMax);
  Backup backup(kGuest, 3, 2, wire::kPageBytesMax);
  REQUIRE(primary.sync().ok());
  for (std::uint64_t n = 1; n < 4; ++n)
    REQUIRE(primary.send(id_of(1, n), primary.write(4), n == 1));
  REQUIRE(backup.feed(primary.wire.bytes).ok());
  check_same(primary, backup);
}

TEST_CASE("the codings are chosen as they should be") {
  Pair pair;
  auto& memory = pair.primary.memory;
  memory.page(1)[77] ^= std::byte{1};                              // delta
  std::fill_n(memory.page(2).data(), 4096, std::byte{0});          // zero
  fill_random(memory.page(3), pair.primary.random);                // raw
  auto statistics = pair.primary.send(id_of(1, 2), {1, 2, 3, 4});  // 4: unchanged
  REQUIRE(statistics);
  CHECK(statistics->delta == 1);
  CHECK(statistics->zero == 1);
  CHECK(statistics->raw == 1);
  CHECK(statistics->unchanged == 1);
  CHECK(statistics->bytes == pair.primary.wire.bytes.size());
  CHECK(statistics->reference_bytes >= memory.pages() * 4096);
  pair.deliver();
  check_same(pair.primary, pair.backup);

  // A page that was zero is a base, too: a few words on it need no raw page.
  memory.page(2)[5] = std::byte{9};
  statistics = pair.primary.send(id_of(1, 3), {2});
  REQUIRE(statistics);
  CHECK(statistics->delta == 1);
  pair.deliver();
  check_same(pair.primary, pair.backup);
}

TEST_CASE("a bounded hot set keeps what is written often, within its bound") {
  os::InlineExecutor executor;
  Primary primary(executor, {.reference_bytes_max = 8 * 4096});
  Backup backup(kGuest);
  for (auto index : all_pages(primary.memory))
    fill_random(primary.memory.page(index), primary.random);
  REQUIRE(primary.sync().ok());
  std::uint64_t n = 0, deltas = 0;
  REQUIRE(primary.send(id_of(1, ++n), {}, true));
  for (int round = 0; round < 40; ++round) {
    std::vector<std::uint64_t> written = {0, 1, 2, 3, 10 + primary.random() % 50};
    for (auto index : written) primary.memory.page(index)[8] ^= std::byte{1};
    const auto statistics = primary.send(id_of(1, ++n), written);
    REQUIRE(statistics);
    if (round > 10) deltas += statistics->delta;
    CHECK(statistics->reference_bytes < 8 * 4096 + 64 * 64);
  }
  CHECK(deltas >= 29 * 4);  // The four hot pages stay, however many cold ones pass by.
  REQUIRE(backup.feed(primary.wire.bytes).ok());
  check_same(primary, backup);
}

TEST_CASE("pages of lost epochs travel raw, and the stream goes on from the epoch that is there") {
  Pair pair;
  const auto second = pair.primary.write(20);
  REQUIRE(pair.primary.send(id_of(1, 2), second));
  pair.primary.wire.bytes.clear();  // Lost.
  pair.backup.assembler.drop_partial();

  auto third = pair.primary.write(10);
  SUBCASE("resumed at the newest complete one") {
    third.insert(third.end(), second.begin(), second.end());
    Captured captured(pair.primary.memory, id_of(2, 3), third, pair.primary.state);
    for (auto index : second) captured.epoch.raw.add(pair.primary.memory.number(index));
    pair.primary.encoder.resume(pair.backup.assembler.newest_applied());
    const auto statistics = pair.primary.encoder.encode(captured.epoch, pair.primary.wire.sink());
    REQUIRE(statistics);
    CHECK(statistics->raw > 0);
    pair.deliver();
    check_same(pair.primary, pair.backup);
  }
  SUBCASE("a wrong base is refused by name") {
    REQUIRE(pair.primary.send(id_of(1, 3), third));
    const Status fed = pair.backup.feed(pair.primary.wire.bytes);
    CHECK(fed.code() == Code::corrupt);
    CHECK(fed.message().find("builds upon epoch 1.2, here is 1.1") != std::string::npos);
    CHECK(pair.backup.assembler.newest_applied() == id_of(1, 1));
  }
}

TEST_CASE("a sink that fails at any send leaves a stream that can be taken up again") {
  os::InlineExecutor executor;
  for (int sends = 0; sends < 3; ++sends) {
    Primary primary(executor, {}, 5, 1400, 10);
    Backup backup(kGuest, 1400, 10);
    REQUIRE(primary.sync().ok());
    REQUIRE(primary.send(id_of(1, 1), {}, true));
    REQUIRE(backup.feed(primary.wire.bytes).ok());
    primary.wire.bytes.clear();
    const auto written = primary.write(2000);
    primary.wire.sends_left = sends;
    const auto failed = primary.send(id_of(1, 2), written);
    REQUIRE(!failed);
    CHECK(failed.error().code() == Code::peer_lost);
    CHECK(failed.error().message().find("encode epoch 1.2") == 0);
    backup.feed(primary.wire.bytes).ok();
    CHECK(backup.assembler.newest_applied() == id_of(1, 1));
    CHECK(backup.assembler.partial() == (sends > 0));
    backup.assembler.drop_partial();
    CHECK(!backup.assembler.partial());

    primary.wire = {};
    primary.encoder.resume(id_of(1, 1));
    Captured captured(primary.memory, id_of(1, 3), written, primary.state);
    for (auto index : written) captured.epoch.raw.add(primary.memory.number(index));
    REQUIRE(primary.encoder.encode(captured.epoch, primary.wire.sink()));
    REQUIRE(backup.feed(primary.wire.bytes).ok());
    check_same(primary, backup);
  }
}

TEST_CASE("the flags of an epoch and the rise of the generation travel") {
  Pair pair;
  Captured captured(pair.primary.memory, id_of(3, 2), {5}, pair.primary.state);
  captured.epoch.guest_ended = true;
  captured.epoch.guest_paused = true;
  captured.epoch.rebase = true;
  REQUIRE(pair.primary.encoder.encode(captured.epoch, pair.primary.wire.sink()));
  pair.deliver();
  CHECK(pair.backup.newest.id == id_of(3, 2));
  CHECK(!pair.backup.newest.first);
  CHECK(pair.backup.newest.guest_ended);
  CHECK(pair.backup.newest.guest_paused);
  CHECK(pair.backup.newest.rebase);
  EpochId wrong;
  SUBCASE("but the generation does not fall") { wrong = id_of(2, 3); }
  SUBCASE("but the epoch rises") { wrong = id_of(3, 2); }
  REQUIRE(pair.primary.send(wrong, {}));
  CHECK(pair.backup.feed(pair.primary.wire.bytes).code() == Code::corrupt);
}

TEST_CASE("an image is complete only with the first epoch, and then only when every page came") {
  os::InlineExecutor executor;
  Primary primary(executor);
  Backup backup(kGuest);
  SUBCASE("an epoch without the flag does not complete it") {
    REQUIRE(primary.sync().ok());
    REQUIRE(primary.send(id_of(1, 1), {}));
    CHECK(backup.feed(primary.wire.bytes).code() == Code::corrupt);
  }
  SUBCASE("a page that never came") {
    std::vector<std::uint64_t> most = all_pages(primary.memory);
    most.pop_back();
    REQUIRE(primary.send(id_of(1, 1), most, true));
    const Status fed = backup.feed(primary.wire.bytes);
    CHECK(fed.code() == Code::corrupt);
    CHECK(fed.message().find("1 of 64 pages never came") != std::string::npos);
  }
  SUBCASE("all pages in the first epoch will do") {
    REQUIRE(primary.send(id_of(1, 1), all_pages(primary.memory), true));
    REQUIRE(backup.feed(primary.wire.bytes).ok());
    check_same(primary, backup);
  }
  SUBCASE("no synchronisation after it") {
    REQUIRE(primary.sync().ok());
    REQUIRE(primary.send(id_of(1, 1), {}, true));
    REQUIRE(backup.feed(primary.wire.bytes).ok());
    primary.wire.bytes.clear();
    REQUIRE(primary.encoder
                .encode_sync(Generation{1}, PageNo{0}, primary.memory.page(0), primary.wire.sink())
                .ok());
    CHECK(backup.feed(primary.wire.bytes).code() == Code::corrupt);
  }
  SUBCASE("half a synchronisation is begun anew") {
    REQUIRE(primary.encoder
                .encode_sync(Generation{1}, PageNo{0}, primary.memory.page(0), primary.wire.sink())
                .ok());
    REQUIRE(backup.feed(primary.wire.bytes).ok());
    primary.wire.bytes.clear();
    backup.assembler.drop_partial();
    REQUIRE(primary.sync().ok());
    REQUIRE(primary.send(id_of(1, 1), {}, true));
    REQUIRE(backup.feed(primary.wire.bytes).ok());
    check_same(primary, backup);
  }
  SUBCASE("rounds build upon one another") {
    REQUIRE(primary.sync().ok());
    primary.write(30);
    const auto& low = primary.memory.info().memory[0];
    const auto& high = primary.memory.info().memory[1];
    for (const auto* region : {&low, &high})
      REQUIRE(primary.encoder
                  .encode_sync(Generation{1}, region->first, region->bytes, primary.wire.sink())
                  .ok());
    REQUIRE(primary.send(id_of(1, 1), {}, true));
    REQUIRE(backup.feed(primary.wire.bytes).ok());
    check_same(primary, backup);
  }
}

TEST_CASE("an epoch that is complete must be applied before the next is looked at") {
  Pair pair;
  REQUIRE(pair.primary.send(id_of(1, 2), pair.primary.write(3)));
  std::optional<checkpoint::CompleteEpoch> complete;
  REQUIRE(for_each_frame(pair.primary.wire.bytes, kGuest, 1000, [&](const wire::Frame& frame) {
            auto answer = pair.backup.assembler.on_frame(frame);
            if (!answer) return answer.error();
            complete = *answer;
            return Status();
          }).ok());
  REQUIRE(complete);
  pair.primary.wire.bytes.clear();
  pair.backup.assembler.drop_partial();  // Not partial: it stays.
  REQUIRE(pair.primary.send(id_of(1, 3), pair.primary.write(3)));
  CHECK(pair.backup.feed(pair.primary.wire.bytes).code() == Code::busy);
  pair.backup.assembler.apply();
  pair.deliver();
  check_same(pair.primary, pair.backup);
}

TEST_CASE("a state on probation travels in parts and is answered once") {
  Pair pair;
  for (std::size_t size : {std::size_t{0}, std::size_t{5}, 3 * wire::kStateChunkBytes + 1}) {
    const Bytes state = random_bytes(size, pair.primary.random);
    REQUIRE(pair.primary.encoder.encode_probe(Generation{1}, state, pair.primary.wire.sink()).ok());
    CHECK(!pair.backup.assembler.take_probe_state());
    pair.deliver();
    const auto probe = pair.backup.assembler.take_probe_state();
    REQUIRE(probe);
    CHECK(*probe == state);
    CHECK(!pair.backup.assembler.take_probe_state());
  }
  const Bytes state = random_bytes(2 * wire::kStateChunkBytes, pair.primary.random);
  REQUIRE(pair.primary.encoder.encode_probe(Generation{1}, state, pair.primary.wire.sink()).ok());
  auto frames = split(pair.primary.wire.bytes);
  REQUIRE(frames.size() == 2);
  CHECK(pair.backup.feed(frames[1]).code() == Code::corrupt);
}

TEST_CASE("large device states travel in parts, whole and as changes") {
  Pair pair;
  pair.primary.state = random_bytes(5 * wire::kStateChunkBytes / 2, pair.primary.random);
  REQUIRE(pair.primary.send(id_of(1, 2), {}));
  pair.deliver();
  check_same(pair.primary, pair.backup);
  pair.primary.state[1234567] ^= std::byte{3};
  auto statistics = pair.primary.send(id_of(1, 3), {});
  REQUIRE(statistics);
  CHECK(statistics->bytes < 100000);
  pair.deliver();
  check_same(pair.primary, pair.backup);
  statistics = pair.primary.send(id_of(1, 4), {});  // Equal.
  REQUIRE(statistics);
  CHECK(statistics->bytes < 1000);
  pair.deliver();
  pair.primary.state.clear();
  REQUIRE(pair.primary.send(id_of(1, 5), {}));
  pair.deliver();
  check_same(pair.primary, pair.backup);
}

// --- attacks ------------------------------------------------------------------------------------

namespace {

// A small stream whose every position is tried: sync, first epoch, another epoch.
struct Recorded {
  Recorded() : primary(executor, {}, 3, 3, 2, 512) {
    fill_random(primary.memory.page(0), primary.random);
    fill_random(primary.memory.page(4), primary.random);
    primary.state = random_bytes(40, primary.random);
    REQUIRE(primary.sync().ok());
    REQUIRE(primary.send(id_of(1, 1), {0}, true));
    base_bytes = primary.wire.bytes;
    primary.wire.bytes.clear();
    primary.memory.page(0)[8] ^= std::byte{1};
    fill_random(primary.memory.page(2), primary.random);
    std::fill_n(primary.memory.page(4).data(), 512, std::byte{0});
    primary.state[7] ^= std::byte{1};
    REQUIRE(primary.send(id_of(1, 2), {0, 1, 2, 4}));
    epoch_bytes = primary.wire.bytes;
  }
  os::InlineExecutor executor;
  Primary primary;
  Bytes base_bytes, epoch_bytes;
};

// A frame whose header passes for right: what is left is the assembler's own vigilance.
Status feed_unchecked(Backup& backup, std::span<const Bytes> frames) {
  for (const Bytes& bytes : frames) {
    wire::Frame frame;
    frame.header.type = wire::FrameType(base::load_le<std::uint16_t>(bytes.data() + 6));
    std::memcpy(frame.header.guest.data(), bytes.data() + 16, 16);
    frame.header.id = id_of(base::load_le<std::uint64_t>(bytes.data() + 32),
                            base::load_le<std::uint64_t>(bytes.data() + 40));
    frame.payload = std::span(bytes).subspan(wire::kHeaderBytes);
    FT_TRY(backup.take(frame));
  }
  return {};
}

}  // namespace

TEST_CASE("truncated at any byte, an epoch is never applied") {
  Recorded recorded;
  for (std::size_t size = 0; size < recorded.epoch_bytes.size(); ++size) {
    Backup backup(kGuest, 3, 2, 512);
    REQUIRE(backup.feed(recorded.base_bytes).ok());
    CHECK(backup.feed(std::span(recorded.epoch_bytes).first(size)).ok());
    CHECK(backup.assembler.newest_applied() == id_of(1, 1));
  }
}

TEST_CASE("with any bit flipped, an epoch is refused and never applied") {
  Recorded recorded;
  std::size_t waits = 0;
  for (std::size_t bit = 0; bit < recorded.epoch_bytes.size() * 8; ++bit) {
    Backup backup(kGuest, 3, 2, 512);
    REQUIRE(backup.feed(recorded.base_bytes).ok());
    Bytes bytes = recorded.epoch_bytes;
    bytes[bit / 8] ^= std::byte(1u << bit % 8);
    const Status fed = backup.feed(bytes);
    if (fed.ok()) ++waits;
    CHECK(backup.assembler.newest_applied() == id_of(1, 1));
  }
  // A header that announces more bytes only waits for them; everything else is named at once.
  CHECK(waits < 4 * 22);
}

TEST_CASE(
    "with any bit of any payload flipped behind the frame checksum, nothing wrong is applied") {
  Recorded recorded;
  const auto frames = split(recorded.epoch_bytes);
  REQUIRE(frames.size() == 4);
  for (std::size_t f = 0; f < frames.size(); ++f) {
    for (std::size_t bit = 32 * 8; bit < frames[f].size() * 8; ++bit) {
      if (bit >= 48 * 8 && bit < 64 * 8) continue;  // Reserved and the frame's checksum: not here.
      CAPTURE(f);
      CAPTURE(bit);
      Backup backup(kGuest, 3, 2, 512);
      REQUIRE(backup.feed(recorded.base_bytes).ok());
      auto changed = frames;
      changed[f][bit / 8] ^= std::byte(1u << bit % 8);
      const Status fed = feed_unchecked(backup, changed);
      // The two reserved bytes of a record's header mean nothing; anything else must be noticed.
      if (fed.ok())
        check_same(recorded.primary, backup);
      else
        CHECK(backup.assembler.newest_applied() == id_of(1, 1));
    }
  }
}

TEST_CASE("frames left out, doubled or exchanged are refused") {
  os::InlineExecutor executor;
  Primary primary(executor, {}, 9, 200, 10);
  REQUIRE(primary.sync().ok());
  REQUIRE(primary.send(id_of(1, 1), {}, true));
  const Bytes base_bytes = primary.wire.bytes;
  primary.wire.bytes.clear();
  primary.state = random_bytes(wire::kStateChunkBytes + 10, primary.random);
  REQUIRE(primary.send(id_of(1, 2), all_pages(primary.memory)));
  const auto frames = split(primary.wire.bytes);
  REQUIRE(frames.size() >= 8);  // begin, four of pages, two of state, end

  const auto refused = [&](const std::vector<Bytes>& changed) {
    Backup backup(kGuest, 200, 10);
    REQUIRE(backup.feed(base_bytes).ok());
    const Status fed = feed_unchecked(backup, changed);
    CHECK(backup.assembler.newest_applied() == id_of(1, 1));
    return fed.code() == Code::corrupt;
  };
  for (std::size_t i = 0; i < frames.size(); ++i) {
    CAPTURE(i);
    auto changed = frames;
    changed.erase(changed.begin() + std::ptrdiff_t(i));
    if (i + 1 < frames.size()) CHECK(refused(changed));
    changed = frames;
    changed.insert(changed.begin() + std::ptrdiff_t(i), frames[i]);
    if (i + 1 < frames.size()) CHECK(refused(changed));
    for (std::size_t j = i + 1; j < frames.size(); ++j) {
      changed = frames;
      std::swap(changed[i], changed[j]);
      CHECK(refused(changed));
    }
  }
}

TEST_CASE("after a corrupt frame nothing is taken until the connection is given up") {
  Recorded recorded;
  Backup backup(kGuest, 3, 2, 512);
  REQUIRE(backup.feed(recorded.base_bytes).ok());
  auto frames = split(recorded.epoch_bytes);
  std::swap(frames[1], frames[2]);
  REQUIRE(!feed_unchecked(backup, frames).ok());
  CHECK(backup.feed(recorded.epoch_bytes).code() == Code::corrupt);
  backup.assembler.drop_partial();
  CHECK(backup.feed(recorded.epoch_bytes).ok());
  check_same(recorded.primary, backup);
}

TEST_CASE("another guest's frame and missing memory are said") {
  Recorded recorded;
  Backup other(*GuestId::from_name("guest-2"), 3, 2, 512);
  CHECK(other.feed(recorded.base_bytes).code() == Code::refused);
  CHECK(feed_unchecked(other, split(recorded.base_bytes)).code() == Code::refused);

  Memory memory;
  HeapArena arena;
  arena.empty = true;
  checkpoint::EpochAssembler assembler(kGuest, memory.info(), arena);
  CHECK(assembler.on_frame({}).error().code() == Code::exhausted);
}
