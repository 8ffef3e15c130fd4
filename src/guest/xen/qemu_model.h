// SPDX-License-Identifier: LGPL-2.1-or-later
// DeviceModels over real processes: QEMU's monitor is spoken to on the socket that the toolstack
// has it open. That serves one client at a time, so libft connects for each errand and lets go at
// once; between stop() and go_on() it stays. Session's thread.
#pragma once

#include "guest/xen/device_model.h"

namespace libft::xen {

class QemuModels final : public DeviceModels {
 public:
  Result<Found> find(DomId domain, pid_t pid) override;
  Result<std::unique_ptr<DeviceModel>> start(DomId domain, const DeviceModelShape& shape,
                                             const std::string& name) override;
};

}  // namespace libft::xen
