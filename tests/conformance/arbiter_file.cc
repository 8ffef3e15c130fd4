// SPDX-License-Identifier: LGPL-2.1-or-later
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conformance/arbiter_suite.h"
#include "conformance/temp_folder.h"
#include "failover/file_arbiter.h"
#include "os/file.h"

namespace libft::conformance {
namespace {

class FileWorld {
 public:
  static std::unique_ptr<FileWorld> create() { return std::make_unique<FileWorld>(); }
  std::unique_ptr<Arbiter> connect() {
    return std::make_unique<failover::FileArbiter>(folder_.path());
  }
  std::string spoil(const GuestId& guest) {
    const std::string path = file(guest, 1);
    REQUIRE(os::write_file_atomically(path, "{\"generation\":").ok());
    return path;
  }
  void restart() {}  // Every arbiter of this kind begins with nothing in memory.

  std::string file(const GuestId& guest, std::uint64_t generation) const {
    return folder_.path() + "/" + guest.name() + "/" + std::to_string(generation) + ".json";
  }
  const std::string& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

TEST_CASE_TEMPLATE_INVOKE(arbiter_create, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_swap, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_again, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_missing, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_generations, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_race, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_create_race, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_garbage, FileWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_restart, FileWorld);

TEST_CASE("arbiter file: a directory that is not there is unknown, not missing") {
  FileWorld world;
  failover::FileArbiter arbiter(world.path() + "/unmounted");
  const auto guest = guest_named("db");
  CHECK(arbiter.read(guest).outcome == ReadAnswer::Outcome::unknown);
  const auto created = arbiter.create(guest, record_of(1, 1));
  CHECK(created.outcome == SwapOutcome::unknown);
  CHECK_MESSAGE(created.detail.find("mounted") != std::string::npos, created.detail);
}

TEST_CASE("arbiter file: without permission the answer is unknown") {
  FileWorld world;
  const auto guest = guest_named("db");
  failover::FileArbiter arbiter(world.path());
  check_won(arbiter.create(guest, record_of(1, 1)), record_of(1, 1));
  if (::geteuid() != 0) return;  // Nobody else can take a permission from itself and give it back.
  // The administrator is not stopped by permissions: be nobody for the file system meanwhile.
  REQUIRE(::chmod(world.path().c_str(), 0755) == 0);
  ::setfsuid(65534);
  const auto swap = arbiter.swap(guest, record_of(1, 1), record_of(2, 1));
  const auto create = arbiter.create(guest_named("db2"), record_of(1, 1));
  ::setfsuid(0);
  REQUIRE(::chmod(world.path().c_str(), 0) == 0);
  ::setfsuid(65534);
  const auto read = arbiter.read(guest);
  ::setfsuid(0);
  CHECK(swap.outcome == SwapOutcome::unknown);
  CHECK(create.outcome == SwapOutcome::unknown);
  CHECK(read.outcome == ReadAnswer::Outcome::unknown);
  CHECK_MESSAGE(swap.detail.find(world.path()) != std::string::npos, swap.detail);
  check_found(arbiter.read(guest), record_of(1, 1));
}

TEST_CASE("arbiter file: litter of crashes is no record, and old generations are swept") {
  FileWorld world;
  const auto guest = guest_named("db");
  failover::FileArbiter arbiter(world.path());
  REQUIRE(::mkdir((world.path() + "/#crashed-create").c_str(), 0755) == 0);
  check_won(arbiter.create(guest, record_of(1, 1)), record_of(1, 1));
  const std::string folder = world.path() + "/db/";
  for (const char* litter : {"#0011", "99.json.old", "007.json", "x.json", "-5.json", ".json"})
    REQUIRE(os::write_file_atomically(folder + litter, "half a rec").ok());
  check_found(arbiter.read(guest), record_of(1, 1));
  for (std::uint64_t g = 1; g < 90; ++g)
    check_won(arbiter.swap(guest, record_of(g, 1), record_of(g + 1, 1)), record_of(g + 1, 1));
  CHECK(::access(world.file(guest, 90).c_str(), F_OK) == 0);
  CHECK(::access(world.file(guest, 85).c_str(), F_OK) == 0);  // For people.
  CHECK(::access(world.file(guest, 5).c_str(), F_OK) != 0);
  // Somebody who slept through all of that finds generation 2's name free, and has lost all the
  // same.
  check_lost(arbiter.swap(guest, record_of(1, 1), record_of(2, 7)), record_of(90, 1));
}

TEST_CASE("arbiter file: a file that does not hold its name's generation is corrupt") {
  FileWorld world;
  const auto guest = guest_named("db");
  failover::FileArbiter arbiter(world.path());
  check_won(arbiter.create(guest, record_of(1, 1)), record_of(1, 1));
  REQUIRE(os::write_file_atomically(world.file(guest, 9), to_string(record_of(1, 1))).ok());
  CHECK(arbiter.read(guest).outcome == ReadAnswer::Outcome::unknown);
  CHECK(arbiter.swap(guest, record_of(1, 1), record_of(2, 1)).outcome == SwapOutcome::unknown);
}

TEST_CASE("arbiter file: a guest without a name is nobody's") {
  FileWorld world;
  failover::FileArbiter arbiter(world.path());
  CHECK(arbiter.create(GuestId{}, record_of(1, 1)).outcome == SwapOutcome::unknown);
  CHECK(arbiter.read(GuestId{}).outcome == ReadAnswer::Outcome::unknown);
}

}  // namespace
}  // namespace libft::conformance
