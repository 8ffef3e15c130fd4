// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/qemu_guest.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <thread>

#include "guest/qemu/guest_clock.h"
#include "guest/qemu/inspect.h"
#include "guest/qemu/life.h"
#include "guest/qemu/process_memory.h"
#include "guest/qemu/tracker.h"
#include "guest/qemu/watcher.h"
#include "os/file.h"
#include "qemu/device_state.h"

namespace libft::qemu {
namespace {

constexpr Nanos kCommandTimeout = Millis{10000};
constexpr Nanos kLoadTimeout = Millis{30000};

Nanos realtime() { return std::chrono::system_clock::now().time_since_epoch(); }

std::uint64_t realtime_us() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(realtime()).count());
}

// A QEMU process with everything that libft holds of it.
struct Process {
  pid_t pid = -1;
  os::ScopedFd pidfd;
  std::optional<os::Child> child;  // Where libft started it.
  std::unique_ptr<Life> life = std::make_unique<Life>();
  std::unique_ptr<Qmp> qmp;
  std::vector<MemoryBackend> backends;
  Arguments arguments;
  std::string log;
};

// Nanoseconds that the vCPUs' threads have been on a processor.
std::uint64_t processor_time(pid_t pid, const Json& cpus) {
  std::uint64_t sum = 0;
  for (const Json& cpu : cpus) {
    const auto text = os::read_file(
        fmt::format("/proc/{}/task/{}/schedstat", pid, number_at(cpu, "thread-id")), 4096);
    if (text) sum += std::strtoull(text->c_str(), nullptr, 10);
  }
  return sum;
}

// Sets it running and waits until its CPUs have worked for some milliseconds without an end.
Status run_for_a_moment(Qmp& qmp, pid_t pid, Life& life) {
  constexpr std::uint64_t kWorkNanos = 5'000'000;
  FT_ASSIGN(const Json cpus, qmp.execute("query-cpus-fast"));
  const std::uint64_t before = processor_time(pid, cpus);
  life.expect_resume();
  if (auto running = qmp.execute("cont"); !running) return running.error();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(Millis{20});
    FT_ASSIGN(const Json status, qmp.execute("query-status"));
    if (text_at(status, "status") != "running")
      return Status(Code::io, "the copy stopped by itself: " + text_at(status, "status"));
    for (const GuestEvent& event : life.take_events())
      return Status(Code::io, "the copy did not go on as the guest would: " + event.detail);
    if (processor_time(pid, cpus) - before > kWorkNanos) return {};
  }
  return Status(Code::timeout, "the copy's CPUs did not run");
}

class Qemu final : public QemuGuest {
 public:
  Qemu(Process process, Shape shape, SharedMemory memory, bool standby, Say say)
      : process_(std::move(process)),
        shape_(std::move(shape)),
        memory_(std::move(memory)),
        standby_(standby),
        say_(std::move(say)),
        watcher_(*process_.qmp, *process_.life, process_.pidfd.get()) {}
  ~Qemu() override;
  Status open();
  // Only once all else is well: of a failure the process must not end.
  void take_up_child() {
    if (auto child = os::Child::take_up(process_.pid)) process_.child = std::move(*child);
  }

  pid_t pid() const override { return process_.pid; }
  const std::vector<std::string>& tracker_notes() const override { return tracker_notes_; }

  bool stands_still() const override {
    return !standby_ && !paused_ && !process_.life->runs() && !process_.life->ended();
  }
  Status set_running() override;

  const GuestInfo& info() const override { return info_; }
  Status announce_nothing() override;
  Status run_as_standby() override;
  Status stop_as_standby() override;
  void set_event_sink(std::function<void(GuestEvent)> sink) override {
    watcher_.set_sink(std::move(sink));
  }
  Status start_tracking() override;
  void stop_tracking() override { tracker_->stop(); }
  Status pause() override;
  Status resume() override;
  Status take_written(PageSet& written) override;
  Status save_state() override;
  Status fetch_state(std::vector<std::byte>& state) override { return state_->fetch(state); }
  Status accepts(const GuestInfo& primary) const override;
  Status probe_state(std::span<const std::byte> state) override;
  Status trial_run(StillMoment& moment) override;
  Status load_state(std::span<const std::byte> state) override;
  Status activate() override;
  void destroy() override;
  Nanos clock_lag() const override { return clock_ ? clock_->left() : stopped_by_libft(); }
  Nanos stopped_by_libft() const override { return process_.life->stopped_by_libft(); }
  std::uint64_t clock_corrections() const override { return clock_ ? clock_->corrections() : 0; }

 private:
  void describe();
  void find_agent();
  Status start_clock();
  Status stop_and_save();
  Result<Arguments> throw_away_arguments(const HostPaths& paths) const;
  Status in_throw_away(std::span<const std::byte> state, bool run);
  Status take_written_briefly_stopped(PageSet& written);
  Status with_last_words(Status status) const;

  Process process_;
  Shape shape_;
  SharedMemory memory_;
  GuestInfo info_;
  std::unique_ptr<Tracker> tracker_;
  std::vector<std::string> tracker_notes_;
  std::unique_ptr<DeviceState> state_;
  std::optional<Qmp::Ticket> saving_;  // Posted together with `stop`, not awaited yet.
  bool paused_ = false;                // Between pause() and resume().
  bool stopped_by_us_ = false;         // resume() is to set it running.
  bool standby_;                       // Not activated yet.
  bool opened_ = false;                // open() succeeded: the process may outlive this object.
  const Say say_;
  Watcher watcher_;
  std::unique_ptr<GuestClock> clock_;  // Where the guest has a port for its agent.
};

Status Qemu::open() {
  describe();
  FT_ASSIGN(tracker_, open_best_tracker(process_.pid, memory_.tracked(), tracker_notes_));
  info_.tracker = tracker_->name();
  info_.tracking_stays = tracker_->stays();
  FT_ASSIGN(state_, open_device_state(*process_.qmp, shape_.way));
  FT_TRY(watcher_.start());
  find_agent();
  if (!standby_) FT_TRY(start_clock());
  opened_ = true;
  return {};
}

void Qemu::find_agent() {
  std::string socket = agent_socket_of(process_.arguments);
  if (socket.empty()) {
    tracker_notes_.emplace_back(
        "the guest's clock is measured and not corrected: QEMU has no port for the guest's agent; "
        "\"guest_agent\": true in the description adds one");
    return;
  }
  // As QEMU understood it.
  if (!socket.starts_with('/')) socket = fmt::format("/proc/{}/cwd/{}", process_.pid, socket);
  GuestClockOptions options;
  options.connect = [socket] { return connect_agent(socket); };
  options.stopped = [life = process_.life.get()] { return life->stopped_by_libft(); };
  options.host_time = realtime;
  options.say = say_;
  clock_ = std::make_unique<GuestClock>(std::move(options));
}

// A standby's guest does not run, so that its agent has nothing to say before the promotion.
Status Qemu::start_clock() { return clock_ ? clock_->start() : Status(); }

void Qemu::describe() {
  std::uint64_t bytes = 0;
  for (const std::uint64_t backend : shape_.memory) bytes += backend;
  info_.driver = "qemu";
  info_.description = fmt::format("QEMU {}, {}, {}, {} MiB", shape_.qemu, shape_.machine,
                                  shape_.accelerator, bytes >> 20);
  info_.vcpus = shape_.vcpus;
  info_.memory = memory_.regions();
  info_.accelerator = shape_.accelerator;
  info_.compatibility = to_json(shape_);
}

Qemu::~Qemu() {
  clock_.reset();
  if (standby_) destroy();
  watcher_.stop();
  // One that open() failed on ends with its Child: its owner was told that there is no guest.
  if (process_.child && opened_ && !standby_) process_.child->detach();
}

Status Qemu::start_tracking() { return tracker_->start(); }

Status Qemu::take_written(PageSet& written) {
  written.clear();
  if (tracker_->needs_pause() && !paused_ && process_.life->runs())
    return take_written_briefly_stopped(written);
  return tracker_->take_written(written);
}

Status Qemu::take_written_briefly_stopped(PageSet& written) {
  FT_TRY(pause());
  const Status taken = tracker_->take_written(written);
  const Status resumed = resume();
  return taken.ok() ? resumed : taken;
}

// `stop` and the save travel in one write: QEMU begins to save while this process already looks for
// the written pages.
Status Qemu::stop_and_save() {
  FT_ASSIGN(const std::string save, state_->command());
  const bool stop = process_.life->runs();
  std::string lines = stop ? "{\"execute\":\"stop\"}\n" : "";
  lines += save;
  const unsigned commands = (stop ? 1u : 0u) + (save.empty() ? 0u : 1u);
  if (commands == 0) return {};
  if (stop) process_.life->expect_stop(realtime_us());
  FT_ASSIGN(const Qmp::Ticket first, process_.qmp->post(lines, commands));
  if (!save.empty()) saving_ = first + commands - 1;
  if (!stop) return {};
  auto stopped = process_.qmp->wait(first, kCommandTimeout);
  if (!stopped) return stopped.error().within("stop");
  stopped_by_us_ = process_.life->stopped_by_us();
  return {};
}

Status Qemu::pause() {
  if (paused_) return Status(Code::internal, "pause: libft has paused this guest already");
  const Status stopped = stop_and_save();
  watcher_.wake();
  if (stopped.ok()) {
    paused_ = true;
    return {};
  }
  // Whether QEMU stopped is not known: tell it to run, which is right in both cases.
  if (saving_) process_.qmp->forget(*std::exchange(saving_, std::nullopt));
  if (!process_.qmp->lost() && !process_.life->ended()) {
    process_.life->expect_resume();
    if (auto ticket = process_.qmp->post(qmp_line("cont"))) process_.qmp->forget(*ticket);
  }
  return with_last_words(stopped);
}

Status Qemu::save_state() {
  if (!paused_) return Status(Code::internal, "save_state: the guest is not paused");
  const Qmp::Ticket ticket = saving_ ? *std::exchange(saving_, std::nullopt) : 0;
  process_.life->expect_migration(shape_.way == StateWay::migration);
  const Status saved = state_->finish(*process_.qmp, ticket);
  process_.life->expect_migration(false);
  return with_last_words(saved);
}

Status Qemu::resume() {
  if (!paused_) return Status(Code::internal, "resume: libft has not paused this guest");
  if (saving_) process_.qmp->forget(*std::exchange(saving_, std::nullopt));
  paused_ = false;
  if (!std::exchange(stopped_by_us_, false) || process_.life->ended()) return {};
  process_.life->expect_resume();
  auto resumed = process_.qmp->execute("cont", Json::object(), kCommandTimeout);
  watcher_.wake();
  if (resumed) return {};
  process_.life->cancel_expectations();
  return with_last_words(resumed.error());
}

Status Qemu::set_running() {
  if (!stands_still()) return {};
  process_.life->expect_resume();
  auto running = process_.qmp->execute("cont", Json::object(), kCommandTimeout);
  watcher_.wake();
  return running ? Status() : with_last_words(running.error()).within("set the guest running");
}

Status Qemu::accepts(const GuestInfo& primary) const {
  if (primary.driver != "qemu")
    return Status(Code::refused, fmt::format("the primary's guest is of the driver \"{}\", this "
                                             "host's of \"qemu\"",
                                             primary.driver));
  FT_ASSIGN(const Shape theirs, shape_from_json(primary.compatibility));
  std::vector<std::string> found = differences(theirs, shape_);
  if (primary.pages() != info_.pages() || primary.page_bytes != info_.page_bytes)
    found.push_back(fmt::format("memory: the primary has {} pages of {} bytes, this host {} of {}",
                                primary.pages(), primary.page_bytes, info_.pages(),
                                info_.page_bytes));
  if (found.empty()) return {};
  return Status(Code::refused,
                fmt::format("this host cannot continue the guest: {}", fmt::join(found, "; ")));
}

// The throw-away QEMU has the same command line, sockets that lead nowhere, and the memory as a
// private copy: what it writes stays its own.
Result<Arguments> Qemu::throw_away_arguments(const HostPaths& paths) const {
  std::vector<std::string> memory;
  for (const MemoryBackend& backend : process_.backends)
    memory.push_back(fmt::format("/proc/{}/fd/{}", process_.pid, backend.fd));
  return probe_arguments(process_.arguments, memory, paths);
}

Status Qemu::in_throw_away(std::span<const std::byte> state, bool run) {
  const std::string base = process_.log + (run ? ".trial" : ".probe");
  HostPaths paths{base + ".qmp", {}};
  for (std::size_t i = 0; i < netdevs_of(shape_.arguments).size(); ++i)
    paths.nics.push_back({fmt::format("{}.nic{}", base, i), fmt::format("{}.nowhere{}", base, i)});
  FT_ASSIGN(const Arguments arguments, throw_away_arguments(paths));
  LaunchOptions options;
  options.log = base + ".log";
  Status status;
  Life life;
  life.expect_migration(true);  // Ours, into the copy.
  if (auto probe =
          launch(arguments, paths.qmp, options, [&](const Json& event) { life.on_event(event); });
      !probe) {
    status = probe.error();
  } else {
    status = prepare_incoming(*probe->qmp, shape_.way);
    if (status.ok()) status = load_device_state(*probe->qmp, state, kLoadTimeout);
    if (status.ok() && run) status = run_for_a_moment(*probe->qmp, probe->process.pid(), life);
    if (!status.ok())
      status = Status(status.code(), status.message() + ": " + last_words(options.log));
    probe->process.kill_and_reap();
  }
  std::error_code ignored;
  for (const std::string& path : {paths.qmp, options.log}) std::filesystem::remove(path, ignored);
  for (const NicSockets& nic : paths.nics) std::filesystem::remove(nic.guest_path, ignored);
  return status;
}

Status Qemu::probe_state(std::span<const std::byte> state) {
  const Status status = in_throw_away(state, false);
  // Devices check their rings in memory, which at the first synchronisation is of several moments.
  if (status.message().find("inconsistent with Host index") != std::string::npos)
    return Status(Code::busy, "memory and state are of different moments: " + status.message());
  return status.ok() ? status : status.within("try the state in a throw-away QEMU");
}

// The copy reads what it has not written yet from the standby's own memory: the moment has to last
// until it has run.
Status Qemu::trial_run(StillMoment& moment) {
  FT_ASSIGN(const auto state, moment.hold());
  Status status = in_throw_away(state, true);
  if (status.ok()) status = moment.let_go();
  return status.ok() ? status : status.within("run a copy of the guest");
}

Status Qemu::load_state(std::span<const std::byte> state) {
  if (!standby_) return Status(Code::internal, "load_state: this guest is no standby");
  process_.life->expect_migration(true);
  const Status loaded = load_device_state(*process_.qmp, state, kLoadTimeout);
  return loaded.ok() ? loaded : with_last_words(loaded).within("load the device state");
}

Status Qemu::announce_nothing() {
  auto set = process_.qmp->execute("migrate-set-parameters", {{"announce-rounds", 0}});
  return set ? Status() : set.error().within("announce nothing");
}

Status Qemu::run_as_standby() {
  process_.life->expect_resume();
  auto running = process_.qmp->execute("cont", Json::object(), kCommandTimeout);
  watcher_.wake();
  return running ? Status() : with_last_words(running.error()).within("cont");
}

Status Qemu::stop_as_standby() {
  process_.life->expect_stop(realtime_us());
  auto stopped = process_.qmp->execute("stop", Json::object(), kCommandTimeout);
  (void)process_.life->stopped_by_us();
  watcher_.wake();
  return stopped ? Status() : with_last_words(stopped.error()).within("stop");
}

// The announcement repeats what QEMU sent when it loaded the state, and is not waited for.
Status Qemu::activate() {
  if (!process_.life->runs()) process_.life->expect_resume();
  FT_ASSIGN(const Qmp::Ticket ticket,
            process_.qmp->post(
                qmp_line("cont") +
                    qmp_line("announce-self",
                             {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 100}}),
                2));
  process_.qmp->forget(ticket + 1);
  auto running = process_.qmp->wait(ticket, kCommandTimeout);
  watcher_.wake();
  if (!running) return with_last_words(running.error()).within("cont");
  standby_ = false;
  process_.life->expect_migration(false);
  // From the saved epoch to now the guest's clock stood still. The guest runs: no failure to
  // correct its clock may look like a failed promotion.
  if (clock_) clock_->look_now();
  if (const Status clock = start_clock(); !clock.ok() && say_) say_(clock.message());
  return {};
}

// SIGKILL by pidfd: nothing that the guest or its monitor does can delay it, and the number cannot
// have been given to another process.
void Qemu::destroy() {
  process_.life->expect_end();
  if (process_.child) return process_.child->kill_and_reap();
  (void)::syscall(SYS_pidfd_send_signal, process_.pidfd.get(), SIGKILL, nullptr, 0);
  pollfd end{process_.pidfd.get(), POLLIN, 0};
  (void)::poll(&end, 1, 10000);
}

Status Qemu::with_last_words(Status status) const {
  if (status.ok() || !process_.qmp->lost() || !process_.child) return status;
  return Status(Code::guest_gone, status.message() + ": " + last_words(process_.log));
}

Status take_over_process(Process& process) {
  process.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  if (!process.pidfd.valid())
    return os::errno_status(fmt::format("find QEMU's process {}", process.pid));
  FT_ASSIGN(process.backends, find_memory(process.pid));
  // Tells migrations by others; a capability, so that it must be asked for.
  auto events = process.qmp->execute(
      "migrate-set-capabilities",
      {{"capabilities", Json::array({{{"capability", "events"}, {"state", true}}})}});
  if (!events) return events.error();
  FT_ASSIGN(const Json status, process.qmp->execute("query-status"));
  process.life->begin(text_at(status, "status"));
  return {};
}

Result<std::unique_ptr<Qemu>> assemble(Process process, const std::vector<NicSockets>& gates,
                                       bool standby, Say say) {
  FT_TRY(take_over_process(process));
  FT_ASSIGN(Inspection found, inspect(*process.qmp, process.arguments, process.backends, gates));
  if (!found.missing.empty())
    return failure(Code::unsupported, fmt::format("this QEMU cannot be protected: {}",
                                                  fmt::join(found.missing, "; ")));
  FT_ASSIGN(SharedMemory memory, SharedMemory::map(process.pid, process.backends));
  if (standby) process.life->expect_migration(true);
  auto guest = std::make_unique<Qemu>(std::move(process), std::move(found.shape), std::move(memory),
                                      standby, std::move(say));
  FT_TRY(guest->open());
  return guest;
}

Result<Process> launch_process(const Arguments& arguments, const HostPaths& paths,
                               LaunchOptions options) {
  Process process;
  if (options.log.empty()) options.log = paths.qmp + ".log";
  process.log = options.log;
  process.arguments = arguments;
  Life* life = process.life.get();
  FT_ASSIGN(Launched launched, launch(arguments, paths.qmp, options,
                                      [life](const Json& event) { life->on_event(event); }));
  process.child = std::move(launched.process);
  process.qmp = std::move(launched.qmp);
  process.pid = process.child->pid();
  return process;
}

// Stopping one guest and copying the memory of another would pass unnoticed. A toolstack may have
// opened the socket for its QEMU; what gives the mistake away is a second process of one program.
Status check_same_process(pid_t pid, const Qmp& qmp, const std::string& path) {
  const auto program = [](pid_t process) {
    std::error_code error;
    return std::filesystem::read_symlink(fmt::format("/proc/{}/exe", process), error).string();
  };
  const pid_t server = qmp.server();
  if (server <= 0 || server == pid || program(server) != program(pid)) return {};
  return Status(Code::invalid,
                fmt::format("QMP socket {} belongs to process {}, not to process {}: name the "
                            "process and the socket of one and the same QEMU",
                            path, server, pid));
}

// A description may leave the kernel's path relative; the standby needs a name that means the same.
std::string absolute(const std::string& path) {
  std::error_code error;
  const auto found = std::filesystem::absolute(path, error);
  return error || path.empty() ? path : found.string();
}

}  // namespace

Result<std::unique_ptr<QemuGuest>> QemuGuest::start(const QemuDescription& description,
                                                    const QemuOptions& options) {
  QemuDescription resolved = description;
  resolved.kernel = absolute(description.kernel);
  resolved.initrd = absolute(description.initrd);
  FT_ASSIGN(const Arguments arguments, arguments_for(resolved, options.paths));
  return start(arguments, options);
}

Result<std::unique_ptr<QemuGuest>> QemuGuest::start(const Arguments& arguments,
                                                    const QemuOptions& options) {
  FT_ASSIGN(Process process, launch_process(arguments, options.paths, options.launch));
  FT_ASSIGN(auto guest, assemble(std::move(process), options.paths.nics, false, options.say));
  return guest;
}

namespace {

// Whoever starts a QEMU may have libft protect it at once.
ReadyOptions starting(pid_t pid) {
  return {Millis{5000}, Millis{3000}, [pid]() -> Status {
            const auto there = command_line_of(pid);
            return there ? Status() : there.error();
          }};
}

}  // namespace

namespace {

Result<std::unique_ptr<QemuGuest>> attach_as(pid_t pid, const QemuOptions& options, bool standby) {
  Process process;
  process.pid = pid;
  process.log = options.launch.log.empty() ? options.paths.qmp + ".log" : options.launch.log;
  FT_ASSIGN(process.arguments, command_line_of(pid));
  Life* life = process.life.get();
  const auto on_event = [life](const Json& event) { life->on_event(event); };
  FT_ASSIGN(process.qmp, options.relay
                             ? relay_qmp(options.relay, on_event)
                             : connect_when_ready(options.paths.qmp, starting(pid), on_event));
  FT_TRY(check_same_process(pid, *process.qmp, options.paths.qmp));
  FT_ASSIGN(auto guest, assemble(std::move(process), options.paths.nics, standby, options.say));
  if (options.held) guest->take_up_child();
  return guest;
}

}  // namespace

Result<std::unique_ptr<QemuGuest>> QemuGuest::attach(pid_t pid, const QemuOptions& options) {
  return attach_as(pid, options, false);
}

Result<std::unique_ptr<QemuGuest>> QemuGuest::attach_standby(pid_t pid,
                                                             const QemuOptions& options) {
  return attach_as(pid, options, true);
}

Result<std::unique_ptr<QemuGuest>> QemuGuest::start_standby(const GuestInfo& primary,
                                                            const QemuStandbyOptions& options) {
  FT_ASSIGN(const Shape shape, shape_from_json(primary.compatibility));
  FT_ASSIGN(const Arguments arguments, standby_arguments(shape.arguments, options.arguments));
  FT_ASSIGN(Process process, launch_process(arguments, options.arguments.paths, options.launch));
  FT_TRY(prepare_incoming(*process.qmp, shape.way));
  FT_ASSIGN(auto guest,
            assemble(std::move(process), options.arguments.paths.nics, true, options.say));
  FT_TRY(guest->accepts(primary));
  return guest;
}

}  // namespace libft::qemu
