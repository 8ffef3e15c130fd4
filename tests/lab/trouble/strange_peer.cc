// SPDX-License-Identifier: LGPL-2.1-or-later
// Plays a peer that no release of libft is, over real sockets, and prints what the other side says.
//   strange_peer backup PRIMARY GUEST version|memory   a backup of another protocol, or too small
//   strange_peer between LISTEN PRIMARY GUEST          passes on what a backup and its primary say,
//                                                      but turns the primary's QEMU into another
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <thread>

#include "transport/transports.h"
#include "wire/frame.h"

using namespace libft;

namespace {

constexpr char kOtherQemu[] = "5.0.0";

Status send(Transport& to, const std::vector<std::byte>& frame) {
  const std::span<const std::byte> piece(frame);
  return to.send({&piece, 1});
}

Result<std::optional<wire::Frame>> receive(Transport& from, wire::FrameReader& reader) {
  for (;;) {
    FT_ASSIGN(auto frame, reader.next());
    if (frame) return frame;
    FT_ASSIGN(const auto bytes, from.receive(reader.space()));
    reader.stored(bytes);
  }
}

Status be_backup(const std::string& address, const GuestId& guest, const std::string& what) {
  wire::Hello hello;
  hello.guest = guest.name();
  hello.backup = {"strange", {1, 2, 3}};
  hello.memory_bytes_free = 1ull << 40;
  if (what == "version") hello.version_min = hello.version_max = wire::kVersion + 41;
  if (what == "memory") hello.memory_bytes_free = 1u << 20;
  FT_ASSIGN(const auto primary, transport::open(address, {}));
  FT_TRY(send(*primary, wire::encode(hello, guest, Generation{})));
  wire::FrameReader reader(guest);
  FT_ASSIGN(const auto frame, receive(*primary, reader));
  FT_ASSIGN(const auto message, wire::decode(*frame));
  if (const auto* refuse = std::get_if<wire::Refuse>(&message)) {
    fmt::print("refused: {}\n", refuse->text);
    return {};
  }
  return Status(Code::internal, "the primary welcomes it");
}

// Welcome with another QEMU in the description of the primary's guest.
std::vector<std::byte> with_other_qemu(wire::Welcome welcome, const GuestId& guest,
                                       Generation generation) {
  std::string& text = welcome.shape.compatibility;
  const std::string key = "\"qemu\":\"";
  const std::size_t begin = text.find(key) + key.size();
  text.replace(begin, text.find('"', begin) - begin, kOtherQemu);
  return wire::encode(welcome, guest, generation);
}

// One connection: Hello goes through as it is, Welcome altered, then the backup's answer is shown.
Status pass_on(Transport& backup, const std::string& address, const GuestId& guest) {
  wire::FrameReader from_backup(guest), from_primary(guest);
  FT_ASSIGN(const auto hello, receive(backup, from_backup));
  FT_ASSIGN(const auto hello_message, wire::decode(*hello));
  FT_ASSIGN(const auto primary, transport::open(address, {}));
  FT_TRY(send(*primary, wire::encode(hello_message, guest, hello->header.id.generation)));
  FT_ASSIGN(const auto answer, receive(*primary, from_primary));
  FT_ASSIGN(const auto message, wire::decode(*answer));
  const auto* welcome = std::get_if<wire::Welcome>(&message);
  if (welcome == nullptr) return Status(Code::internal, "the primary did not welcome the backup");
  FT_TRY(send(backup, with_other_qemu(*welcome, guest, answer->header.id.generation)));
  FT_ASSIGN(const auto no, receive(backup, from_backup));
  FT_ASSIGN(const auto no_message, wire::decode(*no));
  FT_TRY(send(*primary, wire::encode(no_message, guest, no->header.id.generation)));
  const auto* refuse = std::get_if<wire::Refuse>(&no_message);
  if (refuse == nullptr) return Status(Code::internal, "the backup did not refuse");
  fmt::print("refused: {}\n", refuse->text);
  return {};
}

Status be_between(const std::string& listen, const std::string& address, const GuestId& guest) {
  FT_ASSIGN(const auto listener, transport::listen(listen, {}));
  fmt::print("listening\n");
  std::fflush(stdout);
  FT_ASSIGN(const auto backup, listener->accept());
  return pass_on(*backup, address, guest);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const bool between = std::string(argv[1]) == "between";
  const auto guest = GuestId::from_name(argv[between ? 4 : 3]);
  if (!guest) return 2;
  const Status status =
      between ? be_between(argv[2], argv[3], *guest) : be_backup(argv[2], *guest, argv[4]);
  if (!status) fmt::print("{}\n", status.to_string());
  return status.ok() ? 0 : 1;
}
