// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/xen_guest.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>

#include "guest/xen/facts.h"
#include "guest/xen/inspect.h"
#include "guest/xen/life.h"
#include "guest/xen/log_marks.h"
#include "guest/xen/memory.h"
#include "guest/xen/needs.h"
#include "guest/xen/rehearsal.h"
#include "guest/xen/shell.h"
#include "guest/xen/state.h"
#include "guest/xen/suspend.h"
#include "guest/xen/warm.h"

namespace libft::xen {
namespace {

// Says in xenstore that libft logs this domain's pages, so that one that follows a libft that died
// knows whose log, and whose suspended domain, it finds.
std::string mark_of(DomId domain) { return fmt::format("/libft/{}", domain); }

std::string_view words_for(StopWay way) {
  switch (way) {
    case StopWay::asked: return "suspends itself";
    case StopWay::suspended: return "is suspended";
    case StopWay::paused: break;
  }
  return "is paused";
}

struct Parts {
  XenOptions options;
  std::unique_ptr<XenCalls> calls;
  DomId domain = 0;
  Shape shape;
  std::vector<HvmParam> params;
  std::vector<std::uint64_t> rings;  // Pages that dom0 writes without Xen's log knowing.
  DomainMemory memory;
  std::unique_ptr<Shell> shell;  // Of a standby. Goes before `calls`: see ~Xen.
  // Of a standby with a device model, which takes too long to start to do it when a session waits:
  // ready for the first state that is tried.
  std::unique_ptr<Shell> throw_away;
  std::unique_ptr<DeviceModel> model;  // Of an HVM domain that is no standby.
};

// What is neither Xen's nor xenstore's.
void forget_on_host(const Parts& parts) {
  parts.options.toolstack->forget(parts.domain, parts.shape.uuid);
  leave_switches(parts.domain, parts.shape, *parts.options.network);
}

class Xen final : public XenGuest {
 public:
  explicit Xen(Parts parts)
      : parts_(std::move(parts)),
        suspender_(*parts_.calls, parts_.domain, parts_.shape.stop_way(), intentions_) {}
  ~Xen() override;
  Status open();

  DomId domain() const override { return parts_.domain; }
  std::vector<std::string> interfaces() const override;
  Nanos last_handshake() const override { return handshake_; }

  const GuestInfo& info() const override { return info_; }
  void set_event_sink(std::function<void(GuestEvent)> sink) override;
  Status start_tracking() override;
  void stop_tracking() override;
  void prepare_pause(std::function<void(Status)> ready) override;
  Status pause() override;
  Status resume() override;
  Status take_written(PageSet& written) override;
  Status save_state() override;
  Status fetch_state(std::vector<std::byte>& state) override;
  Status accepts(const GuestInfo& primary) const override;
  Status probe_state(std::span<const std::byte> state) override;
  Status trial_run(StillMoment& moment) override;
  Status load_state(std::span<const std::byte> state) override;
  Status activate() override;
  void destroy() override;
  // A domain's clocks are Xen's, which go on while it is stopped.
  Nanos clock_lag() const override { return Nanos{0}; }
  std::string about(PageNo page) const override;

 private:
  XenCalls& calls() const { return *parts_.calls; }
  Result<DomainState> state_from(std::span<const std::byte> bytes) const;
  Status start_life();
  Status check_memory(std::uint64_t total_pages);
  Status check_stopped(const DomainInfo& info);
  Status note_keyboard();
  Status mark_log(std::span<const std::uint64_t> written);
  bool suspended_by_others(const DomainInfo& info) const;
  Status leave_log_to_others(std::span<const std::uint64_t> bits);
  bool suspends() const { return parts_.shape.stop_way() != StopWay::paused; }
  Result<Stopped> stop();
  void go_on_at_last();
  bool ended_by_itself() const;

  Parts parts_;
  Intentions intentions_;
  Suspender suspender_;
  std::unique_ptr<Life> life_;
  std::function<void(GuestEvent)> sink_;  // Of a standby, for the Life to come.
  GuestInfo info_;
  std::optional<LogMarks> marks_;
  std::uint64_t page_numbers_ = 0, keyboard_ = 0;
  std::vector<std::uint64_t> lent_;  // Pages that others may have written: kept for its memory.
  bool tracking_ = false;
  bool lost_written_ = false;  // A log was taken and not delivered: the next answer is all pages.
  bool stale_ = false;         // The mappings do not show the guest's memory any more.
  // What prepare_pause() ordered. Life's thread writes it; pause() takes it.
  struct Prepared {
    std::mutex mutex;
    std::condition_variable done;
    bool ordered = false;
    std::optional<Result<Stopped>> outcome;
  } prepared_;
  bool paused_ = false;         // Between pause() and resume().
  bool stopped_by_us_ = false;  // resume() is to set it running.
  Nanos handshake_{0};
  DomainState state_;
};

// --- coming and going ---------------------------------------------------------------------------

Status Xen::open() {
  const Shape& shape = parts_.shape;
  const std::uint64_t mib = parts_.memory.pages() * kPageBytes >> 20;
  info_.driver = "xen";
  info_.description = fmt::format("Xen {}, {}, {} vCPU, {} MiB, {}", shape.xen, shape.type,
                                  shape.vcpus, mib, words_for(shape.stop_way()));
  info_.page_bytes = kPageBytes;
  info_.vcpus = shape.vcpus;
  info_.memory = parts_.memory.regions();
  info_.tracker = "log-dirty";
  info_.accelerator = "xen";
  info_.cooperative = shape.cooperative;
  info_.compatibility = to_json(shape);
  marks_.emplace(runs_of(info_));
  if (!info_.memory.empty()) {
    const MemoryRegion& last = info_.memory.back();
    page_numbers_ = last.first.value + last.bytes.size() / kPageBytes;
  }
  return parts_.shell ? Status() : start_life();
}

Status Xen::start_life() {
  FT_ASSIGN(auto calls, parts_.options.open());
  life_ =
      std::make_unique<Life>(std::move(calls), parts_.domain, parts_.shape.stop_way(), intentions_);
  life_->set_sink(sink_);
  return life_->start();
}

Xen::~Xen() {
  life_.reset();  // Calls off what was ordered.
  if (prepared_.outcome && *prepared_.outcome && !(**prepared_.outcome).by_itself) go_on_at_last();
  if (paused_ && stopped_by_us_)
    go_on_at_last();
  else if (paused_ && parts_.model)
    (void)parts_.model->go_on();
  stop_tracking();
  parts_.memory = DomainMemory();  // A domain whose memory is mapped cannot go.
  parts_.throw_away.reset();
  if (std::exchange(parts_.shell, nullptr)) forget_on_host(parts_);
}

void Xen::go_on_at_last() {
  if (intentions_.destroying) return;
  if (parts_.model) (void)parts_.model->go_on();
  (void)suspender_.go_on();
  if (suspends()) (void)Suspender::tell_store(calls(), parts_.domain);
}

std::vector<std::string> Xen::interfaces() const {
  std::vector<std::string> names;
  for (const Vif& vif : parts_.shape.vifs) {
    names.push_back(interface_of(parts_.domain, vif));
    if (vif.emulated) names.push_back(emulated_interface(parts_.domain, vif.index));
  }
  return names;
}

void Xen::set_event_sink(std::function<void(GuestEvent)> sink) {
  if (life_) return life_->set_sink(std::move(sink));
  sink_ = std::move(sink);
}

// It executes nothing any more, and who built it has to know how it ended: to remove it, or to
// start it again.
bool Xen::ended_by_itself() const {
  const auto info = calls().domain(parts_.domain);
  return info && *info && !(*info)->dying && (*info)->shutdown &&
         (*info)->reason != kShutdownSuspend;
}

void Xen::destroy() {
  if (intentions_.destroying.exchange(true)) return;
  if (!parts_.shell && ended_by_itself()) return stop_tracking();
  tracking_ = false;
  parts_.throw_away.reset();
  if (!std::exchange(parts_.shell, nullptr)) {  // Which takes all of it along.
    (void)calls().destroy(parts_.domain);
    if (parts_.model) parts_.model->end();
    (void)calls().remove(mark_of(parts_.domain));
    forget_domain(calls(), parts_.domain, parts_.shape);
  }
  forget_on_host(parts_);
}

std::string Xen::about(PageNo page) const {
  for (const HvmParam& param : parts_.params) {
    if (param.value != page.value) continue;
    if (param.index == kParamStorePfn) return "xenstore's ring";
    if (param.index == kParamConsolePfn) return "the console's ring";
  }
  if (std::find(lent_.begin(), lent_.end(), page.value) != lent_.end())
    return "lent to another domain";
  if (looks_like_events(parts_.memory.page(page.value))) return "events, which Xen writes";
  return Guest::about(page);
}

// --- on the primary -----------------------------------------------------------------------------

bool Xen::suspended_by_others(const DomainInfo& info) const {
  return info.shutdown && info.reason == kShutdownSuspend && !intentions_.suspending &&
         !intentions_.answers_late;
}

Status Xen::start_tracking() {
  FT_ASSIGN(const auto info, calls().domain(parts_.domain));
  if (!info || info->dying) return Status(Code::guest_gone, "the domain was destroyed");
  if (suspended_by_others(*info))
    return Status(Code::busy, "somebody else has suspended the guest (xl save, xl migrate)");
  FT_TRY(check_memory(info->total_pages));
  if (life_ && life_->reconfigured())
    return Status(Code::unsupported,
                  "the guest's devices or its memory are not what they were when libft took it: "
                  "end ftctl and `ftctl protect` it anew");
  FT_TRY(note_keyboard());
  FT_ASSIGN(const auto mark, calls().read(mark_of(parts_.domain)));
  FT_TRY(calls().write(mark_of(parts_.domain), "log-dirty"));
  Status logs = calls().log_dirty(parts_.domain);
  if (!logs.ok() && mark) {  // An earlier libft's, which died.
    (void)calls().log_dirty_off(parts_.domain);
    logs = calls().log_dirty(parts_.domain);
  }
  if (!logs.ok()) {
    if (!mark) (void)calls().remove(mark_of(parts_.domain));
    return Status(logs.code(), logs.message() + ": is the domain being migrated or saved?");
  }
  tracking_ = true;
  lost_written_ = false;
  Status ready = mark_log({});
  if (ready.ok() && parts_.model) ready = parts_.model->log_writes(true);
  if (!ready.ok()) stop_tracking();
  return ready;
}

Status Xen::mark_log(std::span<const std::uint64_t> written) {
  const Status marked = calls().mark_dirty(parts_.domain, marks_->choose(written));
  if (!marked.ok()) marks_->forget();
  return marked;
}

// It is theirs from here on: what was taken out of it goes back, and it is not switched off.
Status Xen::leave_log_to_others(std::span<const std::uint64_t> bits) {
  std::vector<std::uint64_t> taken;
  for (std::uint64_t page = 0; page < bits.size() * 64; ++page)
    if (has(bits, page)) taken.push_back(page);
  tracking_ = false;
  (void)calls().mark_dirty(parts_.domain, taken);
  (void)calls().remove(mark_of(parts_.domain));
  constexpr const char* kWhat = "somebody else took Xen's log of written pages (xl save, migrate)";
  if (life_) life_->tell({GuestEvent::Kind::migrating, kWhat});
  return Status(Code::busy, kWhat);
}

// The device model maps the keyboard's ring without a grant, so that nothing else tells of it. The
// guest chose the page when it connected the keyboard last.
Status Xen::note_keyboard() {
  keyboard_ = 0;
  if (!parts_.shape.keyboard) return {};
  FT_ASSIGN(const auto page, calls().read(domain_path(parts_.domain, "device/vkbd/0/page-ref")));
  if (page) keyboard_ = std::strtoull(page->c_str(), nullptr, 10);
  return {};
}

void Xen::stop_tracking() {
  if (!std::exchange(tracking_, false)) return;
  if (parts_.model) (void)parts_.model->log_writes(false);
  (void)calls().log_dirty_off(parts_.domain);
  (void)calls().remove(mark_of(parts_.domain));
}

void Xen::prepare_pause(std::function<void(Status)> ready) {
  if (!parts_.shape.cooperative || !life_ || paused_) return ready({});
  {
    const std::scoped_lock lock(prepared_.mutex);
    if (prepared_.ordered) return ready(Status(Code::internal, "prepare_pause: asked already"));
    prepared_.ordered = true;
    prepared_.outcome.reset();
  }
  life_->stop_domain(parts_.options.suspend_patience,
                     [this, ready = std::move(ready)](Result<Stopped> stopped) {
                       const Status status = stopped ? Status() : stopped.error();
                       {
                         const std::scoped_lock lock(prepared_.mutex);
                         if (stopped) prepared_.outcome.emplace(std::move(stopped));
                         prepared_.ordered = static_cast<bool>(prepared_.outcome);
                       }
                       prepared_.done.notify_all();
                       ready(status);
                     });
}

// What was prepared, waited for if it is still under way; else the guest is asked now.
Result<Stopped> Xen::stop() {
  {
    std::unique_lock lock(prepared_.mutex);
    prepared_.done.wait(lock, [this] { return !prepared_.ordered || prepared_.outcome; });
    prepared_.ordered = false;
    if (const auto outcome = std::exchange(prepared_.outcome, std::nullopt)) return *outcome;
  }
  return suspender_.stop(parts_.options.suspend_patience);
}

Status Xen::pause() {
  if (paused_) return Status(Code::internal, "pause: libft has paused this domain already");
  if (parts_.shell) return Status(Code::internal, "pause: this domain was not activated yet");
  FT_ASSIGN(const Stopped stopped, stop());
  handshake_ = stopped.handshake;
  paused_ = true;
  stopped_by_us_ = !stopped.by_itself;
  if (const Status still = check_stopped(stopped.info); !still.ok()) {
    const Status resumed = resume();
    return resumed.ok() ? still : Status(still.code(), still.message() + "; " + resumed.message());
  }
  return {};
}

// A device model that goes on would receive frames into the guest's memory.
Status Xen::check_stopped(const DomainInfo& info) {
  FT_TRY(check_memory(info.total_pages));
  return parts_.model ? parts_.model->stop() : Status();
}

// More pages than are mapped: see DomainMemory.
Status Xen::check_memory(std::uint64_t total_pages) {
  if (total_pages != parts_.memory.pages() && !std::exchange(stale_, true) && life_)
    life_->tell(
        {GuestEvent::Kind::reconfigured, fmt::format("its memory changed from {} to {} pages",
                                                     parts_.memory.pages(), total_pages)});
  if (!stale_) return {};
  return Status(Code::unsupported,
                "the guest's memory is not what it was when libft took the "
                "guest: protect it anew");
}

Status Xen::resume() {
  if (!paused_) return Status(Code::internal, "resume: libft has not paused this domain");
  if (intentions_.destroying) return Status(Code::guest_gone, "resume: libft destroyed the domain");
  // A device model that does not go on is no reason to leave the domain suspended.
  const Status model = parts_.model ? parts_.model->go_on() : Status();
  if (stopped_by_us_) {
    FT_TRY(suspender_.go_on());
    stopped_by_us_ = false;
    if (suspends() && life_) life_->domain_resumed();
  }
  paused_ = !model.ok();
  return model;
}

Status Xen::take_written(PageSet& written) {
  written.clear();
  if (!tracking_) return Status(Code::internal, "take written pages: they are not tracked");
  const auto bits = calls().take_dirty(parts_.domain, page_numbers_);
  if (!bits) {
    lost_written_ = true;  // How much of the log was cleared is not known.
    marks_->forget();
    return bits.error();
  }
  if (!marks_->all_in(*bits)) return leave_log_to_others(*bits);
  Status status = mark_log(*bits);  // At once: until then another's log would pass for ours.
  lent_ = parts_.rings;
  if (keyboard_ != 0) lent_.push_back(keyboard_);
  if (status.ok()) status = calls().lent(parts_.domain, lent_);
  if (!status.ok()) {
    lost_written_ = true;
    return status;
  }
  if (std::exchange(lost_written_, false)) {
    parts_.memory.select_all(written);
    return {};
  }
  parts_.memory.select(*bits, written);
  for (const std::uint64_t page : lent_)
    if (!parts_.memory.page(page).empty()) written.add(PageNo{page});
  return {};
}

Status Xen::save_state() {
  if (!paused_) return Status(Code::internal, "save_state: the domain is not paused");
  state_.uuid = parts_.shape.uuid;
  state_.vcpus = parts_.shape.vcpus;
  state_.params = parts_.params;
  FT_ASSIGN(state_.tsc, calls().tsc(parts_.domain));
  if (parts_.model) FT_TRY(parts_.model->save(state_.devices));
  return calls().context(parts_.domain, state_.context);
}

Status Xen::fetch_state(std::vector<std::byte>& state) {
  if (state_.context.empty()) return Status(Code::internal, "fetch_state: nothing was saved");
  encode(state_, state);
  return {};
}

// --- on the backup ------------------------------------------------------------------------------

Status Xen::accepts(const GuestInfo& primary) const {
  if (primary.driver != "xen")
    return Status(Code::refused, fmt::format("the primary's guest is of the driver \"{}\", this "
                                             "host's of \"xen\"",
                                             primary.driver));
  FT_ASSIGN(const Shape theirs, shape_from_json(primary.compatibility));
  const Shape& ours = parts_.shape;
  std::string differs;
  const auto compare = [&](std::string_view what, const auto& there, const auto& here) {
    if (there != here) differs += fmt::format("; {} is {} there and {} here", what, there, here);
  };
  compare("Xen's minor", minor_of(theirs.xen), minor_of(ours.xen));
  compare("the domain", to_string(theirs.uuid), to_string(ours.uuid));
  compare("the number of vCPUs", theirs.vcpus, ours.vcpus);
  compare("the number of pages", primary.pages(), info_.pages());
  if (theirs.policy != ours.policy) differs += "; the CPU policy is another";
  if (runs_of(primary) != runs_of(info_)) differs += "; the memory lies elsewhere";
  if (theirs.vifs != ours.vifs) differs += "; the network interfaces are others";
  if (theirs.device_model != ours.device_model) differs += "; the device model is another";
  if (differs.empty()) return {};
  return Status(Code::refused, "this host cannot continue the guest" + differs);
}

Result<DomainState> Xen::state_from(std::span<const std::byte> bytes) const {
  FT_ASSIGN(DomainState state, decode(bytes));
  if (state.uuid != parts_.shape.uuid || state.vcpus != parts_.shape.vcpus)
    return failure(Code::corrupt, "the state is of another domain");
  return state;
}

Status Xen::probe_state(std::span<const std::byte> state) {
  FT_ASSIGN(const DomainState decoded, state_from(state));
  auto shell = std::move(parts_.throw_away);
  if (!shell) {
    FT_ASSIGN(shell, build_throw_away(calls(), parts_.shape, *parts_.options.device_models));
  }
  return shell->load(decoded, nullptr).within("try the state in a throw-away domain");
}

Status Xen::trial_run(StillMoment& moment) {
  FT_ASSIGN(const auto calls, parts_.options.open());  // This thread's own.
  return run_copy(
      *calls, parts_.shape, info_, moment,
      [this](std::span<const std::byte> state) { return state_from(state); },
      *parts_.options.device_models);
}

Status Xen::load_state(std::span<const std::byte> state) {
  if (!parts_.shell) return Status(Code::internal, "load_state: this domain is no standby");
  FT_ASSIGN(DomainState decoded, state_from(state));
  FT_TRY(parts_.shell->load(decoded, &parts_.memory).within("load the domain's state"));
  parts_.params = std::move(decoded.params);
  parts_.rings.clear();
  for (const HvmParam& param : parts_.params)
    if (param.index == kParamStorePfn || param.index == kParamConsolePfn)
      parts_.rings.push_back(param.value);
  return {};
}

// The announcement is a courtesy to switches; the guest's own driver says the same when it is
// connected again.
Status Xen::activate() {
  if (!parts_.shell) return Status(Code::internal, "activate: this domain is no standby");
  parts_.throw_away.reset();
  // Its life is watched from before it begins: once it runs, nothing may fail any more.
  intentions_.pausing = true;
  Status status = start_life();
  if (status.ok()) status = parts_.shell->run(parts_.shape.name);
  if (!status.ok()) {
    life_.reset();
    return status;
  }
  parts_.model = parts_.shell->take_model();
  parts_.shell.reset();
  ++intentions_.stops;
  intentions_.pausing = false;
  // Not on Open vSwitch, which would learn that the address is this host's own.
  for (const Vif& vif : parts_.shape.vifs)
    if (vif.connection() == Connection::bridge)
      (void)parts_.options.network->announce(vif.value("bridge"), vif.value("mac"));
  return {};
}

}  // namespace

// --- opening ------------------------------------------------------------------------------------

namespace {

Result<std::unique_ptr<XenGuest>> assemble(Parts parts) {
  auto guest = std::make_unique<Xen>(std::move(parts));
  FT_TRY(guest->open());
  return guest;
}

// A libft that died may have left it suspended: its mark is there.
Status wake_if_left_suspended(XenCalls& calls, DomId domain) {
  FT_ASSIGN(const auto info, calls.domain(domain));
  FT_ASSIGN(const auto mark, calls.read(mark_of(domain)));
  if (!info || !info->shutdown || info->reason != kShutdownSuspend || !mark) return {};
  FT_TRY(calls.resume(domain));
  return calls.store_resumed(domain);
}

// A guest with drivers for Xen has the interfaces that its device model emulates unplugged, and
// then their TAP devices are gone.
void note_emulated(Parts& parts) {
  for (Vif& vif : parts.shape.vifs)
    vif.emulated =
        parts.model && parts.options.network->exists(emulated_interface(parts.domain, vif.index));
}

Status check_room(XenCalls& calls, const GuestInfo& primary, const Shape& shape) {
  FT_ASSIGN(const std::uint64_t free, calls.free_bytes());
  return check_xen_memory(needs_of({primary.pages(), shape.paging_pool_bytes, shape.vcpus,
                                    shape.device_model.has_value()}),
                          free);
}

// A peer's description is not believed before it was looked at.
Status check_runs(const GuestInfo& primary, const Shape& shape) {
  std::uint64_t end = 0, pages = 0;
  for (const PageRun& run : runs_of(primary)) {
    if (run.count == 0 || run.first.value < end || run.count > shape.max_pages ||
        run.first.value > (std::uint64_t{1} << 36))
      return Status(Code::corrupt, "the primary's memory map is none");
    end = run.first.value + run.count;
    pages += run.count;
  }
  if (pages == 0 || pages > shape.max_pages)
    return Status(Code::corrupt, "the primary has more memory than its limit");
  return {};
}

// Gives a warm domain all that it has besides itself.
Status furnish(Parts& parts, std::span<const PageRun> runs) {
  // Now, when nothing waits for it: at a promotion the toolstack knows the domain already.
  parts.options.toolstack->write(parts.domain, parts.shape.toolstack);
  if (parts.shape.device_model) {
    FT_TRY(parts.shell->start_model(*parts.options.device_models));
    FT_ASSIGN(parts.throw_away,
              build_throw_away(*parts.calls, parts.shape, *parts.options.device_models));
  }
  FT_TRY(parts.shell->plug_in(*parts.options.network));
  FT_ASSIGN(parts.memory, DomainMemory::map(*parts.calls, parts.domain, runs));
  return {};
}

}  // namespace

Result<std::unique_ptr<XenGuest>> XenGuest::attach(const std::string& name, XenOptions options) {
  Parts parts;
  FT_ASSIGN(parts.calls, options.open());
  parts.options = std::move(options);
  FT_ASSIGN(parts.domain, find_domain(*parts.calls, name));
  FT_TRY(wake_if_left_suspended(*parts.calls, parts.domain));
  FT_ASSIGN(Inspection found, inspect(*parts.calls, parts.domain));
  FT_ASSIGN(parts.model, inspect_model(*parts.options.device_models, parts.domain, found));
  if (!found.missing.empty())
    return failure(Code::unsupported, fmt::format("domain {} cannot be protected: {}", name,
                                                  fmt::join(found.missing, "; ")));
  parts.shape = std::move(found.shape);
  parts.shape.toolstack = parts.options.toolstack->read(parts.domain);
  note_emulated(parts);
  parts.params = std::move(found.params);
  for (const std::uint64_t page : {found.store, found.console})
    if (page != 0) parts.rings.push_back(page);
  FT_ASSIGN(const auto info, parts.calls->domain(parts.domain));
  if (!info) return failure(Code::guest_gone, "the domain was destroyed");
  FT_ASSIGN(const auto runs, find_memory(*parts.calls, parts.domain, info->total_pages));
  FT_ASSIGN(parts.memory, DomainMemory::map(*parts.calls, parts.domain, runs));
  if (info->total_pages != parts.memory.pages())
    return failure(Code::unsupported,
                   fmt::format("Xen counts {} pages of domain {}, and libft sees {}: its memory "
                               "changes, or a part of it is hidden",
                               info->total_pages, name, parts.memory.pages()));
  return assemble(std::move(parts));
}

Result<std::unique_ptr<XenGuest>> XenGuest::build_standby(const GuestInfo& primary,
                                                          XenOptions options) {
  if (primary.driver != "xen")
    return failure(Code::refused, fmt::format("the primary's guest is of the driver \"{}\": this "
                                              "standby continues Xen domains",
                                              primary.driver));
  Parts parts;
  FT_ASSIGN(parts.calls, options.open());
  parts.options = std::move(options);
  FT_ASSIGN(parts.shape, shape_from_json(primary.compatibility));
  FT_TRY(check_runs(primary, parts.shape));
  FT_ASSIGN(const XenVersion version, parts.calls->version());
  if (const auto unknown = check_version(version); !unknown.empty())
    return failure(Code::unsupported, unknown.front());
  if (version.minor != minor_of(parts.shape.xen))
    return failure(Code::refused,
                   fmt::format("the primary runs Xen {}, this host {}: a domain's state is that "
                               "of one minor; use the same on both",
                               parts.shape.xen, version.text));
  FT_TRY(sweep_warm(*parts.calls, parts.shape, *parts.options.device_models));
  FT_TRY(check_room(*parts.calls, primary, parts.shape));
  const auto runs = runs_of(primary);
  FT_ASSIGN(parts.shell,
            Shell::build(*parts.calls, parts.shape, runs, warm_name(parts.shape.name)));
  parts.domain = parts.shell->domain();
  if (Status furnished = furnish(parts, runs); !furnished.ok()) {
    parts.throw_away.reset();
    parts.shell.reset();
    forget_on_host(parts);
    return failure(std::move(furnished));
  }
  return assemble(std::move(parts));
}

}  // namespace libft::xen
