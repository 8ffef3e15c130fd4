// SPDX-License-Identifier: LGPL-2.1-or-later
// A domain that libft built and that has not become a guest is marked in xenstore with the process
// that holds it. When that was killed nothing takes the domain away, and its memory stays reserved:
// the next standby of the same guest on this host does. Session's thread.
#pragma once

#include <string>

#include "guest/xen/calls.h"
#include "guest/xen/device_model.h"
#include "guest/xen/shape.h"

namespace libft::xen {

std::string warm_name(const std::string& guest);  // "web--ft"; others begin so.
std::string warm_mark(DomId domain);              // Where it stands.
Status mark_warm(XenCalls& calls, DomId domain);  // As this process's.
Status sweep_warm(XenCalls& calls, const Shape& shape, DeviceModels& models);

}  // namespace libft::xen
