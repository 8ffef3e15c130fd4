// SPDX-License-Identifier: LGPL-2.1-or-later
// DeviceState takes the CPUs' and devices' state out of a stopped QEMU. QEMU writes into memory
// that this process shares with it, so that reading the bytes can wait until the guest runs again.
// Session's thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qemu/qmp.h"

namespace libft::qemu {

// How the state of CPUs and devices is taken, best first.
enum class StateWay {
  devices_only,  // xen-save-devices-state: synchronous, no memory block at all.
  migration,     // migrate with x-ignore-shared: carries the small blocks that no memfd holds.
};
std::string_view to_string(StateWay way);  // "devices-only", "migration"

class DeviceState {
 public:
  virtual ~DeviceState() = default;

  // Makes ready for one save (what an earlier one left is gone) and returns the command that may be
  // posted together with `stop`; empty where finish() does it all.
  virtual Result<std::string> command() = 0;

  // Completes the save. `ticket` is command()'s. The guest is stopped.
  virtual Status finish(Qmp& qmp, Qmp::Ticket ticket) = 0;

  // Copies out what the last finish() saved.
  virtual Status fetch(std::vector<std::byte>& state) = 0;
};

Result<std::unique_ptr<DeviceState>> open_device_state(Qmp& qmp, StateWay way);

// Makes a QEMU that was started with `-incoming defer` ready for load_device_state().
Status prepare_incoming(Qmp& qmp, StateWay way);

// Loads `state` into it. QEMU ends when it cannot: the reason is then in its log.
Status load_device_state(Qmp& qmp, std::span<const std::byte> state, Nanos timeout);

}  // namespace libft::qemu
