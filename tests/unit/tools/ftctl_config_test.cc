// SPDX-License-Identifier: LGPL-2.1-or-later
// Configuration, options and error texts of ftctl.
#include <doctest/doctest.h>

#include "ftctl/cli.h"
#include "ftctl/config.h"
#include "ftctl/report.h"

using namespace libft;
using namespace libft::ftctl;

namespace {

std::string error_of(const std::string& text) {
  const auto config = parse_config(text, "f.json");
  return config ? std::string() : config.error().message();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a guest's section overrides what stands at the top") {
  const auto config = parse_config(R"({
    // comments are allowed
    "arbiter": "file:/srv/ft", "interval": 40, "tap": "tap9",
    "guests": {"web": {"guest": "qemu:web.json", "interval": 10, "tap": ["tap0", "tap1"]},
               "db": {}}})",
                                   "f.json");
  REQUIRE(config);
  CHECK(config->guests.at("web").interval == 10);
  CHECK(config->guests.at("web").arbiter == "file:/srv/ft");
  CHECK(config->guests.at("web").tap == std::vector<std::string>{"tap0", "tap1"});
  CHECK(config->guests.at("web").name == "web");
  CHECK(config->guests.at("db").interval == 40);
  CHECK(config->guests.at("db").tap == std::vector<std::string>{"tap9"});
}

TEST_CASE("an unknown key is named, with the nearest known one") {
  const std::string error = error_of(R"({"guests": {"web": {"heartbeat_intervall": 50}}})");
  CHECK(contains(error, "f.json: guests.web.heartbeat_intervall: unknown key"));
  CHECK(contains(error, "`heartbeat_interval`"));
  CHECK(contains(error_of(R"({"gests": {}})"), "`guests`"));
}

TEST_CASE("options are spelt with underscores in the configuration, and only so") {
  CHECK(contains(error_of(R"({"key-file": "k"})"), "`key_file`"));
}

TEST_CASE("what belongs to the process is no key of a guest") {
  CHECK(contains(error_of(R"({"guests": {"web": {"state_dir": "/x"}}})"), "unknown key"));
  CHECK(error_of(R"({"state_dir": "/x"})").empty());
}

TEST_CASE("a wrong type names the file, the key, what was expected and what was found") {
  CHECK(error_of(R"({"interval": "25"})") ==
        "f.json: interval: expected a whole number from 1 to 60000, found a string");
  CHECK(error_of(R"({"fixed": 1})") ==
        "f.json: fixed: expected true or false, found a whole number");
  CHECK(contains(error_of(R"({"tap": [1]})"), "expected a list of strings"));
  CHECK(contains(error_of(R"({"arbiter": null})"), "found null"));
  CHECK(contains(error_of(R"({"guests": []})"), "expected an object"));
}

TEST_CASE("a number out of range is refused, however large") {
  CHECK(contains(error_of(R"({"inflight": 0})"), "from 1 to 16"));
  CHECK(contains(error_of(R"({"inflight": 4294967298})"), "from 1 to 16"));
  CHECK(contains(error_of(R"({"inflight": 18446744073709551615})"), "from 1 to 16"));
}

TEST_CASE("what is no JSON is told by line and column") {
  CHECK(contains(error_of("{\n  \"interval\": ,\n}"), "f.json: not JSON: line 2, column 15"));
}

TEST_CASE("a guest's name is checked") {
  CHECK(contains(error_of(R"({"guests": {"a/b": {}}})"), "guests.a/b"));
}

TEST_CASE("a configuration that was asked for must be there") {
  CHECK(!load_config("/nonexistent/ftctl.json", true));
  CHECK(load_config("/nonexistent/ftctl.json", false));
}

TEST_CASE("input is delivered again unless somebody says no") {
  const auto config =
      parse_config(R"({"guests": {"web": {"no_redeliver_input": true}, "db": {}}})", "f.json");
  REQUIRE(config);
  CHECK(config->guests.at("web").no_redeliver_input);
  CHECK_FALSE(config->guests.at("db").no_redeliver_input);
  Arguments arguments;
  arguments.given["no-redeliver-input"];
  const auto settings = settings_for(arguments, *config, "db");
  REQUIRE(settings);
  CHECK(settings->no_redeliver_input);
}

TEST_CASE("the command line wins over the configuration") {
  const auto config = parse_config(R"({"guests": {"web": {"interval": 10}}})", "f.json");
  REQUIRE(config);
  Arguments arguments;
  arguments.given["interval"] = {"99"};
  arguments.given["tap"] = {"a,b", "c"};
  const auto settings = settings_for(arguments, *config, "web");
  REQUIRE(settings);
  CHECK(settings->interval == 99);
  CHECK(settings->tap == std::vector<std::string>{"a", "b", "c"});
  arguments.given["interval"] = {"12x"};
  const auto wrong = settings_for(arguments, *config, "web");
  REQUIRE(!wrong);
  CHECK(contains(wrong.error().message(), "--interval"));
}

TEST_CASE("a guest that is in no section is missed by name") {
  const auto config = parse_config(R"({"guests": {"web": {}}})", "f.json");
  const auto settings = settings_for(Arguments{}, *config, "wep");
  REQUIRE(!settings);
  CHECK(settings.error().code() == Code::not_found);
  CHECK(contains(settings.error().message(), "`web`"));
}

TEST_CASE("cause and remedy stay together, and the code decides how to exit") {
  const Complaint what = complaint(with_remedy(Code::refused, "no", "do this").within("x"));
  CHECK(what.cause == "x: no");
  CHECK(what.remedy == "do this");
  CHECK(exit_code(Code::fenced) == kFenced);
  CHECK(exit_code(Code::refused) == kRefused);
  CHECK(exit_code(Code::not_found) == kNoGuest);
  CHECK(exit_code(Code::invalid) == kUsage);
  CHECK(exit_code(Code::io) == kFailed);
  CHECK(code_from_string(to_string(Code::fenced)) == Code::fenced);
}
