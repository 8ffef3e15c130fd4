// SPDX-License-Identifier: LGPL-2.1-or-later
// OwnGuests opens guests of libft's own for one session, by what the options name: a primary's, and
// the standby of whatever a peer has. Threads that may wait, one at a time; place() any.
#pragma once

#include <mutex>
#include <optional>

#include "host/machine_opener.h"
#include "host/qemu_opener.h"
#include "host/xen_opener.h"
#include "options.h"

namespace libft::capi {

class OwnGuests {
 public:
  // Everything outlives it. `command` and `qmp` may be empty.
  OwnGuests(const Options& options, GuestId guest, std::shared_ptr<ReleaseGuard> guard, Log& log)
      : options_(options), guest_(std::move(guest)), guard_(std::move(guard)), log_(log) {}

  // Whether there is such a driver, without opening anything.
  static Outcome check(const std::string& spec);
  // What the command line of a QEMU of the host's must have for attaching to it.
  static Outcome qemu_arguments(const Options& options, std::uint64_t memory_bytes,
                                std::uint32_t nics, std::string& into);
  Result<Replica> open(const std::string& spec, const std::vector<std::string>& command,
                       std::shared_ptr<qemu::QmpRelay> qmp);
  Result<Replica> standby(const GuestInfo& primary);
  // What open() or the first standby() is to give instead.
  void go_on_with(host::HeldQemu held) { held_ = std::move(held); }

  struct Place {
    pid_t pid = 0;
    std::string qmp, domain;
    std::vector<output::GateDescriptors> descriptors{};
  };
  std::optional<Place> place() const;  // Of the guest that was opened last.

 private:
  Result<host::QemuOpener> qemu() const;
  host::XenOpener xen() const;
  host::MachineOpener machine() const;
  Result<Replica> take_up(bool standby, std::shared_ptr<qemu::QmpRelay> qmp);
  Result<Replica> remember(Result<host::OpenedXen> opened);
  Result<Replica> remember(Result<host::OpenedQemu> opened);

  const Options& options_;
  const GuestId guest_;
  const std::shared_ptr<ReleaseGuard> guard_;
  Log& log_;
  unsigned standbys_ = 0;
  std::optional<host::HeldQemu> held_;
  mutable std::mutex mutex_;
  std::optional<Place> place_;
};

}  // namespace libft::capi
