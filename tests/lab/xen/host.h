// SPDX-License-Identifier: LGPL-2.1-or-later
// A XenHost is one emulated machine that runs Xen: QEMU without any acceleration, in a host's
// namespace of lab::TwoHosts, whose three networks reach the emulated cards. It boots (most of a
// minute), or goes on from where a saved one stood (seconds). Any thread; one call at a time.
//
//   address          network                  in dom0
//   10.76.0.1, .2    commands, from here      its own card   52:54:00:76:00:01, :02
//   10.77.0.1, .2    service: guests, client  xenbr0         52:54:00:77:..
//   10.78.0.1, .2    replication              its own card   52:54:00:78:..
//   10.79.0.1, .2    heartbeat                its own card   52:54:00:79:..
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lab/hosts.h"
#include "lab/xen/command.h"
#include "os/child.h"

namespace libft::qemu {
class Qmp;
}

namespace libft::lab {

// What a host needs to run, with the paths of the three files that are a saved one.
struct HostFiles {
  std::string disk, memory, devices;
  explicit HostFiles(const std::string& folder)
      : disk(folder + "/disk.qcow2"), memory(folder + "/memory"), devices(folder + "/devices") {}
};

class XenHost {
 public:
  // `image` is what make-image.sh printed; `folder` exists and is this host's own.
  static Result<std::unique_ptr<XenHost>> create(Namespace& home, Side side, std::string image,
                                                 std::string folder);
  ~XenHost();

  Side side() const { return side_; }

  // Power on. Its disk is as it was after the last power-off.
  Status boot();
  // Returns when dom0 answers and `xl` works.
  Status wait_ready(Nanos patience);

  enum class Use { run, save_again };  // save_again: with a copy of the memory, to be saved.
  Status restore(const std::string& saved, Use use);
  // Stops the machine at one instant and moves it to the folder `saved`. The machine is off then.
  // REQUIRES: booted, or restored to be saved again.
  Status save(const std::string& saved);

  // Runs `line` in bash on the host, with `input` as its stdin.
  Result<CommandResult> command(std::string_view line, Nanos limit, std::string_view input = {});
  // The same; anything but exit code 0 is a failure that quotes the output. Returns the output.
  Result<std::string> run(std::string_view line, Nanos limit, std::string_view input = {});
  // Copies local files, or folders with all that is in them, into a folder there.
  Status push(const std::vector<std::string>& files, const std::string& folder, Nanos limit);

  void kill();  // SIGKILL: no goodbye to anybody.
  bool running() const;
  bool panicked() const;  // Xen or dom0 said so on the console.
  std::string console() const { return folder_ + "/console.log"; }

  // A change of this text makes older saved hosts useless.
  static std::string description(Side side);

 private:
  XenHost(Namespace& home, Side side, std::string image, std::string folder)
      : home_(home), side_(side), image_(std::move(image)), folder_(std::move(folder)) {}
  Status wire();
  Status make_disk(const std::string& backing, const char* format);
  enum class Memory { kept, thrown_away };
  Status start(const std::string& memory_file, Memory memory, std::vector<std::string> more);
  Status load(const std::string& devices);
  Status stop_in_hypervisor(qemu::Qmp& monitor);
  Result<std::unique_ptr<qemu::Qmp>> monitor();
  Status in_time(std::string_view what, Nanos patience, const std::function<bool()>& done);

  Namespace& home_;
  const Side side_;
  const std::string image_, folder_;
  mutable std::optional<os::Child> qemu_;  // Asking whether it runs reaps it when it does not.
};

}  // namespace libft::lab
