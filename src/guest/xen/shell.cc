// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/shell.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "guest/xen/cpuid.h"
#include "guest/xen/facts.h"
#include "guest/xen/warm.h"

namespace libft::xen {
namespace {

// Enough to hold the tables of a domain without memory.
constexpr std::uint64_t kEmptyPoolBytes = 4u << 20;
// What libxl allows above the guest's memory, for Xen's own use of it (LIBXL_MAXMEM_CONSTANT).
constexpr std::uint64_t kSlackKib = 1024;
constexpr std::chrono::seconds kTryOut{20};
constexpr std::uint64_t kWorkNanos = 5'000'000;

}  // namespace

Result<std::unique_ptr<Shell>> Shell::build(XenCalls& calls, const Shape& shape,
                                            std::span<const PageRun> runs,
                                            const std::string& name) {
  std::unique_ptr<Shell> shell(new Shell(calls, shape));
  FT_TRY(shell->make(runs).within("build the domain " + name));
  FT_TRY(describe_domain(calls, shell->domain_, shape, name));
  return shell;
}

Status Shell::make(std::span<const PageRun> runs) {
  NewDomain config;
  config.handle = shape_.uuid;
  config.flags = kCreateHvm | kCreateHap;
  config.emulation = shape_.emulation;
  config.misc = shape_.misc;
  config.vcpus = shape_.vcpus;
  FT_ASSIGN(domain_, calls_.create(config));
  FT_TRY(mark_warm(calls_, domain_));
  FT_TRY(calls_.set_vcpus(domain_, shape_.vcpus));
  FT_TRY(calls_.set_max_memory(domain_, shape_.max_pages * (kPageBytes / 1024) + kSlackKib));
  FT_TRY(calls_.set_paging_pool(
      domain_,
      runs.empty() ? kEmptyPoolBytes : std::max(shape_.paging_pool_bytes, kEmptyPoolBytes)));
  FT_TRY(set_policy());
  if (!runs.empty()) FT_TRY(populate_memory(calls_, domain_, runs));
  FT_ASSIGN(channels_.store_port, calls_.new_port(domain_));
  FT_ASSIGN(channels_.console_port, calls_.new_port(domain_));
  return {};
}

// What Xen refuses it names only first; its owner needs all of it at once.
Status Shell::set_policy() {
  const Status set = calls_.set_cpu_policy(domain_, shape_.policy);
  if (set.code() != Code::refused) return set;
  FT_ASSIGN(const CpuPolicy most, calls_.cpu_policy_max());
  const std::string line = cpuid_line(shape_.policy, most);
  return Status(Code::refused,
                set.message() + (line.empty() ? "; the two hosts' processors differ in more than "
                                                "features: use hosts with the same"
                                              : "; start the guest with " + line));
}

Shell::~Shell() {
  if (domain_ == 0 || free_) return;
  model_.reset();  // It maps the domain's memory, which could not go.
  if (!calls_.destroy(domain_).ok()) (void)calls_.destroy(domain_);  // It holds memory.
  forget_domain(calls_, domain_, shape_);
}

Status Shell::start_model(DeviceModels& models) {
  FT_ASSIGN(model_, models.start(domain_, *shape_.device_model, shape_.name));
  return describe_model(calls_, domain_, model_->pid());
}

Status Shell::load(const DomainState& state, const DomainMemory* memory) {
  FT_TRY(calls_.set_tsc(domain_, state.tsc));
  for (const HvmParam& param : state.params) {
    if (std::find(std::begin(kCarriedParams), std::end(kCarriedParams), param.index) ==
        std::end(kCarriedParams))
      return Status(Code::corrupt, "the state has an HVM parameter that no migration carries: " +
                                       std::to_string(param.index));
    FT_TRY(calls_.set_param(domain_, param.index, param.value));
    const bool ring = param.index == kParamStorePfn || param.index == kParamConsolePfn ||
                      param.index == kParamIoreqPfn || param.index == kParamBufioreqPfn;
    if (param.index == kParamStorePfn) channels_.store_page = param.value;
    if (param.index == kParamConsolePfn) channels_.console_page = param.value;
    if (!ring || memory == nullptr) continue;
    const auto page = memory->page(param.value);
    if (page.empty())
      return Status(Code::corrupt, "the state names a page that the guest does not have");
    std::fill(page.begin(), page.end(), std::byte{0});
  }
  FT_TRY(calls_.set_param(domain_, kParamStorePort, channels_.store_port));
  FT_TRY(calls_.set_param(domain_, kParamConsolePort, channels_.console_port));
  FT_TRY(calls_.set_context(domain_, state.context));
  if (static_cast<bool>(model_) == state.devices.empty())
    return Status(Code::corrupt, "the state has no device model's, or one that nobody loads");
  return model_ ? model_->load(state.devices) : Status();
}

Status Shell::begin() {
  FT_TRY(calls_.seed_grants(domain_, channels_.console_page, channels_.store_page));
  FT_TRY(introduce_domain(calls_, domain_, channels_));
  if (model_) {
    FT_TRY(model_->go_on());
    FT_TRY(wait_for_model(calls_, domain_));
  }
  return calls_.unpause(domain_);
}

Status Shell::run(const std::string& name) {
  FT_TRY(rename_domain(calls_, domain_, shape_, name));
  FT_TRY(begin());
  free_ = true;
  (void)calls_.remove(warm_mark(domain_));  // Its name protects it already.
  if (model_) model_->keep();
  return {};
}

Status Shell::try_out() {
  FT_TRY(begin());
  const auto deadline = std::chrono::steady_clock::now() + kTryOut;
  while (std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(Millis{20});
    FT_ASSIGN(const auto info, calls_.domain(domain_));
    if (!info || info->dying) return Status(Code::io, "the copy is gone");
    if (info->shutdown)
      return Status(Code::io, "the copy stopped by itself, reason " + std::to_string(info->reason));
    if (info->cpu_nanos > kWorkNanos) return {};
  }
  return Status(Code::timeout, "the copy's processors did not run");
}

}  // namespace libft::xen
