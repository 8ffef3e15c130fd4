// SPDX-License-Identifier: LGPL-2.1-or-later
// The device model of an HVM domain: the QEMU that emulates its platform devices. DeviceModels is
// how the driver gets at it on this host (qemu_model.h does it; tests put something else in its
// place). DeviceModelShape is what a backup starts its own from. Session's thread; the functions
// are pure.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "guest/xen/calls.h"

namespace libft::xen {

struct EmulatedNic {
  unsigned index = 0;  // As the vif's.
  std::string model, mac;
  bool operator==(const EmulatedNic&) const = default;
};

struct DeviceOption {
  std::string name, value;  // "-m", "192"; a flag has an empty value.
  bool operator==(const DeviceOption&) const = default;
};

// QEMU's command line, without what names the domain, the host, or the one who watches it.
struct DeviceModelShape {
  std::string version;  // "7.2.22 (Debian 1:7.2+dfsg-7)"
  std::vector<DeviceOption> options;
  std::vector<EmulatedNic> nics;
  bool operator==(const DeviceModelShape&) const = default;
};

// From the command line of one that runs, without the program's name. What libft cannot start again
// on the backup is added to `missing`, a reason each.
DeviceModelShape read_arguments(std::span<const std::string> arguments,
                                std::vector<std::string>& missing);

// Of a shape that a peer sent: Code::refused unless read_arguments() could have made it. The words
// become a command line here.
Status check(const DeviceModelShape& shape);

// The command line, without the program's name, of one that waits for a state to be loaded.
std::vector<std::string> waiting_arguments(const DeviceModelShape& shape, DomId domain,
                                           const std::string& name);

std::string qmp_path(DomId domain);                          // Where libxl expects it too.
std::string emulated_interface(DomId domain, unsigned nic);  // "vif7.0-emu": QEMU's TAP device.

class DeviceModel {
 public:
  virtual ~DeviceModel() = default;  // One that was started, and not kept, ends.

  virtual pid_t pid() const = 0;
  // Whether it reports to Xen which pages of the guest it writes, as by DMA.
  virtual Status log_writes(bool on) = 0;
  // Emulates nothing any more until go_on(). On failure it may have stopped.
  virtual Status stop() = 0;
  // Replaces `state`. REQUIRES: stop() succeeded.
  virtual Status save(std::vector<std::byte>& state) = 0;
  // Once, and only by one that was started to wait. It stands still afterwards.
  virtual Status load(std::span<const std::byte> state) = 0;
  // Idempotent.
  virtual Status go_on() = 0;
  // It shall outlive this object.
  virtual void keep() = 0;
  // Ends it. Idempotent.
  virtual void end() = 0;
};

class DeviceModels {
 public:
  virtual ~DeviceModels() = default;

  struct Found {
    std::vector<std::string> arguments;
    std::string version;
    std::unique_ptr<DeviceModel> model;
  };
  // The one of a domain that runs, which is the process `pid`.
  virtual Result<Found> find(DomId domain, pid_t pid) = 0;
  // Starts one that waits for a state. The domain is there, and paused.
  virtual Result<std::unique_ptr<DeviceModel>> start(DomId domain, const DeviceModelShape& shape,
                                                     const std::string& name) = 0;
};

}  // namespace libft::xen
