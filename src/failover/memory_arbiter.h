// SPDX-License-Identifier: LGPL-2.1-or-later
// The arbiter of tests and simulations: records in memory, shared by as many MemoryArbiters as
// there are hosts, each of which can be told to answer badly in every way in which a real one can.
// Any thread may call it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>

#include "libft/arbiter.h"

namespace libft::failover {

class MemoryRecords {
 public:
  SwapAnswer create(const GuestId& guest, const OwnershipRecord& record);
  SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from, const OwnershipRecord& to);
  ReadAnswer read(const GuestId& guest) const;

 private:
  mutable std::mutex mutex_;
  std::map<GuestId, OwnershipRecord> records_;
};

class MemoryArbiter final : public Arbiter {
 public:
  enum class Behaviour {
    answer,        // As it should.
    lost_request,  // unknown, and nothing happened.
    lost_answer,   // unknown, and it happened.
    lands_late,    // unknown; it happens, or fails, at land_late(): a swap that was on its way.
  };

  explicit MemoryArbiter(std::shared_ptr<MemoryRecords> records) : records_(std::move(records)) {}

  // How the next call behaves; calls beyond what was scripted do as set_default() says.
  void script(Behaviour behaviour);
  void set_default(Behaviour behaviour);

  // Called at the start of each request, in the caller's thread, and may block it: a slow arbiter.
  void set_before_request(std::function<void()> hook);

  // Lets everything that was on its way arrive, in order. Returns how many changed the record.
  int land_late();

  std::string description() const override { return "memory"; }
  bool automatic() const override { return true; }
  SwapAnswer create(const GuestId& guest, const OwnershipRecord& record) override;
  SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from,
                  const OwnershipRecord& to) override;
  ReadAnswer read(const GuestId& guest) override;

 private:
  Behaviour begin_request();
  SwapAnswer change(std::function<SwapAnswer()> request);

  std::shared_ptr<MemoryRecords> records_;
  std::mutex mutex_;
  std::deque<Behaviour> script_;
  Behaviour default_ = Behaviour::answer;
  std::function<void()> before_request_;
  std::deque<std::function<SwapAnswer()>> late_;
};

}  // namespace libft::failover
