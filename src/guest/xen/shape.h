// SPDX-License-Identifier: LGPL-2.1-or-later
// A Shape is what a domain is, as far as it does not change while it runs: what a backup builds its
// warm domain from, and what the primary's GuestInfo carries as `compatibility`, as JSON.
// Values; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "guest/xen/calls.h"
#include "guest/xen/device_model.h"
#include "guest/xen/suspend.h"
#include "guest/xen/toolstack.h"

namespace libft::xen {

enum class Connection { bridge, open_vswitch };

// A virtual network interface: what its backend says of it, without what the two ends of the
// connection say to each other.
struct Vif {
  unsigned index = 0;
  std::map<std::string, std::string> backend;  // mac, bridge, script, ...
  bool emulated = false;                       // The device model's TAP device is in use beside it.
  std::string value(const std::string& key) const;
  std::optional<Connection> connection() const;  // Empty: by a script that libft does not know.
  bool operator==(const Vif&) const = default;
};

// A node below the domain's own folder in xenstore.
struct StoreNode {
  std::string path, value;
  bool guests = false;  // The guest may write it.
  bool operator==(const StoreNode&) const = default;
};

struct Shape {
  std::string xen;   // "4.17.7"
  std::string name;  // The domain's.
  std::string type;  // "pvh" or "hvm"
  Uuid uuid{};
  bool cooperative = true;  // Has PV drivers: it must be asked to suspend.
  std::uint32_t emulation = 0, misc = 0, vcpus = 0;
  std::uint64_t max_pages = 0, paging_pool_bytes = 0;
  CpuPolicy policy;
  std::vector<Vif> vifs;
  std::vector<StoreNode> nodes;
  std::optional<DeviceModelShape> device_model;
  bool keyboard = false;  // A vkbd device, which the device model serves.
  Userdata toolstack;     // What the primary's toolstack keeps of it.
  bool operator==(const Shape&) const = default;

  StopWay stop_way() const;
};

std::string to_json(const Shape& shape);

// From a peer: Code::corrupt unless everything is there and of its kind.
Result<Shape> shape_from_json(const std::string& text);

std::string to_string(const Uuid& uuid);  // "01234567-89ab-cdef-0123-456789abcdef"

// The minor of "4.17.7" is 17; 0 when that is no version of Xen.
unsigned minor_of(const std::string& version);

}  // namespace libft::xen
