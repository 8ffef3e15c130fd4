// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/manual_arbiter.h"

#include <doctest/doctest.h>

#include "conformance/arbiter_suite.h"
#include "conformance/temp_folder.h"
#include "os/file.h"

using namespace libft;
using namespace libft::conformance;
using failover::ManualArbiter;

TEST_CASE("manual: the owner may bind itself more without a person") {
  const TempFolder folder;
  ManualArbiter arbiter(folder.path());
  const auto guest = guest_named("db");
  CHECK_FALSE(arbiter.automatic());
  check_won(arbiter.create(guest, record_of(1, 1)), record_of(1, 1));
  check_won(arbiter.swap(guest, record_of(1, 1), record_of(2, 1, {2})), record_of(2, 1, {2}));
  auto ended = record_of(3, 1);
  ended.ended = true;
  check_won(arbiter.swap(guest, record_of(2, 1, {2}), ended), ended);
}

TEST_CASE("manual: what takes something away waits for a person, who permits one swap") {
  const TempFolder folder;
  ManualArbiter arbiter(folder.path());
  const auto guest = guest_named("db");
  const auto from = record_of(1, 1, {2});
  check_won(arbiter.create(guest, from), from);
  for (const auto& to : {record_of(2, 1), record_of(2, 2), record_of(2, 2, {1})}) {
    const auto answer = arbiter.swap(guest, from, to);
    CHECK(answer.outcome == SwapOutcome::unknown);
    // The owner goes on alone by giving up its backup; a backup takes over.
    const auto command = to.owner == from.owner ? "`ftctl unprotect db`" : "`ftctl failover db`";
    CHECK(answer.detail.find(command) != std::string::npos);
  }
  check_found(arbiter.read(guest), from);
  REQUIRE(ManualArbiter(folder.path()).permit(guest, from).ok());  // From another process.
  check_won(arbiter.swap(guest, from, record_of(2, 1)), record_of(2, 1));
  check_won(arbiter.swap(guest, from, record_of(2, 1)), record_of(2, 1));  // Asked again.
  check_won(arbiter.swap(guest, record_of(2, 1), record_of(3, 1, {3})), record_of(3, 1, {3}));
  CHECK(arbiter.swap(guest, record_of(3, 1, {3}), record_of(4, 1)).outcome == SwapOutcome::unknown);
}

TEST_CASE("manual: a backup has no record until a person tells it which one ends") {
  const TempFolder folder;
  ManualArbiter backup(folder.path());
  const auto guest = guest_named("db");
  const auto known = record_of(4, 1, {2});
  CHECK(backup.read(guest).outcome == ReadAnswer::Outcome::missing);
  CHECK(backup.swap(guest, known, record_of(5, 2)).outcome == SwapOutcome::unknown);
  REQUIRE(backup.permit(guest, known).ok());
  check_found(backup.read(guest), known);
  check_won(backup.swap(guest, known, record_of(5, 2)), record_of(5, 2));
  // What is older than this host's own record cannot be permitted any more.
  CHECK(backup.permit(guest, known).code() == Code::refused);
}

TEST_CASE("manual: a permission is for one record, and a damaged or old one is none") {
  const TempFolder folder;
  ManualArbiter arbiter(folder.path());
  const auto guest = guest_named("db");
  check_won(arbiter.create(guest, record_of(1, 1, {2})), record_of(1, 1, {2}));
  REQUIRE(arbiter.permit(guest, record_of(1, 1, {2})).ok());
  check_won(arbiter.swap(guest, record_of(1, 1, {2}), record_of(2, 1, {2, 3})),
            record_of(2, 1, {2, 3}));
  const auto from = record_of(2, 1, {2, 3});
  CHECK(arbiter.swap(guest, from, record_of(3, 1)).outcome == SwapOutcome::unknown);

  const std::string path = folder.path() + "/#permit-db";
  REQUIRE(arbiter.permit(guest, from).ok());
  const auto permission = os::read_file(path, 4096);
  REQUIRE(permission);
  for (std::string bad :
       {std::string("{"), std::string("[]"), std::string("{\"from\":3}"),
        std::string(*permission).replace(permission->find("at_ns"), 5, "at_ms"),
        std::string(*permission).replace(permission->find("boot\""), 4, "root")}) {
    CAPTURE(bad);
    REQUIRE(os::write_file_atomically(path, bad).ok());
    CHECK(arbiter.swap(guest, from, record_of(3, 1)).outcome == SwapOutcome::unknown);
  }
  // A minute old, and one from the time before the last boot (later than now).
  const auto at = permission->find("\"at_ns\":") + 8;
  const auto end = permission->find_first_of(",}", at);
  const auto written = std::stoll(permission->substr(at, end - at));
  const auto minute = Nanos(ManualArbiter::kPermitLife).count();
  for (const auto moment : {written - minute, written + minute}) {
    REQUIRE(os::write_file_atomically(
                path, std::string(*permission).replace(at, end - at, std::to_string(moment)))
                .ok());
    CHECK(arbiter.swap(guest, from, record_of(3, 1)).outcome == SwapOutcome::unknown);
  }
  REQUIRE(os::write_file_atomically(path, *permission).ok());
  check_won(arbiter.swap(guest, from, record_of(3, 1)), record_of(3, 1));
}
