// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/examine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "strategy/replay/difference.h"
#include "strategy/replay/follower.h"

namespace libft::replay {
namespace {

constexpr std::size_t kBytesNamed = 4096;
constexpr std::size_t kBytesTold = 4;

// All logs, in a copy that begins where both were equal and with some bytes spoilt.
Status execute_again(const Landmark& landmark, GuestCopy& copy, std::span<const OddByte> spoilt,
                     const std::atomic<bool>& interrupted) {
  FT_TRY(load_image(landmark.equal(), *copy.guest));
  for (const OddByte& byte : spoilt)
    copy.guest->info().memory[byte.region].bytes[byte.offset] = byte.wrong;
  Follower follower(*copy.exact, &interrupted);
  for (const wire::LogEpoch& log : landmark.logs()) FT_TRY(follower.follow(log));
  return {};
}

// A byte that nobody has written since, and that is another one all the same. (What has been
// computed with it was written.)
std::vector<OddByte> never_written(const std::vector<OddByte>& odd, const Image& begin) {
  std::vector<OddByte> lost;
  std::ranges::copy_if(odd, std::back_inserter(lost), [&](const OddByte& byte) {
    return begin.regions[byte.region][byte.offset] == byte.right;
  });
  return lost;
}

// Two copies that begin at the landmark, one of them with lost bytes, which do not count as a
// difference as long as nobody wrote there: what counts is what an instruction made of them.
class Misled {
 public:
  Misled(Landmark& landmark, std::vector<OddByte> lost)
      : one_(landmark.one()),
        other_(landmark.other()),
        begin_(landmark.equal()),
        lost_(std::move(lost)) {}

  Result<std::optional<Difference>> first(std::span<const wire::LogEpoch> logs,
                                          const std::atomic<bool>& interrupted) {
    return first_difference(
        {*one_.exact, [this] { return load_image(begin_, *one_.guest); }},
        {*other_.exact, [this] { return begin_spoilt(); }, [this] { return hash_without_lost(); }},
        logs, {[this] { return keep(); }, &interrupted});
  }

 private:
  Status begin_spoilt() {
    FT_TRY(load_image(begin_, *other_.guest));
    // Of all pages, before one is spoilt behind its back.
    FT_ASSIGN([[maybe_unused]] const auto settled, other_.exact->state_hash());
    set(&OddByte::wrong);
    return {};
  }

  Result<std::uint64_t> hash_without_lost() {
    forget_written();
    set(&OddByte::right);
    const auto hash = other_.exact->state_hash();
    set(&OddByte::wrong);
    return hash;
  }

  Status keep() {
    forget_written();
    return take_image(*one_.guest, begin_);
  }

  void forget_written() {
    std::erase_if(lost_, [this](const OddByte& byte) {
      return at(one_, byte) != byte.right || at(other_, byte) != byte.wrong;
    });
  }
  void set(std::byte OddByte::*which) {
    for (const OddByte& byte : lost_) at(other_, byte) = byte.*which;
  }
  static std::byte& at(GuestCopy& copy, const OddByte& byte) {
    return copy.guest->info().memory[byte.region].bytes[byte.offset];
  }

  GuestCopy &one_, &other_;
  Image begin_;
  std::vector<OddByte> lost_;
};

// Whether these bytes, lost where both were equal, lead to what the follower came to.
Result<bool> explains(Landmark& landmark, std::span<const OddByte> lost,
                      const std::atomic<bool>& interrupted) {
  const Status again = execute_again(landmark, landmark.other(), lost, interrupted);
  if (again.code() == Code::cancelled) return failure(again);
  Image outcome;
  FT_TRY(take_image(*landmark.other().guest, outcome));
  return outcome == landmark.apart();
}

Status look_for_lost(Landmark& landmark, const std::vector<OddByte>& odd, Examination& found,
                     const std::atomic<bool>& interrupted) {
  const std::vector<OddByte> lost = never_written(odd, landmark.equal());
  if (lost.empty() || found.bytes_differ > kBytesNamed) return {};
  FT_ASSIGN(const bool explained, explains(landmark, lost, interrupted));
  if (!explained) return {};
  found.lost = lost;
  FT_ASSIGN(const auto first, Misled(landmark, lost).first(landmark.logs(), interrupted));
  found.misled = first.has_value();
  if (!first) return {};
  found.from = first->at;
  found.until = first->until;
  if (first->until.value == first->at.value + 1) found.at = first->at;
  return {};
}

}  // namespace

Result<Examination> examine(Landmark& landmark, const std::atomic<bool>& interrupted) {
  Examination found;
  found.from = landmark.logs().front().mark.from;
  found.until = landmark.logs().back().mark.until;
  const Status again = execute_again(landmark, landmark.one(), {}, interrupted);
  if (!again && again.code() != Code::corrupt) return failure(again);
  std::vector<OddByte> odd;
  {
    Image outcome;
    FT_TRY(take_image(*landmark.one().guest, outcome));
    if (!again) {
      found.verdict = outcome == landmark.apart() ? Examination::Verdict::erred_there
                                                  : Examination::Verdict::unsteady;
      return found;
    }
    found.bytes_differ = compare_memory(outcome, landmark.apart(), kBytesNamed, odd);
  }
  FT_TRY(look_for_lost(landmark, odd, found, interrupted));
  return found;
}

namespace {

std::string describe_lost(const Examination& found, const GuestInfo& info) {
  std::string text;
  for (const OddByte& byte : std::span(found.lost).first(std::min(found.lost.size(), kBytesTold))) {
    const MemoryRegion& region = info.memory[byte.region];
    text +=
        fmt::format("{}{} {:#x} was {:#04x} and became {:#04x}", text.empty() ? "" : ", ",
                    region.name, region.first.value * info.page_bytes + byte.offset,
                    std::to_integer<unsigned>(byte.right), std::to_integer<unsigned>(byte.wrong));
  }
  return found.lost.size() > kBytesTold ? text + ", ..." : text;
}

std::string describe_misled(const Examination& found, const std::string& between) {
  if (!found.misled) return "no instruction was misled by it";
  if (!found.at) return "what it misled came " + between;
  return fmt::format("the first instruction that it misled is the one at position {}",
                     found.at->value);
}

}  // namespace

std::string describe(const Examination& found, const GuestInfo& info) {
  const std::string between =
      fmt::format("between positions {} and {}", found.from.value, found.until.value);
  switch (found.verdict) {
    case Examination::Verdict::erred_there:
      return fmt::format(
          "executed here again, the log {} leads to the same states as before: the "
          "primary's execution erred, the log lacks an input, or the two hosts "
          "execute differently; remedy: test the primary's memory",
          between);
    case Examination::Verdict::unsteady:
      return fmt::format(
          "executed here again, the log {} leads to a third state: this host does "
          "not compute reliably; remedy: test its memory and processor",
          between);
    case Examination::Verdict::erred_here: break;
  }
  if (found.lost.empty())
    return fmt::format(
        "executed here again, the log {} leads to the primary's states: this host "
        "erred once, by which {} bytes of memory differed; remedy: test its memory "
        "and processor",
        between, found.bytes_differ);
  return fmt::format(
      "{} byte{} of this host's memory changed by itself: {}; {}; remedy: test the memory",
      found.lost.size(), found.lost.size() == 1 ? "" : "s", describe_lost(found, info),
      describe_misled(found, between));
}

}  // namespace libft::replay
