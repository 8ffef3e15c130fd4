// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest that answers: for each token of eight bytes that a client sends it says a text made from
// it, and to nobody in particular a datagram. Sometimes a host's chances get into what it says, as
// times and addresses do: then two that run it differ. A value; a copy is a checkpoint.
#pragma once

#include "sim/compare/model_tcp.h"

namespace libft::sim {

constexpr std::size_t kTokenBytes = 8;

// A frame, and what it says in words that the oracle can check without reading it.
struct Said {
  FrameBytes frame;
  std::optional<TcpFields> segment;  // Else a datagram:
  std::size_t datagram = 0;          // Its number.
  std::uint32_t peer_first = 0;      // Of the segment's connection.
  std::size_t at = 0;                // Of its payload, in the stream.
};

std::string to_string(const Said& said);

class ModelGuest {
 public:
  ModelGuest(std::uint32_t clock, unsigned own_permille)
      : clock_(clock), own_permille_(own_permille) {}

  // The time its clock lost while it stood still.
  void stood(std::uint32_t ms) { clock_ -= ms; }
  void on(const TcpFields& segment, Random& chances);
  void run(Time now, Random& chances, std::vector<Said>& said);

  // Whether it said the same, once at least.
  bool has_said(const Said& other) const;
  const ModelTcp* connection(std::uint16_t port, std::uint32_t peer_first) const;
  std::string nonsense() const;

 private:
  std::string answer(const std::string& token, Random& chances);
  void serve(ModelTcp& connection, std::size_t& served, Random& chances);

  struct Served {
    ModelTcp tcp;
    std::size_t tokens = 0;
  };
  using Name = std::pair<std::uint16_t, std::uint32_t>;  // The client's port and first number.
  std::uint32_t clock_;
  unsigned own_permille_;
  std::map<Name, Served> connections_;
  std::map<std::uint16_t, std::uint32_t> newest_;  // The others are history, for has_said().
  std::vector<FrameBytes> datagrams_;
  std::size_t datagrams_said_ = 0;
};

}  // namespace libft::sim
