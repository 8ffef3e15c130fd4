// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/memory_arbiter.h"

#include "failover/answers.h"

namespace libft::failover {

SwapAnswer MemoryRecords::create(const GuestId& guest, const OwnershipRecord& record) {
  const std::lock_guard lock(mutex_);
  const auto [at, created] = records_.emplace(guest, record);
  return created ? won(record) : lost(at->second);
}

SwapAnswer MemoryRecords::swap(const GuestId& guest, const OwnershipRecord& from,
                               const OwnershipRecord& to) {
  if (auto wrong = refuse_generation(from, to)) return *wrong;
  const std::lock_guard lock(mutex_);
  const auto at = records_.find(guest);
  if (at == records_.end()) return unknown(missing_text(guest));
  if (at->second == from) at->second = to;
  return at->second == to ? won(to) : lost(at->second);
}

ReadAnswer MemoryRecords::read(const GuestId& guest) const {
  const std::lock_guard lock(mutex_);
  const auto at = records_.find(guest);
  return at == records_.end() ? read_missing() : read_found(at->second);
}

void MemoryArbiter::script(Behaviour behaviour) {
  const std::lock_guard lock(mutex_);
  script_.push_back(behaviour);
}

void MemoryArbiter::set_default(Behaviour behaviour) {
  const std::lock_guard lock(mutex_);
  default_ = behaviour;
}

void MemoryArbiter::set_before_request(std::function<void()> hook) {
  const std::lock_guard lock(mutex_);
  before_request_ = std::move(hook);
}

int MemoryArbiter::land_late() {
  std::deque<std::function<SwapAnswer()>> late;
  {
    const std::lock_guard lock(mutex_);
    late.swap(late_);
  }
  int changed = 0;
  for (const auto& request : late) changed += request().outcome == SwapOutcome::won;
  return changed;
}

MemoryArbiter::Behaviour MemoryArbiter::begin_request() {
  std::function<void()> hook;
  Behaviour behaviour = Behaviour::answer;
  {
    const std::lock_guard lock(mutex_);
    hook = before_request_;
    behaviour = default_;
    if (!script_.empty()) {
      behaviour = script_.front();
      script_.pop_front();
    }
  }
  if (hook) hook();
  return behaviour;
}

SwapAnswer MemoryArbiter::change(std::function<SwapAnswer()> request) {
  switch (begin_request()) {
    case Behaviour::answer: return request();
    case Behaviour::lost_request: return unknown("scripted: the request was lost");
    case Behaviour::lost_answer: request(); return unknown("scripted: the answer was lost");
    case Behaviour::lands_late: break;
  }
  const std::lock_guard lock(mutex_);
  late_.push_back(std::move(request));
  return unknown("scripted: the request is on its way");
}

SwapAnswer MemoryArbiter::create(const GuestId& guest, const OwnershipRecord& record) {
  return change([records = records_, guest, record] { return records->create(guest, record); });
}

SwapAnswer MemoryArbiter::swap(const GuestId& guest, const OwnershipRecord& from,
                               const OwnershipRecord& to) {
  return change([records = records_, guest, from, to] { return records->swap(guest, from, to); });
}

ReadAnswer MemoryArbiter::read(const GuestId& guest) {
  if (begin_request() == Behaviour::answer) return records_->read(guest);
  return read_unknown("scripted: no answer");
}

}  // namespace libft::failover
