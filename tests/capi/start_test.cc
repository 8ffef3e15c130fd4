// SPDX-License-Identifier: LGPL-2.1-or-later
// What is asked of the arbiter before anything begins: may this host start the guest, and who gives
// up which life of it. Guests of libft's own, over an arbiter's folder; and an arbiter in C.
#include <doctest/doctest.h>

#include "by_name.h"
#include "toy.h"

namespace {

struct Answer {
  std::int32_t status = 1;
  std::string text, cause;
};

ft_completion into(Answer& answer) {
  ft_completion done{};
  done.struct_size = sizeof done;
  done.user = &answer;
  done.done = [](void* user, std::int32_t status, const char* text, const ft_error* error) {
    *static_cast<Answer*>(user) = {status, text, error->cause};
  };
  return done;
}

class Host {
 public:
  Host(const std::string& name, const std::string& arbiter, const Pairs& more = {}) {
    Pairs all{{"name", "web"},
              {"host", name},
              {"arbiter", arbiter},
              {"heartbeat", "none"},
              {"guest", "memory:mib=4,pages=5"}};
    all.insert(all.end(), more.begin(), more.end());
    session = session_by_name(all);
  }
  ~Host() { ft_session_free(session); }
  Host(const Host&) = delete;

  Answer may_start() { return ended(ft_session_may_start); }
  Answer protect() { return ended(ft_session_protect); }

  ft_session* session = nullptr;

 private:
  template <class Wish>
  Answer ended(Wish wish) {
    Answer answer;
    const ft_completion done = into(answer);
    REQUIRE(wish(session, &done, nullptr) == FT_OK);
    REQUIRE(ft_session_run(session, FT_UNTIL_WISHES, 20000, nullptr) == FT_OK);
    return answer;
  }
};

// Both hosts, until the backup could take over.
void synchronise(Host& primary, Host& backup) {
  REQUIRE(ft_session_stand_by(backup.session, nullptr, nullptr) == FT_OK);
  for (int i = 0; i < 2000; ++i) {
    ft_session_run(primary.session, FT_UNTIL_PROTECTED, 10, nullptr);
    if (ft_session_run(backup.session, FT_UNTIL_IN_SYNC, 10, nullptr) == FT_OK &&
        ft_session_run(primary.session, FT_UNTIL_PROTECTED, 10, nullptr) == FT_OK)
      return;
  }
  FAIL("never protected");
}

}  // namespace

TEST_CASE("the arbiter's record says which host may start a guest") {
  const Folder folder;
  const std::string arbiter = "file:" + folder.path;
  CHECK(Host("a", arbiter).may_start().status == FT_E_NOT_FOUND);
  Host a("a", arbiter, {{"listen", "unix:" + folder.path + "/a"}});
  REQUIRE(a.protect().status == FT_OK);
  CHECK(Host("a", arbiter).may_start().status == FT_OK);
  const Answer other = Host("b", arbiter).may_start();
  CHECK(other.status == FT_E_FENCED);
  CHECK(other.cause.find("owned by a/") != std::string::npos);
  CHECK(other.text.find("\"owner\"") != std::string::npos);

  Host b("b", arbiter, {{"peer", "unix:" + folder.path + "/a"}});
  synchronise(a, b);
  CHECK(Host("a", arbiter).may_start().status == FT_E_REFUSED);  // b may be about to take over.
  CHECK(ft_session_may_start(a.session, nullptr, nullptr) == FT_E_STATE);
}

TEST_CASE("a life of the guest that is over for good is given up on purpose, and never else") {
  const Folder folder;
  const std::string arbiter = "file:" + folder.path;
  { REQUIRE(Host("a", arbiter).protect().status == FT_OK); }
  CHECK(Host("c", arbiter).protect().status == FT_E_REFUSED);
  Host anew("c", arbiter, {{"anew", "1"}});
  CHECK(anew.may_start().status == FT_E_FENCED);  // The same session begins when it was answered.
  const Answer begun = anew.protect();
  CHECK_MESSAGE(begun.status == FT_OK, begun.cause);
  CHECK(Host("a", arbiter).may_start().status == FT_E_FENCED);
  ft_state state{};
  state.struct_size = sizeof state;
  REQUIRE(ft_session_state(anew.session, &state, nullptr) == FT_OK);
  CHECK(state.generation == 2);
}

TEST_CASE("a first life needs nobody's end") {
  const Folder folder;
  CHECK(Host("a", "file:" + folder.path, {{"anew", "1"}}).protect().status == FT_OK);
}

TEST_CASE("without an answer nothing may start, and nothing is given up") {
  const std::string nobody = "etcd:http://127.0.0.1:1";
  Host a("a", nobody, {{"arbiter_timeout_us", "300000"}, {"anew", "1"}});
  CHECK(a.may_start().status == FT_E_TIMEOUT);
  CHECK(a.protect().status == FT_E_TIMEOUT);
}

TEST_CASE("an arbiter in C is asked too, and nothing else begins meanwhile") {
  for (const auto answering :
       {toy::Answering::at_once, toy::Answering::later, toy::Answering::any_thread}) {
    toy::World world;
    world.answering = answering;
    toy::Host a(world, "a");
    const ft_arbiter_port arbiter = toy::arbiter_port(world);
    REQUIRE(ft_session_set_arbiter(a.session, &arbiter, nullptr) == FT_OK);
    REQUIRE(ft_session_may_start(a.session, a.completion(), nullptr) == FT_OK);
    if (answering != toy::Answering::any_thread) {  // It waits for us.
      CHECK(ft_session_may_start(a.session, nullptr, nullptr) == FT_E_STATE);
      CHECK(ft_session_protect(a.session, nullptr, nullptr) == FT_E_STATE);
      const ft_arbiter_port another = toy::arbiter_port(world);
      CHECK(ft_session_set_arbiter(a.session, &another, nullptr) == FT_E_STATE);
    }
    REQUIRE(toy::drive(world, {&a}, [&] { return a.done == 1; }));
    CHECK(a.last_status == FT_E_NOT_FOUND);
  }
}

TEST_CASE("a session that is freed while it asks says so") {
  toy::World world;
  world.answering = toy::Answering::later;
  Answer answer;
  const ft_completion done = into(answer);
  {
    toy::Host a(world, "a");
    const ft_arbiter_port arbiter = toy::arbiter_port(world);
    REQUIRE(ft_session_set_arbiter(a.session, &arbiter, nullptr) == FT_OK);
    REQUIRE(ft_session_may_start(a.session, &done, nullptr) == FT_OK);
  }
  CHECK(answer.status < 0);
  CHECK(world.given == world.freed);
}
