// SPDX-License-Identifier: LGPL-2.1-or-later
#include "conformance/arbiter_suite.h"
#include "failover/memory_arbiter.h"

namespace libft::conformance {
namespace {

class MemoryWorld {
 public:
  static std::unique_ptr<MemoryWorld> create() { return std::make_unique<MemoryWorld>(); }
  std::unique_ptr<Arbiter> connect() { return std::make_unique<failover::MemoryArbiter>(records_); }

 private:
  std::shared_ptr<failover::MemoryRecords> records_ = std::make_shared<failover::MemoryRecords>();
};

TEST_CASE_TEMPLATE_INVOKE(arbiter_create, MemoryWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_swap, MemoryWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_again, MemoryWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_missing, MemoryWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_generations, MemoryWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_race, MemoryWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_create_race, MemoryWorld);

}  // namespace
}  // namespace libft::conformance
