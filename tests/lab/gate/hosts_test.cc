// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/hosts.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

using namespace libft;
using namespace libft::lab;

namespace {

// A machine without namespaces cannot run any of this: said, and skipped.
std::unique_ptr<TwoHosts> make_lab() {
  const Status root = become_namespace_root();
  auto lab = root.ok() ? TwoHosts::create() : failure(root);
  if (!lab) {
    std::printf("skipped: %s\n", lab.error().message().c_str());
    std::fflush(stdout);
    std::_Exit(77);
  }
  return std::move(*lab);
}

bool answers(Namespace& from, const std::string& address) {
  return from.run({"busybox", "ping", "-c", "1", "-W", "1", address}).ok();
}

bool eventually_answers(Namespace& from, const std::string& address) {
  for (int i = 0; i < 10; ++i) {
    if (answers(from, address)) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("two hosts and a client see one another until a cable is cut") {
  auto lab = make_lab();
  auto& client = lab->client();
  REQUIRE(eventually_answers(client, TwoHosts::service_address(Side::a)));
  REQUIRE(eventually_answers(client, TwoHosts::service_address(Side::b)));
  REQUIRE(eventually_answers(lab->host(Side::a), TwoHosts::replication_address(Side::b)));
  REQUIRE(eventually_answers(lab->host(Side::a), TwoHosts::heartbeat_address(Side::b)));

  const auto before = std::chrono::steady_clock::now();
  REQUIRE(lab->cut(Side::a).ok());
  const auto took = std::chrono::steady_clock::now() - before;
  std::printf("cutting a host's three cables took %.2f ms\n",
              std::chrono::duration<double, std::milli>(took).count());
  CHECK_FALSE(answers(client, TwoHosts::service_address(Side::a)));
  CHECK_FALSE(answers(lab->host(Side::b), TwoHosts::replication_address(Side::a)));
  CHECK(answers(client, TwoHosts::service_address(Side::b)));

  REQUIRE(lab->heal(Side::a).ok());
  CHECK(eventually_answers(client, TwoHosts::service_address(Side::a)));
  CHECK(eventually_answers(lab->host(Side::b), TwoHosts::replication_address(Side::a)));

  REQUIRE(lab->cut(Side::b, Path::heartbeat).ok());
  CHECK_FALSE(answers(lab->host(Side::a), TwoHosts::heartbeat_address(Side::b)));
  CHECK(answers(lab->host(Side::a), TwoHosts::replication_address(Side::b)));
  REQUIRE(lab->heal(Side::b, Path::heartbeat).ok());
  CHECK(eventually_answers(lab->host(Side::a), TwoHosts::heartbeat_address(Side::b)));
}

TEST_CASE("a host's death takes the processes that its processes started") {
  auto lab = make_lab();
  auto& host = lab->host(Side::a);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  os::ScopedFd read_end(ends[0]), write_end(ends[1]);
  os::ChildOptions options;
  // A grandchild in a session of its own, as a guest that survives libft is.
  options.argv = {"sh", "-c", "setsid sleep 1000 & echo $!; sleep 1000"};
  options.stdout_fd = write_end.get();
  auto child = host.start(options);
  REQUIRE(child);
  char text[32] = {};
  REQUIRE(::read(read_end.get(), text, sizeof text - 1) > 0);
  const auto grandchild = static_cast<pid_t>(std::strtol(text, nullptr, 10));
  REQUIRE(grandchild > 1);
  REQUIRE(::kill(grandchild, 0) == 0);
  CHECK(host.signal_all(SIGSTOP) >= 2);
  CHECK(host.signal_all(SIGCONT) >= 2);
  CHECK(host.signal_all(SIGKILL) >= 2);
  const auto end = child->wait(std::chrono::seconds(10));
  REQUIRE(end);
  CHECK(end->by_signal);
  CHECK(host.signal_all(SIGKILL) == 0);
  CHECK(host.run({"true"}).ok());  // The host can be used again.
}

TEST_CASE("when the lab's own process is killed, nothing of it stays") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t lab_process = ::fork();
  REQUIRE(lab_process >= 0);
  if (lab_process == 0) {
    ::close(ends[0]);
    if (!become_namespace_root().ok()) ::_exit(77);
    auto lab = TwoHosts::create();
    if (!lab) ::_exit(77);
    os::ChildOptions options;
    options.argv = {"sleep", "1000"};
    options.own_session = true;
    auto child = (*lab)->host(Side::b).start(options);
    const pid_t pid = child ? child->pid() : 0;
    if (::write(ends[1], &pid, sizeof pid) != sizeof pid) ::_exit(1);
    ::pause();
  }
  ::close(ends[1]);
  os::ScopedFd read_end(ends[0]);
  pid_t left = 0;
  REQUIRE(::read(read_end.get(), &left, sizeof left) == sizeof left);
  REQUIRE(left > 0);
  REQUIRE(::kill(left, 0) == 0);
  ::kill(lab_process, SIGKILL);
  REQUIRE(::waitpid(lab_process, nullptr, 0) == lab_process);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const std::string its_namespace = fmt::format("/proc/{}/ns/net", left);
  // Dead or a zombie that nobody reaps here: neither has a namespace any more.
  while (::access(its_namespace.c_str(), F_OK) == 0) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    ::usleep(1000);
  }
}
