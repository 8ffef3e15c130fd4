// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ports.h"

namespace libft::capi {

void News::listen_guest(const void* who, std::function<void(GuestEvent)> sink) {
  const std::scoped_lock lock(mutex_);
  guest_ = {who, 0, std::move(sink)};
}

void News::listen_gate(const void* who, std::function<void()> sink) {
  const std::scoped_lock lock(mutex_);
  gate_ = {who, 0, std::move(sink)};
}

void News::listen_detector(const void* who, std::uint64_t token,
                           std::function<void(DetectorEvent)> sink) {
  const std::scoped_lock lock(mutex_);
  detector_ = {who, token, std::move(sink)};
}

void News::listen_qmp(const void* who, std::function<void(std::string_view)> sink) {
  const std::scoped_lock lock(mutex_);
  qmp_ = {who, 0, std::move(sink)};
}

// Once this returned no sink of `who` runs.
void News::forget(const void* who) {
  const std::scoped_lock lock(mutex_);
  if (guest_.who == who) guest_ = {};
  if (gate_.who == who) gate_ = {};
  if (qmp_.who == who) qmp_ = {};
  if (detector_.who == who) detector_ = {};
}

bool News::guest(GuestEvent event) {
  const std::scoped_lock lock(mutex_);
  if (guest_.sink) guest_.sink(std::move(event));
  return guest_.sink != nullptr;
}

bool News::output_waiting() {
  const std::scoped_lock lock(mutex_);
  if (gate_.sink) gate_.sink();
  return gate_.sink != nullptr;
}

bool News::qmp(std::string_view event) {
  const std::scoped_lock lock(mutex_);
  if (qmp_.sink) qmp_.sink(event);
  return qmp_.sink != nullptr;
}

bool News::heartbeat(std::uint64_t token, DetectorEvent event) {
  const std::scoped_lock lock(mutex_);
  if (!detector_.sink || detector_.token != token) return false;
  detector_.sink(std::move(event));
  return true;
}

}  // namespace libft::capi
