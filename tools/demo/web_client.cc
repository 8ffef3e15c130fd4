// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/web_client.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "demo/connecting.h"
#include "demo/namespace.h"
#include "os/real_clock.h"
#include "os/thread.h"

namespace libft::demo {
namespace {

Time now() { return os::RealClock().now(); }

Destination destination(const WebClientOptions& options) {
  return {options.address, options.port, options.netns_fd};
}

// A connection that is being made: what is sent too early fails with EAGAIN.
Result<os::ScopedFd> begin_connection(const os::SocketAddress& to) {
  os::ScopedFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return failure(os::errno_status("open a socket"));
  const int one = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(socket.get(), to.get(), to.bytes()) != 0 && errno != EINPROGRESS)
    return failure(os::errno_status("connect to " + to.to_string()));
  return socket;
}

bool later() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

Result<std::unique_ptr<WebClient>> WebClient::start(const WebClientOptions& options) {
  FT_ASSIGN(const os::SocketAddress server, address_of(destination(options)));
  const auto first = connect_patiently(destination(options), options.connect_timeout);
  if (!first) return failure(first.error().within("connect to the web server"));
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  std::unique_ptr<WebClient> client(new WebClient(options, server, std::move(wake)));
  client->thread_ = os::start_thread("demo-web", [raw = client.get()] { raw->run(); });
  return client;
}

WebClient::WebClient(const WebClientOptions& options, const os::SocketAddress& server,
                     os::EventFd wake)
    : options_(options),
      server_(server),
      request_(http_get(options.address, options.path, options.connections)),
      wake_(std::move(wake)),
      connections_(options.connections_max) {}

WebClient::~WebClient() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.signal();
}

void WebClient::offer(Load load, double per_s) {
  {
    const std::lock_guard lock(mutex_);
    schedule_.offer(load, per_s, now());
  }
  wake_.signal();
}

Status WebClient::drain(Nanos patience) {
  offer(Load::none, 1);
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, patience, [&] { return open() == 0; })) return {};
  return Status(Code::timeout, fmt::format("{} web requests had no answer", open()));
}

void WebClient::run() {
  os::prefer_this_thread();  // Else the latency measured is partly that of this client.
  const Status entered = enter_namespace(options_.netns_fd);
  std::vector<pollfd> polled(connections_.size() + 1);
  for (;;) {
    Nanos wait{};
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      if (!entered.ok()) last_error_ = entered.message();
      const Time at = now();
      give_up_late(at);
      if (entered.ok()) begin_due(at);
      for (std::size_t i = 0; i < connections_.size(); ++i) polled[i] = wanted(connections_[i]);
      wait = schedule_.wait(now());
    }
    changed_.notify_all();
    polled.back() = {wake_.fd(), POLLIN, 0};
    const timespec limit{wait.count() / 1'000'000'000, wait.count() % 1'000'000'000};
    ::ppoll(polled.data(), polled.size(), &limit, nullptr);
    wake_.drain();
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < connections_.size(); ++i)
      if (polled[i].revents != 0) advance(connections_[i]);
  }
}

pollfd WebClient::wanted(const Connection& connection) {
  const bool sending = !connection.unsent.empty();
  return {connection.socket.get(), static_cast<short>(POLLIN | (sending ? POLLOUT : 0)), 0};
}

void WebClient::begin_due(Time at) {
  while (const auto due = schedule_.take(at, open())) {
    waiting_.push_back(samples_.size());
    samples_.push_back({samples_.size(), *due, Time{}, false, Time{}});
  }
  while (!waiting_.empty()) {
    const auto free = std::find_if(connections_.begin(), connections_.end(),
                                   [](const Connection& c) { return !c.request; });
    if (free == connections_.end()) return;
    const std::size_t number = waiting_.front();
    waiting_.pop_front();
    samples_[number].sent = at;
    begin(*free, number);
  }
}

void WebClient::begin(Connection& connection, std::size_t number) {
  connection.request = number;
  connection.unsent = request_;
  if (!connection.socket.valid()) {
    auto socket = begin_connection(server_);
    if (!socket) return fail(connection, socket.error());
    connection.socket = std::move(*socket);
  }
  advance(connection);
}

void WebClient::give_up_late(Time at) {
  for (Connection& connection : connections_)
    if (connection.request && at - samples_[*connection.request].sent > options_.answer_patience)
      fail(connection, Status(Code::timeout, "no answer"));
  while (!waiting_.empty() && at - samples_[waiting_.front()].due > options_.answer_patience) {
    waiting_.pop_front();
    ++errors_;
    last_error_ = "no connection was free in time";
  }
}

void WebClient::advance(Connection& connection) {
  if (Status status = exchange(connection); !status.ok()) fail(connection, status);
}

// Sends what can be sent and takes what has come. A failure ends the connection.
Status WebClient::exchange(Connection& connection) {
  while (!connection.unsent.empty()) {
    const ssize_t sent = ::send(connection.socket.get(), connection.unsent.data(),
                                connection.unsent.size(), MSG_NOSIGNAL);
    if (sent < 0 && later()) return {};
    if (sent < 0) return os::errno_status("send");
    connection.unsent.erase(0, static_cast<std::size_t>(sent));
  }
  char bytes[16384];
  while (connection.socket.valid()) {
    const ssize_t got = ::recv(connection.socket.get(), bytes, sizeof bytes, 0);
    if (got < 0 && later()) return {};
    if (got < 0) return os::errno_status("receive");
    if (got == 0) return Status(Code::peer_lost, "the server closed the connection");
    connection.reader.append(std::string_view(bytes, static_cast<std::size_t>(got)));
    FT_ASSIGN(const auto answer, connection.reader.next());
    if (answer) FT_TRY(take(connection, *answer));
  }
  return {};
}

Status WebClient::take(Connection& connection, const HttpAnswer& answer) {
  if (!connection.request) return Status(Code::corrupt, "an answer that nobody asked for");
  if (answer.status != 200) return Status(Code::refused, fmt::format("status {}", answer.status));
  if (page_.empty()) page_ = answer.body;
  if (answer.body != page_) return Status(Code::corrupt, "another page than before");
  RequestSample& sample = samples_[*connection.request];
  sample.answered = now();
  sample.acknowledged = true;
  connection.request.reset();
  if (options_.connections == AfterAnswer::close) connection = Connection{};
  return {};
}

void WebClient::fail(Connection& connection, const Status& why) {
  if (connection.request) {
    ++errors_;
    last_error_ = why.message();
  }
  connection = Connection{};
}

std::size_t WebClient::open() const {
  return waiting_.size() +
         static_cast<std::size_t>(std::count_if(
             connections_.begin(), connections_.end(),
             [](const Connection& connection) { return connection.request.has_value(); }));
}

std::vector<RequestSample> WebClient::samples() const {
  const std::lock_guard lock(mutex_);
  return samples_;
}

std::uint64_t WebClient::errors() const {
  const std::lock_guard lock(mutex_);
  return errors_;
}

std::string WebClient::last_error() const {
  const std::lock_guard lock(mutex_);
  return last_error_;
}

}  // namespace libft::demo
