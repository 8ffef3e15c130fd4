// SPDX-License-Identifier: LGPL-2.1-or-later
// QEMU's command line as libft needs it: made from a description, completed for a user's own
// command, and rewritten for the standby of a running one. Values and functions of values, except
// where a function says that it looks at the host. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "libft/status.h"

namespace libft::qemu {

using Arguments = std::vector<std::string>;

// The two unix datagram sockets of one NIC: QEMU binds `guest_path` and sends to `gate_path`, which
// the output gate binds. One pair for each -netdev, in the order of the command line.
struct NicSockets {
  std::string guest_path;
  std::string gate_path;
};

struct NicDescription {
  std::string model = "virtio-net-pci";
  std::string mac;  // Empty: QEMU's choice, which must be the same on both hosts.
};

// A guest that libft starts itself.
struct QemuDescription {
  std::string binary = "qemu-system-x86_64";
  std::string machine = "pc";  // An alias is resolved to its version when the guest runs.
  std::string accel;           // Empty: choose_accelerator().
  std::uint64_t memory_bytes = 128ull << 20;
  std::uint32_t vcpus = 1;
  std::string kernel;
  std::string initrd;
  std::string append;
  std::string serial;  // File for the first serial port's output; empty: no output kept.
  std::vector<NicDescription> nics;
  bool guest_agent =
      false;        // A port for qemu-guest-agent, by which the guest's clock is corrected.
  Arguments extra;  // Further arguments, as they are.
};
// Every key optional; unknown keys are refused by name. Sizes as numbers of bytes or "128M".
Result<QemuDescription> description_from_json(std::string_view text);

// "kvm" where /dev/kvm opens and the processor shows vmx or svm, else "tcg". Looks at the host.
std::string choose_accelerator();

// Where on this host a QEMU's sockets and files go.
struct HostPaths {
  std::string qmp;  // Unix socket that QEMU listens on, for libft alone.
  std::vector<NicSockets> nics;
  std::string agent{};  // Unix socket of the guest agent's port; empty: beside `qmp`, ".agent".
};
std::string agent_path(const HostPaths& paths);

Result<Arguments> arguments_for(const QemuDescription& description, const HostPaths& paths);

// What a user must add to a command line of his own, one argument group a line, for people.
std::string qemu_args(std::uint64_t memory_bytes, const HostPaths& paths, std::string_view preload);

// `original` with everything added that protection needs, and each -netdev turned into a dgram one
// towards the gate. Refuses, all at once, what cannot be turned.
Result<Arguments> wrap_arguments(const Arguments& original, const HostPaths& paths);

// The arguments that decide what the guest sees, without those that belong to this host: monitors,
// logs, paths of sockets; serial and character devices keep their place and lose their far end.
// REQUIRES: `running` are the arguments of a protected guest.
Arguments shape_of(const Arguments& running);
// Names the -netdevs of `shape`, in order.
std::vector<std::string> netdevs_of(const Arguments& shape);
// The unix socket on which this QEMU listens for the client of the guest agent's port; empty where
// it has none.
std::string agent_socket_of(const Arguments& running);
// Files that `shape` names and a standby must have too: kernel, initrd, firmware.
std::vector<std::string> files_of(const Arguments& shape);

struct StandbyArguments {
  HostPaths paths;
  std::string binary;                               // Empty: as on the primary.
  std::string serial;                               // File for the first serial port; empty: none.
  std::string accel;                                // Empty: as on the primary.
  std::map<std::string, std::string> replacements;  // Files under other names here.
  // Share this memory, one path for each memory backend; none: it has its own.
  std::vector<std::string> memory_paths{};
};
// The command line of a QEMU that waits for a state (`-incoming defer -S`).
Result<Arguments> standby_arguments(const Arguments& shape, const StandbyArguments& here);

// The same, with the memory as a private copy of `memory_paths` (one for each memory backend): for
// a throw-away instance that leaves the standby's memory alone.
Result<Arguments> probe_arguments(const Arguments& standby,
                                  const std::vector<std::string>& memory_paths,
                                  const HostPaths& paths);

// "128M", "1G", "4096" (MiB where no letter is given, as for -m).
Result<std::uint64_t> memory_size(std::string_view text);

}  // namespace libft::qemu
