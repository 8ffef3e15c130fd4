// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/connection.h"

#include <algorithm>

#include "os/thread.h"

namespace libft::session {

Connection::Connection(std::unique_ptr<Transport> transport, const GuestId& guest,
                       std::vector<std::byte> received, Sinks sinks)
    : transport_(std::move(transport)), guest_(guest), sinks_(std::move(sinks)) {
  sender_ = os::start_thread("ft-send", [this] { run_sender(); });
  receiver_ = os::start_thread("ft-receive", [this, bytes = std::move(received)]() mutable {
    run_receiver(std::move(bytes));
  });
}

Connection::~Connection() {
  {
    const std::scoped_lock lock(mutex_);
    closing_ = true;
    jobs_.clear();
  }
  queued_.notify_all();
  transport_->close();
}

void Connection::enqueue(Waiting waiting) {
  {
    const std::scoped_lock lock(mutex_);
    if (closing_ || broken_) return;
    jobs_.push_back(std::move(waiting));
  }
  queued_.notify_one();
}

void Connection::send(Job job) { enqueue({std::move(job), false}); }

void Connection::send_beside(Job job) { enqueue({std::move(job), true}); }

// No further than to the next one that must wait: among themselves they keep their order.
Status Connection::give_way() {
  for (;;) {
    Job job;
    {
      const std::scoped_lock lock(mutex_);
      if (jobs_.empty() || !jobs_.front().beside) return {};
      job = std::move(jobs_.front().job);
      jobs_.pop_front();
    }
    FT_TRY(job(*transport_));
  }
}

void Connection::send(std::vector<std::byte> frame) {
  send([frame = std::move(frame)](Transport& transport) {
    const std::span<const std::byte> piece(frame);
    return transport.send({&piece, 1});
  });
}

void Connection::run_sender() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      queued_.wait(lock, [&] { return closing_ || broken_ || !jobs_.empty(); });
      if (closing_ || broken_) return;
      job = std::move(jobs_.front().job);
      jobs_.pop_front();
    }
    if (auto status = job(*transport_); !status) return break_with(std::move(status));
  }
}

void Connection::run_receiver(std::vector<std::byte> received) {
  wire::FrameReader reader(guest_);
  std::span<const std::byte> rest(received);
  while (!rest.empty()) {
    const auto space = reader.space();
    const auto bytes = std::min(space.size(), rest.size());
    std::copy_n(rest.begin(), bytes, space.begin());
    reader.stored(bytes);
    rest = rest.subspan(bytes);
  }
  break_with(receive_all(reader));
}

Status Connection::receive_all(wire::FrameReader& reader) {
  for (;;) {
    FT_ASSIGN(auto frame, reader.next());
    if (frame && sinks_.bulk && wire::is_bulk(frame->header.type)) {
      FT_TRY(sinks_.bulk(*frame));
      continue;
    }
    if (frame) {
      FT_ASSIGN(auto message, wire::decode(*frame));
      sinks_.message(std::move(message));
      continue;
    }
    FT_ASSIGN(const auto bytes, transport_->receive(reader.space()));
    reader.stored(bytes);
  }
}

void Connection::break_with(Status status) {
  {
    const std::scoped_lock lock(mutex_);
    if (closing_ || broken_) return;
    broken_ = true;
    jobs_.clear();
  }
  queued_.notify_all();
  transport_->close();
  sinks_.broken(std::move(status));
}

}  // namespace libft::session
