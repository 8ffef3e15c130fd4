// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/question_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include "demo/namespace.h"
#include "lab/guest/protocol.h"
#include "os/poll.h"
#include "os/real_clock.h"
#include "os/thread.h"

namespace libft::demo {
namespace {

Time now() { return os::RealClock().now(); }

Result<os::ScopedFd> open_socket(const Destination& guest) {
  FT_ASSIGN(const os::SocketAddress address, address_of(guest));
  FT_TRY(enter_namespace(guest.netns_fd));
  os::ScopedFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid() || ::connect(socket.get(), address.get(), address.bytes()) != 0)
    return failure(os::errno_status("address the guest's observer"));
  return socket;
}

}  // namespace

Result<std::unique_ptr<QuestionClient>> QuestionClient::start(
    const QuestionClientOptions& options) {
  Result<os::ScopedFd> socket = failure(Code::internal, "the opening thread did not run");
  os::start_thread("demo-open", [&] { socket = open_socket(options.guest); }).join();
  if (!socket) return failure(socket.error());
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  std::unique_ptr<QuestionClient> client(
      new QuestionClient(options.answer_patience, std::move(*socket), std::move(wake)));
  client->thread_ = os::start_thread("demo-questions", [raw = client.get()] { raw->run(); });
  return client;
}

QuestionClient::QuestionClient(Nanos answer_patience, os::ScopedFd socket, os::EventFd wake)
    : answer_patience_(answer_patience), socket_(std::move(socket)), wake_(std::move(wake)) {}

QuestionClient::~QuestionClient() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.signal();
}

void QuestionClient::offer(Load load, double per_s) {
  {
    const std::lock_guard lock(mutex_);
    schedule_.offer(load, per_s, now());
  }
  wake_.signal();
}

Status QuestionClient::drain(Nanos patience) {
  offer(Load::none, 1);
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, patience, [&] { return open_.empty(); })) return {};
  return Status(Code::timeout, fmt::format("{} questions had no answer", open_.size()));
}

void QuestionClient::run() {
  os::prefer_this_thread();  // Else the latency measured is partly that of this client.
  for (;;) {
    Nanos wait{};
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      take_answers();
      give_up_late(now());
      ask_due(now());
      wait = schedule_.wait(now());
    }
    changed_.notify_all();
    [[maybe_unused]] const auto woke = os::wait_ready(socket_.get(), POLLIN, wake_.fd(), wait);
    wake_.drain();
  }
}

void QuestionClient::take_answers() {
  LabAnswer answer{};
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), &answer, sizeof answer, 0);
    if (got < 0 && errno == ECONNREFUSED) continue;  // Between two hosts; said once a question.
    if (got < 0) return;
    if (got != static_cast<ssize_t>(sizeof answer) || answer.magic != LAB_ANSWER_MAGIC) continue;
    if (std::erase(open_, answer.argument) == 0) continue;  // A second answer, or too late.
    RequestSample& sample = samples_[answer.argument];
    sample.answered = now();
    sample.acknowledged = true;
  }
}

void QuestionClient::give_up_late(Time at) {
  while (!open_.empty() && at - samples_[open_.front()].sent > answer_patience_) {
    open_.pop_front();
    ++errors_;
  }
}

void QuestionClient::ask_due(Time at) {
  while (const auto due = schedule_.take(at, open_.size())) {
    const std::uint64_t number = samples_.size();
    samples_.push_back({number, *due, Time{}, false, at});
    open_.push_back(number);
    const LabQuery query{LAB_QUERY_MAGIC, LAB_NOTHING, number};
    // One that cannot be sent is one that is not answered.
    [[maybe_unused]] const ssize_t sent = ::send(socket_.get(), &query, sizeof query, MSG_NOSIGNAL);
  }
}

std::vector<RequestSample> QuestionClient::samples() const {
  const std::lock_guard lock(mutex_);
  return samples_;
}

std::uint64_t QuestionClient::errors() const {
  const std::lock_guard lock(mutex_);
  return errors_;
}

}  // namespace libft::demo
