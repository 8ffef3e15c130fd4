// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fmt/format.h>

#include <algorithm>

#include "ports.h"
#include "structs.h"

namespace libft::capi {
namespace {

std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

// A description as C sees it, and the memory that it points to.
struct CDescription {
  explicit CDescription(GuestInfo of) : info(std::move(of)) {
    for (const auto& region : info.memory)
      regions.push_back({region.name.c_str(), region.first.value,
                         region.bytes.size() / info.page_bytes, region.bytes.data()});
    c.struct_size = sizeof c;
    c.page_bytes = info.page_bytes;
    c.vcpus = info.vcpus;
    c.cooperative = info.cooperative ? 1 : 0;
    c.driver = info.driver.c_str();
    c.description = info.description.c_str();
    c.tracker = info.tracker.c_str();
    c.accelerator = info.accelerator.c_str();
    c.compatibility = info.compatibility.c_str();
    c.regions = regions.data();
    c.region_count = regions.size();
    c.tracking_stays = info.tracking_stays ? 1 : 0;
  }
  CDescription(const CDescription&) = delete;
  CDescription& operator=(const CDescription&) = delete;

  const GuestInfo info;
  std::vector<ft_memory_region> regions;
  ft_guest_info c{};
};

Status same_shape(const GuestInfo& ours, const GuestInfo& theirs) {
  std::string differs;
  const auto note = [&](const char* what) {
    differs += (differs.empty() ? "" : ", ") + std::string(what);
  };
  if (ours.driver != theirs.driver) note("the driver");
  if (ours.compatibility != theirs.compatibility) note("the compatibility text");
  if (ours.page_bytes != theirs.page_bytes) note("the page size");
  const auto same = [](const MemoryRegion& a, const MemoryRegion& b) {
    return a.first == b.first && a.bytes.size() == b.bytes.size();
  };
  if (!std::equal(ours.memory.begin(), ours.memory.end(), theirs.memory.begin(),
                  theirs.memory.end(), same))
    note("the memory map");
  if (differs.empty()) return {};
  return Status(Code::unsupported, "the standby differs from the primary's guest in " + differs);
}

class PortGuest final : public Guest {
  using Plain = std::int32_t (*)(void*, ft_op*);
  using WithState = std::int32_t (*)(void*, ft_op*, const void*, std::uint64_t);
  auto bind(Plain function) const {
    return [user = life_->user(), function](ft_op* op) { return function(user, op); };
  }

 public:
  PortGuest(GuestInfo info, const ft_guest_port& port, std::shared_ptr<Life> life)
      : info_(std::move(info)),
        pages_(pages_of(info_)),
        port_(port),
        life_(std::move(life)),
        news_(life_->desk()->news()) {}
  ~PortGuest() override { news_->forget(this); }

  const GuestInfo& info() const override { return info_; }
  void set_event_sink(std::function<void(GuestEvent)> sink) override {
    news_->listen_guest(this, std::move(sink));
  }

  Status start_tracking() override { return ask(port_.start_tracking, "guest.start_tracking"); }
  void stop_tracking() override { (void)ask(port_.stop_tracking, "guest.stop_tracking"); }

  void prepare_pause(std::function<void(Status)> ready) override {
    if (port_.prepare_pause == nullptr) return ready({});
    life_->desk()->begin(
        life_, Wants::nothing, bind(port_.prepare_pause),
        [ready = std::move(ready)](Status status, OpResults&) { ready(std::move(status)); });
  }
  Status pause() override { return ask(port_.pause, "guest.pause"); }
  Status resume() override { return ask(port_.resume, "guest.resume"); }

  Status take_written(PageSet& written) override {
    std::swap(results_.pages, written);  // Its memory is used again.
    FT_TRY(run(Wants::pages, bind(port_.take_written), "guest.take_written"));
    std::swap(results_.pages, written);
    return inside(written);
  }

  Status save_state() override { return ask(port_.save_state, "guest.save_state"); }
  Status fetch_state(std::vector<std::byte>& state) override {
    FT_TRY(run(Wants::bytes, bind(port_.fetch_state), "guest.fetch_state"));
    std::swap(results_.bytes, state);
    return {};
  }

  Status accepts(const GuestInfo& primary) const override {
    if (port_.accepts == nullptr) return same_shape(info_, primary);
    auto description = std::make_shared<CDescription>(primary);
    return life_->desk()
        ->run(life_, Wants::nothing,
              [user = life_->user(), accepts = port_.accepts, description](ft_op* op) {
                return accepts(user, op, &description->c);
              })
        .within("guest.accepts");
  }

  Status probe_state(std::span<const std::byte> state) override {
    if (port_.probe_state == nullptr) return {};
    return ask(port_.probe_state, state, "guest.probe_state");
  }
  // The moment lasts as long as the call: nothing says when the host has copied the memory.
  Status trial_run(StillMoment& moment) override {
    if (port_.trial_run == nullptr)
      return Status(Code::unsupported, "this guest's port has no trial_run");
    FT_ASSIGN(const auto state, moment.hold());
    FT_TRY(ask(port_.trial_run, state, "guest.trial_run"));
    return moment.let_go();
  }
  Status load_state(std::span<const std::byte> state) override {
    return ask(port_.load_state, state, "guest.load_state");
  }
  Status activate() override {
    return port_.activate == nullptr ? resume() : ask(port_.activate, "guest.activate");
  }
  void destroy() override {
    (void)ask(port_.destroy == nullptr ? port_.pause : port_.destroy, "guest.destroy");
  }
  Nanos clock_lag() const override { return Nanos{news_->clock_lag_ns}; }

 private:
  template <class Call>
  Status run(Wants wants, Call function, const char* phase) {
    results_.clear();
    return life_->desk()->run(life_, wants, std::move(function), &results_).within(phase);
  }
  Status ask(Plain function, const char* phase) {
    if (function == nullptr) return {};
    return life_->desk()->run(life_, Wants::nothing, bind(function)).within(phase);
  }
  // The operation may outlive this call: it has its own copy.
  Status ask(WithState function, std::span<const std::byte> state, const char* phase) {
    auto copy = std::make_shared<std::vector<std::byte>>(state.begin(), state.end());
    return life_->desk()
        ->run(life_, Wants::nothing,
              [user = life_->user(), function, copy](ft_op* op) {
                return function(user, op, copy->data(), copy->size());
              })
        .within(phase);
  }
  // Pages that no region has would be read from nowhere. Regions that follow one another are one
  // interval, so that most guests have one, and the first and the last run say it all.
  static PageSet pages_of(const GuestInfo& info) {
    PageSet pages;
    for (const auto& region : info.memory)
      pages.add(region.first, region.bytes.size() / info.page_bytes);
    return pages;
  }
  Status inside(const PageSet& written) const {
    auto runs = written.runs();
    for (const PageRun& interval : pages_.runs()) {
      const std::uint64_t end = interval.first.value + interval.count;
      const auto next = std::partition_point(runs.begin(), runs.end(), [&](const PageRun& run) {
        return run.first.value + run.count <= end;
      });
      if (next != runs.begin() && runs.front().first < interval.first) break;
      runs = runs.subspan(static_cast<std::size_t>(next - runs.begin()));
    }
    if (runs.empty()) return {};
    return Status(Code::invalid, fmt::format("guest.take_written: pages {} to {} are not all the "
                                             "guest's",
                                             runs.front().first.value,
                                             runs.front().first.value + runs.front().count - 1));
  }

  const GuestInfo info_;
  const PageSet pages_;
  const ft_guest_port port_;
  const std::shared_ptr<Life> life_;
  const std::shared_ptr<News> news_;
  OpResults results_;
};

Outcome wrong(std::string what) {
  return {FT_E_INVALID, "the guest's description: " + std::move(what)};
}

}  // namespace

Outcome make_info(const ft_guest_info* given, GuestInfo& info) {
  ft_guest_info c{};
  FT_CHECK(take_struct(given, kGuestInfoBytesMin, c));
  info.page_bytes = c.page_bytes == 0 ? 4096 : c.page_bytes;
  if (info.page_bytes != 4096) return wrong("page_bytes is not 4096");
  if (c.regions == nullptr || c.region_count == 0) return wrong("there are no regions");
  if (c.region_count > 4096) return wrong("there are more than 4096 regions");
  info.vcpus = std::max(1u, c.vcpus);
  info.cooperative = c.cooperative != 0;
  info.tracking_stays = c.tracking_stays != 0;
  info.driver = text_or_empty(c.driver);
  info.description = text_or_empty(c.description);
  info.tracker = text_or_empty(c.tracker);
  info.accelerator = text_or_empty(c.accelerator);
  info.compatibility = text_or_empty(c.compatibility);
  if (info.driver.empty()) return wrong("the driver has no name");
  std::uint64_t end = 0;
  for (const ft_memory_region& region : std::span(c.regions, c.region_count)) {
    if (region.bytes == nullptr || region.pages == 0)
      return wrong(fmt::format("region {} has no memory", info.memory.size()));
    if (region.first_page < end || region.first_page > (1ull << 52) || region.pages > (1ull << 40))
      return wrong(
          fmt::format("region {} overlaps, is not in order, or is too large", info.memory.size()));
    end = region.first_page + region.pages;
    info.memory.push_back(
        {text_or_empty(region.name), PageNo{region.first_page},
         std::span(static_cast<std::byte*>(region.bytes), region.pages * info.page_bytes)});
  }
  return {};
}

std::unique_ptr<Guest> make_guest(GuestInfo info, const ft_guest_port& port,
                                  std::shared_ptr<Life> life) {
  return std::make_unique<PortGuest>(std::move(info), port, std::move(life));
}

// What is called where the standby is made: the description that C reads.
Desk::Function bind_make(const ft_standby_port& port, const Life& life, const GuestInfo& primary) {
  auto description = std::make_shared<CDescription>(primary);
  return [user = life.user(), make = port.make, description](ft_op* op) {
    return make(user, op, &description->c);
  };
}

}  // namespace libft::capi
