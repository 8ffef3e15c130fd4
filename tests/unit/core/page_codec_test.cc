// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/page_codec.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

using namespace libft;
using core::Coding;

namespace {

using Bytes = std::vector<std::byte>;

Bytes random_bytes(std::size_t size, std::mt19937_64& random) {
  Bytes bytes(size);
  for (std::byte& b : bytes) b = std::byte(random());
  return bytes;
}

core::CodedPage round_trip(const Bytes& page, const Bytes& reference) {
  Bytes out(page.size());
  const auto coded = core::encode_page(page, reference, out);
  const Bytes base = reference.empty() ? Bytes(page.size()) : reference;
  Bytes decoded(page.size(), std::byte{0xee});
  const Status status = core::decode_page(
      coded.coding, std::span<const std::byte>(out).first(coded.bytes), base, decoded);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  CHECK(decoded == page);
  return coded;
}

}  // namespace

TEST_CASE("pages come back as they were, in the cheapest coding") {
  std::mt19937_64 random(1);
  for (const std::size_t size : {std::size_t{512}, std::size_t{4096}, std::size_t{2} << 20}) {
    CAPTURE(size);
    const Bytes zero(size), reference = random_bytes(size, random);
    CHECK(round_trip(zero, reference).coding == Coding::zero);
    CHECK(round_trip(zero, {}).coding == Coding::zero);
    CHECK(round_trip(reference, reference).coding == Coding::unchanged);
    CHECK(round_trip(reference, {}).coding == Coding::raw);
    CHECK(round_trip(reference, random_bytes(size, random)).coding == Coding::raw);
    CHECK(round_trip(reference, zero).coding == Coding::raw);

    Bytes page = reference;
    page.front() ^= std::byte{1};
    CHECK(round_trip(page, reference).bytes == 2 + 8);
    page = reference;
    page.back() ^= std::byte{1};
    const auto last = round_trip(page, reference);
    CHECK(last.coding == Coding::delta);
    CHECK(last.bytes <= 2 + 8 + size / 8 / 255 * 2 + 2);
  }
}

TEST_CASE("any mixture of changes comes back") {
  std::mt19937_64 random(2);
  for (int round = 0; round < 3000; ++round) {
    const std::size_t size = 8 << random() % 11;
    const Bytes reference = random_bytes(size, random);
    Bytes page = reference;
    for (std::uint64_t changes = random() % 20; changes > 0; --changes) {
      const std::size_t from = random() % size, count = 1 + random() % (1 + random() % size);
      const std::size_t end = std::min(size, from + count);
      for (std::size_t i = from; i < end; ++i) page[i] = std::byte(random());
    }
    const auto coded = round_trip(page, reference);
    CHECK((coded.coding == Coding::raw || coded.bytes <= size / 4 * 3));
  }
}

TEST_CASE("runs longer than one operation can say") {
  std::mt19937_64 random(3);
  for (const std::size_t words : {254u, 255u, 256u, 509u, 510u, 511u, 512u, 765u, 766u}) {
    CAPTURE(words);
    const Bytes reference = random_bytes(4096 * 8, random);
    Bytes changed_run = reference, skipped_run = reference;
    for (std::size_t i = 0; i < words; ++i) changed_run[i * 8] ^= std::byte{1};
    CHECK(round_trip(changed_run, reference).coding == Coding::delta);
    skipped_run[words * 8] ^= std::byte{1};
    CHECK(round_trip(skipped_run, reference).bytes <= 2 * (words / 255 + 1) + 8);
  }
}

TEST_CASE("a delta never exceeds the bytes it may take") {
  std::mt19937_64 random(4);
  const Bytes reference = random_bytes(4096, random);
  Bytes page = reference;
  for (std::size_t i = 0; i < 512; i += 2) page[i * 8] ^= std::byte{1};
  Bytes out(4096 + 64, std::byte{0x5a});
  for (std::size_t max = 0; max < 2700; ++max) {
    const auto bytes = core::encode_delta(page, reference, out, max);
    CHECK(bytes.has_value() == (max >= 256 * 10));
    CHECK(std::all_of(out.begin() + std::ptrdiff_t(std::max<std::size_t>(max, 1)),
                      out.begin() + 2900, [](std::byte b) { return b == std::byte{0x5a}; }));
    std::fill(out.begin(), out.end(), std::byte{0x5a});
  }
}

TEST_CASE("zeros are told from everything else") {
  Bytes bytes(4096 + 3);
  CHECK(core::is_zero(bytes));
  CHECK(core::is_zero({}));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = std::byte{0x80};
    CHECK(!core::is_zero(bytes));
    bytes[i] = std::byte{0};
  }
}

TEST_CASE("any bytes are survived") {
  std::mt19937_64 random(5);
  const Bytes base = random_bytes(512, random);
  Bytes page(512);
  int accepted = 0;
  for (int round = 0; round < 200000; ++round) {
    Bytes coded = random_bytes(random() % 600, random);
    if (random() % 2)
      for (std::byte& b : coded) b &= std::byte{3};
    accepted += core::decode_page(Coding(random() % 5), coded, base, page).ok();
  }
  CHECK(accepted > 100);
}

TEST_CASE("what is no coding of a page is refused") {
  const Bytes base(512), whole(512), more(513);
  Bytes page(512);
  const auto decode = [&](Coding coding, std::span<const std::byte> coded) {
    return core::decode_page(coding, coded, base, page).code();
  };
  CHECK(decode(Coding::raw, whole) == Code::ok);
  CHECK(decode(Coding::raw, more) == Code::corrupt);
  CHECK(decode(Coding::raw, std::span(whole).first(511)) == Code::corrupt);
  CHECK(decode(Coding::raw, {}) == Code::corrupt);
  CHECK(decode(Coding::delta, {}) == Code::corrupt);
  CHECK(decode(Coding::delta, whole) == Code::corrupt);
  CHECK(decode(Coding::zero, whole) == Code::corrupt);
  CHECK(decode(Coding::unchanged, whole) == Code::corrupt);
  CHECK(decode(Coding{4}, {}) == Code::corrupt);
  const Bytes beyond = {std::byte{64}, std::byte{1}, {}, {}, {}, {}, {}, {}, {}, {}};
  CHECK(decode(Coding::delta, beyond) == Code::corrupt);
  CHECK(decode(Coding::delta, std::span(beyond).first(9)) == Code::corrupt);
}
