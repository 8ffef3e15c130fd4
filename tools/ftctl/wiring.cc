// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <filesystem>
#include <future>
#include <map>
#include <mutex>

#include "failover/arbiter_thread.h"
#include "failover/command_fence.h"
#include "failover/heartbeat_detector.h"
#include "failover/open_arbiter.h"
#include "guest/qemu/arguments.h"
#include "guest/qemu/tracker.h"
#include "host/command_check.h"
#include "host/qemu_opener.h"
#include "os/mmap_arena.h"
#include "os/real_clock.h"
#include "os/socket.h"
#include "os/thread_pool.h"
#include "report.h"
#include "session/dialler.h"
#include "transport/transports.h"
#include "wiring_machine.h"
#include "wiring_memory.h"
#include "wiring_qemu.h"
#include "wiring_xen.h"

namespace libft::ftctl {

namespace {

Result<Strategy> chosen_strategy(const Settings& settings) {
  if (!settings.strategy.empty()) return strategy_from(settings.strategy);
  return settings.guest.starts_with("machine:") ? Strategy::hybrid : Strategy::checkpoint;
}

constexpr std::string_view kManual = "manual:";

std::string arbiter_spec(const Settings& settings) {
  if (!settings.arbiter.empty()) return settings.arbiter;
  return fmt::format("{}{}/records", kManual, settings.state_dir);  // --manual-failover
}

Result<transport::Options> transport_options(const Settings& settings) {
  transport::Options options;
  options.insecure = settings.insecure;
  if (settings.key_file.empty()) return options;
  FT_ASSIGN(options.psk, transport::load_key(settings.key_file));
  return options;
}

std::string heartbeat_key(const transport::Options& options) {
  return options.psk ? transport::to_text(*options.psk) : std::string();
}

class RealHost final : public Host {
 public:
  explicit RealHost(Log& log) : log_(log) {}

  Status check(const Settings& settings) const override;
  ReadAnswer read_record(const Settings& settings, const GuestId& guest) override;
  Result<Replica> open_guest(const Settings& settings, const GuestId& guest,
                             const GuestSource& source) override;
  Result<Replica> take_up(const Settings& settings, const GuestId& guest, const GuestProcess& left,
                          bool standby, bool set_running) override;
  Result<SessionParts> parts(const Settings& settings, const GuestId& guest, bool standby) override;
  Result<SessionParts> witness_parts(const Settings& settings, const GuestId& guest) override;
  Result<Switchboard*> switchboard(const Settings& settings) override;
  GuestProcess process(const GuestId& guest) const override;
  Result<bool> lives(const GuestState& earlier) const override;
  Status stop(const GuestState& earlier, const GuestId& guest) override;
  std::string hand_back(const GuestId& guest) override;
  Status permit(const Settings& settings, const GuestId& guest,
                const SessionStatus& status) override;

 private:
  Result<Replica> open_standby(const Settings& settings, const GuestId& guest,
                               const GuestInfo& primary);
  Result<failover::HeartbeatHub*> hub(const Settings& settings);
  Result<Replica> remember(const GuestId& guest, Result<OpenedQemu> opened);
  Result<Replica> remember(const GuestId& guest, Result<OpenedXen> opened);
  std::shared_ptr<ReleaseGuard> guard(const GuestId& guest);
  SessionParts bare_parts(const Settings& settings, const GuestId& guest);
  Status wire_backup(SessionParts& parts, const Settings& settings, const GuestId& guest);

  Log& log_;
  os::RealClock clock_;
  os::ThreadPool pool_;
  os::MmapArena arena_;
  mutable std::mutex mutex_;  // The maps below: sessions' threads make standbys.
  std::map<GuestId, GuestProcess> processes_;
  std::map<GuestId, std::shared_ptr<ReleaseGuard>> guards_;
  std::map<std::string, std::unique_ptr<Switchboard>> switchboards_;
  std::map<std::string, std::unique_ptr<failover::HeartbeatHub>> hubs_;
  std::atomic<unsigned> lives_ = 0;
};

Status RealHost::check(const Settings& settings) const {
  std::vector<std::string> addresses = settings.peer;
  addresses.push_back(settings.listen);
  for (const std::string& address : addresses) {
    if (!settings.key_file.empty() || settings.insecure) break;
    if (session::stays_on_this_host(session::with_scheme(address))) continue;
    return with_remedy(Code::refused,
                       fmt::format("{} is not on this host, and there is no key", address),
                       "make one with `ftctl keygen FILE`, copy it to both hosts and name it with "
                       "--key-file; --insecure goes without");
  }
  if (auto options = transport_options(settings); !options) return options.error();
  if (auto strategy = chosen_strategy(settings); !strategy) return strategy.error();
  // The records of --manual-failover are this host's own, as the state directory is.
  if (settings.arbiter.empty()) FT_TRY(ensure_state_dir(settings.state_dir + "/records"));
  if (auto arbiter = failover::open_arbiter(arbiter_spec(settings)); !arbiter)
    return arbiter.error();
  if (auto fence = failover::open_fence(settings.fence.empty() ? "none" : settings.fence); !fence) {
    return fence.error();
  }
  return {};
}

ReadAnswer RealHost::read_record(const Settings& settings, const GuestId& guest) {
  auto arbiter = failover::open_arbiter(arbiter_spec(settings));
  if (!arbiter) return {ReadAnswer::Outcome::unknown, {}, arbiter.error().message()};
  failover::ArbiterThread thread(std::move(*arbiter));
  auto promise = std::make_shared<std::promise<ReadAnswer>>();
  auto answer = promise->get_future();
  thread.post_read(guest, [promise](ReadAnswer read) { promise->set_value(std::move(read)); });
  return answer.get();  // It has a deadline.
}

std::shared_ptr<ReleaseGuard> RealHost::guard(const GuestId& guest) {
  const std::lock_guard lock(mutex_);
  auto& guard = guards_[guest];
  if (!guard) guard = std::make_shared<ReleaseGuard>(clock_);
  return guard;
}

Result<Replica> RealHost::remember(const GuestId& guest, Result<OpenedQemu> opened) {
  if (!opened) return failure(std::move(opened.error()));
  const std::lock_guard lock(mutex_);
  processes_[guest] = opened->process;
  return std::move(opened->replica);
}

Result<Replica> RealHost::remember(const GuestId& guest, Result<OpenedXen> opened) {
  if (!opened) return failure(std::move(opened.error()));
  const std::lock_guard lock(mutex_);
  processes_[guest] = GuestProcess{{}, {}, {}, opened->domain};
  return std::move(opened->replica);
}

Result<Replica> RealHost::open_guest(const Settings& settings, const GuestId& guest,
                                     const GuestSource& source) {
  if (is_memory_guest(source.spec)) return open_memory_guest(source.spec);
  if (is_machine_guest(source.spec))
    return open_machine(settings, source.spec, this->guard(guest), log_);
  if (is_xen_guest(source.spec)) {
    return remember(guest, open_xen(settings, guest, source, this->guard(guest), log_));
  }
  return remember(guest, open_qemu(settings, guest, source, this->guard(guest), log_));
}

Result<Replica> RealHost::take_up(const Settings& settings, const GuestId& guest,
                                  const GuestProcess& left, bool standby, bool set_running) {
  return remember(
      guest, take_up_qemu(settings, guest, left, standby, set_running, this->guard(guest), log_));
}

Result<Replica> RealHost::open_standby(const Settings& settings, const GuestId& guest,
                                       const GuestInfo& primary) {
  if (primary.driver == "memory") return open_memory_standby(primary);
  if (primary.driver == "machine")
    return open_machine_standby(settings, primary, this->guard(guest), log_);
  if (primary.driver == "xen") {
    return remember(guest, open_xen_standby(settings, guest, primary, this->guard(guest), log_));
  }
  const auto moved = [this, guest](GuestProcess process) {
    const std::lock_guard lock(mutex_);
    processes_[guest] = std::move(process);
  };
  return remember(guest, open_qemu_standby(settings, guest, primary, ++lives_, moved,
                                           this->guard(guest), log_));
}

std::string RealHost::hand_back(const GuestId& guest) {
  const std::string domain = process(guest).domain;
  return domain.empty() ? std::string() : hand_back_xen_domain(domain);
}

GuestProcess RealHost::process(const GuestId& guest) const {
  const std::lock_guard lock(mutex_);
  const auto found = processes_.find(guest);
  return found == processes_.end() ? GuestProcess{} : found->second;
}

Result<bool> RealHost::lives(const GuestState& earlier) const {
  return earlier.domain.empty() ? alive(earlier.guest) : xen_domain_lives(earlier.domain);
}

Status RealHost::stop(const GuestState& earlier, const GuestId& guest) {
  if (!earlier.domain.empty()) return stop_xen_domain(earlier.domain, guest);
  return kill_process(earlier.guest, Millis{10000});
}

Result<failover::HeartbeatHub*> RealHost::hub(const Settings& settings) {
  FT_ASSIGN(const std::vector<std::string> addresses,
            session::heartbeat_addresses(settings.heartbeat, settings.listen));
  FT_ASSIGN(const transport::Options options, transport_options(settings));
  auto& hub = hubs_[fmt::format("{}", fmt::join(addresses, ","))];
  if (!hub) {
    auto opened = failover::HeartbeatHub::open(addresses, heartbeat_key(options));
    if (!opened) {
      return failure(with_remedy(opened.error().code(),
                                 opened.error().within("heartbeats").message(),
                                 "choose another address with --heartbeat"));
    }
    hub = std::move(*opened);
  }
  return hub.get();
}

Result<Switchboard*> RealHost::switchboard(const Settings& settings) {
  const std::string address = session::with_scheme(settings.listen);
  auto& switchboard = switchboards_[address];
  if (!switchboard) {
    FT_ASSIGN(const transport::Options options, transport_options(settings));
    auto listener = transport::listen(address, options);
    if (!listener) {
      return failure(with_remedy(listener.error().code(),
                                 listener.error().within("listen").message(),
                                 "choose another address with --listen"));
    }
    log_.write(LogLevel::info, "ftctl", "listening on " + (*listener)->address());
    switchboard = Switchboard::open(std::move(*listener), log_);
  }
  return switchboard.get();
}

SessionParts RealHost::bare_parts(const Settings& settings, const GuestId& guest) {
  return SessionParts{.guest = guest,
                      .host = host_name(settings),
                      .log = log_,
                      .clock = clock_,
                      .executor = pool_,
                      .arena = arena_,
                      .arbiter = nullptr,
                      .fence = nullptr,
                      .guard = this->guard(guest),
                      .make_standby = nullptr,
                      .dial = nullptr,
                      .dial_heartbeats = nullptr,
                      .expect_heartbeats = nullptr,
                      .heartbeat_port = 0};
}

Result<SessionParts> RealHost::witness_parts(const Settings& settings, const GuestId& guest) {
  SessionParts parts = bare_parts(settings, guest);
  FT_TRY(wire_backup(parts, settings, guest));
  return parts;
}

Result<SessionParts> RealHost::parts(const Settings& settings, const GuestId& guest, bool standby) {
  SessionParts parts = bare_parts(settings, guest);
  FT_ASSIGN(parts.arbiter, failover::open_arbiter(arbiter_spec(settings)));
  FT_ASSIGN(parts.fence, failover::open_fence(settings.fence.empty() ? "none" : settings.fence));
  FT_ASSIGN(failover::HeartbeatHub* const hub, this->hub(settings));
  parts.heartbeat_port = hub->port();
  parts.expect_heartbeats = [hub, guest, detector = session_options(settings).detector](
                                std::uint64_t token) -> Result<std::unique_ptr<Detector>> {
    return hub->expect(guest, token, detector);
  };
  if (standby) FT_TRY(wire_backup(parts, settings, guest));
  return parts;
}

Status RealHost::wire_backup(SessionParts& parts, const Settings& settings, const GuestId& guest) {
  FT_ASSIGN(transport::Options options, transport_options(settings));
  const auto dialler = std::make_shared<session::Dialler>(settings.peer, guest, std::move(options),
                                                          session_options(settings).detector);
  parts.dial = [dialler](bool another_way) { return dialler->dial(another_way); };
  parts.dial_heartbeats = [dialler](std::uint64_t token, std::uint16_t port) {
    return dialler->heartbeats(token, port);
  };
  parts.make_standby = [this, settings, guest](const GuestInfo& primary) {
    return open_standby(settings, guest, primary);
  };
  if (!settings.check.empty()) {
    FT_ASSIGN(parts.check, host::CommandCheck::make(settings.check, guest));
  }
  return {};
}

Status RealHost::permit(const Settings& settings, const GuestId& guest,
                        const SessionStatus& status) {
  return failover::permit(arbiter_spec(settings), guest, status);
}

}  // namespace

Result<std::unique_ptr<Host>> Host::make(Log& log) { return std::make_unique<RealHost>(log); }

std::string host_name(const Settings& settings) {
  if (!settings.host.empty()) return settings.host;
  char name[HOST_NAME_MAX + 1] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

SessionOptions session_options(const Settings& settings) {
  SessionOptions options;
  options.strategy = chosen_strategy(settings).value_or(Strategy::checkpoint);
  options.rebase_interval = Millis{settings.rebase_interval};
  options.input_epoch = Millis{settings.input_epoch};
  options.answer_max = Millis{settings.answer_max};
  options.acknowledgement_max = std::max(options.acknowledgement_max, 2 * options.answer_max);
  options.follow_delay = std::chrono::seconds(settings.delay);
  options.delay_bytes_max = static_cast<std::size_t>(settings.delay_mib) << 20;
  options.adaptive = !settings.fixed;
  options.interval = Millis{settings.interval};
  options.floor = Millis{settings.floor};
  options.idle = Millis{std::max(settings.idle, settings.interval)};
  options.inflight_max = static_cast<std::uint32_t>(settings.inflight);
  options.staging_bytes = static_cast<std::size_t>(settings.staging_mib) << 20;
  if (settings.reference_mib >= 0) {
    options.reference_bytes_max = static_cast<std::uint64_t>(settings.reference_mib) << 20;
  }
  options.automatic_failover = !settings.manual_failover && !settings.arbiter.starts_with(kManual);
  options.head_start = Millis{settings.head_start};
  options.arbiter_timeout = Millis{settings.arbiter_timeout};
  options.detector.interval = Millis{settings.heartbeat_interval};
  options.detector.missed_max = static_cast<std::uint32_t>(settings.heartbeat_missed);
  return options;
}

std::vector<TrackerReport> trackers() {
  std::vector<TrackerReport> reports;
  for (const qemu::TrackerProbe& probe : qemu::probe_trackers()) {
    reports.push_back({probe.name, probe.reason, probe.advice, probe.works, probe.scan_ms_per_gib});
  }
  return reports;
}

AcceleratorReport accelerator() {
  const std::string name = qemu::choose_accelerator();
  return {name, name == "kvm"
                    ? "/dev/kvm opens and the processor has vmx or svm"
                    : "no processor support (vmx, svm) or /dev/kvm does not open: software "
                      "emulation"};
}

Result<std::string> generate_key() {
  FT_ASSIGN(const transport::Key key, transport::make_key());
  return transport::to_text(key) + "\n";
}

Result<std::string> qemu_arguments(const std::string& name, const Settings& settings,
                                   std::uint64_t memory_mib, unsigned nics) {
  host::QemuSite site;
  site.state_dir = settings.state_dir;
  site.preload = preload_object();
  return host::arguments_to_add(site, name, memory_mib << 20, nics);
}

Status probe_arbiter(const std::string& spec) {
  FT_ASSIGN(auto arbiter, failover::open_arbiter(spec));
  FT_ASSIGN(const GuestId nobody, GuestId::from_name("ftctl-doctor"));
  failover::ArbiterThread thread(std::move(arbiter));
  auto promise = std::make_shared<std::promise<ReadAnswer>>();
  auto answer = promise->get_future();
  thread.post_read(nobody, [promise](ReadAnswer read) { promise->set_value(std::move(read)); });
  const ReadAnswer read = answer.get();
  if (read.outcome != ReadAnswer::Outcome::unknown) return {};
  return Status(Code::io, read.detail);
}

std::string preload_object() {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  // Installed, beside ftctl, or in a build folder.
  for (const char* place :
       {"../lib/libft", "../lib/x86_64-linux-gnu/libft", ".", "../../src/guest/qemu"}) {
    const auto file = (here / place / "libft-preload.so").lexically_normal();
    if (std::filesystem::exists(file, error)) return file.string();
  }
  return {};
}

}  // namespace libft::ftctl
