// SPDX-License-Identifier: LGPL-2.1-or-later
// What xenstore has to say of a domain that libft built, so that its drivers, dom0's backends,
// xenconsoled and xl find in it what they would find had libxl built it (docs/misc/xenstore-paths
// of Xen's sources, and tools/libs/light/libxl_create.c for the permissions). Session's thread.
#pragma once

#include <string>

#include "guest/xen/calls.h"
#include "guest/xen/network.h"
#include "guest/xen/shape.h"

namespace libft::xen {

struct StoreChannels {
  std::uint64_t store_page = 0, console_page = 0;
  std::uint32_t store_port = 0, console_port = 0;
};

// Names the domain and describes it, before it is introduced.
Status describe_domain(XenCalls& calls, DomId domain, const Shape& shape, const std::string& name);
// Its device model, by which libxl finds and ends it.
Status describe_model(XenCalls& calls, DomId domain, pid_t pid);
// Until the device model says that it emulates.
Status wait_for_model(XenCalls& calls, DomId domain);
// Another name: by which its owner knows it.
Status rename_domain(XenCalls& calls, DomId domain, const Shape& shape, const std::string& name);
// Introduces it: from here on xenstored and xenconsoled serve it.
Status introduce_domain(XenCalls& calls, DomId domain, const StoreChannels& channels);

// Both ends of each interface, the backend ready for the frontend, in its bridge, and the device
// model's end where that is in use. The guest's end has not begun yet: nothing is forwarded. Fails
// when dom0's driver does not come. REQUIRES: the device model was started, where there is one.
Status prepare_vifs(XenCalls& calls, DomId domain, const Shape& shape, HostNetwork& network);
// Of interfaces that are ports of Open vSwitch, before or after the domain goes.
void leave_switches(DomId domain, const Shape& shape, HostNetwork& network);
std::string interface_of(DomId domain, const Vif& vif);  // "vif7.0"

// All of it, as far as it is there; for a domain that is gone.
void forget_domain(XenCalls& calls, DomId domain, const Shape& shape);

}  // namespace libft::xen
