// SPDX-License-Identifier: LGPL-2.1-or-later
// Domains that only prove that a promotion would succeed: each is thrown away by who asked for it,
// is named after the guest, and is connected to nothing. Any thread that has calls of its own.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "guest/xen/shell.h"
#include "libft/guest.h"

namespace libft::xen {

// As the standby, without memory: a state can be loaded into it.
Result<std::unique_ptr<Shell>> build_throw_away(XenCalls& calls, Shape shape, DeviceModels& models);

// Runs a copy of the standby, whose memory `standby` describes, until its processors have worked.
// The domain is built before the moment, so that epochs wait for a copy only.
using Decode = std::function<Result<DomainState>(std::span<const std::byte>)>;
Status run_copy(XenCalls& calls, Shape shape, const GuestInfo& standby, StillMoment& moment,
                const Decode& decode, DeviceModels& models);

}  // namespace libft::xen
