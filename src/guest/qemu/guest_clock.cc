// SPDX-License-Identifier: LGPL-2.1-or-later
// The agent speaks JSON lines as QEMU's monitor does; the commands are in QEMU's documentation,
// "QEMU Guest Agent Protocol Reference".
#include "guest/qemu/guest_clock.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "qemu/qmp.h"
#include "os/poll.h"
#include "os/socket.h"
#include "os/thread.h"

namespace libft::qemu {
namespace {

constexpr unsigned kSilenceMax = 3;  // A guest that boots answers after a while.

double ms(Nanos time) { return std::chrono::duration<double, std::milli>(time).count(); }

}  // namespace

Result<os::ScopedFd> connect_agent(const std::string& path) {
  FT_ASSIGN(const os::SocketAddress address, os::SocketAddress::unix_path(path));
  return os::connect_socket(address, Millis{1000});
}

Status GuestClock::start() {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  wake_.emplace(std::move(wake));
  thread_ = os::start_thread("ft-guest-clock", [this] { run(); });
  return {};
}

void GuestClock::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  wake_->signal();
  thread_.join();
}

void GuestClock::look_now() {
  look_now_ = true;
  if (wake_) wake_->signal();
}

Nanos GuestClock::left() const {
  const Nanos stopped = options_.stopped();
  const std::scoped_lock lock(mutex_);
  return lag_at_look_ + std::max(Nanos{0}, stopped - stopped_at_look_);
}

std::uint64_t GuestClock::corrections() const {
  const std::scoped_lock lock(mutex_);
  return corrections_;
}

bool GuestClock::answered() const {
  const std::scoped_lock lock(mutex_);
  return answered_;
}

void GuestClock::run() {
  Nanos wait{0};
  while (!stopping_) {
    const Nanos until = steady_now() + wait;
    // A look that is asked for comes at once; the others keep their distance.
    while (!stopping_ && !look_now_ && steady_now() < until)
      if (auto woke = os::wait_ready(wake_->fd(), POLLIN, -1, until - steady_now());
          woke && *woke == os::Woke::ready)
        (void)wake_->drain();
    if (!stopping_) wait = look();
  }
}

// Returns when to come again.
Nanos GuestClock::look() {
  forced_ = look_now_.exchange(false) || forced_;
  if (!forced_ && left() < options_.threshold) return options_.interval;
  const Status status = look_and_correct();
  if (status.ok()) {
    failures_ = 0;
    forced_ = false;
    return options_.interval;
  }
  if (status.code() == Code::cancelled) return options_.interval;
  if (status.code() != Code::timeout) socket_.reset();
  ++failures_;
  if (failures_ >= kSilenceMax || status.code() == Code::refused) complain(status);
  const Nanos longer = options_.interval * (1u << std::min(failures_, 10u));
  return std::min(longer, std::max(options_.retry_max, options_.interval));
}

// The clock is set only when it is behind by more than the agent's answers take: however long the
// request is on its way within that, the step is forward.
Status GuestClock::look_and_correct() {
  FT_TRY(synchronise());
  FT_ASSIGN(const Reading before, read_clock());
  if (before.lag_min > kLagMax)
    return Status(Code::refused,
                  fmt::format("the guest's clock is {:.0f} s behind this host's, more than libft "
                              "caused: it is left alone; set it in the guest",
                              ms(before.lag_min) / 1000));
  note(before);
  if (before.lag_min < std::max(options_.threshold, before.round_trip)) return {};
  FT_TRY(set_clock());
  FT_ASSIGN(const Reading after, read_clock());
  note(after);
  return {};
}

void GuestClock::note(const Reading& reading) {
  const std::scoped_lock lock(mutex_);
  lag_at_look_ = std::max(Nanos{0}, reading.lag_min + reading.round_trip / 2);
  stopped_at_look_ = reading.stopped;
}

void GuestClock::complain(const Status& status) {
  if (std::exchange(complained_, true) || !options_.say) return;
  options_.say(fmt::format(
      "the guest's clock is measured and not corrected: {}. Run qemu-guest-agent in the guest",
      status.message()));
}

// Whatever an earlier question left half said or unanswered ends here: 0xFF is in no JSON text, so
// that the agent's parser begins anew, and answers are dropped up to the one with this number.
Status GuestClock::synchronise() {
  if (!socket_.valid()) {
    FT_ASSIGN(socket_, options_.connect());
    input_.clear();
  }
  const std::uint64_t id = ++syncs_;
  const Nanos until = steady_now() + options_.answer_timeout;
  FT_TRY(send("\xff" + qmp_line("guest-sync", {{"id", id}})));
  for (;;) {
    FT_ASSIGN(const std::string line, next_line(until));
    const Json answer = Json::parse(line, nullptr, false);
    const auto value = answer.is_object() ? answer.find("return") : answer.end();
    if (!answer.is_object() || value == answer.end()) continue;
    if (*value == id) break;
  }
  const std::scoped_lock lock(mutex_);
  answered_ = true;
  return {};
}

Result<GuestClock::Reading> GuestClock::read_clock() {
  Reading reading;
  reading.stopped = options_.stopped();
  const Nanos asked = options_.host_time();
  const Nanos from = steady_now();
  FT_TRY(send(qmp_line("guest-get-time")));
  FT_ASSIGN(const std::string line, next_line(from + options_.answer_timeout));
  reading.round_trip = steady_now() - from;
  const Json answer = Json::parse(line, nullptr, false);
  if (answer.is_object() && answer.contains("error"))
    return failure(Code::refused, "guest-get-time: " + text_at(answer["error"], "desc"));
  if (!answer.is_object() || !answer.contains("return") || !answer["return"].is_number_integer())
    return failure(Code::corrupt, "guest-get-time: the answer is no time");
  reading.lag_min = asked - Nanos{answer["return"].get<std::int64_t>()};
  return reading;
}

Status GuestClock::set_clock() {
  const Nanos until = steady_now() + options_.set_timeout;
  FT_TRY(send(qmp_line("guest-set-time", {{"time", options_.host_time().count()}})));
  FT_ASSIGN(const std::string line, next_line(until));
  const Json answer = Json::parse(line, nullptr, false);
  if (!answer.is_object() || !answer.contains("return")) {
    const Json error = answer.is_object() && answer.contains("error") ? answer["error"] : Json();
    return Status(Code::refused, "guest-set-time: " + text_at(error, "desc"));
  }
  const std::scoped_lock lock(mutex_);
  ++corrections_;
  return {};
}

// A socket that takes no more bytes is one whose other end has not read for hours.
Status GuestClock::send(const std::string& text) {
  const ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent == static_cast<ssize_t>(text.size())) return {};
  if (sent >= 0 || errno == EAGAIN) return Status(Code::io, "nobody reads the agent's socket");
  return os::errno_status("send to the guest's agent");
}

Result<std::string> GuestClock::next_line(Nanos until) {
  for (;;) {
    const std::size_t end = input_.find('\n');
    if (end != std::string::npos) {
      std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      return line;
    }
    if (input_.size() > kLineBytesMax)
      return failure(Code::corrupt, "the agent's answer has no end");
    const Nanos left = std::max(Nanos{0}, until - steady_now());
    FT_ASSIGN(const os::Woke woke, os::wait_ready(socket_.get(), POLLIN, wake_->fd(), left));
    if (stopping_) return failure(Code::cancelled, "the agent is no longer asked");
    if (woke == os::Woke::called) (void)wake_->drain();
    if (woke == os::Woke::deadline)
      return failure(Code::timeout, "the guest's agent does not answer");
    if (woke != os::Woke::ready) continue;
    char bytes[4096];
    const ssize_t count = ::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count == 0) return failure(Code::io, "the agent's socket was closed");
    if (count < 0 && errno != EAGAIN && errno != EINTR)
      return failure(os::errno_status("hear the guest's agent"));
    if (count > 0) input_.append(bytes, static_cast<std::size_t>(count));
  }
}

Nanos GuestClock::steady_now() const { return std::chrono::steady_clock::now().time_since_epoch(); }

}  // namespace libft::qemu
