// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_memory.h"

#include <fmt/format.h>

#include <charconv>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "guest/memory/memory_guest.h"
#include "output/memory_gate.h"
#include "report.h"

namespace libft::ftctl {

namespace {

constexpr char kPrefix[] = "memory:";
constexpr Millis kStepEvery{10};

// A memory guest and the thread in which it works.
class BusyGuest final : public Guest {
 public:
  BusyGuest(std::unique_ptr<guest::MemoryGuest> inner, std::uint64_t pages)
      : inner_(std::move(inner)),
        worker_([this, pages](const std::stop_token& stop) { work(stop, pages); }) {}

  const GuestInfo& info() const override { return inner_->info(); }
  void set_event_sink(std::function<void(GuestEvent)> sink) override {
    inner_->set_event_sink(std::move(sink));
  }
  Status start_tracking() override { return inner_->start_tracking(); }
  void stop_tracking() override { inner_->stop_tracking(); }
  Status pause() override { return inner_->pause(); }
  Status resume() override { return inner_->resume(); }
  Status take_written(PageSet& written) override { return inner_->take_written(written); }
  Status save_state() override { return inner_->save_state(); }
  Status fetch_state(std::vector<std::byte>& state) override { return inner_->fetch_state(state); }
  Status accepts(const GuestInfo& primary) const override { return inner_->accepts(primary); }
  Status probe_state(std::span<const std::byte> state) override {
    return inner_->probe_state(state);
  }
  Status trial_run(std::span<const std::byte> state) override { return inner_->trial_run(state); }
  Status load_state(std::span<const std::byte> state) override { return inner_->load_state(state); }
  Status activate() override { return inner_->activate(); }
  void destroy() override { inner_->destroy(); }
  Nanos clock_lag() const override { return inner_->clock_lag(); }

 private:
  void work(const std::stop_token& stop, std::uint64_t pages) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
      inner_->step(pages);  // Does nothing while the guest does not run.
      wake_.wait_for(lock, stop, kStepEvery, [] { return false; });
    }
  }

  std::unique_ptr<guest::MemoryGuest> inner_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread worker_;  // Last: joined before the guest goes.
};

Result<std::uint64_t> number_in(const std::string& spec, const std::string& key,
                                std::uint64_t usual) {
  const std::string rest = "," + spec.substr(sizeof kPrefix - 1);
  const std::size_t at = rest.find("," + key + "=");
  if (at == std::string::npos) return usual;
  const char* begin = rest.data() + at + key.size() + 2;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(begin, rest.data() + rest.size(), number);
  if (error == std::errc() && (*end == ',' || end == rest.data() + rest.size())) return number;
  return failure(with_remedy(Code::invalid, fmt::format("guest {}: {} is no number", spec, key),
                             "memory:mib=64,pages=50"));
}

Result<Replica> with_gate(std::unique_ptr<Guest> guest) {
  FT_ASSIGN(auto gate, output::MemoryGate::create({}, [](std::span<const std::byte>) {}));
  return Replica{std::move(gate), std::move(guest), nullptr};
}

}  // namespace

bool is_memory_guest(const std::string& spec) { return spec.starts_with(kPrefix); }

Result<Replica> open_memory_guest(const std::string& spec) {
  FT_ASSIGN(const std::uint64_t mib, number_in(spec, "mib", 64));
  FT_ASSIGN(const std::uint64_t pages, number_in(spec, "pages", 50));
  if (mib == 0 || mib > (1u << 20)) {
    return failure(Code::invalid, fmt::format("guest {}: mib is from 1 to 1048576", spec));
  }
  return with_gate(std::make_unique<BusyGuest>(guest::make_memory_guest(mib * 256, 1), pages));
}

Result<Replica> open_memory_standby(const GuestInfo& primary) {
  return with_gate(std::make_unique<BusyGuest>(guest::make_memory_standby(primary.pages()), 50));
}

}  // namespace libft::ftctl
