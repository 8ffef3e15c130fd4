// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/landmark.h"

#include <utility>

namespace libft::replay {
namespace {

constexpr std::size_t kLogBytesMax = 64u << 20;

}  // namespace

Result<std::unique_ptr<Landmark>> Landmark::set(Guest& guest, DeterministicGuest& exact) {
  std::unique_ptr<Landmark> landmark(new Landmark(guest, exact));
  FT_TRY(guest.start_tracking());
  FT_TRY(take_image(guest, landmark->equal_));
  return landmark;
}

Landmark::~Landmark() { leave_guest(); }

void Landmark::leave_guest() {
  if (guest_ != nullptr) guest_->stop_tracking();
  guest_ = nullptr;
  exact_ = nullptr;
}

void Landmark::keep(wire::LogEpoch log) {
  log_bytes_ += log.coded.size();
  if (log_bytes_ > kLogBytesMax) {
    complete_ = false;
    logs_.clear();
  }
  if (complete_) logs_.push_back(std::move(log));
}

Status Landmark::passed(wire::LogEpoch log) {
  if (!log.mark.hash) return keep(std::move(log)), Status();
  PageSet written;
  FT_TRY(guest_->take_written(written));
  FT_TRY(renew_image(*guest_, written, equal_));
  logs_.clear();
  log_bytes_ = 0;
  complete_ = true;
  return {};
}

Status Landmark::came_apart(wire::LogEpoch log) {
  keep(std::move(log));
  FT_TRY(take_image(*guest_, apart_));
  for (GuestCopy& copy : copies_) {
    FT_ASSIGN(copy, exact_->make_copy());
  }
  leave_guest();
  if (complete_) return {};
  return Status(Code::exhausted, "the log since both were equal became too long to be kept");
}

}  // namespace libft::replay
