// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/warm.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "guest/xen/inspect.h"
#include "guest/xen/store.h"
#include "os/process.h"

namespace libft::xen {
namespace {

constexpr char kMarks[] = "/libft-warm";

bool held(const std::string& mark) {
  os::ProcessId holder;
  unsigned long long ticks = 0;
  // Not understood: a later libft's, which is not ours to judge.
  if (std::sscanf(mark.c_str(), "%d %llu", &holder.pid, &ticks) != 2) return true;
  holder.start_ticks = ticks;
  return os::alive(holder);
}

// The device model maps the domain's memory, which could not go.
Status take_away(XenCalls& calls, DomId domain, const Shape& shape, DeviceModels& models) {
  FT_ASSIGN(const auto pid, calls.read(domain_path(domain, "image/device-model-pid")));
  if (pid) {
    auto found = models.find(domain, std::atoi(pid->c_str()));
    if (found) found->model->end();
  }
  FT_TRY(calls.destroy(domain));
  forget_domain(calls, domain, shape);
  return {};
}

}  // namespace

std::string warm_name(const std::string& guest) { return guest + "--ft"; }

std::string warm_mark(DomId domain) { return fmt::format("{}/{}", kMarks, domain); }

Status mark_warm(XenCalls& calls, DomId domain) {
  const os::ProcessId self = os::this_process();
  return calls.write(warm_mark(domain), fmt::format("{} {}", self.pid, self.start_ticks));
}

// One that runs as a guest has the guest's name since before it ran.
Status sweep_warm(XenCalls& calls, const Shape& shape, DeviceModels& models) {
  FT_ASSIGN(const auto marked, calls.list(kMarks));
  for (const std::string& number : marked) {
    const auto domain = static_cast<DomId>(std::strtoul(number.c_str(), nullptr, 10));
    FT_ASSIGN(const auto mark, calls.read(warm_mark(domain)));
    if (!mark || held(*mark)) continue;
    FT_ASSIGN(const auto name, calls.read(domain_path(domain, "name")));
    if (!name)
      FT_TRY(calls.remove(warm_mark(domain)));
    else if (name->starts_with(warm_name(shape.name)))
      FT_TRY(take_away(calls, domain, shape, models)
                 .within("take away the domain " + *name + " that an earlier libft left"));
  }
  return {};
}

}  // namespace libft::xen
