// SPDX-License-Identifier: LGPL-2.1-or-later
// The functions of ft_session.
#include "given_ports.h"
#include "protection.h"

using namespace libft;
using namespace libft::capi;

namespace {

template <std::size_t N>
void copy_text(char (&into)[N], const std::string& text) {
  text.copy(into, N - 1);
}

ft_percentiles three(const Percentiles& p) { return {p.p50, p.p99, p.max}; }

ft_state state_of(const SessionStatus& status, std::int32_t role) {
  ft_state state{};
  state.struct_size = sizeof state;
  state.role = role;
  state.is_protected = status.is_protected ? 1 : 0;
  state.generation = status.generation.value;
  state.epoch_captured = status.epoch_captured;
  state.epoch_acknowledged = status.epoch_acknowledged;
  state.epoch_released = status.epoch_released;
  copy_text(state.state, status.state);
  if (!status.self.nobody()) copy_text(state.self, to_string(status.self));
  copy_text(state.peer, status.peer);
  copy_text(state.detail, status.detail);
  copy_text(state.strategy, status.strategy);
  return state;
}

ft_statistics statistics_of(const SessionStatus& s) {
  ft_statistics c{};
  c.struct_size = sizeof c;
  c.sync_round = s.sync_round;
  c.epochs = s.epochs;
  c.sync_pages_sent = s.sync_pages_sent;
  c.sync_pages_total = s.sync_pages_total;
  c.bytes_sent = s.bytes_sent;
  c.bytes_received = s.bytes_received;
  c.pages_sent = s.pages_sent;
  c.pages_zero = s.pages_zero;
  c.pages_delta = s.pages_delta;
  c.pages_raw = s.pages_raw;
  c.heartbeat_suspicions = s.heartbeat_suspicions;
  c.failovers = s.failovers;
  c.reprotects = s.reprotects;
  c.corrupt_frames = s.corrupt_frames;
  c.reference_bytes = s.reference_bytes;
  c.staging_bytes = s.staging_bytes;
  c.handshake = three(s.handshake_ms);
  c.pause = three(s.pause_ms);
  c.capture = three(s.capture_ms);
  c.seal = three(s.seal_ms);
  c.resume = three(s.resume_ms);
  c.replicate = three(s.replicate_ms);
  c.acknowledge = three(s.acknowledge_ms);
  c.release = three(s.release_ms);
  c.stopped = three(s.stopped_ms);
  c.output_held = three(s.output_held_ms);
  c.dirty_pages = three(s.dirty_pages);
  c.interval = three(s.interval_ms);
  c.guest_clock_lag_ms = s.guest_clock_lag_ms;
  c.detect_ms = s.detect_ms;
  c.arbitrate_ms = s.arbitrate_ms;
  c.takeover_ms = s.takeover_ms;
  c.load_ms = s.load_ms;
  c.packets_held = s.gate.packets_held;
  c.bytes_held = s.gate.bytes_held;
  c.packets_released = s.gate.packets_released;
  c.packets_dropped = s.gate.packets_dropped;
  c.packets_discarded = s.gate.packets_discarded;
  c.packets_in = s.gate.packets_in;
  c.follow_lag_ms = s.follow_lag_ms;
  return c;
}

// What every function does first; `body` gets the Protection.
template <class Body>
std::int32_t with(ft_session* session, const char* phase, ft_error* error, Body&& body) noexcept {
  return guarded(phase, error, [&]() -> Outcome {
    FT_CHECK(check_handle(session, Kind::session));
    return body(*session->protection);
  });
}

// The same for a function that is given a struct, whose `free` it owes whatever happens.
template <class Port, class Body>
std::int32_t with_port(ft_session* session, const Port* port, const char* phase, ft_error* error,
                       Body&& body) noexcept {
  return guarded(phase, error, [&]() -> Outcome {
    Given given(port);
    FT_CHECK(check_handle(session, Kind::session));
    return body(*session->protection, given);
  });
}

template <class Body>
std::int32_t with_driver(ft_session* session, const char* phase, ft_error* error,
                         Body&& body) noexcept {
  return with(session, phase, error, [&](Protection& protection) -> Outcome {
    std::optional<Protection::Driving> driving;
    FT_CHECK(Protection::Driving::take(protection, driving));
    return body(protection, *driving);
  });
}

std::int32_t wish(ft_session* session, Session::Wish what, const char* phase,
                  const ft_completion* done, ft_error* error) noexcept {
  return with_port(session, done, phase, error,
                   [&](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_completion(given, done));
                     return protection.wish(what, phase, given);
                   });
}

std::int32_t start(ft_session* session, Role role, const char* phase, const ft_completion* done,
                   ft_error* error) noexcept {
  return with_port(session, done, phase, error,
                   [&](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_completion(given, done));
                     return protection.start(role, given);
                   });
}

constexpr std::uint64_t kHoldMax_us = std::chrono::microseconds{kHoldMax}.count();

std::string text(const char* given) { return given == nullptr ? "" : given; }

}  // namespace

extern "C" {

std::int32_t ft_session_new(const ft_options* options, ft_session** session, ft_error* error) {
  return guarded("session", error, [&]() -> Outcome {
    if (session == nullptr) return {FT_E_INVALID, "there is no place for the handle"};
    *session = nullptr;
    FT_CHECK(check_handle(options, Kind::options));
    auto made = std::make_unique<ft_session>();
    FT_CHECK(Protection::make(options->values, made->protection));
    *session = made.release();
    return {};
  });
}

std::int32_t ft_session_free(ft_session* session) {
  if (session == nullptr) return FT_OK;  // As free(): nothing to do.
  const std::int32_t status =
      with_driver(session, "free", nullptr, [](Protection& protection, auto& driving) {
        protection.finish(driving);
        return Outcome();
      });
  if (status == FT_OK) delete session;
  return status;
}

// --- parts --------------------------------------------------------------------------------------

std::int32_t ft_session_set_guest(ft_session* session, const ft_guest_info* info,
                                  const ft_guest_port* guest, ft_error* error) {
  return with_port(session, guest, "set_guest", error,
                   [&](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_guest(given));
                     GuestInfo about;
                     FT_CHECK(make_info(info, about));
                     return protection.set_guest(std::move(about), given);
                   });
}

std::int32_t ft_session_set_gate(ft_session* session, const ft_gate_port* gate, ft_error* error) {
  return with_port(session, gate, "set_gate", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_gate(given));
                     return protection.set_gate(given);
                   });
}

std::int32_t ft_session_set_standby(ft_session* session, const ft_standby_port* standby,
                                    ft_error* error) {
  return with_port(session, standby, "set_standby", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_standby(given));
                     return protection.set_standby(given);
                   });
}

std::int32_t ft_session_set_command(ft_session* session, const char* const* arguments,
                                    ft_error* error) {
  return with(session, "set_command", error, [&](Protection& protection) -> Outcome {
    if (arguments == nullptr || arguments[0] == nullptr)
      return {FT_E_INVALID, "the command line is empty", "give QEMU's own, ended by a null"};
    std::vector<std::string> command;
    for (; *arguments != nullptr; ++arguments) command.emplace_back(*arguments);
    return protection.set_command(std::move(command));
  });
}

std::int32_t ft_session_set_qmp(ft_session* session, const ft_qmp_port* qmp, ft_error* error) {
  return with_port(session, qmp, "set_qmp", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_qmp(given));
                     return protection.set_qmp(given);
                   });
}

std::int32_t ft_session_set_dial(ft_session* session, const ft_dial_port* dial, ft_error* error) {
  return with_port(session, dial, "set_dial", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_dial(given));
                     return protection.set_dial(given);
                   });
}

std::int32_t ft_session_set_arbiter(ft_session* session, const ft_arbiter_port* arbiter,
                                    ft_error* error) {
  return with_port(session, arbiter, "set_arbiter", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_arbiter(given));
                     return protection.set_arbiter(given);
                   });
}

std::int32_t ft_session_set_detector(ft_session* session, const ft_detector_port* detector,
                                     ft_error* error) {
  return with_port(session, detector, "set_detector", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_detector(given));
                     return protection.set_detector(given);
                   });
}

std::int32_t ft_session_set_heartbeat_fds(ft_session* session, const std::int32_t* fds,
                                          std::uint32_t count, ft_error* error) {
  return guarded("set_heartbeat_fds", error, [&]() -> Outcome {
    std::vector<os::ScopedFd> sockets;
    if (fds != nullptr && count == 2 && fds[0] == fds[1]) count = 1;  // It is closed once.
    for (std::uint32_t i = 0; fds != nullptr && i < count; ++i) sockets.emplace_back(fds[i]);
    FT_CHECK(check_handle(session, Kind::session));
    if (fds == nullptr) return {FT_E_INVALID, "the array of descriptors is null"};
    return session->protection->set_heartbeat_fds(std::move(sockets));
  });
}

std::int32_t ft_session_set_fence(ft_session* session, const ft_fence_port* fence,
                                  ft_error* error) {
  return with_port(session, fence, "set_fence", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_fence(given));
                     return protection.set_fence(given);
                   });
}

std::int32_t ft_session_set_log(ft_session* session, const ft_log_sink* log, ft_error* error) {
  return with_port(session, log, "set_log", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_log(given));
                     return protection.set_log(given);
                   });
}

std::int32_t ft_session_set_events(ft_session* session, const ft_event_sink* events,
                                   ft_error* error) {
  return with_port(session, events, "set_events", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_events(given));
                     return protection.set_events(given);
                   });
}

// --- wishes -------------------------------------------------------------------------------------

std::int32_t ft_session_may_start(ft_session* session, const ft_completion* done, ft_error* error) {
  return with_port(session, done, "may_start", error,
                   [&](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_completion(given, done));
                     return protection.may_start(given);
                   });
}

std::int32_t ft_session_protect(ft_session* session, const ft_completion* done, ft_error* error) {
  return start(session, Role::primary, "protect", done, error);
}

std::int32_t ft_session_stand_by(ft_session* session, const ft_completion* done, ft_error* error) {
  return start(session, Role::backup, "stand_by", done, error);
}

std::int32_t ft_session_switch_over(ft_session* session, const ft_completion* done,
                                    ft_error* error) {
  return wish(session, Session::Wish::switch_over, "switch_over", done, error);
}

std::int32_t ft_session_fail_over(ft_session* session, const ft_completion* done, ft_error* error) {
  return wish(session, Session::Wish::fail_over, "fail_over", done, error);
}

std::int32_t ft_session_unprotect(ft_session* session, const ft_completion* done, ft_error* error) {
  return wish(session, Session::Wish::unprotect, "unprotect", done, error);
}

std::int32_t ft_session_verify(ft_session* session, const ft_completion* done, ft_error* error) {
  return wish(session, Session::Wish::verify, "verify", done, error);
}

std::int32_t ft_session_test_failover(ft_session* session, const ft_completion* done,
                                      ft_error* error) {
  return wish(session, Session::Wish::test_failover, "test_failover", done, error);
}

std::int32_t ft_session_reprotect(ft_session* session, const ft_completion* done, ft_error* error) {
  return with_port(session, done, "reprotect", error,
                   [&](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_completion(given, done));
                     return protection.reprotect(given);
                   });
}

std::int32_t ft_session_change_strategy(ft_session* session, const char* strategy,
                                        const ft_completion* done, ft_error* error) {
  return with_port(session, done, "change_strategy", error,
                   [&](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_completion(given, done));
                     FT_GET(const Strategy to, strategy_from(text(strategy)));
                     return protection.change_strategy(to, given);
                   });
}

std::int32_t ft_session_hold(ft_session* session, std::uint64_t at_most_us,
                             const ft_completion* done, ft_error* error) {
  return with_port(
      session, done, "hold", error, [&](Protection& protection, auto& given) -> Outcome {
        FT_CHECK(check_completion(given, done));
        if (at_most_us < 1000 || at_most_us > kHoldMax_us)
          return {FT_E_INVALID, "a hold lasts from 1 ms to 10 s", "give at_most_us accordingly"};
        return protection.hold(std::chrono::microseconds{at_most_us}, given);
      });
}

std::int32_t ft_session_let_go(ft_session* session, ft_error* error) {
  return with(session, "let_go", error, [](Protection& protection) { return protection.let_go(); });
}

std::int32_t ft_session_stop(ft_session* session, const ft_completion* done, ft_error* error) {
  return with_port(session, done, "stop", error,
                   [&](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_completion(given, done));
                     return protection.stop(given);
                   });
}

std::int32_t ft_session_offer_fds(ft_session* session, std::int32_t in, std::int32_t out,
                                  const char* description, std::int32_t trust, ft_error* error) {
  return guarded("offer", error, [&]() -> Outcome {
    os::ScopedFd read_from(in), write_to(out);
    FT_CHECK(check_handle(session, Kind::session));
    FT_CHECK(check_trust(trust));
    std::unique_ptr<Transport> connection;
    FT_CHECK(session->protection->secure(read_from.release(), write_to.release(), description,
                                         trust, connection));
    return session->protection->offer(std::move(connection));
  });
}

std::int32_t ft_session_offer_transport(ft_session* session, const ft_transport_port* transport,
                                        ft_error* error) {
  return with_port(session, transport, "offer", error,
                   [](Protection& protection, auto& given) -> Outcome {
                     FT_CHECK(check_transport(given));
                     const auto port = given.port;
                     return protection.offer(make_transport(port, given.adopt(protection.desk())));
                   });
}

// --- what the parts tell ------------------------------------------------------------------------

std::int32_t ft_session_guest_event(ft_session* session, std::int32_t kind, const char* detail,
                                    ft_error* error) {
  return with(session, "guest_event", error, [&](Protection& protection) -> Outcome {
    if (kind < FT_GUEST_ENDED || kind > FT_GUEST_MIGRATING)
      return {FT_E_INVALID, "there is no such event of a guest"};
    if (protection.news().guest({static_cast<GuestEvent::Kind>(kind), text(detail)})) return {};
    return {FT_E_STATE, "the session has no guest of a port at the moment"};
  });
}

std::int32_t ft_session_qmp_event(ft_session* session, const char* event, ft_error* error) {
  return with(session, "qmp_event", error, [&](Protection& protection) -> Outcome {
    if (event == nullptr) return {FT_E_INVALID, "the event is null"};
    if (protection.news().qmp(event)) return {};
    return {FT_E_STATE, "the session has no QEMU by a QMP port at the moment"};
  });
}

std::int32_t ft_session_guest_clock_lag(ft_session* session, std::uint64_t lag_ns,
                                        ft_error* error) {
  return with(session, "guest_clock_lag", error, [&](Protection& protection) -> Outcome {
    if (lag_ns > INT64_MAX) return {FT_E_INVALID, "that is longer than 292 years"};
    protection.news().clock_lag_ns = static_cast<std::int64_t>(lag_ns);
    return {};
  });
}

std::int32_t ft_session_output_waiting(ft_session* session, ft_error* error) {
  return with(session, "output_waiting", error, [&](Protection& protection) -> Outcome {
    if (protection.news().output_waiting()) return {};
    return {FT_E_STATE, "nobody waits for the output of a gate of a port at the moment"};
  });
}

std::int32_t ft_session_may_release(ft_session* session) {
  bool may = false;
  const std::int32_t status =
      with(session, "may_release", nullptr, [&](Protection& protection) -> Outcome {
        may = protection.guard().may_release();
        return {};
      });
  return status < 0 ? status : may ? 1 : 0;
}

std::int32_t ft_session_heartbeat(ft_session* session, std::uint64_t token, std::int32_t kind,
                                  std::uint64_t silence_ns, std::uint32_t path, const char* detail,
                                  ft_error* error) {
  return with(session, "heartbeat", error, [&](Protection& protection) -> Outcome {
    if (kind < FT_HEARTBEAT_ALIVE || kind > FT_HEARTBEAT_PATH_UP || silence_ns > INT64_MAX)
      return {FT_E_INVALID, "there is no such event of a detector"};
    DetectorEvent event{static_cast<DetectorEvent::Kind>(kind), os::RealClock().now(),
                        Nanos{static_cast<std::int64_t>(silence_ns)}, text(detail), path};
    if (protection.news().heartbeat(token, std::move(event))) return {};
    return {FT_E_STATE, "nobody watches a peer under this token", "stop: it was told so"};
  });
}

// --- the driver ---------------------------------------------------------------------------------

std::int32_t ft_session_poll_fd(ft_session* session) {
  int fd = -1;
  const std::int32_t status =
      with(session, "poll_fd", nullptr, [&](Protection& protection) -> Outcome {
        fd = protection.poll_fd();
        return {};
      });
  return status < 0 ? status : fd;
}

std::int32_t ft_session_process(ft_session* session, ft_error* error) {
  return with_driver(session, "process", error, [](Protection& protection, auto& driving) {
    protection.process(driving);
    return Outcome();
  });
}

std::int32_t ft_session_run(ft_session* session, std::uint32_t until, std::int32_t timeout_ms,
                            ft_error* error) {
  return with_driver(session, "run", error, [&](Protection& protection, auto& driving) -> Outcome {
    if ((until & ~31u) != 0) return {FT_E_INVALID, "there is nothing like that to wait for"};
    return protection.run(driving, until, timeout_ms);
  });
}

std::int32_t ft_session_interrupt(ft_session* session) {
  return with(session, "interrupt", nullptr, [](Protection& protection) -> Outcome {
    protection.interrupt();
    return {};
  });
}

// --- looking ------------------------------------------------------------------------------------

std::int32_t ft_session_guest_place(ft_session* session, ft_guest_place* into, ft_error* error) {
  return with(session, "guest_place", error, [&](Protection& protection) -> Outcome {
    FT_CHECK(check_out(into));
    const auto place = protection.place();
    if (!place)
      return {FT_E_NOT_FOUND, "the session has no guest of libft's own, or not yet",
              "ask when protect is done, or a backup is in sync"};
    ft_guest_place full{};
    full.struct_size = sizeof full;
    full.pid = place->pid;
    copy_text(full.qmp, place->qmp);
    copy_text(full.domain, place->domain);
    for (const auto& nic : place->descriptors) {
      if (full.fd_count + 2 > std::size(full.fds)) break;
      full.fds[full.fd_count++] = nic.guest;
      full.fds[full.fd_count++] = nic.link;
    }
    give_struct(full, *into);
    return {};
  });
}

std::int32_t ft_session_state(ft_session* session, ft_state* into, ft_error* error) {
  return with(session, "state", error, [&](Protection& protection) -> Outcome {
    FT_CHECK(check_out(into));
    std::int32_t role = FT_ROLE_NONE;
    const SessionStatus status = protection.status(role);
    give_struct(state_of(status, role), *into);
    return {};
  });
}

std::int32_t ft_session_statistics(ft_session* session, ft_statistics* into, ft_error* error) {
  return with(session, "statistics", error, [&](Protection& protection) -> Outcome {
    FT_CHECK(check_out(into));
    std::int32_t role = FT_ROLE_NONE;
    give_struct(statistics_of(protection.status(role)), *into);
    return {};
  });
}

std::int32_t ft_session_json(ft_session* session, char* into, std::uint64_t capacity,
                             std::uint64_t* length, ft_error* error) {
  return with(session, "json", error, [&](Protection& protection) -> Outcome {
    std::int32_t role = FT_ROLE_NONE;
    return give_text(to_json(protection.status(role)), into, capacity, length);
  });
}
}
