// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/file.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "os/event_fd.h"
#include "os/random.h"

using namespace libft;
using namespace libft::os;

namespace {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "libft-file-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("a file is replaced as a whole and leaves nothing beside it") {
  TemporaryFolder folder;
  const std::string path = folder.file("record");
  REQUIRE(write_file_atomically(path, "one", 0600).ok());
  CHECK(*read_file(path, 100) == "one");
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
  const std::string large(100000, 'x');
  REQUIRE(write_file_atomically(path, large).ok());
  CHECK(*read_file(path, large.size()) == large);
  CHECK(read_file(path, large.size() - 1).error().code() == Code::exhausted);
  CHECK(folder.entries() == 1);
}

TEST_CASE("a failed replacement leaves the old things and no temporary file") {
  TemporaryFolder folder;
  const std::string path = folder.file("taken");
  REQUIRE(::mkdir(path.c_str(), 0700) == 0);  // rename over a folder fails.
  CHECK_FALSE(write_file_atomically(path, "text").ok());
  CHECK(folder.entries() == 1);
  const Status missing = write_file_atomically(folder.file("no/such/folder"), "text");
  CHECK(missing.code() == Code::not_found);
  CHECK(read_file(folder.file("absent"), 10).error().code() == Code::not_found);
}

TEST_CASE("random bytes are not the same twice") {
  std::array<std::uint8_t, 32> a{}, b{};
  REQUIRE(random_bytes(a).ok());
  REQUIRE(random_bytes(b).ok());
  CHECK(a != b);
}

TEST_CASE("an event is readable from signal to drain") {
  auto event = EventFd::create();
  REQUIRE(event.has_value());
  const auto readable = [&] {
    pollfd p{event->fd(), POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
  };
  CHECK_FALSE(readable());
  CHECK_FALSE(event->drain());
  event->signal();
  event->signal();
  CHECK(readable());
  CHECK(event->drain());
  CHECK_FALSE(readable());
}
