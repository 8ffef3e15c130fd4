// SPDX-License-Identifier: LGPL-2.1-or-later
// What a toolstack keeps of a domain, by way of a program that stands in for xen-adopt.
#include "guest/xen/toolstack.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "os/file.h"

namespace libft::xen {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/libft-toolstack-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

  std::string program(const std::string& text) const {
    const std::string file = *this / "adopt";
    REQUIRE(os::write_file_atomically(file, "#!/bin/sh\n" + text, 0755).ok());
    return file;
  }

 private:
  std::string path_;
};

TEST_CASE("what the program prints is what the toolstack keeps") {
  const Folder folder;
  XlHelper helper(
      folder.program("[ \"$1 $2\" = 'get 7' ] || exit 1\n"
                     "[ $3 = xl ] && echo 'name = \"web\"' || echo '{\"a\": 1}'\n"));
  CHECK(helper.read(7) == Userdata{{"libxl-json", "{\"a\": 1}\n"}, {"xl", "name = \"web\"\n"}});
  CHECK(helper.read(8).empty());
  XlHelper usual(folder.program("[ $3 = libxl-json ] && echo '{}'\n"));
  CHECK(usual.read(7) == Userdata{{"libxl-json", "{}\n"}});
}

TEST_CASE("what no toolstack can have said is not carried") {
  const Folder folder;
  CHECK(XlHelper(folder.program("[ $3 = libxl-json ] && echo no json\n")).read(7).empty());
  CHECK(XlHelper(folder.program("yes | head -c 200000\n")).read(7).empty());
  CHECK(XlHelper(folder / "nowhere").read(7).empty());
  CHECK(XlHelper().read(7).empty());
}

TEST_CASE("the program is given each text as a file") {
  const Folder folder;
  const std::string to = folder / "given";
  XlHelper helper(folder.program("echo $1 $2 > " + to +
                                 "\nshift 2\nfor f; do echo ${f%%=*}; cat ${f#*=}; done >> " + to));
  helper.write(7, {{"libxl-json", "{}"}, {"xl", "name"}});
  REQUIRE(helper.done(std::chrono::seconds(30)));
  CHECK(*os::read_file(to, 1000) == "put 7\nlibxl-json\n{}xl\nname");
  XlHelper failing(folder.program("exit 1"));
  failing.write(7, {{"xl", "name"}});
  CHECK_FALSE(failing.done(std::chrono::seconds(30)));
  XlHelper().write(7, {{"xl", "name"}});
}

TEST_CASE("of a domain that is gone its files go, and no others") {
  const Folder folder;
  const Uuid uuid{1, 2, 3};
  const std::string mine = "7.01020300-0000-0000-0000-000000000000";
  for (const std::string name :
       {"userdata-d." + mine + ".xl", "userdata-n." + mine + ".libxl-json",
        std::string("userdata-d.7.01020300-0000-0000-0000-000000000001.xl"),
        "userdata-d.1" + mine + ".xl"})
    REQUIRE(os::write_file_atomically(folder / name, "x").ok());
  XlHelper({}, folder.path()).forget(7, uuid);
  CHECK_FALSE(fs::exists(folder / ("userdata-d." + mine + ".xl")));
  CHECK_FALSE(fs::exists(folder / ("userdata-n." + mine + ".libxl-json")));
  CHECK(fs::exists(folder / "userdata-d.7.01020300-0000-0000-0000-000000000001.xl"));
  CHECK(fs::exists(folder / ("userdata-d.1" + mine + ".xl")));
  XlHelper({}, folder / "nowhere").forget(7, uuid);
}

TEST_CASE("of a peer only what a toolstack can read is taken") {
  CHECK(check({{"xl", "name"}, {"libxl-json", "{}"}}).ok());
  CHECK(check({{"other", "x"}}).code() == Code::corrupt);
  CHECK(check({{"libxl-json", "name"}}).code() == Code::corrupt);
  CHECK(check({{"xl", ""}}).code() == Code::corrupt);
  CHECK(check({{"xl", std::string(200'000, 'x')}}).code() == Code::corrupt);
  CHECK(check({{"xl", std::string("a\0b", 3)}}).code() == Code::corrupt);
}

}  // namespace
}  // namespace libft::xen
