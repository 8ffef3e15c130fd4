// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/child.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "os/thread.h"

using namespace libft;
using namespace libft::os;

namespace {

constexpr Nanos kLong = std::chrono::seconds{30};

struct Pipe {
  ScopedFd read_end, write_end;
};

Pipe make_pipe() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return Pipe{ScopedFd(ends[0]), ScopedFd(ends[1])};
}

std::string read_to_end(int fd) {
  std::string text;
  char piece[256];
  for (ssize_t got; (got = ::read(fd, piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<std::size_t>(got));
  return text;
}

std::string output_of(ChildOptions options) {
  Pipe pipe = make_pipe();
  options.stdout_fd = pipe.write_end.get();
  auto child = Child::start(options);
  REQUIRE(child.has_value());
  pipe.write_end.reset();
  std::string text = read_to_end(pipe.read_end.get());
  auto end = child->wait(kLong);
  REQUIRE(end.has_value());
  CHECK(end->clean());
  return text;
}

}  // namespace

TEST_CASE("a child's output and its exit code are seen") {
  CHECK(output_of({.argv = {"sh", "-c", "echo hello"}}) == "hello\n");
  auto child = Child::start({.argv = {"sh", "-c", "exit 7"}});
  REQUIRE(child.has_value());
  auto end = child->wait(kLong);
  REQUIRE(end.has_value());
  CHECK(end->code == 7);
  CHECK_FALSE(end->by_signal);
  CHECK(to_string(*end) == "exit code 7");
  CHECK(child->wait(Nanos{0})->code == 7);  // Repeatable.
}

TEST_CASE("a program that does not exist is an error here, not in the child") {
  auto child = Child::start({.argv = {"no-such-program-anywhere"}});
  REQUIRE_FALSE(child.has_value());
  CHECK(child.error().code() == Code::not_found);
  CHECK(child.error().message().find("no-such-program-anywhere") != std::string::npos);
}

TEST_CASE("waiting ends at the deadline; a signal ends the child") {
  auto child = Child::start({.argv = {"sleep", "1000"}});
  REQUIRE(child.has_value());
  CHECK(child->wait(Millis{1}).error().code() == Code::timeout);
  CHECK(child->signal(SIGTERM).ok());
  auto end = child->wait(kLong);
  REQUIRE(end.has_value());
  CHECK(end->by_signal);
  CHECK(end->code == SIGTERM);
  CHECK(child->signal(SIGTERM).ok());
}

TEST_CASE("a forgotten child is killed and reaped, a detached one lives") {
  pid_t killed = -1;
  {
    auto child = Child::start({.argv = {"sleep", "1000"}});
    REQUIRE(child.has_value());
    killed = child->pid();
  }
  CHECK(::kill(killed, 0) != 0);
  Pipe pipe = make_pipe();  // Its end tells that the detached child ended; it waits for stdin.
  Pipe hold = make_pipe();
  {
    auto child = Child::start({.argv = {"sh", "-c", "read line; echo $line"},
                               .stdin_fd = hold.read_end.get(),
                               .stdout_fd = pipe.write_end.get()});
    REQUIRE(child.has_value());
    child->detach();
    CHECK(child->wait(Nanos{0}).error().code() == Code::invalid);
  }
  pipe.write_end.reset();
  REQUIRE(::write(hold.write_end.get(), "alive\n", 6) == 6);
  CHECK(read_to_end(pipe.read_end.get()) == "alive\n");
}

TEST_CASE("a child of this process is taken up by its number, and nobody else is") {
  ChildOptions options;
  options.argv = {"sleep", "60"};
  auto started = Child::start(options);
  REQUIRE(started);
  const pid_t pid = started->pid();
  started->detach();
  auto child = Child::take_up(pid);
  REQUIRE(child);
  CHECK(child->pid() == pid);
  REQUIRE(child->signal(SIGTERM));
  const auto end = child->wait(std::chrono::seconds(10));
  REQUIRE(end);
  CHECK(end->by_signal);
  CHECK_FALSE(Child::take_up(pid));  // Reaped.
  CHECK_FALSE(Child::take_up(::getppid()));
}

TEST_CASE("only the given descriptors are inherited, under the given numbers, also crosswise") {
  Pipe a = make_pipe(), b = make_pipe();
  ScopedFd leaked(::open("/dev/null", O_RDONLY));  // Without close-on-exec, as a careless host.
  REQUIRE(leaked.valid());
  ScopedFd low(::fcntl(a.write_end.get(), F_DUPFD_CLOEXEC, 9));
  const std::string crossed = std::to_string(low.get());
  ChildOptions options{.argv = {"sh", "-c",
                                "echo first >/proc/self/fd/40; echo second >/proc/self/fd/" +
                                    crossed + "; ls /proc/self/fd"}};
  options.fds = {{b.write_end.get(), low.get()}, {low.get(), 40}};
  const std::string listing = output_of(options);
  a.write_end.reset();
  b.write_end.reset();
  low.reset();
  CHECK(read_to_end(a.read_end.get()) == "first\n");
  CHECK(read_to_end(b.read_end.get()) == "second\n");
  const auto has = [&](int fd) {
    return ("\n" + listing).find("\n" + std::to_string(fd) + "\n") != std::string::npos;
  };
  CHECK(has(std::stoi(crossed)));
  CHECK(has(40));
  CHECK_FALSE(has(leaked.get()));
}

TEST_CASE("the environment is replaced by name") {
  ::setenv("LIBFT_TEST_KEPT", "kept", 1);
  ::setenv("LIBFT_TEST_CHANGED", "old", 1);
  CHECK(output_of({.argv = {"sh", "-c", "echo $LIBFT_TEST_KEPT $LIBFT_TEST_CHANGED"},
                   .environment = {"LIBFT_TEST_CHANGED=new"}}) == "kept new\n");
}

TEST_CASE("a child started from a thread with all signals blocked can be ended by SIGTERM") {
  std::optional<Child> child;
  start_thread("spawner", [&] {
    auto started = Child::start({.argv = {"sleep", "1000"}, .own_session = true});
    if (started) child.emplace(std::move(*started));
  }).join();
  REQUIRE(child.has_value());
  CHECK(child->signal(SIGTERM).ok());
  CHECK(child->wait(kLong)->code == SIGTERM);
}
