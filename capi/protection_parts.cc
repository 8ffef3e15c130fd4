// SPDX-License-Identifier: LGPL-2.1-or-later
// What a Protection is made of: ports that the host gave, and libft's own adapters by name.
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <climits>

#include "failover/command_fence.h"
#include "failover/open_arbiter.h"
#include "guest/memory/busy_guest.h"
#include "output/memory_gate.h"
#include "protection.h"
#include "session/dialler.h"
#include "transport/fd_stream.h"
#include "transport/tls.h"
#include "transport/transports.h"

namespace libft::capi {
namespace {

constexpr Nanos kIoTimeout = std::chrono::seconds{10};
constexpr std::string_view kMemory = "memory:";

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto end = std::min(text.find(','), text.size());
    if (end != 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

std::string host_name(const ft_settings& settings) {
  if (settings.host[0] != 0) return settings.host;
  char name[HOST_NAME_MAX + 1] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

Result<transport::Options> transport_options(const ft_settings& settings) {
  transport::Options options;
  options.insecure = settings.insecure != 0;
  if (settings.key_file[0] == 0) return options;
  FT_ASSIGN(options.psk, transport::load_key(settings.key_file));
  return options;
}

// What a Session refuses late, or not at all: a peer that anybody could be.
Outcome check_address(const ft_settings& settings, const std::string& address) {
  if (settings.insecure != 0 || settings.key_file[0] != 0) return {};
  if (session::stays_on_this_host(session::with_scheme(address))) return {};
  return {FT_E_REFUSED, fmt::format("{} is not on this host, and there is no key", address),
          "set key_file on both hosts; insecure goes without"};
}

Result<std::uint64_t> number_in(const std::string& spec, const std::string& key,
                                std::uint64_t usual) {
  for (const std::string& part : split(spec.substr(kMemory.size()))) {
    if (!part.starts_with(key + "=")) continue;
    const char* begin = part.data() + key.size() + 1;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(begin, part.data() + part.size(), number);
    if (error == std::errc() && end == part.data() + part.size() && number <= 1u << 20)
      return number;
    return failure(Code::invalid, fmt::format("guest {}: {} is no number from 0 to 1048576; "
                                              "remedy: memory:mib=64,pages=50",
                                              spec, key));
  }
  return usual;
}

Result<Replica> with_gate(std::unique_ptr<guest::MemoryGuest> guest, std::uint64_t pages) {
  FT_ASSIGN(auto gate, output::MemoryGate::create({}, [](std::span<const std::byte>) {}));
  return Replica{std::move(gate), guest::make_busy(std::move(guest), pages), nullptr};
}

Result<Replica> memory_standby(const GuestInfo& primary) {
  if (primary.driver != "memory")
    return failure(Code::unsupported,
                   fmt::format("the primary's guest is of driver \"{}\"; remedy: give the backup a "
                               "standby port that makes such a guest",
                               primary.driver));
  return with_gate(guest::make_memory_standby(primary.pages()), 50);
}

// A connection of the host's, which TLS makes safe when the host does not vouch for it.
Outcome wrapped(std::unique_ptr<Transport> raw, bool proven, bool dialled,
                const ft_settings& settings, std::unique_ptr<Transport>& into) {
  if (proven) return into = std::move(raw), Outcome();
  FT_GET(const transport::Options options, transport_options(settings));
  if (!options.psk && !options.insecure)
    return {FT_E_REFUSED, "nobody vouches for the connection's other end, and there is no key",
            "give FT_TRUST_PROVEN for one whose other end you know, or set key_file on both hosts"};
  if (!options.psk) return into = std::move(raw), Outcome();
  FT_GET(auto tls,
         transport::wrap_tls(std::move(raw),
                             dialled ? transport::TlsRole::client : transport::TlsRole::server,
                             *options.psk));
  if (dialled) FT_CHECK(tls->handshake());
  into = std::move(tls);
  return {};
}

Result<std::unique_ptr<Transport>> dial_port(const Kept<ft_dial_port>& kept, const Options& options,
                                             bool another_way) {
  OpResults results;
  FT_TRY(kept.life->desk()->run(
      kept.life, Wants::connection,
      [user = kept.life->user(), dial = kept.port.dial, another_way](ft_op* op) {
        return dial(user, op, another_way ? 1 : 0);
      },
      &results));
  if (!results.connection)
    return failure(Code::invalid, "dial: the port says that it succeeded, and gave no connection");
  std::unique_ptr<Transport> connection;
  const Outcome outcome =
      wrapped(std::move(results.connection), results.proven, true, options.settings(), connection);
  if (!outcome.ok()) return failure(to_status(outcome.code, outcome.cause, outcome.remedy));
  return connection;
}

Result<Replica> make_standby_port(const Kept<ft_standby_port>& kept, const GuestInfo& primary) {
  OpResults results;
  FT_TRY(kept.life->desk()->run(kept.life, Wants::replica,
                                bind_make(kept.port, *kept.life, primary), &results));
  if (!results.replica)
    return failure(Code::invalid, "standby: the port says that it succeeded, and gave no guest");
  return std::move(*results.replica);
}

template <class Port>
std::shared_ptr<Kept<Port>> keep(Given<Port>& given, const std::shared_ptr<Desk>& desk) {
  auto kept = std::make_shared<Kept<Port>>();
  kept->port = given.port;
  kept->life = given.adopt(desk);
  return kept;
}

}  // namespace

// --- what the host gives ------------------------------------------------------------------------

// With the lock held.
Outcome Protection::fresh() const {
  if (phase_ == Phase::fresh) return {};
  return {FT_E_STATE, "the session was started: its parts cannot be changed any more",
          "set parts before protect and stand_by"};
}

Outcome Protection::set_guest(GuestInfo info, Given<ft_guest_port>& guest) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  const auto port = guest.port;
  replica_.guest = make_guest(std::move(info), port, guest.adopt(desk_));
  return {};
}

Outcome Protection::set_gate(Given<ft_gate_port>& gate) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  const auto port = gate.port;
  replica_.gate = make_gate(port, gate.adopt(desk_));
  return {};
}

Outcome Protection::set_standby(Given<ft_standby_port>& standby) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  standby_ = keep(standby, desk_);
  return {};
}

Outcome Protection::set_dial(Given<ft_dial_port>& dial) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  dial_ = keep(dial, desk_);
  return {};
}

Outcome Protection::set_arbiter(Given<ft_arbiter_port>& arbiter) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  const auto port = arbiter.port;
  arbiter_ = make_arbiter(port, arbiter.adopt(desk_), options_.session_options().arbiter_timeout);
  return {};
}

Outcome Protection::set_detector(Given<ft_detector_port>& detector) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  detector_ = keep(detector, desk_);
  return {};
}

Outcome Protection::set_fence(Given<ft_fence_port>& fence) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  const auto port = fence.port;
  fence_ = make_fence(port, fence.adopt(desk_));
  return {};
}

Outcome Protection::set_log(Given<ft_log_sink>& log) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  const auto sink = log.port;
  log_ = make_log(sink, log.adopt(desk_));
  return {};
}

Outcome Protection::set_events(Given<ft_event_sink>& events) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  events_ = {events.port, events.adopt(desk_)};
  return {};
}

Outcome Protection::secure(int in, int out, const char* description, std::int32_t trust,
                           std::unique_ptr<Transport>& into) const {
  const bool proven = trust == FT_TRUST_PROVEN;
  FT_GET(auto raw, transport::from_fds(
                       os::ScopedFd(in), os::ScopedFd(out),
                       description == nullptr ? "descriptors" : description,
                       proven ? transport::Trust::proven : transport::Trust::assumed, kIoTimeout));
  return wrapped(std::move(raw), proven, false, options_.settings(), into);
}

// --- what the options name ----------------------------------------------------------------------

Outcome Protection::missing(Role role) const {
  const ft_settings& s = options_.settings();
  std::string lacking;
  const auto need = [&](bool there, const char* what) {
    if (!there) lacking += (lacking.empty() ? "" : "; ") + std::string(what);
  };
  need(arbiter_ != nullptr || s.arbiter[0] != 0, "an arbiter (the option, or a port)");
  if (role == Role::primary) {
    need(replica_.guest != nullptr, "a guest (the option, or a port)");
    need(replica_.gate != nullptr, "a gate (a port)");
  } else {
    need(dial_ != nullptr || s.peer[0] != 0,
         "a way to the primary (the option peer, or a dial port)");
  }
  if (lacking.empty()) return {};
  return {FT_E_INVALID, "there is something missing: " + lacking, "set it before"};
}

Outcome Protection::open_built_in_guest() {
  const std::string spec = options_.settings().guest;
  if (spec.empty() || replica_.guest) return {};
  if (!spec.starts_with(kMemory))
    return {FT_E_UNSUPPORTED, fmt::format("guest {}: libft has no such driver here", spec),
            "use memory:mib=64,pages=50, or a guest port"};
  FT_GET(const std::uint64_t mib, number_in(spec, "mib", 64));
  FT_GET(const std::uint64_t pages, number_in(spec, "pages", 50));
  if (mib == 0) return {FT_E_INVALID, fmt::format("guest {}: it has no memory", spec)};
  FT_GET(auto replica, with_gate(guest::make_memory_guest(mib * 256, 1), pages));
  replica_ = std::move(replica);
  return {};
}

Outcome Protection::open_listener() {
  const ft_settings& s = options_.settings();
  offers_ = std::make_unique<Offers>();
  if (s.listen[0] == 0) return {};
  FT_CHECK(check_address(s, s.listen));
  FT_GET(const transport::Options options, transport_options(s));
  FT_GET(listener_, transport::listen(session::with_scheme(s.listen), options));
  return {};
}

// On the host's thread, so that what is wrong is refused at once. On failure nothing changed that a
// second attempt would notice.
Outcome Protection::open_parts(Role role) {
  const ft_settings& s = options_.settings();
  for (const std::string& peer : split(s.peer)) FT_CHECK(check_address(s, peer));
  if (role == Role::primary) FT_CHECK(open_built_in_guest());
  FT_CHECK(missing(role));
  if (!arbiter_) {
    FT_GET(arbiter_, failover::open_arbiter(s.arbiter));
  }
  if (!fence_) {
    FT_GET(fence_, failover::open_fence(s.fence[0] == 0 ? "none" : s.fence));
  }
  if (const std::string heartbeat = s.heartbeat;
      heartbeat != "none" && !detector_ && (s.listen[0] != 0 || !heartbeat.empty())) {
    FT_GET(const auto addresses, session::heartbeat_addresses(split(heartbeat), s.listen));
    FT_GET(const transport::Options options, transport_options(s));
    FT_GET(hub_, failover::HeartbeatHub::open(addresses,
                                              options.psk ? transport::to_text(*options.psk) : ""));
  }
  return open_listener();
}

// --- wiring -------------------------------------------------------------------------------------

Outcome Protection::wire_heartbeats(SessionParts& parts) {
  parts.host = host_name(options_.settings());
  if (detector_) {
    parts.heartbeat_port = detector_->port.port;
    parts.expect_heartbeats = [kept = detector_](std::uint64_t token) {
      return Result<std::unique_ptr<Detector>>(
          make_detector(kept->port, kept->life, token, std::nullopt));
    };
    parts.dial_heartbeats = [kept = detector_](std::uint64_t token, std::uint16_t port) {
      return Result<std::unique_ptr<Detector>>(make_detector(kept->port, kept->life, token, port));
    };
    return {};
  }
  if (!hub_) return {};
  parts.heartbeat_port = hub_->port();
  parts.expect_heartbeats = [this](std::uint64_t token) {
    return Result<std::unique_ptr<Detector>>(
        hub_->expect(guest_, token, options_.session_options().detector));
  };
  return {};
}

Outcome Protection::wire_backup(SessionParts& parts) {
  const ft_settings& s = options_.settings();
  if (dial_) {
    parts.dial = [this, kept = dial_](bool another_way) {
      return dial_port(*kept, options_, another_way);
    };
  } else {
    FT_GET(const transport::Options options, transport_options(s));
    const auto dialler = std::make_shared<session::Dialler>(split(s.peer), guest_, options,
                                                            options_.session_options().detector);
    parts.dial = [dialler](bool another_way) { return dialler->dial(another_way); };
    if (!detector_ && std::string_view(s.heartbeat) != "none")
      parts.dial_heartbeats = [dialler](std::uint64_t token, std::uint16_t port) {
        return dialler->heartbeats(token, port);
      };
  }
  parts.make_standby = [kept = standby_](const GuestInfo& primary) {
    return kept ? make_standby_port(*kept, primary) : memory_standby(primary);
  };
  return {};
}

}  // namespace libft::capi
