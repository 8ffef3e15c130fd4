// SPDX-License-Identifier: LGPL-2.1-or-later
// What xl-ft reads, and how it shows it.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "table.h"
#include "xl_config.h"

using namespace libft;
using ftctl::Json;
using ftctl::Settings;

namespace {

struct File {
  explicit File(const std::string& text) {
    char name[] = "/tmp/xl-ft-test-XXXXXX";
    path = std::string(::mkdtemp(name)) + "/web.cfg";
    std::ofstream(path) << text;
  }
  ~File() { std::filesystem::remove_all(std::filesystem::path(path).parent_path()); }
  std::string path;
};

Status apply(Settings& settings, const std::string& text) {
  const File file(text);
  return xl::apply_file(settings, file.path);
}

}  // namespace

TEST_CASE("a file that is not there says nothing") {
  Settings settings;
  CHECK(xl::apply_file(settings, "/nonexistent/web.cfg").ok());
}

TEST_CASE("JSON") {
  Settings settings;
  REQUIRE(apply(settings, "// ours\n {\"arbiter\": \"file:/x\", \"interval\": 10}").code() !=
          Code::ok);  // Starts like xl.cfg: a comment there is a #.
  REQUIRE(apply(settings, " {\"arbiter\": \"file:/x\", /* fast */ \"interval\": 10}").ok());
  CHECK(settings.arbiter == "file:/x");
  CHECK(settings.interval == 10);
}

#ifdef FT_XLCFG
TEST_CASE("xl.cfg's own syntax") {
  Settings settings;
  const Status read = apply(settings,
                            "# protection of web\n"
                            "arbiter = 'etcd:http://a:2379'\n"
                            "listen  = \"tcp:10.0.0.1:7070\"; interval=10\n"
                            "peer = [ '10.0.0.2:7070',\n"
                            "         '10.1.0.2:7070' ]\n"
                            "fixed = 1\n");
  REQUIRE_MESSAGE(read.ok(), read.message());
  CHECK(settings.arbiter == "etcd:http://a:2379");
  CHECK(settings.interval == 10);
  CHECK(settings.peer == std::vector<std::string>{"10.0.0.2:7070", "10.1.0.2:7070"});
  CHECK(settings.fixed);
}

TEST_CASE("what is wrong is said with its place and a remedy") {
  Settings settings;
  CHECK(apply(settings, "arbitr = 'file:/x'\n").message().find("did you mean `arbiter`") !=
        std::string::npos);
  const Status syntax = apply(settings, "arbiter = 'file:/x\n");
  CHECK(syntax.code() == Code::invalid);
  CHECK(syntax.message().find("web.cfg") != std::string::npos);
  CHECK(apply(settings, "interval = 'soon'\n").code() == Code::invalid);
  CHECK(apply(settings, "fixed = 2\n").message().find("0 or 1") != std::string::npos);
}

TEST_CASE("a domain is named by its own configuration") {
  const File file("type = \"pvh\"\nname = \"web\"\nmemory = 128\n");
  const auto name = xl::name_in_xl_cfg(file.path);
  REQUIRE(name);
  CHECK(*name == "web");
  CHECK_FALSE(xl::name_in_xl_cfg(File("memory = 128\n").path));
}
#endif

TEST_CASE("a list like xl's") {
  const Json primary{{"guest", "web"},
                     {"domain", "7/01234567-89ab"},
                     {"role", "primary"},
                     {"peer", "host-b/0123"},
                     {"state", "protecting"},
                     {"protected", true},
                     {"epoch_captured", 41},
                     {"interval_ms", {{"p50", 20.0}}},
                     {"output_held_ms", {{"p50", 1.5}}}};
  const std::string table = xl::list_table({primary, Json{{"guest", "db"}, {"role", "none"}}});
  CHECK(
      table ==
      "Name                                        ID ROLE     PEER             STATE             "
      "EPOCH  LAG(ms)\n"
      "web                                          7 primary  host-b           protecting        "
      "   41     21.5\n"
      "db                                           - none     -                                  "
      "    -        -\n");
}
