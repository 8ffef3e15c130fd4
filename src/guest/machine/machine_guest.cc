// SPDX-License-Identifier: LGPL-2.1-or-later
#include "machine_guest.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/checksum.h"
#include "layout.h"
#include "os/poll.h"
#include "os/random.h"
#include "os/thread.h"
#include "spec.h"

namespace libft::machine {

namespace {

constexpr std::uint64_t kSliceSteps = 50'000;  // About 0.2 ms: how long pause() may wait.
constexpr std::uint64_t kTrialSteps = 1'000'000;
constexpr std::uint32_t kEntropyMax = 4096;
constexpr unsigned kFramesAtOnce = 32;
constexpr Nanos kSleepMax = std::chrono::milliseconds{100};
constexpr std::chrono::microseconds kSocketRetry{200};

Nanos time_of(const MachineOptions& options, std::uint64_t steps) {
  constexpr std::uint64_t kTickNanos = 1'000'000'000 / kTicksPerSecond;
  return Nanos{steps / options.steps_per_tick * kTickNanos};
}

std::uint64_t steps_in(const MachineOptions& options, Nanos time) {
  constexpr std::int64_t kTickNanos = 1'000'000'000 / kTicksPerSecond;
  return static_cast<std::uint64_t>(time.count() / kTickNanos) * options.steps_per_tick;
}

// For a copy of a machine, which must not write to the machine's own disk.
Result<MachineOptions> with_a_disk_in_memory(MachineOptions options) {
  if (!options.writable_disk) return options;
  FT_ASSIGN(options.writable_disk, Disk::in_memory(options.writable_disk->bytes().size()));
  return options;
}

std::vector<std::byte> random_bytes(std::uint32_t count) {
  std::vector<std::uint8_t> raw(std::min(count, kEntropyMax));
  if (!os::random_bytes(raw).ok()) return {};
  const auto bytes = std::as_bytes(std::span(raw));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

class MachineGuest::Entry {
 public:
  explicit Entry(const MachineGuest& guest) : lock_(guest.mutex_, std::defer_lock) {
    ++guest.wanted_;
    lock_.lock();
    --guest.wanted_;
    guest.changed_.notify_all();
  }

 private:
  std::unique_lock<std::mutex> lock_;
};

Result<std::unique_ptr<MachineGuest>> MachineGuest::create(MachineGuestOptions options) {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  std::unique_ptr<MachineGuest> guest(new MachineGuest(std::move(options), std::move(wake)));
  const MachineGuestOptions& made = guest->options_;
  FT_ASSIGN(guest->machine_, made.standby ? Machine::create_empty(made.machine, guest->sinks())
                                          : Machine::create(made.machine, guest->sinks()));
  guest->describe();
  guest->begin_to_run();
  guest->thread_ = os::start_thread("ft-machine", [lives = guest.get()] { lives->live(); });
  return guest;
}

MachineGuest::MachineGuest(MachineGuestOptions options, os::EventFd wake)
    : options_(std::move(options)),
      wake_(std::move(wake)),
      life_(options_.standby ? Life::waiting : Life::alive) {}

MachineGuest::~MachineGuest() {
  {
    Entry entry(*this);
    stopping_ = true;
  }
  wake_.signal();
}

MachineSinks MachineGuest::sinks() {
  MachineSinks sinks;
  sinks.frame = [this](std::span<const std::byte> frame) { send(frame); };
  sinks.console = [this](std::span<const std::byte> bytes) {
    if (output_sink_) output_sink_(machine_->position(), {GuestOutput::Kind::console, bytes});
    if (options_.console) options_.console(bytes);
  };
  sinks.entropy_wanted = [this](std::uint32_t bytes) { entropy_wanted_ = bytes; };
  return sinks;
}

void MachineGuest::describe() {
  const MachineOptions& machine = options_.machine;
  info_.driver = "machine";
  info_.description = fmt::format("RV64IMAC machine, {} hart{}, {} MiB", machine.harts,
                                  machine.harts == 1 ? "" : "s", machine.memory_bytes >> 20);
  info_.page_bytes = kPageBytes;
  info_.vcpus = machine.harts;
  info_.memory.push_back({"ram", PageNo{kMemoryBase / kPageBytes}, machine_->memory().bytes()});
  if (Memory* const disk = machine_->disk())
    info_.memory.push_back({"disk", PageNo{kDiskBase / kPageBytes}, disk->bytes()});
  info_.tracker = "exact";
  info_.accelerator = "none";
  info_.compatibility = compatibility_of(machine, options_.disk_file);
}

// --- its own life -------------------------------------------------------------------------------

void MachineGuest::begin_to_run() {
  since_ = HostClock::now();
  from_ = machine_->position();
}

Position MachineGuest::due() const {
  return Position{from_.value + steps_in(options_.machine, HostClock::now() - since_)};
}

void MachineGuest::live() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (wanted_ > 0) {  // Whoever waits is let in before the next slice.
      changed_.wait(lock, [this] { return wanted_ == 0; });
    } else if (!runs()) {
      changed_.wait(lock, [this] { return runs() || stopping_; });
    } else {
      live_a_moment(lock);
    }
  }
}

void MachineGuest::live_a_moment(std::unique_lock<std::mutex>& lock) {
  if (!send_what_is_left()) {  // Its link is full: it stands, as QEMU's guests do.
    changed_.wait_for(lock, kSocketRetry, [this] { return wanted_ > 0; });
    return;
  }
  if (input_at_ == InputAt::any_position) take_frames(kFramesAtOnce);
  if (entropy_wanted_ > 0) {
    const std::uint32_t count = std::exchange(entropy_wanted_, 0);
    take({GuestInput::Kind::entropy, random_bytes(count)});
  }
  const HostClock::time_point begun = HostClock::now();
  const std::uint64_t at_once = options_.machine.smp == Smp::threads ? options_.machine.harts : 1;
  machine_->run_live(Position{machine_->position().value + at_once * kSliceSteps}, input_sink_);
  notice_end();
  if (runs() && machine_->idle() && entropy_wanted_ == 0)
    sleep_a_while(lock);
  else if (pace_ < 100)
    keep_pace(lock, begun);
}

// Stands for as long as makes the slice since `begun` its share of the time.
void MachineGuest::keep_pace(std::unique_lock<std::mutex>& lock, HostClock::time_point begun) {
  const HostClock::duration ran = HostClock::now() - begun;
  const HostClock::time_point until = HostClock::now() + ran * (100 - pace_) / pace_;
  changed_.wait_until(lock, until, [this] { return wanted_ > 0 || !runs() || stopping_; });
}

// Until a frame comes or the next event is due by the host's clock; then the guest has slept as
// long.
void MachineGuest::sleep_a_while(std::unique_lock<std::mutex>& lock) {
  const Position here = machine_->position();
  const std::optional<Position> event = machine_->next_event();
  Nanos patience = kSleepMax;
  if (event) {
    const Position now = due();
    const std::uint64_t steps = event->value > now.value ? event->value - now.value : 0;
    patience = std::min(patience, time_of(options_.machine, steps));
  }
  if (patience > Nanos{0}) {
    const bool hears = options_.nic.valid() && input_at_ == InputAt::any_position;
    const int fd = hears ? options_.nic.get() : wake_.fd();
    lock.unlock();
    [[maybe_unused]] const auto woke = os::wait_ready(fd, POLLIN, wake_.fd(), patience);
    lock.lock();
  }
  // Somebody may have paused it, or moved it, in between.
  if (!runs() || machine_->position() != here || !machine_->idle()) return;
  const Position until = event ? std::min(*event, due()) : due();
  if (until > here) machine_->run(until, WhenIdle::skip);
}

bool MachineGuest::send_what_is_left() {
  while (!outbox_.empty()) {
    const std::vector<std::byte>& frame = outbox_.front();
    const ssize_t sent =
        ::send(options_.nic.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) return false;
    outbox_.pop_front();  // Or nobody is at the other end, as with a cable that was pulled.
  }
  return true;
}

void MachineGuest::send(std::span<const std::byte> frame) {
  const std::array<std::uint64_t, 2> before{said_, machine_->position().value};
  said_ = base::checksum(std::as_bytes(std::span(before)), frame);
  if (output_sink_) {
    output_sink_(machine_->position(), {GuestOutput::Kind::frame, frame});
  } else if (options_.nic.valid()) {
    outbox_.emplace_back(frame.begin(), frame.end());
    send_what_is_left();
  }
}

void MachineGuest::take_frames(unsigned frames_max) {
  if (!options_.nic.valid()) return;
  std::array<std::byte, VirtioNet::kFrameBytesMax> frame;
  for (unsigned i = 0; i < frames_max; ++i) {
    const ssize_t got = ::recv(options_.nic.get(), frame.data(), frame.size(), MSG_DONTWAIT);
    if (got <= 0) return;
    take({GuestInput::Kind::frame, {frame.begin(), frame.begin() + got}});
  }
}

void MachineGuest::take(GuestInput input) {
  if (input_sink_) input_sink_(machine_->position(), input);
  // Only a schedule can be refused.
  [[maybe_unused]] const Status taken = machine_->deliver(input);
}

void MachineGuest::notice_end() {
  const End end = machine_->ended();
  if (end == End::running || life_ == Life::ended) return;
  ran_out_ = life_ == Life::loaded;
  life_ = Life::ended;
  send_what_is_left();
  if (!event_sink_) return;
  switch (end) {
    case End::failed:
      event_sink_({GuestEvent::Kind::crashed, "the guest reported a failure"});
      break;
    case End::reset_requested:
      event_sink_({GuestEvent::Kind::ended, "the guest wants to be reset, which it is not"});
      break;
    default: event_sink_({GuestEvent::Kind::ended, "switched off by the guest"});
  }
}

// --- Guest --------------------------------------------------------------------------------------

void MachineGuest::set_event_sink(std::function<void(GuestEvent)> sink) {
  Entry entry(*this);
  event_sink_ = std::move(sink);
}

Status MachineGuest::start_tracking() {
  Entry entry(*this);
  if (life_ == Life::ended) return Status(Code::guest_gone, "track pages: the guest has ended");
  machine_->memory().clear_written();
  if (Memory* const disk = machine_->disk()) disk->clear_written();
  tracking_ = true;
  return {};
}

void MachineGuest::stop_tracking() {
  Entry entry(*this);
  tracking_ = false;
}

Status MachineGuest::pause() {
  Entry entry(*this);
  if (life_ == Life::ended) return Status(Code::guest_gone, "pause: the guest has ended");
  if (life_ != Life::alive) return Status(Code::invalid, "pause: the guest was not activated yet");
  if (paused_) return Status(Code::invalid, "pause: the guest is paused already");
  // What lies in the cable belongs to what another host goes on from.
  take_frames(VirtioNet::kBacklogMax);
  paused_ = true;
  paused_at_ = HostClock::now();
  return {};
}

Status MachineGuest::resume() {
  Entry entry(*this);
  if (life_ == Life::ended) return Status(Code::guest_gone, "resume: the guest has ended");
  if (!paused_) return Status(Code::invalid, "resume: the guest was not paused");
  paused_ = false;
  const Nanos stood = HostClock::now() - paused_at_;
  lag_ = lag_.load() + stood;
  since_ += stood;
  return {};
}

Status MachineGuest::take_written(PageSet& written) {
  Entry entry(*this);
  if (!tracking_) return Status(Code::invalid, "take written pages: they are not tracked");
  machine_->memory().take_written(written);
  if (Memory* const disk = machine_->disk()) {
    PageSet on_disk;
    disk->take_written(on_disk);
    written.merge(on_disk);
  }
  return {};
}

Status MachineGuest::save_state() {
  Entry entry(*this);
  if (life_ == Life::ended) return Status(Code::guest_gone, "save state: the guest has ended");
  if (!stands_still()) return Status(Code::invalid, "save state: the guest does not stand still");
  machine_->save(saved_);
  return {};
}

Status MachineGuest::fetch_state(std::vector<std::byte>& state) {
  Entry entry(*this);
  if (saved_.empty()) return Status(Code::invalid, "fetch state: none was saved");
  state = saved_;
  return {};
}

Status MachineGuest::accepts(const GuestInfo& primary) const {
  std::string differs;
  const auto add = [&](std::string_view what, const auto& there, const auto& here) {
    if (there != here) differs += fmt::format("; {} is {} there and {} here", what, there, here);
  };
  add("the driver", primary.driver, info_.driver);
  add("the page size", primary.page_bytes, info_.page_bytes);
  add("the number of pages", primary.pages(), info_.pages());
  add("the machine", primary.compatibility, info_.compatibility);
  if (differs.empty()) return {};
  return Status(Code::refused, "this machine cannot continue that one" + differs);
}

Status MachineGuest::probe_state(std::span<const std::byte> state) {
  FT_ASSIGN(MachineOptions options, with_a_disk_in_memory(options_.machine));
  FT_ASSIGN(const std::unique_ptr<Machine> trial,
            Machine::create_empty(std::move(options), MachineSinks{}));
  return trial->load(state);
}

Status MachineGuest::trial_run(StillMoment& moment) {
  FT_ASSIGN(MachineOptions options, with_a_disk_in_memory(options_.machine));
  FT_ASSIGN(const std::unique_ptr<Machine> trial,
            Machine::create_empty(std::move(options), MachineSinks{}));
  FT_ASSIGN(const auto state, moment.hold());
  {
    Entry entry(*this);
    std::ranges::copy(machine_->memory().bytes(), trial->memory().bytes().begin());
    if (Memory* const disk = machine_->disk())
      std::ranges::copy(disk->bytes(), trial->disk()->bytes().begin());
  }
  FT_TRY(trial->load(state));
  FT_TRY(moment.let_go());
  const Position until{trial->position().value + kTrialSteps};
  trial->run(until, WhenIdle::skip);
  if (trial->position() == until || trial->ended() == End::shut_down) return {};
  return Status(Code::internal, "the copy does not run");
}

Status MachineGuest::load_state(std::span<const std::byte> state) {
  Entry entry(*this);
  if (life_ == Life::ended && !ran_out_)
    return Status(Code::guest_gone, "load state: the guest has ended");
  if (life_ == Life::alive) return Status(Code::invalid, "load state: the guest is a primary");
  FT_TRY(machine_->load(state));
  life_ = Life::loaded;
  ran_out_ = false;
  said_ = 0;
  return {};
}

Status MachineGuest::activate() {
  Entry entry(*this);
  if (life_ == Life::ended) return Status(Code::guest_gone, "activate: the guest has ended");
  if (life_ != Life::loaded) return Status(Code::invalid, "activate: no state was loaded");
  // What it asked for on the other host and did not get there.
  entropy_wanted_ = machine_->entropy_wanted();
  life_ = Life::alive;
  begin_to_run();
  announce();
  return {};
}

// Tells the switches where the guest is now, as QEMU does after a migration: a RARP request for its
// own address (RFC 903), which nobody answers. It comes from the host, not from the guest.
void MachineGuest::announce() {
  if (!options_.nic.valid()) return;
  const std::array<std::uint8_t, 6>& mac = options_.machine.mac;
  constexpr std::size_t kFrameBytes = 60;
  std::vector<std::byte> frame(kFrameBytes);
  const auto put = [&frame](std::size_t at, std::span<const std::uint8_t> bytes) {
    std::ranges::copy(std::as_bytes(bytes), frame.begin() + static_cast<std::ptrdiff_t>(at));
  };
  std::ranges::fill(std::span(frame).first(mac.size()), std::byte{0xff});
  put(6, mac);
  put(12, std::array<std::uint8_t, 10>{0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3});
  put(22, mac);
  put(32, mac);
  outbox_.push_back(std::move(frame));
  send_what_is_left();
}

void MachineGuest::destroy() {
  Entry entry(*this);
  life_ = Life::ended;
  ran_out_ = false;
  tracking_ = false;
}

Nanos MachineGuest::clock_lag() const { return lag_; }

// --- DeterministicGuest -------------------------------------------------------------------------

Result<Position> MachineGuest::position() {
  Entry entry(*this);
  if (!stands_still()) return failure(Code::invalid, "position: the guest does not stand still");
  return machine_->position();
}

Status MachineGuest::run_until(Position until) {
  Entry entry(*this);
  if (!stands_still()) return Status(Code::invalid, "run until: the guest does not stand still");
  if (until < machine_->position()) {
    return Status(Code::invalid, fmt::format("run until {}: the guest is at {} already",
                                             until.value, machine_->position().value));
  }
  machine_->run(until, WhenIdle::skip);
  if (machine_->diverged()) {
    return Status(Code::corrupt,
                  fmt::format("run until {}: at {} the harts came to something else than their "
                              "schedule says; remedy: load another state",
                              until.value, machine_->position().value));
  }
  if (machine_->position() == until) return {};
  notice_end();
  return Status(Code::guest_gone, fmt::format("run until {}: the guest ended by itself at {}",
                                              until.value, machine_->position().value));
}

Status MachineGuest::deliver(const GuestInput& input) {
  Entry entry(*this);
  if (!stands_still()) return Status(Code::invalid, "deliver: the guest does not stand still");
  return machine_->deliver(input);
}

Result<std::uint64_t> MachineGuest::state_hash() {
  Entry entry(*this);
  if (!stands_still()) return failure(Code::invalid, "state hash: the guest does not stand still");
  return machine_->state_hash();
}

Status MachineGuest::mark(WithHash hash, const std::function<void(const Mark&)>& there) {
  Entry entry(*this);
  if (life_ == Life::waiting) return Status(Code::invalid, "mark: no state was loaded");
  const End end = machine_->ended();
  Mark mark{machine_->position(), std::nullopt, std::exchange(said_, 0),
            end == End::shut_down || end == End::reset_requested};
  if (hash == WithHash::yes) {
    mark.hash = machine_->state_hash();
    machine_->begin_anew();
  }
  there(mark);
  if (input_at_ == InputAt::marks && runs()) take_frames(VirtioNet::kBacklogMax);
  return {};
}

void MachineGuest::set_pace(unsigned percent) {
  Entry entry(*this);
  pace_ = std::clamp(percent, 1u, 100u);
}

void MachineGuest::send_again(const GuestOutput& output) {
  Entry entry(*this);
  if (output.kind != GuestOutput::Kind::frame || !options_.nic.valid()) return;
  outbox_.emplace_back(output.bytes.begin(), output.bytes.end());
  send_what_is_left();
}

void MachineGuest::set_input_sink(InputSink sink) {
  Entry entry(*this);
  input_sink_ = std::move(sink);
}

void MachineGuest::set_input_at(InputAt where) {
  Entry entry(*this);
  input_at_ = where;
}

void MachineGuest::set_output_sink(OutputSink sink) {
  Entry entry(*this);
  output_sink_ = std::move(sink);
}

Result<GuestCopy> MachineGuest::make_copy() const {
  MachineGuestOptions options;
  FT_ASSIGN(options.machine, with_a_disk_in_memory(options_.machine));
  options.disk_file = options_.disk_file;
  options.standby = true;
  FT_ASSIGN(auto made, create(std::move(options)));
  DeterministicGuest* const exact = made.get();
  return GuestCopy{std::move(made), exact};
}

}  // namespace libft::machine
