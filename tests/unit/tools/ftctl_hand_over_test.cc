// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "hand_over.h"

using namespace libft;
using namespace libft::ftctl;

namespace {

bool closes_on_exec(int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

}  // namespace

TEST_CASE("what is handed over is read again, once, and its descriptors go no further") {
  const Descriptor gate(::open("/dev/zero", O_RDONLY));
  REQUIRE_FALSE(closes_on_exec(gate.get()));
  HandOver left;
  left.primary = true;
  left.session = {{std::byte{0}, std::byte{0x7f}, std::byte{0xff}}, true};
  left.process = {{42, 4711}, "/run/web.qmp", {"qemu", "-name", "web"}, {}, {gate.get()}};
  left.first_event = 9;
  left.events = Json::array({{{"event", "protected"}}});
  auto file = write_hand_over(left);
  REQUIRE_MESSAGE(file, file.error().message());
  CHECK_FALSE(closes_on_exec(file->get()));
  const int fd = ::dup(file->get());
  const auto read = read_hand_over(fd);
  REQUIRE_MESSAGE(read, read.error().message());
  CHECK(::fcntl(fd, F_GETFD) == -1);
  CHECK(closes_on_exec(gate.get()));
  CHECK(read->primary);
  CHECK(read->session.bytes == left.session.bytes);
  CHECK(read->session.set_running);
  CHECK(read->process.process.pid == 42);
  CHECK(read->process.process.start_ticks == 4711);
  CHECK(read->process.qmp == left.process.qmp);
  CHECK(read->process.argv == left.process.argv);
  CHECK(read->process.descriptors == left.process.descriptors);
  CHECK(read->first_event == 9);
  CHECK(read->events == left.events);
}

TEST_CASE("what is no hand-over is named") {
  CHECK_FALSE(read_hand_over(::open("/dev/null", O_RDONLY)));
  CHECK_FALSE(read_hand_over(-1));
}

TEST_CASE("a program that cannot be executed leaves this process as it was") {
  const Descriptor gate(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  const Status failed = become({"/nonexistent/ftctl", "version"}, {gate.get()});
  CHECK(failed.message().find("/nonexistent/ftctl") != std::string::npos);
  CHECK(closes_on_exec(gate.get()));
  CHECK_FALSE(takes_hand_over("/nonexistent/ftctl"));
  CHECK(takes_hand_over("/bin/false").code() == Code::unsupported);
}
