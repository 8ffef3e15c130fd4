// SPDX-License-Identifier: LGPL-2.1-or-later
// What a Protection is made of: ports that the host gave, and libft's own adapters by name.
#include <fmt/format.h>
#include <unistd.h>

#include <climits>

#include "failover/command_fence.h"
#include "failover/open_arbiter.h"
#include "host/command_check.h"
#include "protection.h"
#include "session/dialler.h"
#include "split.h"
#include "transport/fd_stream.h"
#include "transport/tls.h"
#include "transport/transports.h"

namespace libft::capi {
namespace {

constexpr Nanos kIoTimeout = std::chrono::seconds{10};

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

std::string Protection::host() const {
  if (const char* const given = options_.settings().host; given[0] != 0) return given;
  char name[HOST_NAME_MAX + 1] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

// With the lock held.
Outcome Protection::fresh() const {
  if (phase_ == Phase::fresh) return {};
  if (phase_ == Phase::asking)
    return {FT_E_STATE, "the arbiter is being asked", "wait until may_start is done"};
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

Outcome Protection::set_command(std::vector<std::string> command) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  command_ = std::move(command);
  return {};
}

Outcome Protection::set_qmp(Given<ft_qmp_port>& qmp) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  const auto port = qmp.port;
  qmp_ = make_qmp(port, qmp.adopt(desk_));
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

Outcome Protection::set_heartbeat_fds(std::vector<os::ScopedFd> sockets) {
  const std::scoped_lock lock(mutex_);
  FT_CHECK(fresh());
  std::string key;
  FT_CHECK(heartbeat_key(key));
  FT_GET(hub_, failover::HeartbeatHub::over(std::move(sockets), key));
  heartbeats_given_ = true;
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
    const bool own = s.guest[0] != 0 || !command_.empty();
    need(replica_.guest != nullptr || own, "a guest (the option, or a port)");
    need(replica_.gate != nullptr || (own && !replica_.guest), "a gate (a port)");
  } else {
    need(dial_ != nullptr || s.peer[0] != 0,
         "a way to the primary (the option peer, or a dial port)");
  }
  if (lacking.empty()) return {};
  return {FT_E_INVALID, "there is something missing: " + lacking, "set it before"};
}

// What can be said of it before it is opened.
Outcome Protection::check_own_guest() {
  const std::string spec = options_.settings().guest;
  if ((spec.empty() && command_.empty()) || replica_.guest) return {};
  if (replica_.gate)
    return {FT_E_INVALID, "a guest of libft's own brings its gate, and one was set",
            "leave the gate out, or give a guest port too"};
  return command_.empty() ? OwnGuests::check(spec) : Outcome();
}

Outcome Protection::open_left() {
  const std::string text = options_.settings().held;
  if (text.empty()) return {};
  FT_GET(left_, left_from_text(text));
  if (left_->qemu) own_->go_on_with(*left_->qemu);
  return {};
}

// On the session's thread.
std::string Protection::text_of(HeldSession held) const {
  Left left{std::move(held), {}};
  if (const auto at = own_->place(); at && at->pid != 0)
    left.qemu = host::HeldQemu{at->pid, at->qmp, at->descriptors};
  return to_text(left);
}

// On the starting thread: QEMU takes its time, and a QMP port asks the host. A guest that is held
// is set running here, as its output is.
Status Protection::open_own_guest() {
  const std::string spec = options_.settings().guest;
  if (left_ && replica_.guest && left_->session.set_running) return replica_.guest->resume();
  if ((spec.empty() && command_.empty()) || replica_.guest) return {};
  FT_ASSIGN(auto replica, own_->open(spec, command_, qmp_));
  replica_ = std::move(replica);
  return {};
}

std::optional<OwnGuests::Place> Protection::place() const {
  const std::scoped_lock lock(mutex_);
  return own_ ? own_->place() : std::nullopt;
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
  if (auto strategy = strategy_from(s.strategy); !strategy) return strategy.error();
  if (role == Role::primary) FT_CHECK(check_own_guest());
  FT_CHECK(missing(role));
  own_ = std::make_unique<OwnGuests>(options_, guest_, guard_, *log_);
  FT_CHECK(open_left());
  if (!arbiter_) {
    arbiter_spec_ = s.arbiter;
    FT_GET(arbiter_, failover::open_arbiter(s.arbiter));
  }
  if (!fence_) {
    FT_GET(fence_, failover::open_fence(s.fence[0] == 0 ? "none" : s.fence));
  }
  FT_CHECK(open_heartbeats(role));
  return open_listener();
}

Outcome Protection::heartbeat_key(std::string& into) const {
  FT_GET(const transport::Options options, transport_options(options_.settings()));
  into = options.psk ? transport::to_text(*options.psk) : "";
  return {};
}

Outcome Protection::open_heartbeats(Role role) {
  const ft_settings& s = options_.settings();
  const std::string heartbeat = s.heartbeat;
  if (heartbeats_given_) {
    if (detector_)
      return {FT_E_INVALID, "a detector port and sockets for heartbeats are both set",
              "give one of them"};
    if (role == Role::backup && !hub_->connected())
      return {FT_E_INVALID, "a backup's sockets for heartbeats lead to nobody",
              "connect() them to where the primary's are bound"};
    return {};
  }
  if (heartbeat == "none" || detector_ || (s.listen[0] == 0 && heartbeat.empty())) return {};
  if (hub_) return {};  // Of an earlier attempt to start.
  FT_GET(const auto addresses, session::heartbeat_addresses(split(heartbeat), s.listen));
  std::string key;
  FT_CHECK(heartbeat_key(key));
  FT_GET(hub_, failover::HeartbeatHub::open(addresses, key));
  return {};
}

// --- wiring -------------------------------------------------------------------------------------

Outcome Protection::wire_heartbeats(SessionParts& parts) {
  parts.host = host();
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
  if (heartbeats_given_ && parts.heartbeat_port == 0) parts.heartbeat_port = 1;  // 0 means none.
  parts.expect_heartbeats = [this](std::uint64_t token) {
    return Result<std::unique_ptr<Detector>>(
        hub_->expect(guest_, token, options_.session_options().detector));
  };
  return {};
}

Outcome Protection::wire_backup(SessionParts& parts) {
  const ft_settings& s = options_.settings();
  if (heartbeats_given_)
    parts.dial_heartbeats = [this](std::uint64_t token, std::uint16_t) {
      return hub_->dial(guest_, token, options_.session_options().detector);
    };
  if (dial_) {
    parts.dial = [this, kept = dial_](bool another_way) {
      return dial_port(*kept, options_, another_way);
    };
  } else {
    FT_GET(const transport::Options options, transport_options(s));
    const auto dialler = std::make_shared<session::Dialler>(split(s.peer), guest_, options,
                                                            options_.session_options().detector);
    parts.dial = [dialler](bool another_way) { return dialler->dial(another_way); };
    if (!detector_ && !heartbeats_given_ && std::string_view(s.heartbeat) != "none")
      parts.dial_heartbeats = [dialler](std::uint64_t token, std::uint16_t port) {
        return dialler->heartbeats(token, port);
      };
  }
  parts.make_standby = [this, kept = standby_](const GuestInfo& primary) {
    return kept ? make_standby_port(*kept, primary) : own_->standby(primary);
  };
  if (s.check[0] != 0) {
    FT_GET(parts.check, host::CommandCheck::make(s.check, guest_));
  }
  return {};
}

}  // namespace libft::capi
