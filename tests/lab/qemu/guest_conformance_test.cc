// SPDX-License-Identifier: LGPL-2.1-or-later
// The suite of the Guest port over real QEMU processes.
#include "conformance/guest_suite.h"
#include "lab/qemu/tiny_guest.h"

using namespace libft;

namespace {

class QemuPair final : public test::GuestPair {
 public:
  QemuPair() : backup_(test::tiny_standby(tiny_.guest->info(), folder_)) {}
  ~QemuPair() override { backup_->destroy(); }
  Guest& primary() override { return *tiny_.guest; }
  Guest& backup() override { return *backup_; }
  void work(Guest& guest) override { REQUIRE(test::counts_on(guest)); }

 private:
  test::TinyGuest tiny_;
  test::Folder folder_;
  std::unique_ptr<qemu::QemuGuest> backup_;
};

}  // namespace

TEST_CASE("qemu guest" * doctest::skip(!test::qemu_is_there())) {
  test::guest_suite([] { return std::make_unique<QemuPair>(); });
}
