// SPDX-License-Identifier: LGPL-2.1-or-later
#include "conformance/guest_suite.h"
#include "guest/memory/memory_guest.h"

using namespace libft;
using namespace libft::guest;

namespace {

class MemoryPair final : public test::GuestPair {
 public:
  explicit MemoryPair(std::uint64_t hole)
      : primary_({.pages = 512, .seed = 7, .hole_pages = hole}),
        backup_({.pages = 512, .hole_pages = hole, .standby = true}) {}
  Guest& primary() override { return primary_; }
  Guest& backup() override { return backup_; }
  void work(Guest& guest) override {
    auto& memory = static_cast<MemoryGuest&>(guest);
    REQUIRE(memory.step(40) == 40);
    REQUIRE(memory.emit(++fresh_));
  }
  bool exact() const override { return true; }

 private:
  MemoryGuest primary_, backup_;
  std::uint64_t fresh_ = 0;
};

}  // namespace

TEST_CASE("memory guest") {
  test::guest_suite([] { return std::make_unique<MemoryPair>(0); });
}

TEST_CASE("memory guest with a hole") {
  test::guest_suite([] { return std::make_unique<MemoryPair>(1000); });
}
