// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/follower.h"

namespace libft::compare {

Follower::Follower(SpeculativeGuest& guest, ComparedGate& gate, InputTap& tap, const GuestId& id,
                   std::function<void()> says)
    : guest_(guest), gate_(gate), tap_(tap), said_(std::make_shared<Said>(id, std::move(says))) {
  gate_.set_rewrite({[rewriting = rewriting_](unsigned nic, std::span<std::byte> frame) {
                       const std::scoped_lock lock(rewriting->mutex);
                       rewriting->rewriter.to_guest(nic, frame);
                     },
                     [rewriting = rewriting_](unsigned nic, std::span<std::byte> frame) {
                       const std::scoped_lock lock(rewriting->mutex);
                       rewriting->rewriter.to_world(nic, frame);
                     }});
}

// The gate first: nothing that an ended follower said is taken for the next one's.
void Follower::stop() {
  {
    const std::scoped_lock lock(in_mutex_);
    from_.reset();
  }
  gate_.follow({});
  guest_.halt();
  (void)said_->take();
}

// Of a checkpoint, both have the same connections.
Status Follower::load(std::span<const std::byte> state) {
  stop();
  FT_TRY(guest_.reload(state));
  const std::scoped_lock lock(rewriting_->mutex);
  rewriting_->rewriter.rebase({});
  return {};
}

Status Follower::restart(EpochId id, std::span<const std::byte> state) {
  FT_TRY(load(state));
  gate_.follow([said = said_, id](unsigned nic, std::span<const std::byte> frame) {
    said->add(id, nic, frame);
  });
  if (Status status = guest_.run(); !status.ok()) {
    stop();
    return status;
  }
  begin(id);
  return {};
}

void Follower::applied(EpochId id, const PageSet& pages) {
  guest_.image_changed(pages);
  const std::scoped_lock lock(in_mutex_);
  forget_before(id);
}

void Follower::forget_before(EpochId id) {
  while (!kept_.empty() && kept_.front().from < id) {
    kept_bytes_ -= kept_.front().bytes.size();
    kept_.pop_front();
  }
}

void Follower::begin(EpochId id) {
  const std::scoped_lock lock(in_mutex_);
  from_ = id;
  forget_before(id);
  while (!kept_.empty() && kept_.front().from == id) give_kept();
}

void Follower::give_kept() {
  give(kept_.front().nic, kept_.front().bytes);
  kept_bytes_ -= kept_.front().bytes.size();
  kept_.pop_front();
}

bool Follower::take_over(EpochId id) {
  begin(id);
  const std::scoped_lock in_lock(in_mutex_);
  while (!kept_.empty()) give_kept();
  {
    const std::scoped_lock lock(rewriting_->mutex);
    if (rewriting_->rewriter.rewrites()) return true;
  }
  gate_.set_rewrite({});
  return false;
}

std::optional<EpochId> Follower::from() const {
  const std::scoped_lock lock(in_mutex_);
  return from_;
}

// A frame that the guest has no NIC for is no frame of this guest's: the two differ, then.
void Follower::give(unsigned nic, std::span<const std::byte> frame) {
  (void)tap_.inject_input(nic, frame);
}

Status Follower::on_frames_in(const wire::Frame& frame) {
  FT_ASSIGN(const auto copies, wire::decode_copies(frame));
  const std::scoped_lock lock(in_mutex_);
  const EpochId& id = frame.header.id;
  for (const wire::FrameCopy& copy : copies) {
    if (from_ == id) {
      give(copy.nic, copy.bytes);
    } else if ((!from_ || id > *from_) && kept_bytes_ + copy.bytes.size() <= kKeptBytesMax) {
      kept_bytes_ += copy.bytes.size();
      kept_.push_back({id, copy.nic, {copy.bytes.begin(), copy.bytes.end()}});
    }
  }
  return {};
}

void Follower::Said::add(const EpochId& from, unsigned nic, std::span<const std::byte> frame) {
  const std::scoped_lock lock(mutex);
  if (copies.bytes() + frame.size() > kBytesMax || nic > 255) return;
  copies.add(from, {nic, frame});
  if (!std::exchange(told, true)) says();
}

std::vector<std::byte> Follower::Said::take() {
  const std::scoped_lock lock(mutex);
  told = false;
  return copies.take();
}

}  // namespace libft::compare
