// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/compare/model_guest.h"

#include <fmt/format.h>

#include <algorithm>

namespace libft::sim {

using namespace libft::test;

std::string to_string(const Said& said) {
  if (!said.segment) return fmt::format("datagram {}", said.datagram);
  return fmt::format("to port {}: flags {:#x}, {} bytes at {}, acknowledges {}",
                     said.segment->destination_port, said.segment->flags,
                     said.segment->payload.size(), std::int32_t(said.at),
                     said.segment->acknowledged - said.peer_first - 1);
}

void ModelGuest::on(const TcpFields& segment, Random& chances) {
  const std::uint16_t port = segment.source_port;
  if (segment.flags == kSyn) {
    const Peers peers{.near = 1, .far = segment.ends.source, .near_port = 80, .far_port = port};
    if (!connections_.contains({port, segment.sequence})) {
      connections_.emplace(Name{port, segment.sequence}, Served{ModelTcp(peers, segment, chances)});
      newest_[port] = segment.sequence;
      return;
    }
  }
  const auto newest = newest_.find(port);
  if (newest != newest_.end()) connections_.at({port, newest->second}).tcp.on(segment);
}

std::string ModelGuest::answer(const std::string& token, Random& chances) {
  Random text(std::hash<std::string>{}(token), 7);
  std::string answer(1 + text.below(text.chance(100) ? 6000 : 300), ' ');
  for (char& c : answer) c = char('a' + text.below(26));
  if (chances.chance(own_permille_)) answer[chances.below(answer.size())] = '0';
  return answer;
}

void ModelGuest::serve(ModelTcp& tcp, std::size_t& served, Random& chances) {
  for (; tcp.in().size() >= (served + 1) * kTokenBytes; ++served) {
    const std::string token = tcp.in().substr(served * kTokenBytes, kTokenBytes);
    tcp.write(answer(token, chances));
    if (token[0] % 4 != 0) continue;
    if (chances.chance(own_permille_)) continue;
    const bool own = chances.chance(own_permille_);
    datagrams_.push_back(udp_frame({}, own ? std::to_string(chances.next()) : token));
  }
  if (tcp.peer_closed() && chances.chance(200)) tcp.close();
}

void ModelGuest::run(Time now, Random& chances, std::vector<Said>& said) {
  const auto clock = clock_ + std::uint32_t(now.since_start / Millis{1});
  for (const auto& [port, peer_first] : newest_) {
    Served& connection = connections_.at({port, peer_first});
    ModelTcp& tcp = connection.tcp;
    serve(tcp, connection.tokens, chances);
    tcp.say(now, clock, chances, [&, first = peer_first](TcpFields segment) {
      segment.id = std::uint16_t(chances.next());
      said.push_back({.frame = tcp_frame(segment),
                      .segment = segment,
                      .peer_first = first,
                      .at = segment.sequence - tcp.first() - 1});
    });
  }
  for (; datagrams_said_ < datagrams_.size(); ++datagrams_said_)
    said.push_back(
        {.frame = datagrams_[datagrams_said_], .segment = {}, .datagram = datagrams_said_});
}

const ModelTcp* ModelGuest::connection(std::uint16_t port, std::uint32_t peer_first) const {
  const auto found = connections_.find({port, peer_first});
  return found == connections_.end() ? nullptr : &found->second.tcp;
}

bool ModelGuest::has_said(const Said& other) const {
  if (!other.segment) {
    const auto end = datagrams_.begin() + std::ptrdiff_t(datagrams_said_);
    return std::find(datagrams_.begin(), end, other.frame) != end;
  }
  const TcpFields& segment = *other.segment;
  const ModelTcp* mine = connection(segment.destination_port, other.peer_first);
  if (mine == nullptr || !mine->greeted()) return false;
  if (segment.flags & kSyn) return true;
  const std::string text(reinterpret_cast<const char*>(segment.payload.data()),
                         segment.payload.size());
  if (!text.empty() && !mine->said(other.at, text)) return false;
  if (segment.flags & kFin && !mine->said_end(other.at + text.size())) return false;
  return std::int32_t(mine->expects() - segment.acknowledged) >= 0;
}

std::string ModelGuest::nonsense() const {
  for (const auto& [name, served] : connections_)
    if (!served.tcp.nonsense().empty()) return served.tcp.nonsense();
  return {};
}

}  // namespace libft::sim
