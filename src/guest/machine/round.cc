// SPDX-License-Identifier: LGPL-2.1-or-later
// Bytes of a round, as numbers of 7 bits a byte, least significant first:
//   harts that executed, as bits; anew
//   for each of them: steps << 1 | at_device
//   for each transfer, to the end:
//     hart | write << 3, the page, its steps less those in its last transfer,
//     the harts in `after`, as bits, and for each its steps less those in its last transfer, in
//     which bit 0 says the difference is negative
#include "round.h"

#include <algorithm>
#include <bit>

namespace libft::machine {

namespace {

constexpr std::uint64_t kWrite = 8, kHart = 7;
using Last = std::array<std::uint64_t, kHartsMax>;

class Writer {
 public:
  void number(std::uint64_t value) {
    for (; value > 127; value >>= 7) bytes_.push_back(static_cast<std::byte>(value | 128));
    bytes_.push_back(static_cast<std::byte>(value));
  }
  void difference(std::uint64_t value, std::uint64_t& last) {
    number(value >= last ? (value - last) << 1 : (last - value) << 1 | 1);
    last = std::max(last, value);
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = std::to_integer<std::uint64_t>(rest_.front());
      rest_ = rest_.subspan(1);
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    failed_ = true;
    return 0;
  }
  std::uint64_t difference(std::uint64_t& last) {
    const std::uint64_t coded = number(), by = coded >> 1;
    const bool negative = (coded & 1) != 0;
    failed_ = failed_ || by > kRoundStepsMax || (negative && by > last);
    if (failed_) return 0;
    const std::uint64_t value = negative ? last - by : last + by;
    last = std::max(last, value);
    return value;
  }
  bool empty() const { return rest_.empty(); }
  bool failed() const { return failed_; }

 private:
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

Transfer read_transfer(Reader& reader, Last& last) {
  Transfer transfer;
  const std::uint64_t head = reader.number();
  transfer.write = (head & kWrite) != 0;
  transfer.to.hart = static_cast<std::uint32_t>(head & kHart);
  transfer.page = reader.number();
  transfer.to.steps = reader.difference(last[transfer.to.hart]);
  const std::uint64_t after = reader.number();
  for (std::uint32_t hart = 0; hart < kHartsMax; ++hart)
    if ((after >> hart & 1) != 0) transfer.after.push_back({hart, reader.difference(last[hart])});
  return transfer;
}

// A hart waits only for what others do in transfers before it, so that nobody waits for ever.
bool makes_sense(const Round& round, const Transfer& transfer, const Last& before,
                 std::uint64_t pages) {
  const auto reached = [&](const HartAt& at) {
    return round.parts[at.hart].executed && at.steps <= round.parts[at.hart].steps;
  };
  const bool to_itself = std::ranges::any_of(
      transfer.after, [&](const HartAt& at) { return at.hart == transfer.to.hart; });
  return transfer.page < pages && !to_itself && reached(transfer.to) &&
         transfer.to.steps >= before[transfer.to.hart] &&
         std::ranges::all_of(transfer.after, reached);
}

}  // namespace

std::vector<std::byte> encode(const Round& round) {
  Writer writer;
  std::uint64_t mask = 0;
  for (std::size_t id = 0; id < kHartsMax; ++id)
    if (round.parts[id].executed) mask |= std::uint64_t{1} << id;
  writer.number(mask | (round.anew ? 1u << kHartsMax : 0));
  for (const Round::Part& part : round.parts)
    if (part.executed) writer.number(part.steps << 1 | (part.at_device ? 1 : 0));
  Last last{};
  for (const Transfer& transfer : round.transfers) {
    writer.number(transfer.to.hart | (transfer.write ? kWrite : 0));
    writer.number(transfer.page);
    writer.difference(transfer.to.steps, last[transfer.to.hart]);
    std::uint64_t after = 0;
    for (const HartAt& at : transfer.after) after |= std::uint64_t{1} << at.hart;
    writer.number(after);
    for (const HartAt& at : transfer.after) writer.difference(at.steps, last[at.hart]);
  }
  return writer.take();
}

Result<Round> decode_round(std::span<const std::byte> bytes, unsigned harts, std::uint64_t pages) {
  Reader reader(bytes);
  Round round;
  const std::uint64_t mask = reader.number();
  round.anew = (mask >> kHartsMax & 1) != 0;
  bool sense = mask >> (kHartsMax + 1) == 0;
  for (std::size_t id = 0; id < kHartsMax; ++id) {
    if ((mask >> id & 1) == 0) continue;
    const std::uint64_t steps = reader.number();
    round.parts[id] = {true, (steps & 1) != 0, steps >> 1};
    sense = sense && id < harts && steps >> 1 <= kRoundStepsMax;
  }
  Last last{};
  while (sense && !reader.failed() && !reader.empty()) {
    const Last before = last;
    round.transfers.push_back(read_transfer(reader, last));
    sense = makes_sense(round, round.transfers.back(), before, pages);
  }
  if (sense && !reader.failed()) return round;
  return failure(Code::corrupt, "a round of harts: it is damaged, or of another machine");
}

}  // namespace libft::machine
