// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/control_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <functional>

#include "os/file.h"
#include "os/poll.h"
#include "os/socket.h"

namespace libft::demo {
namespace {

constexpr Nanos kPatience = std::chrono::seconds{5};
constexpr std::size_t kAnswerBytesMax = 16u << 20;

class Conversation {
 public:
  static Result<Conversation> open(const std::string& socket, const Json& request) {
    FT_ASSIGN(const os::SocketAddress at, os::SocketAddress::unix_path(socket));
    FT_ASSIGN(os::ScopedFd fd, os::connect_socket(at, kPatience));
    FT_TRY(os::write_all(fd.get(), request.dump() + "\n"));
    return Conversation(std::move(fd));
  }

  Result<Json> next() {
    for (;;) {
      if (const std::size_t end = received_.find('\n'); end != std::string::npos) {
        const Json answer = Json::parse(received_.substr(0, end), nullptr, false);
        received_.erase(0, end + 1);
        if (!answer.is_object()) return failure(Code::corrupt, "ftctl's answer is not JSON");
        if (answer.value("ok", false)) return answer;
        return failure(Code::refused, answer.value("error", "ftctl refused"));
      }
      FT_TRY(receive());
    }
  }

 private:
  explicit Conversation(os::ScopedFd fd) : fd_(std::move(fd)) {}

  Status receive() {
    FT_ASSIGN(const os::Woke woke, os::wait_ready(fd_.get(), POLLIN, -1, kPatience));
    if (woke != os::Woke::ready) return Status(Code::timeout, "ftctl does not answer");
    char bytes[16384];
    const ssize_t got = ::read(fd_.get(), bytes, sizeof bytes);
    if (got < 0) return os::errno_status("read ftctl's answer");
    if (got == 0) return Status(Code::peer_lost, "ftctl ended");
    if (received_.size() > kAnswerBytesMax) return Status(Code::exhausted, "an endless answer");
    received_.append(bytes, static_cast<std::size_t>(got));
    return {};
  }

  os::ScopedFd fd_;
  std::string received_;
};

}  // namespace

Result<Json> ask_status(const std::string& socket) {
  FT_ASSIGN(Conversation conversation, Conversation::open(socket, {{"command", "status"}}));
  FT_ASSIGN(Json answer, conversation.next());
  const auto guests = answer.find("guests");
  if (guests == answer.end() || !guests->is_array() || guests->empty()) {
    return failure(Code::not_found, "that ftctl handles no guest yet");
  }
  return guests->front();
}

Status ask_to_switch_over(const std::string& socket) {
  FT_ASSIGN(Conversation conversation, Conversation::open(socket, {{"command", "switchover"}}));
  FT_ASSIGN([[maybe_unused]] const Json answer, conversation.next());
  return {};
}

Result<std::vector<Json>> ask_events(const std::string& socket) {
  FT_ASSIGN(Conversation conversation,
            Conversation::open(socket, {{"command", "events"}, {"follow", false}}));
  std::vector<Json> events;
  for (;;) {
    FT_ASSIGN(Json answer, conversation.next());
    if (answer.contains("event")) events.push_back(answer["event"]);
    if (answer.contains("end")) return events;
  }
}

}  // namespace libft::demo
