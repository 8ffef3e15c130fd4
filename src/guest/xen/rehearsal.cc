// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/rehearsal.h"

#include <fmt/format.h>

#include <cstring>

#include "guest/xen/facts.h"
#include "guest/xen/warm.h"
#include "os/random.h"

namespace libft::xen {
namespace {

constexpr std::uint64_t kTrialSlackBytes = 32u << 20;

}  // namespace

Result<std::unique_ptr<Shell>> build_throw_away(XenCalls& calls, Shape shape,
                                                DeviceModels& models) {
  shape.vifs.clear();
  shape.nodes.clear();
  shape.keyboard = false;
  FT_TRY(os::random_bytes(shape.uuid));
  FT_ASSIGN(auto shell, Shell::build(calls, shape, {}, warm_name(shape.name) + "-try"));
  if (shape.device_model) FT_TRY(shell->start_model(models));
  return shell;
}

Status run_copy(XenCalls& calls, Shape shape, const GuestInfo& standby, StillMoment& moment,
                const Decode& decode, DeviceModels& models) {
  FT_ASSIGN(const std::uint64_t free, calls.free_bytes());
  const std::uint64_t needed =
      standby.pages() * kPageBytes + shape.paging_pool_bytes + kTrialSlackBytes;
  if (free < needed)
    return Status(Code::exhausted,
                  fmt::format("a copy of the guest needs {} MiB, and Xen has {} MiB free: the "
                              "state was loaded at the first synchronisation, but not run",
                              needed >> 20, free >> 20));
  shape.vifs.clear();
  FT_TRY(os::random_bytes(shape.uuid));
  const auto runs = runs_of(standby);
  FT_ASSIGN(const auto shell, Shell::build(calls, shape, runs, warm_name(shape.name) + "-trial"));
  FT_ASSIGN(const auto memory, DomainMemory::map(calls, shell->domain(), runs));
  if (shape.device_model) FT_TRY(shell->start_model(models));
  FT_ASSIGN(const auto bytes, moment.hold());
  FT_ASSIGN(const DomainState state, decode(bytes));
  for (std::size_t i = 0; i < standby.memory.size(); ++i)
    std::memcpy(memory.regions()[i].bytes.data(), standby.memory[i].bytes.data(),
                standby.memory[i].bytes.size());
  FT_TRY(moment.let_go());
  FT_TRY(shell->load(state, &memory));
  return shell->try_out().within("run a copy of the guest");
}

}  // namespace libft::xen
