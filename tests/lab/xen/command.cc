// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/command.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "libft/clock.h"
#include "os/poll.h"
#include "os/real_clock.h"

namespace libft::lab {
namespace {

constexpr std::size_t kOutputBytesMax = 64u << 20;
constexpr std::string_view kEnd = "exit";
constexpr std::size_t kEndBytes = 8;  // "exit0124"
// The runner ends a command at its limit, and kills it two seconds later.
constexpr Nanos kAnswerTime = std::chrono::seconds(8);

class Exchange {
 public:
  Exchange(int fd, std::string request, Nanos patience)
      : fd_(fd), request_(std::move(request)), deadline_(clock_.now() + patience) {}

  // Both directions at once: a command may answer while its input is still under way.
  Result<std::string> run() {
    for (;;) {
      const short events = sent_ < request_.size() ? POLLIN | POLLOUT : POLLIN;
      FT_ASSIGN(const auto woke,
                os::wait_ready(fd_, events, -1, std::max(deadline_ - clock_.now(), Nanos{0})));
      if (woke == os::Woke::deadline) return failure(Code::timeout, "the host does not answer");
      FT_TRY(send_some());
      FT_ASSIGN(const bool ended, receive_some());
      if (ended) return std::move(answer_);
    }
  }

 private:
  Status send_some() {
    if (sent_ == request_.size()) return {};
    const auto sent =
        ::send(fd_, request_.data() + sent_, request_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) sent_ += static_cast<std::size_t>(sent);
    // A command that does not read all of its input may end before it was sent: its answer tells.
    if (sent < 0 && errno != EAGAIN) sent_ = request_.size();
    if (sent_ == request_.size()) ::shutdown(fd_, SHUT_WR);
    return {};
  }

  Result<bool> receive_some() {
    std::array<char, 65536> buffer;
    const auto got = ::recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0) return failure(Code::peer_lost, os::errno_status("recv").message());
    answer_.append(buffer.data(), static_cast<std::size_t>(got));
    if (answer_.size() > kOutputBytesMax) return failure(Code::exhausted, "too much output");
    return got == 0;
  }

  const int fd_;
  const std::string request_;
  const os::RealClock clock_;
  const Time deadline_;
  std::size_t sent_ = 0;
  std::string answer_;
};

}  // namespace

Result<CommandResult> run_command(os::ScopedFd connection, std::string_view line, Nanos limit,
                                  std::string_view input) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(limit).count();
  std::string request = fmt::format("{}", seconds);
  request += '\0';
  request += line;
  request += '\0';
  request += input;
  auto answer = Exchange(connection.get(), std::move(request), limit + kAnswerTime).run();
  if (!answer) return failure(answer.error().within(fmt::format("command \"{}\"", line)));
  CommandResult result{0, std::move(*answer)};
  const std::size_t end = result.output.size() - std::min(kEndBytes, result.output.size());
  const std::string_view tail = std::string_view(result.output).substr(end);
  if (tail.size() != kEndBytes || !tail.starts_with(kEnd)) {
    return failure(Code::peer_lost, fmt::format("command \"{}\": the host died", line));
  }
  std::from_chars(tail.data() + kEnd.size(), tail.data() + tail.size(), result.code);
  result.output.resize(end);
  return result;
}

}  // namespace libft::lab
