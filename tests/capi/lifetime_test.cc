// SPDX-License-Identifier: LGPL-2.1-or-later
// The rules at the top of libft.h that no single call shows: `free` exactly once wherever something
// fails, callbacks on the host's thread only, reentrancy, cancellation, and an end that always
// comes.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "toy.h"

using namespace toy;

namespace {

ft_error fresh_error() {
  ft_error error{};
  error.struct_size = sizeof error;
  return error;
}

constexpr Answering kAnswerings[] = {Answering::at_once, Answering::later, Answering::any_thread,
                                     Answering::any_thread_later};

}  // namespace

TEST_CASE("a struct that is refused is freed before the function returns, and once") {
  World world;
  {
    Host host(world, "a");
    auto error = fresh_error();
    const auto refused = [&](std::int32_t status) {
      CHECK(status < 0);
      CHECK(world.freed == world.given);
    };
    ft_memory_region region;
    auto guest = std::make_shared<Guest>(world);
    auto info = guest_info(*guest, region);

    auto no_pause = guest_port(world, guest);
    no_pause.pause = nullptr;
    no_pause.resume = nullptr;
    refused(ft_session_set_guest(host.session, &info, &no_pause, &error));
    CHECK(std::string(error.cause).find("pause, resume") != std::string::npos);  // All at once.

    const auto good = guest_port(world, guest);
    refused(ft_session_set_guest(host.session, nullptr, &good, &error));
    const auto to_nobody = guest_port(world, guest);
    refused(ft_session_set_guest(nullptr, &info, &to_nobody, &error));
    region.bytes = nullptr;
    const auto no_memory = guest_port(world, guest);
    refused(ft_session_set_guest(host.session, &info, &no_memory, &error));

    auto unknown_flag = gate_port(world, std::make_shared<Gate>(world));
    unknown_flag.flags = 0x80;
    refused(ft_session_set_gate(host.session, &unknown_flag, &error));

    // Of a newer libft: a field that this one does not know is set.
    struct {
      ft_fence_port known;
      void* unknown;
    } newer{fence_port(world), &newer};
    newer.known.struct_size = sizeof newer;
    refused(ft_session_set_fence(host.session, &newer.known, &error));
    CHECK(error.code == FT_E_UNSUPPORTED);
    newer = {fence_port(world), nullptr};  // Not set: it is the same as ours.
    newer.known.struct_size = sizeof newer;
    CHECK(ft_session_set_fence(host.session, &newer.known, &error) == FT_OK);

    // Too small to have a `free`: nothing of it is called.
    ft_fence_port tiny{};
    tiny.struct_size = 8;
    tiny.free = [](void*) { FAIL("a field beyond struct_size was read"); };
    CHECK(ft_session_set_fence(host.session, &tiny, &error) == FT_E_INVALID);

    CHECK(ft_session_protect(host.session, host.completion(), &error) == FT_E_INVALID);
    CHECK(std::string(error.cause).find("arbiter") != std::string::npos);
    CHECK(std::string(error.cause).find("gate") != std::string::npos);
  }
  CHECK(world.freed == world.given);
  CHECK(world.freed_twice == 0);
}

TEST_CASE("a part that is set again frees the one before") {
  World world;
  {
    Host host(world, "a");
    for (int i = 0; i < 3; ++i) {
      host.set_common();
      host.set_guest(true);
    }
    ft_session_process(host.session, nullptr);
    CHECK(world.given - world.freed == 7);  // Guest, gate, log, events, arbiter, detector, fence.
  }
  CHECK(world.freed == world.given);
}

TEST_CASE("whatever call fails, each struct is freed once and the session ends") {
  for (const Answering answering : kAnswerings) {
    for (int n = 0; n < 60; ++n) {
      CAPTURE(static_cast<int>(answering));
      CAPTURE(n);
      World world;
      world.answering = answering;
      world.fail_at = n;
      {
        Host a(world, "a"), b(world, "b");
        a.protect();
        drive(world, {&a}, [&] { return a.done == 1; });
        b.stand_by(a);
        drive(
            world, {&a, &b}, [&] { return world.calls > n + 5; }, std::chrono::milliseconds(300));
        if (n % 2 == 0) a.die();
        drive(
            world, {&a, &b}, [] { return false; }, std::chrono::milliseconds(5));
      }
      REQUIRE(world.freed == world.given);
      REQUIRE(world.freed_twice == 0);
    }
  }
}

TEST_CASE("a session can be freed at any moment, whatever is pending") {
  for (const Answering answering : kAnswerings) {
    for (int n = 0; n < 60; ++n) {
      CAPTURE(n);
      World world;
      world.answering = answering;
      {
        Host a(world, "a"), b(world, "b");
        a.protect();
        b.stand_by(a);
        // Up to the nth call, whichever it is; from then on nothing is answered any more.
        const auto end = Clock::now() + std::chrono::milliseconds(300);
        while (world.calls < n && Clock::now() < end) {
          a.process();
          b.process();
          a.step();
        }
      }
      REQUIRE(world.freed == world.given);
    }
  }
}

TEST_CASE("an operation is ended once, and may outlive its session") {
  World world;
  ft_op* kept = nullptr;
  static ft_op** place;
  place = &kept;
  static int cancels;
  cancels = 0;
  {
    Host host(world, "a");
    host.set_common();
    host.set_guest(true);
    auto arbiter = arbiter_port(world);
    arbiter.create = [](void*, ft_op* op, const char*, const char*) -> std::int32_t {
      *place = op;
      return FT_PENDING;
    };
    arbiter.cancel = [](void*, ft_op* op) {
      ++cancels;
      CHECK(ft_op_is_cancelled(op) == 1);
    };
    REQUIRE(ft_session_set_arbiter(host.session, &arbiter, nullptr) == FT_OK);
    REQUIRE(ft_session_protect(host.session, host.completion(), nullptr) == FT_OK);
    REQUIRE(drive(world, {&host}, [&] { return kept != nullptr; }));
    CHECK(ft_op_is_cancelled(kept) == 0);
    CHECK(ft_op_add_pages(kept, 0, 1) == FT_E_STATE);  // It asks for no pages.
    CHECK(ft_op_append(kept, "x", 1) == FT_E_STATE);
    CHECK(ft_op_done(kept, 1) == FT_E_INVALID);
    CHECK(ft_op_answer(kept, 77, "") == FT_E_INVALID);
    CHECK(ft_op_answer(kept, FT_ANSWER_LOST, nullptr) == FT_E_INVALID);
  }
  CHECK(cancels == 1);
  CHECK(world.freed == world.given);
  CHECK(ft_op_answer(kept, FT_ANSWER_WON, "") == FT_E_CANCELLED);
  CHECK(ft_op_done(kept, FT_OK) == FT_E_CANCELLED);
}

TEST_CASE("a second ft_op_done is an error") {
  World world;
  Host host(world, "a");
  host.set_common();
  host.set_guest(true);
  auto gate = gate_port(world, host.gate);
  static ft_op* kept;
  kept = nullptr;
  gate.open = [](void*, ft_op* op) -> std::int32_t {
    kept = op;
    CHECK(ft_op_done(op, FT_OK) == FT_OK);  // Before it even returned.
    return FT_PENDING;
  };
  REQUIRE(ft_session_set_gate(host.session, &gate, nullptr) == FT_OK);
  REQUIRE(ft_session_protect(host.session, host.completion(), nullptr) == FT_OK);
  REQUIRE(drive(world, {&host}, [&] { return host.done == 1; }));
  CHECK(host.last_status == FT_OK);
  REQUIRE(kept != nullptr);
  CHECK(ft_op_done(kept, FT_OK) == FT_E_STATE);
  CHECK(ft_op_is_cancelled(kept) == FT_E_STATE);
}

TEST_CASE("inside a callback the driver's functions are refused, and others are not") {
  World world;
  Host host(world, "a");
  host.set_common();
  host.set_guest(true);
  static Host* self;
  self = &host;
  static int seen;
  seen = 0;
  ft_event_sink events{};
  events.struct_size = sizeof events;
  events.event = [](void*, const ft_event*) {
    ++seen;
    auto error = fresh_error();
    CHECK(ft_session_process(self->session, &error) == FT_E_STATE);
    CHECK(ft_session_run(self->session, 0, 0, &error) == FT_E_STATE);
    CHECK(ft_session_free(self->session) == FT_E_STATE);
    CHECK(self->state().role != FT_ROLE_NONE);
    CHECK(ft_session_interrupt(self->session) == FT_OK);
  };
  REQUIRE(ft_session_set_events(host.session, &events, nullptr) == FT_OK);
  REQUIRE(ft_session_protect(host.session, host.completion(), nullptr) == FT_OK);
  CHECK(ft_session_protect(host.session, host.completion(), nullptr) == FT_E_STATE);
  REQUIRE(drive(world, {&host}, [&] { return host.done == 1; }));
  // Parts are fixed from here on.
  const auto gate = gate_port(world, host.gate);
  CHECK(ft_session_set_gate(host.session, &gate, nullptr) == FT_E_STATE);
  CHECK(ft_session_guest_event(host.session, FT_GUEST_CRASHED, "panic", nullptr) == FT_OK);
  REQUIRE(drive(world, {&host}, [&] { return seen > 0; }));
}

TEST_CASE("a second thread that drives is refused, and any may look") {
  World world;
  Host host(world, "a");
  std::jthread driver([&] {
    std::int32_t ran = FT_E_BUSY;
    while (ran == FT_E_BUSY)  // The other thread may drive just now.
      ran = ft_session_run(host.session, 0, -1, nullptr);
    CHECK(ran == FT_E_CANCELLED);
  });
  std::int32_t status = FT_OK;
  while (status != FT_E_BUSY) {
    status = ft_session_process(host.session, nullptr);
    if (status == FT_OK) std::this_thread::yield();
  }
  CHECK(ft_session_free(host.session) == FT_E_BUSY);
  CHECK(host.state().role == FT_ROLE_NONE);
  CHECK(std::string(ft_last_error()).find("thread") != std::string::npos);
  ft_session_interrupt(host.session);
}

TEST_CASE("callbacks come on the thread that processes, and libft's threads block all signals") {
  World world;
  Host a(world, "a"), b(world, "b");
  static std::thread::id driver;
  driver = std::this_thread::get_id();
  static std::atomic<int> elsewhere;
  elsewhere = 0;
  ft_log_sink log{};
  log.struct_size = sizeof log;
  log.write = [](void*, std::int32_t, const char*, const char*) {
    if (std::this_thread::get_id() != driver) ++elsewhere;
  };
  a.protect();
  b.stand_by(a);
  CHECK(ft_session_set_log(a.session, &log, nullptr) == FT_E_STATE);
  REQUIRE(drive(world, {&a, &b}, [&] { return a.state().is_protected == 1; }));
  CHECK(elsewhere == 0);
  int threads = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm"), about(task.path() / "status");
    std::string name, line;
    std::getline(comm, name);
    if (!name.starts_with("ft-")) continue;
    ++threads;
    while (std::getline(about, line))
      if (line.starts_with("SigBlk:")) {
        const auto blocked = std::stoull(line.substr(7), nullptr, 16);
        for (const int signal : {SIGTERM, SIGINT, SIGCHLD, SIGPIPE, SIGUSR1})
          CHECK_MESSAGE((blocked >> (signal - 1) & 1) == 1, name);
      }
  }
  CHECK(threads >= 4);
}

TEST_CASE("the poll descriptor is readable while there is something to do, and only then") {
  World world;
  Host host(world, "a");
  pollfd wait{ft_session_poll_fd(host.session), POLLIN, 0};
  CHECK(::poll(&wait, 1, 0) == 0);
  CHECK((::fcntl(wait.fd, F_GETFD) & FD_CLOEXEC) != 0);
  ft_session_interrupt(host.session);
  CHECK(::poll(&wait, 1, 0) == 1);
  CHECK(::poll(&wait, 1, 0) == 1);  // Level-triggered.
  CHECK(wait.revents == POLLIN);
  ft_session_process(host.session, nullptr);
  CHECK(::poll(&wait, 1, 0) == 0);
}

TEST_CASE("settings by struct and by name are the same") {
  ft_options* options = nullptr;
  REQUIRE(ft_options_new(&options, nullptr) == FT_OK);
  ft_settings settings{};
  settings.struct_size = sizeof settings;
  REQUIRE(ft_options_get_settings(options, &settings, nullptr) == FT_OK);
  CHECK(settings.interval_us == 25000);
  CHECK(settings.adaptive == 1);
  settings.interval_us = 12345;
  settings.arbiter = "file:/tmp/x";
  REQUIRE(ft_options_set_settings(options, &settings, nullptr) == FT_OK);
  char text[32];
  std::uint64_t length = 0;
  REQUIRE(ft_options_get(options, "interval_us", text, sizeof text, &length, nullptr) == FT_OK);
  CHECK(std::string(text) == "12345");
  CHECK(length == 5);
  REQUIRE(ft_options_get(options, "arbiter", text, sizeof text, nullptr, nullptr) == FT_OK);
  CHECK(std::string(text) == "file:/tmp/x");
  settings.arbiter = "file:/tmp/y";
  settings.interval_us = 1;  // Too short: nothing of it is taken.
  CHECK(ft_options_set_settings(options, &settings, nullptr) == FT_E_INVALID);
  REQUIRE(ft_options_get(options, "arbiter", text, sizeof text, nullptr, nullptr) == FT_OK);
  CHECK(std::string(text) == "file:/tmp/x");
  ft_options_free(options);
}

TEST_CASE(
    "what an operation was given stays until its ft_op_done, also when nobody waits any more") {
  static ft_op* asked = nullptr;
  static const char* given = nullptr;
  asked = nullptr;
  World world;
  Host host(world, "a");
  host.set_common();
  host.set_guest(true);
  auto arbiter = arbiter_port(world);
  arbiter.flags = 0;
  arbiter.cancel = nullptr;
  arbiter.create = [](void*, ft_op* op, const char*, const char* record) -> std::int32_t {
    asked = op;
    given = record;
    return FT_PENDING;
  };
  REQUIRE(ft_session_set_arbiter(host.session, &arbiter, nullptr) == FT_OK);
  REQUIRE(ft_session_protect(host.session, host.completion(), nullptr) == FT_OK);
  REQUIRE(drive(world, {&host}, [] { return asked != nullptr; }));
  host.die();
  CHECK(std::string(given).find("\"generation\"") != std::string::npos);
  CHECK(ft_op_done(asked, FT_OK) == FT_E_CANCELLED);
  CHECK(world.freed == world.given);
}

TEST_CASE("a QMP port without a QEMU of its own is freed with its session, once") {
  static int freed = 0;
  freed = 0;
  World world;
  {
    Host host(world, "a");
    ft_qmp_port port{};
    port.struct_size = sizeof port;
    port.free = [](void*) { ++freed; };
    auto error = fresh_error();
    CHECK(ft_session_set_qmp(host.session, &port, &error) == FT_E_INVALID);  // No execute.
    CHECK(freed == 1);
    port.execute = [](void*, ft_op*, const char*, std::int32_t) -> std::int32_t { return FT_E_IO; };
    CHECK(ft_session_set_qmp(host.session, &port, &error) == FT_OK);
    CHECK(freed == 1);
  }
  CHECK(freed == 2);
}

TEST_CASE("who takes up a guest that another replica owns by now is told that it is fenced") {
  World world;
  {
    Host owner(world, "a"), late(world, "b");
    owner.protect();
    REQUIRE(drive(world, {&owner}, [&] { return owner.done == 1; }));
    REQUIRE(owner.last_status == FT_OK);

    ft_session_free(late.session);
    ft_options* options = nullptr;
    ft_options_new(&options, nullptr);
    ft_options_set(options, "name", "toy", nullptr);
    ft_options_set(options, "host", "b", nullptr);
    ft_options_set(options, "earlier", "b/00000000000000000000000000000001", nullptr);
    REQUIRE(ft_session_new(options, &late.session, nullptr) == FT_OK);
    ft_options_free(options);
    late.set_common();
    late.set_guest(true);
    REQUIRE(ft_session_protect(late.session, late.completion(), nullptr) == FT_OK);
    REQUIRE(drive(world, {&owner, &late}, [&] { return late.done == 1; }));
    CHECK(late.last_status == FT_E_FENCED);
    CHECK(late.last_text.find("owns this guest now") != std::string::npos);
    CHECK(owner.state().role == FT_ROLE_PRIMARY);
  }
  CHECK(world.freed == world.given);
}
