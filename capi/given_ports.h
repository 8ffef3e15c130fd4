// SPDX-License-Identifier: LGPL-2.1-or-later
// What each struct of functions must have: all that is missing is said at once. Pure.
#pragma once

#include "given.h"

namespace libft::capi {

inline Outcome check_guest(Given<ft_guest_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("guest", FT_PORT_ANY_THREAD));
  return needed("guest", {{"start_tracking", p.start_tracking != nullptr},
                          {"pause", p.pause != nullptr},
                          {"resume", p.resume != nullptr},
                          {"take_written", p.take_written != nullptr},
                          {"fetch_state", p.fetch_state != nullptr},
                          {"load_state", p.load_state != nullptr}});
}

inline Outcome check_gate(Given<ft_gate_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("gate", FT_PORT_ANY_THREAD));
  return needed("gate", {{"hold", p.hold != nullptr},
                         {"seal", p.seal != nullptr},
                         {"release", p.release != nullptr},
                         {"discard", p.discard != nullptr},
                         {"open", p.open != nullptr}});
}

inline Outcome check_transport(Given<ft_transport_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("transport", FT_PORT_ANY_THREAD));
  return needed("transport", {{"send", p.send != nullptr}, {"receive", p.receive != nullptr}});
}

inline Outcome check_qmp(Given<ft_qmp_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("qmp", FT_PORT_ANY_THREAD));
  return needed("qmp", {{"execute", p.execute != nullptr}});
}

inline Outcome check_dial(Given<ft_dial_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("dial", FT_PORT_ANY_THREAD));
  return needed("dial", {{"dial", p.dial != nullptr}});
}

inline Outcome check_standby(Given<ft_standby_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("standby", FT_PORT_ANY_THREAD));
  return needed("standby", {{"make", p.make != nullptr}});
}

inline Outcome check_detector(Given<ft_detector_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("detector", FT_PORT_ANY_THREAD));
  return needed("detector", {{"start", p.start != nullptr}, {"port (a number)", p.port != 0}});
}

inline Outcome check_arbiter(Given<ft_arbiter_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("arbiter", FT_PORT_ANY_THREAD));
  return needed(
      "arbiter",
      {{"create", p.create != nullptr}, {"swap", p.swap != nullptr}, {"read", p.read != nullptr}});
}

inline Outcome check_fence(Given<ft_fence_port>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("fence", FT_PORT_ANY_THREAD));
  return needed("fence", {{"fence", p.fence != nullptr}});
}

inline Outcome check_log(Given<ft_log_sink>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("log", FT_PORT_ANY_THREAD));
  return needed("log", {{"write", p.write != nullptr}});
}

inline Outcome check_events(Given<ft_event_sink>& given) {
  const auto& p = given.port;
  FT_CHECK(given.take("events", 0));
  return needed("events", {{"event", p.event != nullptr}});
}

// There need not be one.
inline Outcome check_completion(Given<ft_completion>& given, const ft_completion* done) {
  if (done == nullptr) return {};
  return given.take("completion", 0);
}

inline Outcome check_trust(std::int32_t trust) {
  if (trust == FT_TRUST_NONE || trust == FT_TRUST_PROVEN) return {};
  return {FT_E_INVALID, "there is no such trust", "give FT_TRUST_NONE or FT_TRUST_PROVEN"};
}

}  // namespace libft::capi
