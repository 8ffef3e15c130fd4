// SPDX-License-Identifier: LGPL-2.1-or-later
// Starting a guest, with the nth descriptor refused, for every n: a start that failed leaves no
// QEMU.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <fstream>
#include <sstream>

#include "lab/qemu/tiny_guest.h"
#include "os/fd.h"

using namespace libft;

namespace {

// Takes descriptors until only so many are left. QEMU, which inherits the limit but not what is
// open here, has them all.
class FewDescriptors {
 public:
  explicit FewDescriptors(std::size_t left) {
    for (;;) {
      os::ScopedFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (!fd.valid()) break;
      taken_.push_back(std::move(fd));
    }
    REQUIRE(taken_.size() > left);
    taken_.resize(taken_.size() - left);
  }

 private:
  std::vector<os::ScopedFd> taken_;
};

// A process whose command line names the folder.
bool somebody_lives_in(const test::Folder& folder) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream in(entry.path() / "cmdline");
    std::stringstream text;
    text << in.rdbuf();
    if (text.str().find(folder / "qmp") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a start that failed leaves no process behind" * doctest::skip(!test::qemu_is_there())) {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_cur, 256);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  std::vector<std::string> failures;
  for (std::size_t left = 0;; ++left) {
    CAPTURE(left);
    REQUIRE(left < 100);
    const test::Folder folder;
    Result<std::unique_ptr<qemu::QemuGuest>> guest = [&] {
      const FewDescriptors few(left);
      return qemu::QemuGuest::start(test::tiny_description(folder), test::tiny_options(folder));
    }();
    if (guest) {
      (*guest)->destroy();
      break;
    }
    failures.push_back(guest.error().message());
    CHECK_MESSAGE(!somebody_lives_in(folder), failures.back());
  }
  for (const std::string& failure : failures) MESSAGE(failure);
  CHECK(failures.size() > 3);
}
