// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/life.h"

#include <fmt/format.h>

namespace libft::qemu {
namespace {

constexpr std::size_t kEventsMax = 1024;

std::uint64_t microseconds(const Json& event) {
  if (!event.contains("timestamp")) return 0;
  const Json& stamp = event["timestamp"];
  return number_at(stamp, "seconds") * 1'000'000 + number_at(stamp, "microseconds");
}

}  // namespace

void Life::begin(const std::string& status) {
  const std::scoped_lock lock(mutex_);
  runs_ = status == "running";
  ended_ = status == "shutdown" || status == "guest-panicked" || status == "internal-error";
}

void Life::on_event(const Json& event) {
  const std::scoped_lock lock(mutex_);
  const std::string name = text_at(event, "event");
  const Json data = event.contains("data") ? event["data"] : Json::object();
  if (name == "STOP") on_stop(microseconds(event));
  if (name == "RESUME") on_resume(microseconds(event));
  if (name == "SHUTDOWN") on_shutdown(data);
  if (name == "MIGRATION") on_migration(data);
  if (name == "RESET") tell(GuestEvent::Kind::rebooted, "reset: " + text_at(data, "reason"));
  if (name == "GUEST_PANICKED") {
    ended_ = text_at(data, "action") != "run";
    tell(GuestEvent::Kind::crashed, "guest panic, QEMU's action: " + text_at(data, "action"));
  }
  if (name == "DEVICE_DELETED" || name == "MEMORY_DEVICE_SIZE_CHANGE" ||
      name == "ACPI_DEVICE_OST" || name == "BALLOON_CHANGE")
    tell(GuestEvent::Kind::reconfigured, name + " " + text_at(data, "device"));
}

// A stop stamped before libft asked for one is somebody else's, also when libft's own was already
// on its way.
void Life::on_stop(std::uint64_t at_us) {
  runs_ = false;
  if (stop_expected_ && at_us >= stop_posted_us_) {
    stop_expected_ = false;
    stopped_by_us_ = true;
    stopped_at_us_ = at_us;
  } else if (!ended_ && !end_expected_) {
    tell(GuestEvent::Kind::paused, "stopped by another client of QEMU's monitor, or by QEMU");
  }
}

void Life::on_resume(std::uint64_t at_us) {
  runs_ = true;
  ended_ = false;  // `cont` after a reset of a guest that had shut down.
  if (stopped_by_us_ && at_us > stopped_at_us_) lag_us_ += at_us - stopped_at_us_;
  stopped_by_us_ = false;
  if (!resume_expected_)
    tell(GuestEvent::Kind::resumed, "set running by another client of QEMU's monitor");
  resume_expected_ = false;
}

void Life::on_shutdown(const Json& data) {
  const std::string reason = text_at(data, "reason");
  ended_ = true;
  if (end_expected_) return;
  if (reason == "guest-panic")
    tell(GuestEvent::Kind::crashed, "guest panic, ended as QEMU was configured");
  else if (reason == "host-error")
    tell(GuestEvent::Kind::process_died, "QEMU gave up: host error");
  else
    tell(GuestEvent::Kind::ended, reason);
}

void Life::on_migration(const Json& data) {
  const std::string status = text_at(data, "status");
  if (!migration_expected_ && (status == "setup" || status == "active"))
    tell(GuestEvent::Kind::migrating, "another client migrates the guest: " + status);
}

void Life::on_process_end() {
  const std::scoped_lock lock(mutex_);
  const bool told = ended_ || end_expected_;
  runs_ = false;
  ended_ = true;
  if (!told) tell(GuestEvent::Kind::process_died, "the QEMU process ended without an orderly end");
}

void Life::expect_stop(std::uint64_t now_us) {
  const std::scoped_lock lock(mutex_);
  stop_expected_ = true;
  stop_posted_us_ = now_us;
  stopped_by_us_ = false;
}

void Life::expect_resume() {
  const std::scoped_lock lock(mutex_);
  resume_expected_ = true;
}

bool Life::stopped_by_us() {
  const std::scoped_lock lock(mutex_);
  stop_expected_ = false;
  return stopped_by_us_;
}

void Life::cancel_expectations() {
  const std::scoped_lock lock(mutex_);
  stop_expected_ = resume_expected_ = false;
}

void Life::expect_end() {
  const std::scoped_lock lock(mutex_);
  end_expected_ = true;
}

void Life::expect_migration(bool expected) {
  const std::scoped_lock lock(mutex_);
  migration_expected_ = expected;
}

bool Life::runs() const {
  const std::scoped_lock lock(mutex_);
  return runs_;
}

bool Life::ended() const {
  const std::scoped_lock lock(mutex_);
  return ended_;
}

Nanos Life::stopped_by_libft() const {
  const std::scoped_lock lock(mutex_);
  return std::chrono::microseconds(lag_us_);
}

std::vector<GuestEvent> Life::take_events() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(events_, {});
}

// Beyond the limit nobody listens; the newest of the kind replaces the last.
void Life::tell(GuestEvent::Kind kind, std::string detail) {
  if (events_.size() == kEventsMax) events_.pop_back();
  events_.push_back({kind, std::move(detail)});
}

}  // namespace libft::qemu
