// SPDX-License-Identifier: LGPL-2.1-or-later
// What the comparator releases, and what it has a checkpoint for.
#include <doctest/doctest.h>

#include "strategy/compare/comparator.h"
#include "support/ip_frames.h"

using namespace libft;
using namespace libft::compare;
using namespace libft::test;

namespace {

using Numbers = std::vector<FrameNo>;

// A comparator whose pair runs from a checkpoint on, and the frames of both.
struct Pair {
  Comparator comparator{ComparatorOptions{}};
  std::uint64_t next = 1;
  Time now{Millis{1000}};

  explicit Pair(const ComparatorOptions& options = {}) : comparator(options) { checkpoint(); }

  void checkpoint() {
    comparator.captured();
    (void)comparator.follower_runs(now);
  }
  Verdict primary(const FrameBytes& frame) {
    return comparator.on_primary(FrameNo{next++}, 0, frame, now);
  }
  Verdict follower(const FrameBytes& frame) { return comparator.on_follower(0, frame); }
  Verdict after(Millis time) {
    now = now + time;
    return comparator.on_time(now);
  }
};

Numbers numbers(std::initializer_list<std::uint64_t> values) {
  Numbers all;
  for (const auto value : values) all.push_back(FrameNo{value});
  return all;
}

bool waits(const Verdict& verdict) {
  return verdict.release.empty() && verdict.checkpoint == Reason::none;
}

// Segments of a connection to the guest's port 80 whose SYN-ACK has the sequence number `first`.
struct Guest {
  std::uint32_t first;
  std::uint32_t time = 0;
  std::uint16_t id = 0;

  FrameBytes syn_ack(FrameBytes options = {}) {
    const auto times = timestamps_option(time += 10, 7);
    options.insert(options.end(), times.begin(), times.end());
    return tcp_frame({.sequence = first,
                      .acknowledged = 501,
                      .flags = kSyn | kAck,
                      .options = options,
                      .id = ++id});
  }
  // `at` counts the guest's bytes; acknowledged, the client's.
  FrameBytes say(std::uint32_t at, std::string_view text, std::uint32_t acknowledged = 0,
                 unsigned flags = kAck) {
    return tcp_frame({.sequence = first + 1 + at,
                      .acknowledged = 501 + acknowledged,
                      .flags = flags,
                      .window = std::uint16_t(id * 3),
                      .options = timestamps_option(time += 10, 7),
                      .payload = bytes_of_text(text),
                      .id = ++id});
  }
};

struct Connected : Pair {
  Guest p{1000}, f{0xfffffff0, 77, 4000};
  explicit Connected(const ComparatorOptions& options = {}) : Pair(options) {
    CHECK(waits(primary(p.syn_ack())));
    CHECK(follower(f.syn_ack()).release == numbers({1}));
  }
};

FrameBytes client_acknowledges(std::uint32_t sequence) {
  return tcp_frame({.ends = {.source = 2, .destination = 1},
                    .source_port = 4000,
                    .destination_port = 80,
                    .sequence = 501,
                    .acknowledged = sequence});
}

}  // namespace

TEST_CASE("a stream is compared whatever the cut") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "hello"))));
  CHECK(waits(pair.follower(pair.f.say(0, "hel"))));
  CHECK(pair.follower(pair.f.say(3, "lo wor")).release == numbers({2}));
  CHECK(pair.primary(pair.p.say(5, " w")).release == numbers({3}));
  CHECK(waits(pair.primary(pair.p.say(7, "orld"))));
  CHECK(pair.follower(pair.f.say(9, "ld")).release == numbers({4}));
  CHECK(pair.comparator.statistics().released == 4);
}

TEST_CASE("the follower's pieces may come in any order, and more than once") {
  Connected pair;
  CHECK(waits(pair.follower(pair.f.say(4, "efgh"))));
  CHECK(waits(pair.follower(pair.f.say(2, "cdef"))));
  CHECK(waits(pair.primary(pair.p.say(0, "abcdefgh"))));
  CHECK(pair.follower(pair.f.say(0, "abcd")).release == numbers({2}));
  CHECK(waits(pair.follower(pair.f.say(0, "abcdefgh"))));
  CHECK(pair.primary(pair.p.say(0, "abc")).release == numbers({3}));
}

TEST_CASE("other bytes in the same place want a checkpoint, and nothing is released before it") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "hello"))));
  CHECK(pair.follower(pair.f.say(0, "hellO")).checkpoint == Reason::content_differs);
  CHECK(waits(pair.primary(pair.p.say(0, "hello"))));
  CHECK(waits(pair.follower(pair.f.say(0, "hello"))));
  CHECK(pair.comparator.bytes() == 0);

  // From the checkpoint on both count as the primary does.
  pair.checkpoint();
  pair.f.first = pair.p.first;
  CHECK(waits(pair.primary(pair.p.say(5, "again"))));
  CHECK(pair.follower(pair.f.say(5, "again")).release == numbers({4}));
}

TEST_CASE("what was said differs when it is said again") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "hello"))));
  CHECK(pair.follower(pair.f.say(0, "hello")).release == numbers({2}));
  CHECK(pair.primary(pair.p.say(0, "hallo")).checkpoint == Reason::content_differs);
  Connected other;
  CHECK(waits(other.follower(other.f.say(0, "hello"))));
  CHECK(other.follower(other.f.say(0, "hallo")).checkpoint == Reason::content_differs);
}

TEST_CASE("an acknowledgement waits for the follower's") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "", 10))));
  CHECK(waits(pair.follower(pair.f.say(0, "", 9))));
  CHECK(pair.follower(pair.f.say(0, "", 30)).release == numbers({2}));
  CHECK(pair.primary(pair.p.say(0, "", 30)).release == numbers({3}));
  CHECK(waits(pair.primary(pair.p.say(0, "answer", 31))));
  CHECK(waits(pair.follower(pair.f.say(0, "answer", 30))));
  CHECK(pair.follower(pair.f.say(6, "", 31)).release == numbers({4}));
}

TEST_CASE("the end of a stream is part of it") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "bye", 0, kAck | kFin))));
  CHECK(waits(pair.follower(pair.f.say(0, "bye"))));
  CHECK(pair.follower(pair.f.say(3, "", 0, kAck | kFin)).release == numbers({2}));

  Connected longer;
  CHECK(waits(longer.primary(longer.p.say(0, "bye", 0, kAck | kFin))));
  CHECK(longer.follower(longer.f.say(0, "bye bye")).checkpoint == Reason::content_differs);
  Connected shorter;
  CHECK(waits(shorter.follower(shorter.f.say(0, "by", 0, kAck | kFin))));
  CHECK(shorter.primary(shorter.p.say(0, "bye")).checkpoint == Reason::content_differs);
}

TEST_CASE("a reset needs the follower's, each its own") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "", 0, kRst | kAck))));
  CHECK(pair.follower(pair.f.say(0, "", 0, kRst | kAck)).release == numbers({2}));
  CHECK(waits(pair.primary(pair.p.say(0, "", 0, kRst | kAck))));
}

TEST_CASE("terms of a connection that differ want a checkpoint") {
  Pair pair;
  Guest p{1}, f{2};
  CHECK(waits(pair.primary(p.syn_ack({std::byte{3}, std::byte{3}, std::byte{7}}))));
  CHECK(pair.follower(f.syn_ack({std::byte{3}, std::byte{3}, std::byte{8}})).checkpoint ==
        Reason::content_differs);
}

TEST_CASE("the same ports serve one connection after the other") {
  Connected pair;
  pair.p.first = 90000;
  pair.f.first = 5;
  CHECK(waits(pair.follower(pair.f.syn_ack())));
  CHECK(waits(pair.follower(pair.f.say(0, "new"))));
  CHECK(pair.primary(pair.p.syn_ack()).release == numbers({2}));
  CHECK(pair.primary(pair.p.say(0, "new")).release == numbers({3}));

  // A rest of the old one can never be compared any more.
  CHECK(waits(pair.primary(pair.p.say(3, "rest"))));
  pair.f.first = 700;
  CHECK(pair.follower(pair.f.syn_ack()).checkpoint == Reason::content_differs);
}

TEST_CASE("what is released late of an old connection says nothing about the new one") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "a long rest"))));
  const Guest old = pair.f;
  pair.p.first = 90000;
  pair.f.first = 5;
  CHECK(waits(pair.primary(pair.p.syn_ack())));
  CHECK(pair.follower(Guest(old).say(0, "a long rest")).release == numbers({2}));
  CHECK(pair.follower(pair.f.syn_ack()).release == numbers({3}));
  CHECK(waits(pair.follower(pair.f.say(0, "hello"))));
  pair.comparator.on_world(0, client_acknowledges(pair.p.first + 1 + 5));
  CHECK(pair.primary(pair.p.say(0, "hallo")).checkpoint == Reason::content_differs);
}

TEST_CASE("a connection older than the checkpoint") {
  Connected pair;
  CHECK(waits(pair.primary(pair.p.say(0, "held"))));
  pair.checkpoint();
  pair.f.first = pair.p.first;
  SUBCASE("what the checkpoint covers may be said again by the primary alone") {
    CHECK(pair.primary(pair.p.say(0, "held")).release == numbers({3}));
    CHECK(waits(pair.primary(pair.p.say(0, "held and more"))));
    CHECK(pair.follower(pair.f.say(4, " and more")).release == numbers({4}));
  }
  SUBCASE("but not before the backup has it") {
    pair.comparator.captured();
    CHECK(waits(pair.primary(pair.p.say(0, "held"))));
    CHECK(waits(pair.follower(pair.f.say(4, "of the old follower"))));
    CHECK(pair.comparator.follower_runs(pair.now).release == numbers({3}));
  }
  SUBCASE("of which nothing is known, is compared from where the follower begins") {
    Pair fresh;
    CHECK(waits(fresh.follower(pair.f.say(4, "more"))));
    CHECK(fresh.primary(pair.p.say(4, "more")).release == numbers({1}));
    CHECK(fresh.primary(pair.p.say(0, "held")).checkpoint == Reason::content_differs);
  }
}

TEST_CASE("what the client has is not kept") {
  Connected pair;
  const std::string text(10000, 'x');
  for (unsigned n = 0; n < 100; ++n) {
    (void)pair.primary(pair.p.say(n * 10000, text));
    CHECK(pair.follower(pair.f.say(n * 10000, text)).release == numbers({n + 2}));
    pair.comparator.on_world(0, client_acknowledges(pair.p.first + 1 + (n + 1) * 10000));
    CHECK(pair.comparator.bytes() <= 10000);
  }
  // Nobody can acknowledge what was not released.
  CHECK(waits(pair.follower(pair.f.say(1000000, text))));
  pair.comparator.on_world(0, client_acknowledges(pair.p.first + 1 + 1010000));
  CHECK(pair.primary(pair.p.say(1000000, "y")).checkpoint == Reason::content_differs);
}

TEST_CASE("sequence numbers wrap, of either host, before a checkpoint and after it") {
  Connected pair;  // The follower's begin just below 2^32.
  const std::string text(40000, 'x');
  std::uint32_t at = 0;
  const auto both_say = [&] {
    CHECK(waits(pair.primary(pair.p.say(at, text))));
    CHECK(pair.follower(pair.f.say(at, text)).release.size() == 1);
    at += 40000;
  };
  both_say();
  pair.p.first = pair.f.first = 0xffff0000;
  (void)pair.primary(pair.p.syn_ack());
  pair.checkpoint();
  at = 0;
  for (int n = 0; n < 4; ++n) both_say();
  CHECK(pair.primary(pair.p.say(0, text)).release.size() == 1);
}

TEST_CASE("packets are compared one by one, by all but what must differ") {
  for (const auto version : {IpVersion::v4, IpVersion::v6}) {
    const IpEnds ends{.version = version};
    Pair pair;
    CHECK(waits(pair.primary(udp_frame(ends, "one", 1))));
    CHECK(waits(pair.primary(udp_frame(ends, "two", 2))));
    CHECK(pair.follower(udp_frame(ends, "one", 91)).release == numbers({1}));
    CHECK(pair.follower(udp_frame(ends, "two", 92)).release == numbers({2}));
    CHECK(waits(pair.follower(udp_frame(ends, "three", 92))));
    CHECK(waits(pair.primary(udp_frame({.version = version, .destination = 9}, "other flow"))));
    CHECK(pair.primary(udp_frame(ends, "Three", 3)).checkpoint == Reason::content_differs);
  }
  Pair pair;
  const auto icmp = ip_frame({}, 1, bytes_of_text("echo"));
  CHECK(waits(pair.primary(icmp)));
  CHECK(pair.follower(icmp).release == numbers({1}));
}

TEST_CASE("what cannot be compared wants a checkpoint") {
  const auto urgent = tcp_frame({.flags = kAck | kUrg});
  const auto fragment = udp_frame({}, "part", 1, 0x2000);
  const auto last_fragment = udp_frame({}, "part", 1, 0x0010);
  const auto signed_segment = tcp_frame({.options = FrameBytes(18, std::byte{18})});
  const auto no_options = tcp_frame({.options = {std::byte{8}, std::byte{40}}});
  auto vlan = udp_frame({}, "tagged");
  vlan[12] = std::byte{0x81};
  auto trailing = udp_frame({}, "and what nobody compares");
  trailing.push_back(std::byte{0});
  auto hidden = udp_frame({}, "x");
  hidden.push_back(std::byte{1});
  const auto esp = ip_frame({}, 50, bytes_of_text("secret"));
  const FrameBytes nothing;
  const FrameBytes little(20, std::byte{8});
  for (const auto& frame : {urgent, fragment, last_fragment, signed_segment, no_options, vlan,
                            trailing, hidden, esp, nothing, little}) {
    Pair pair;
    CHECK(pair.primary(frame).checkpoint == Reason::not_understood);
    Pair other;
    CHECK(other.follower(frame).checkpoint == Reason::not_understood);
  }
  auto padded = udp_frame({}, "x");
  padded.resize(60);
  Pair pair;
  CHECK(waits(pair.primary(padded)));
  CHECK(pair.follower(udp_frame({}, "x")).release == numbers({1}));
}

TEST_CASE("the follower's time is limited") {
  Connected pair;
  CHECK_FALSE(pair.comparator.deadline());
  (void)pair.primary(pair.p.say(0, "", 3));
  CHECK(pair.comparator.deadline() == pair.now + Millis{200});
  CHECK(waits(pair.after(Millis{50})));
  (void)pair.primary(pair.p.say(0, "hello", 3));
  CHECK(pair.comparator.deadline() == pair.now + Millis{20});
  CHECK(waits(pair.after(Millis{19})));
  CHECK(pair.after(Millis{1}).checkpoint == Reason::no_answer);
  CHECK_FALSE(pair.comparator.deadline());

  // It begins when the follower can answer.
  pair.comparator.captured();
  (void)pair.primary(pair.p.say(5, "more", 3));
  CHECK(waits(pair.after(Millis{500})));
  (void)pair.comparator.follower_runs(pair.now);
  CHECK(waits(pair.after(Millis{19})));
  CHECK(pair.after(Millis{1}).checkpoint == Reason::no_answer);
}

TEST_CASE("memory is bounded") {
  Connected pair({.bytes_max = 100000});
  const std::string text(1000, 'x');
  Verdict verdict;
  unsigned n = 0;
  for (; verdict.checkpoint == Reason::none && n < 200; ++n)
    verdict = pair.follower(pair.f.say(n * 1000, text));
  CHECK(verdict.checkpoint == Reason::limit);
  CHECK(n > 90);
  CHECK(pair.comparator.bytes() == 0);

  Pair many({.flows_max = 10});
  for (std::uint8_t peer = 10; peer < 20; ++peer)
    CHECK(waits(many.primary(udp_frame({.destination = peer}, "hello"))));
  CHECK(many.primary(udp_frame({.destination = 20}, "hello")).checkpoint == Reason::limit);
  many.checkpoint();
  CHECK(many.comparator.flows() == 0);
  for (std::uint8_t peer = 10; peer < 18; ++peer)
    (void)many.primary(tcp_frame({.ends = {.destination = peer}}));
  CHECK(many.comparator.flows() == 8);
  many.checkpoint();
  CHECK(many.comparator.flows() <= 5);
}
