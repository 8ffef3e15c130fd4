// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stream.h"

#include <sys/socket.h>

#include "control.h"

namespace libft::ftd {

using Json = nlohmann::json;

Result<Stream> Stream::open(const std::string& path) {
  FT_ASSIGN(ftctl::Descriptor fd, ftctl::connect_control(path));
  return Stream(std::move(fd));
}

Status Stream::ask(const Json& request) {
  const std::string line = request.dump() + "\n";
  const ssize_t sent = ::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent == static_cast<ssize_t>(line.size())) return {};
  return Status(Code::peer_lost, "ftctl takes no request");  // A line fits any socket's buffer.
}

Status Stream::read(std::vector<Json>& answers) {
  char bytes[16384];
  Status end;  // What came before it still counts.
  while (end.ok()) {
    const ssize_t got = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (got <= 0) {
      end = Status(Code::peer_lost, "ftctl closed the connection");
      break;
    }
    received_.append(bytes, static_cast<std::size_t>(got));
    if (received_.size() > ftctl::kAnswerBytesMax) return Status(Code::corrupt, "an endless line");
  }
  std::size_t from = 0;
  for (std::size_t to; (to = received_.find('\n', from)) != std::string::npos; from = to + 1) {
    Json answer = Json::parse(received_.substr(from, to - from), nullptr, false);
    if (!answer.is_object()) return Status(Code::corrupt, "ftctl's answer is no JSON object");
    answers.push_back(std::move(answer));
  }
  received_.erase(0, from);
  return end;
}

}  // namespace libft::ftd
