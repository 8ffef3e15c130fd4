// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/speculation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "guest/qemu/inspect.h"
#include "guest/qemu/process_memory.h"
#include "guest/qemu/warm_pool.h"
#include "os/fd.h"
#include "os/memory_free.h"

namespace libft::qemu {
namespace {

constexpr unsigned kWarm = 2;
constexpr Nanos kWarmPatience = std::chrono::seconds(30);

// Memory of this process, for as long as the object lives.
class Mapping {
 public:
  static Result<Mapping> make(std::size_t bytes, int flags, int fd) {
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (at == MAP_FAILED) return failure(os::errno_status(fmt::format("map {} bytes", bytes)));
    return Mapping({static_cast<std::byte*>(at), bytes});
  }
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

// A piece of guest memory: what executes, and its image.
struct Piece {
  os::ScopedFd fd;
  Mapping memory, image;

  // Makes the image as the memory is. What was never written there stays unwritten here.
  Status copy_memory() const {
    off_t at = 0;
    while ((at = ::lseek(fd.get(), at, SEEK_DATA)) >= 0) {
      const off_t end = ::lseek(fd.get(), at, SEEK_HOLE);
      if (end < 0) break;
      const auto from = static_cast<std::size_t>(at), bytes = static_cast<std::size_t>(end - at);
      std::memcpy(image.bytes().subspan(from).data(), memory.bytes().subspan(from, bytes).data(),
                  bytes);
      at = end;
    }
    return errno == ENXIO ? Status() : os::errno_status("read the standby's memory");
  }
};

class Standby final : public SpeculativeStandby {
 public:
  Standby(std::unique_ptr<QemuGuest> first, GuestInfo primary, QemuStandbyOptions options)
      : primary_(std::move(primary)),
        options_(std::move(options)),
        current_{std::move(first), options_.arguments.paths, options_.launch.log},
        info_(current_.guest->info()) {}
  ~Standby() override {
    pool_.reset();
    end_current();  // Its watcher calls on_event().
  }

  // SpeculativeGuest
  Status begin_speculation() override;
  void image_changed(const PageSet& pages) override;
  Status reload(std::span<const std::byte> state) override;
  Status run() override;
  void halt() override;
  bool runs() const override { return state_ == State::runs; }

  // What is one process's is the present one's.
  pid_t pid() const override { return guest().pid(); }
  std::string monitor() const override { return current_.paths.qmp; }
  const std::vector<std::string>& tracker_notes() const override { return guest().tracker_notes(); }
  bool stands_still() const override { return guest().stands_still(); }
  Status set_running() override { return guest().set_running(); }
  Status announce_nothing() override { return guest().announce_nothing(); }
  Status run_as_standby() override { return guest().run_as_standby(); }
  Status stop_as_standby() override { return guest().stop_as_standby(); }
  Nanos stopped_by_libft() const override { return guest().stopped_by_libft(); }
  std::uint64_t clock_corrections() const override { return guest().clock_corrections(); }
  const GuestInfo& info() const override { return info_; }
  void set_event_sink(std::function<void(GuestEvent)> sink) override;
  Status start_tracking() override { return guest().start_tracking(); }
  void stop_tracking() override { guest().stop_tracking(); }
  Status pause() override { return guest().pause(); }
  Status resume() override { return guest().resume(); }
  Status take_written(PageSet& written) override { return guest().take_written(written); }
  Status save_state() override { return guest().save_state(); }
  Status fetch_state(std::vector<std::byte>& state) override { return guest().fetch_state(state); }
  Status accepts(const GuestInfo& primary) const override {
    const std::scoped_lock lock(mutex_);
    return guest().accepts(primary);
  }
  Status probe_state(std::span<const std::byte> state) override;
  Status trial_run(StillMoment& moment) override;
  Status load_state(std::span<const std::byte> state) override;
  Status activate() override;
  void destroy() override;
  Nanos clock_lag() const override { return guest().clock_lag(); }

 private:
  enum class State {
    plain,   // A standby as any other.
    waits,   // A process that was not used, or has ended.
    loaded,  // Holds a state, and may have written.
    runs,
  };

  QemuGuest& guest() const { return *current_.guest; }
  bool speculates() const { return state_ != State::plain; }
  Result<Piece> open_piece(const MemoryBackend& backend) const;
  Result<WarmQemu> start_warm(unsigned number) const;
  Status take_warm();
  Status place_sockets() const;
  void put_back();
  void end_current();
  void listen();
  void on_event(const GuestEvent& event);
  void deliver_kept();

  const GuestInfo primary_;
  const QemuStandbyOptions options_;
  mutable std::mutex mutex_;  // Held while the present process is replaced.
  WarmQemu current_;
  GuestInfo info_;
  State state_ = State::plain;
  bool used_ = false;  // The present process has loaded a state, and can load no other.
  std::vector<Piece> pieces_;
  PageSet stale_;  // Of the memory: other than in the image, or not known to be the same.
  std::mutex events_mutex_;
  std::function<void(GuestEvent)> sink_;
  std::vector<GuestEvent> kept_;  // A follower's own life concerns nobody before it is the guest.
  bool quiet_ = false;
  std::unique_ptr<WarmPool> pool_;  // Last: its thread uses the rest.
};

// --- the memory, and its image -------------------------------------------------------------------

Result<Piece> Standby::open_piece(const MemoryBackend& backend) const {
  const std::string path = fmt::format("/proc/{}/fd/{}", guest().pid(), backend.fd);
  os::ScopedFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return failure(os::errno_status("open the standby's memory"));
  FT_ASSIGN(Mapping memory, Mapping::make(backend.bytes, MAP_SHARED, fd.get()));
  FT_ASSIGN(Mapping image,
            Mapping::make(backend.bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1));
  Piece piece{std::move(fd), std::move(memory), std::move(image)};
  FT_TRY(piece.copy_memory());
  return piece;
}

Status Standby::begin_speculation() {
  if (speculates()) return {};
  const std::uint64_t needed = info_.pages() * info_.page_bytes;
  if (const auto free = os::memory_bytes_free(); free != 0 && needed > free)
    return Status(
        Code::exhausted,
        fmt::format("a standby that runs keeps an image beside the guest: {} MiB, of which "
                    "this host has {} free",
                    needed >> 20, free >> 20));
  FT_ASSIGN(const auto backends, find_memory(guest().pid()));
  std::vector<Piece> pieces;
  for (const MemoryBackend& backend : backends) {
    FT_ASSIGN(Piece piece, open_piece(backend));
    pieces.push_back(std::move(piece));
  }
  FT_TRY(guest().announce_nothing());
  pieces_ = std::move(pieces);
  for (std::size_t i = 0; i < pieces_.size(); ++i) info_.memory[i].bytes = pieces_[i].image.bytes();
  state_ = State::waits;
  pool_ = std::make_unique<WarmPool>(kWarm, [this](unsigned number) { return start_warm(number); });
  {
    const std::scoped_lock lock(events_mutex_);
    quiet_ = true;
  }
  listen();
  return {};
}

// Nobody executes in the memory: what is put there now need not be put there later, in a take-over.
void Standby::image_changed(const PageSet& pages) {
  stale_.merge(pages);
  if (state_ == State::waits && !stale_.empty() && stale_.pages() < info_.pages()) put_back();
}

void Standby::put_back() {
  for (const PageRun& run : stale_.runs()) {
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      const std::uint64_t begin = info_.memory[i].first.value;
      const std::uint64_t end = begin + pieces_[i].image.bytes().size() / info_.page_bytes;
      const std::uint64_t from = std::max(begin, run.first.value);
      const std::uint64_t to = std::min(end, run.first.value + run.count);
      if (from >= to) continue;
      const std::size_t at = (from - begin) * info_.page_bytes;
      std::memcpy(pieces_[i].memory.bytes().data() + at, pieces_[i].image.bytes().data() + at,
                  (to - from) * info_.page_bytes);
    }
  }
  stale_.clear();
}

// --- processes -----------------------------------------------------------------------------------

// The pool's thread.
Result<WarmQemu> Standby::start_warm(unsigned number) const {
  QemuStandbyOptions options = options_;
  HostPaths& paths = options.arguments.paths;
  const std::string suffix = fmt::format(".w{}", number);
  paths.qmp += suffix;
  if (!paths.agent.empty()) paths.agent += suffix;
  for (NicSockets& nic : paths.nics) nic.guest_path += suffix;
  options.launch.log =
      (options_.launch.log.empty() ? options_.arguments.paths.qmp + ".log" : options_.launch.log) +
      suffix;
  for (const Piece& piece : pieces_)
    options.arguments.memory_paths.push_back(
        fmt::format("/proc/{}/fd/{}", ::getpid(), piece.fd.get()));
  auto guest = start_standby(primary_, options);
  if (guest) {
    if (const Status quiet = (*guest)->announce_nothing(); !quiet.ok()) guest = failure(quiet);
  }
  if (!guest) {
    remove_traces(paths, options.launch.log);
    return failure(guest.error());
  }
  return WarmQemu{std::move(*guest), paths, options.launch.log};
}

Status Standby::take_warm() {
  if (!used_) return {};
  FT_ASSIGN(WarmQemu next, pool_->take(kWarmPatience));
  {
    const std::scoped_lock lock(mutex_);
    std::swap(current_, next);
    used_ = false;
  }
  next.guest.reset();
  if (next.paths.qmp != options_.arguments.paths.qmp) remove_traces(next.paths, next.log);
  listen();
  if (options_.moved) options_.moved(pid(), monitor());
  return {};
}

// Under the names that the gate knows. The process keeps its own, which stand on its command line.
Status Standby::place_sockets() const {
  for (std::size_t i = 0; i < current_.paths.nics.size(); ++i) {
    const std::string& known = options_.arguments.paths.nics[i].guest_path;
    const std::string& own = current_.paths.nics[i].guest_path;
    if (own == known) continue;
    const std::string beside = known + ".next";
    ::unlink(beside.c_str());
    if (::link(own.c_str(), beside.c_str()) != 0 || ::rename(beside.c_str(), known.c_str()) != 0)
      return os::errno_status(fmt::format("put {} in the place of {}", own, known));
  }
  return {};
}

// What was written before the state is loaded is put back once more: loading may write, too.
Status Standby::reload(std::span<const std::byte> state) {
  FT_ASSERT(state_ == State::waits);
  FT_TRY(take_warm());
  FT_TRY(guest().start_tracking());
  put_back();
  used_ = true;
  state_ = State::loaded;
  Status status = guest().load_state(state);
  if (status.ok()) status = place_sockets();
  if (!status.ok()) halt();
  return status;
}

Status Standby::run() {
  FT_ASSERT(state_ == State::loaded);
  const Status status = guest().run_as_standby();
  if (status.ok()) state_ = State::runs;
  return status;
}

// Which pages a process wrote that cannot be asked any more, nobody knows: all, then.
void Standby::halt() {
  if (state_ != State::runs && state_ != State::loaded) return;
  Status status = state_ == State::runs ? guest().stop_as_standby() : Status();
  PageSet written;
  if (status.ok()) status = guest().take_written(written);
  if (status.ok()) {
    stale_.merge(written);
  } else {
    for (const MemoryRegion& region : info_.memory) {
      stale_.add(region.first, region.bytes.size() / info_.page_bytes);
    }
  }
  guest().destroy();
  state_ = State::waits;
  {
    const std::scoped_lock lock(events_mutex_);
    kept_.clear();
  }
}

void Standby::end_current() {
  current_.guest.reset();
  if (speculates()) remove_traces(current_.paths, current_.log);
}

// --- what a Guest does otherwise here ------------------------------------------------------------

Status Standby::probe_state(std::span<const std::byte> state) {
  if (state_ == State::waits) put_back();
  return guest().probe_state(state);
}

Status Standby::trial_run(StillMoment& moment) {
  if (!speculates()) return guest().trial_run(moment);
  return Status(Code::unsupported,
                "this standby runs the guest itself, which is the trial: no copy can be tried");
}

Status Standby::load_state(std::span<const std::byte> state) {
  if (!speculates()) return guest().load_state(state);
  if (state_ == State::runs) return {};
  halt();
  return reload(state);
}

Status Standby::activate() {
  if (!speculates()) return guest().activate();
  FT_TRY(guest().activate());
  pool_.reset();
  state_ = State::plain;
  info_ = guest().info();
  pieces_.clear();
  deliver_kept();
  return {};
}

void Standby::destroy() {
  pool_.reset();
  guest().destroy();
}

void Standby::set_event_sink(std::function<void(GuestEvent)> sink) {
  {
    const std::scoped_lock lock(events_mutex_);
    sink_ = std::move(sink);
  }
  listen();
}

void Standby::listen() {
  guest().set_event_sink([this](const GuestEvent& event) { on_event(event); });
}

void Standby::on_event(const GuestEvent& event) {
  const std::scoped_lock lock(events_mutex_);
  if (quiet_ && event.kind != GuestEvent::Kind::process_died) {
    kept_.push_back(event);
    return;
  }
  if (sink_) sink_(event);
}

void Standby::deliver_kept() {
  const std::scoped_lock lock(events_mutex_);
  quiet_ = false;
  for (const GuestEvent& event : kept_)
    if (sink_) sink_(event);
  kept_.clear();
}

}  // namespace

Result<std::unique_ptr<SpeculativeStandby>> SpeculativeStandby::start(
    const GuestInfo& primary, const QemuStandbyOptions& options) {
  FT_ASSIGN(auto first, start_standby(primary, options));
  return std::make_unique<Standby>(std::move(first), primary, options);
}

}  // namespace libft::qemu
