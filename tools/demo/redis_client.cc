// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/redis_client.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "demo/connecting.h"
#include "os/real_clock.h"
#include "os/thread.h"

namespace libft::demo {
namespace {

// At 200 a second this is a minute and a half without an answer; then the schedule is kept and the
// sending waits, so that the wait is still counted.
constexpr std::size_t kPendingMax = 20000;
constexpr std::size_t kReadsPendingMax = 64;

Time now() { return os::RealClock().now(); }

}  // namespace

Result<std::unique_ptr<RedisClient>> RedisClient::connect(const RedisClientOptions& options) {
  auto socket =
      connect_patiently({options.address, options.port, options.netns_fd}, options.connect_timeout);
  if (!socket) {
    return failure(socket.error().within(
        fmt::format("connect to Redis at {}:{}", options.address, options.port)));
  }
  const int one = 1;
  ::setsockopt(socket->get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  std::unique_ptr<RedisClient> client(
      new RedisClient(options, std::move(*socket), std::move(wake)));
  client->thread_ = os::start_thread("demo-client", [raw = client.get()] { raw->run(); });
  return client;
}

RedisClient::RedisClient(RedisClientOptions options, os::ScopedFd socket, os::EventFd wake)
    : options_(std::move(options)),
      socket_(std::move(socket)),
      wake_(std::move(wake)),
      history_(options_.token) {}

RedisClient::~RedisClient() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.signal();
}

void RedisClient::offer(Load load, double writes_per_s) {
  {
    const std::lock_guard lock(mutex_);
    load_ = load;
    period_ = std::chrono::duration_cast<Nanos>(std::chrono::duration<double>(1.0 / writes_per_s));
    due_ = now();
  }
  wake_.signal();
}

Status RedisClient::drain(Nanos patience) {
  offer(Load::none);
  std::unique_lock lock(mutex_);
  const bool done =
      changed_.wait_for(lock, patience, [&] { return pending_.empty() || !end_reason_.empty(); });
  if (!end_reason_.empty()) return Status(Code::peer_lost, end_reason_);
  if (!done) {
    return Status(Code::timeout,
                  fmt::format("{} requests had no answer within {} ms", pending_.size(),
                              std::chrono::duration_cast<Millis>(patience).count()));
  }
  return {};
}

Result<ReadBack> RedisClient::read_back(Nanos patience) {
  std::unique_lock lock(mutex_);
  read_back_ = {};
  to_read_.clear();
  for (const RequestSample& sample : history_.samples()) {
    if (sample.acknowledged) to_read_.push_back(sample.number);
  }
  read_back_.checked = to_read_.size();
  wake_.signal();
  const auto done = [&] {
    return read_back_.answered == read_back_.checked || !end_reason_.empty();
  };
  // How long all of it takes depends on how much there is; what is wrong is when nothing comes.
  for (std::size_t before = 0;; before = read_back_.answered)
    if (changed_.wait_for(lock, patience, done) || read_back_.answered == before) break;
  if (!end_reason_.empty()) return failure(Code::peer_lost, end_reason_);
  if (read_back_.answered != read_back_.checked) {
    return failure(Code::timeout, fmt::format("{} of {} keys were answered", read_back_.answered,
                                              read_back_.checked));
  }
  return read_back_;
}

void RedisClient::run() {
  os::prefer_this_thread();  // Else the latency measured is partly that of this client.
  for (;;) {
    Nanos wait{};
    bool writing = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || !end_reason_.empty()) return;
      enqueue(now());
      send_some();
      writing = !out_.empty();
      wait = next_wait(now());
    }
    pollfd fds[2] = {{socket_.get(), static_cast<short>(POLLIN | (writing ? POLLOUT : 0)), 0},
                     {wake_.fd(), POLLIN, 0}};
    const timespec limit{wait.count() / 1'000'000'000, wait.count() % 1'000'000'000};
    ::ppoll(fds, 2, &limit, nullptr);
    wake_.drain();
    const std::lock_guard lock(mutex_);
    if (fds[0].revents != 0) receive_some();
  }
}

Nanos RedisClient::next_wait(Time at) const {
  if (load_ != Load::open || pending_.size() >= kPendingMax) return std::chrono::seconds{1};
  return std::clamp(due_ - at, Nanos{0}, Nanos{std::chrono::seconds{1}});
}

void RedisClient::enqueue(Time at) {
  auto write = [&](Time due) {
    const std::uint64_t number = history_.begin(due, at);
    out_ += resp_command({"SET", history_.key(number), history_.value(number)});
    pending_.push_back({false, number});
  };
  if (load_ == Load::closed && pending_.empty()) write(at);
  while (load_ == Load::open && due_ <= at && pending_.size() < kPendingMax) {
    write(due_);
    due_ = due_ + period_;
  }
  while (load_ == Load::none && !to_read_.empty() && pending_.size() < kReadsPendingMax) {
    out_ += resp_command({"GET", history_.key(to_read_.front())});
    pending_.push_back({true, to_read_.front()});
    to_read_.pop_front();
  }
}

void RedisClient::send_some() {
  while (!out_.empty()) {
    const ssize_t sent = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return end(os::errno_status("send to Redis").message());
    out_.erase(0, static_cast<std::size_t>(sent));
  }
}

void RedisClient::receive_some() {
  char bytes[16384];
  const ssize_t got = ::recv(socket_.get(), bytes, sizeof bytes, 0);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
  if (got < 0) return end(os::errno_status("receive from Redis").message());
  if (got == 0) return end("Redis closed the connection");
  reader_.append(std::string_view(bytes, static_cast<std::size_t>(got)));
  const Time at = now();
  for (;;) {
    auto reply = reader_.next();
    if (!reply) return end(reply.error().message());
    if (!reply->has_value()) break;
    take(**reply, at);
  }
  changed_.notify_all();
}

void RedisClient::take(const Reply& reply, Time at) {
  if (pending_.empty()) return end("an answer that nobody asked for");
  const Pending asked = pending_.front();
  pending_.pop_front();
  newest_answer_ = at;
  if (asked.is_read) {
    const bool is_text = reply.kind == ReplyKind::bulk;
    const auto found = is_text ? std::optional(reply.text) : std::nullopt;
    ++read_back_.answered;
    if (!history_.holds(asked.number, found)) ++read_back_.lost;
    return;
  }
  const bool accepted = reply == Reply{ReplyKind::simple, "OK"};
  if (!accepted) ++errors_;
  history_.answer(asked.number, at, accepted);
}

void RedisClient::end(std::string reason) {
  if (end_reason_.empty()) end_reason_ = std::move(reason);
  changed_.notify_all();
}

bool RedisClient::survived() const { return end_reason().empty(); }

std::string RedisClient::end_reason() const {
  const std::lock_guard lock(mutex_);
  return end_reason_;
}

std::uint64_t RedisClient::acknowledged() const {
  const std::lock_guard lock(mutex_);
  return history_.acknowledged();
}

std::uint64_t RedisClient::errors() const {
  const std::lock_guard lock(mutex_);
  return errors_;
}

std::vector<RequestSample> RedisClient::samples() const {
  const std::lock_guard lock(mutex_);
  return history_.samples();
}

Time RedisClient::newest_answer() const {
  const std::lock_guard lock(mutex_);
  return newest_answer_;
}

}  // namespace libft::demo
