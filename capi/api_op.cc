// SPDX-License-Identifier: LGPL-2.1-or-later
// The functions of ft_op.
#include <fmt/format.h>
#include <unistd.h>

#include <cstddef>

#include "given.h"
#include "given_ports.h"
#include "op.h"
#include "ports.h"
#include "transport/fd_stream.h"

using namespace libft;
using namespace libft::capi;

namespace {

constexpr char kPhase[] = "operation";
constexpr Nanos kIoTimeout = std::chrono::seconds{10};

static_assert(sizeof(ft_page_run) == sizeof(PageRun) &&
              offsetof(ft_page_run, count) == offsetof(PageRun, count));

bool runs_past_the_end(const ft_page_run* runs, std::uint64_t count) {
  bool past = false;
  for (std::uint64_t i = 0; i < count; ++i) past |= runs[i].first + runs[i].count < runs[i].first;
  return past;
}

std::string text(const char* given) { return given == nullptr ? "" : given; }

}  // namespace

extern "C" {

std::int32_t ft_op_done(ft_op* op, std::int32_t status) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    FT_CHECK(check_handle(op, Kind::op));
    return op->home.done(op, status);
  });
}

std::int32_t ft_op_explain(ft_op* op, const char* cause, const char* remedy) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    FT_CHECK(check_handle(op, Kind::op));
    return op->home.give(op, Wants::nothing, [&](OpResults& results) {
      results.cause = text(cause);
      results.remedy = text(remedy);
      return Outcome();
    });
  });
}

std::int32_t ft_op_is_cancelled(ft_op* op) {
  bool cancelled = false;
  const std::int32_t status = guarded(kPhase, nullptr, [&]() -> Outcome {
    FT_CHECK(check_handle(op, Kind::op));
    return op->home.is_cancelled(op, cancelled);
  });
  return status < 0 ? status : cancelled ? 1 : 0;
}

std::int32_t ft_op_add_pages(ft_op* op, std::uint64_t first, std::uint64_t count) {
  const ft_page_run run{first, count};
  return ft_op_add_page_runs(op, &run, 1);
}

std::int32_t ft_op_add_page_runs(ft_op* op, const ft_page_run* runs, std::uint64_t count) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    FT_CHECK(check_handle(op, Kind::op));
    if (runs == nullptr && count != 0) return {FT_E_INVALID, "the runs are null"};
    return op->home.give(op, Wants::pages, [&](OpResults& results) -> Outcome {
      if (runs_past_the_end(runs, count))
        return {FT_E_INVALID, "there are no pages of such numbers"};
      // The same numbers in the same order, which the compiler cannot know.
      results.pages.add(std::span(reinterpret_cast<const PageRun*>(runs), count));
      return {};
    });
  });
}

std::int32_t ft_op_append(ft_op* op, const void* bytes, std::uint64_t count) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    FT_CHECK(check_handle(op, Kind::op));
    return op->home.give(op, Wants::bytes, [&](OpResults& results) -> Outcome {
      if (bytes == nullptr && count != 0) return {FT_E_INVALID, "the bytes are null"};
      if (count > results.bytes_max - results.bytes.size())
        return {FT_E_EXHAUSTED, "more bytes than were asked for",
                "keep the rest for the next time"};
      const auto* from = static_cast<const std::byte*>(bytes);
      results.bytes.insert(results.bytes.end(), from, from + count);
      return {};
    });
  });
}

std::int32_t ft_op_answer(ft_op* op, std::int32_t answer, const char* record) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    FT_CHECK(check_handle(op, Kind::op));
    return op->home.give(op, Wants::answer, [&](OpResults& results) -> Outcome {
      if (answer < FT_ANSWER_UNKNOWN || answer > FT_ANSWER_MISSING)
        return {FT_E_INVALID, "there is no such answer"};
      if ((answer == FT_ANSWER_LOST || answer == FT_ANSWER_FOUND) && record == nullptr)
        return {FT_E_INVALID, "the answer lacks the record", "give the record that is there"};
      results.answer = answer;
      results.record = text(record);
      return {};
    });
  });
}

std::int32_t ft_op_give_transport(ft_op* op, const ft_transport_port* transport) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    Given given(transport);
    FT_CHECK(check_handle(op, Kind::op));
    FT_CHECK(check_transport(given));
    return op->home.give(op, Wants::connection, [&](OpResults& results) -> Outcome {
      if (results.connection) return {FT_E_STATE, "the operation has its connection already"};
      const auto port = given.port;
      results.connection = make_transport(port, given.adopt(op->port->desk()));
      results.proven = true;
      return {};
    });
  });
}

std::int32_t ft_op_give_fds(ft_op* op, std::int32_t in, std::int32_t out, const char* description,
                            std::int32_t trust) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    os::ScopedFd read_from(in), write_to(out);
    FT_CHECK(check_handle(op, Kind::op));
    FT_CHECK(check_trust(trust));
    return op->home.give(op, Wants::connection, [&](OpResults& results) -> Outcome {
      if (results.connection) return {FT_E_STATE, "the operation has its connection already"};
      const bool proven = trust == FT_TRUST_PROVEN;
      FT_GET(results.connection,
             transport::from_fds(std::move(read_from), std::move(write_to),
                                 description == nullptr ? "descriptors" : description,
                                 proven ? transport::Trust::proven : transport::Trust::assumed,
                                 kIoTimeout));
      results.proven = proven;
      return {};
    });
  });
}

std::int32_t ft_op_give_replica(ft_op* op, const ft_guest_info* info, const ft_guest_port* guest,
                                const ft_gate_port* gate) {
  return guarded(kPhase, nullptr, [&]() -> Outcome {
    Given given_guest(guest);
    Given given_gate(gate);
    FT_CHECK(check_handle(op, Kind::op));
    FT_CHECK(check_guest(given_guest));
    FT_CHECK(check_gate(given_gate));
    GuestInfo about;
    FT_CHECK(make_info(info, about));
    return op->home.give(op, Wants::replica, [&](OpResults& results) -> Outcome {
      if (results.replica) return {FT_E_STATE, "the operation has its replica already"};
      const auto& desk = op->port->desk();
      const auto guest_port = given_guest.port;
      const auto gate_port = given_gate.port;
      results.replica =
          Replica{make_gate(gate_port, given_gate.adopt(desk)),
                  make_guest(std::move(about), guest_port, given_guest.adopt(desk)), nullptr};
      return {};
    });
  });
}
}
