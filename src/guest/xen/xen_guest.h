// SPDX-License-Identifier: LGPL-2.1-or-later
// XenGuest is one PVH or HVM domain of this host as a Guest: attached to while it runs, or built as
// a standby that waits, paused, for a state. The domain outlives this object, unless it is a
// standby that was never activated. Session's thread, as Guest says; a thread of its own reports
// the domain's life.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "guest/xen/calls.h"
#include "guest/xen/network.h"
#include "guest/xen/qemu_model.h"
#include "guest/xen/toolstack.h"
#include "libft/guest.h"

namespace libft::xen {

struct XenOptions {
  OpenCalls open;  // Of the module; called once for each thread.
  std::shared_ptr<HostNetwork> network = std::make_shared<SystemNetwork>();
  std::shared_ptr<DeviceModels> device_models = std::make_shared<QemuModels>();
  std::shared_ptr<Toolstack> toolstack = std::make_shared<XlHelper>();
  // How long a guest may take to suspend itself.
  Nanos suspend_patience = Millis{60000};
};

class XenGuest : public Guest {
 public:
  // Takes a domain that runs, by name or number. Fails with everything that is in the way.
  static Result<std::unique_ptr<XenGuest>> attach(const std::string& name, XenOptions options);

  // Builds the warm domain NAME--ft that can continue `primary`.
  static Result<std::unique_ptr<XenGuest>> build_standby(const GuestInfo& primary,
                                                         XenOptions options);

  virtual DomId domain() const = 0;
  virtual std::vector<std::string> interfaces() const = 0;  // "vif7.0"; their frames want a gate.
  // How long the guest took to suspend itself at the last pause(), of the time that took; 0 for
  // one that is not asked.
  virtual Nanos last_handshake() const = 0;
};

}  // namespace libft::xen
