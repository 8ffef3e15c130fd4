// SPDX-License-Identifier: LGPL-2.1-or-later
// The World of one run: two hosts and a client in network namespaces, an arbiter, a key, a folder
// for logs, and the ftctl processes that were started on the hosts. When it goes, everything that
// it started is ended. The demo's main thread calls it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "demo/interrupt.h"
#include "demo/options.h"
#include "lab/hosts.h"
#include "os/child.h"

namespace libft::demo {

using lab::Side;

inline constexpr int kMachineMib = 64;  // Of a guest on libft's machine.

inline char letter(Side side) { return side == Side::a ? 'A' : 'B'; }

// One ftctl, protecting or standing by; or a host's ftd, which keeps that one up; or the program in
// its place that has the C ABI alone, and answers as it does.
struct Ftctl {
  Side side = Side::a;
  std::string control, log, epochs_log;
  std::shared_ptr<os::Child> child;  // Of one host's ftd there is one, whoever asks it.

  std::optional<Json> status() const;  // Nothing while it does not answer.
  bool protects() const;               // A primary whose backup can take over now.
  bool runs_guest() const;             // The owner.
  bool backs() const;
  void kill();  // The process that serves the guest, and nothing else.
};

class World {
 public:
  static Result<std::unique_ptr<World>> create(const DemoOptions& options, const std::string& guest,
                                               const std::string& folder, Interrupt& interrupt);
  ~World();

  lab::TwoHosts& hosts() { return *hosts_; }

  Result<std::unique_ptr<Ftctl>> protect(Side side);
  Result<std::unique_ptr<Ftctl>> stand_by(Side side);
  // A third replica, on a host of its own. REQUIRES: options.replicas is 3.
  Result<std::unique_ptr<Ftctl>> witness();

  // The host's cables, then all its processes, at one instant. Returns that instant.
  Result<Time> kill_host(Side side);
  // Whether anything lives on the host.
  bool empty(Side side) { return hosts_->host(side).signal_all(0) == 0; }

  // As `systemctl restart ftd`: the processes that serve guests are left alone.
  Status restart_ftd(Side side);
  // As `ftctl upgrade` on that host. Done when its new ftctl serves the guest.
  Status upgrade(Side side);
  bool through_ftd() const { return options_.through == "ftd"; }

  std::string console_log() const { return folder_ + "/console.log"; }

 private:
  World(const DemoOptions& options, std::string guest, std::string folder, Interrupt& interrupt)
      : options_(options),
        guest_(std::move(guest)),
        folder_(std::move(folder)),
        interrupt_(interrupt) {}
  Status set_up();
  Status make_key();
  Status write_guest_description();
  Status start_etcd();
  using Words = std::vector<std::pair<std::string, std::string>>;  // Options by name.
  Words common_words(Side side) const;
  std::vector<std::string> ftctl_command(const std::string& duty, const Words& words) const;
  std::vector<std::string> pair_command(const std::string& duty, const Words& words) const;
  Result<std::unique_ptr<Ftctl>> start(Side side, const std::string& duty, Words words);
  Result<std::unique_ptr<Ftctl>> start_through_ftd(Side side, const std::vector<std::string>& argv,
                                                   const std::string& epochs);
  Status boot_ftd(Side side);
  Status start_ftd(Side side);
  std::string state_folder(Side side) const;
  Result<os::ScopedFd> log_file(const std::string& name) const;

  const DemoOptions& options_;
  const std::string guest_, folder_;
  Interrupt& interrupt_;
  std::unique_ptr<lab::TwoHosts> hosts_;
  std::string arbiter_;
  std::optional<os::Child> etcd_;
  struct Ftd {
    std::shared_ptr<os::Child> child;
    std::string log, epochs_log;
  };
  std::map<Side, Ftd> ftds_;
  int started_ = 0;
};

}  // namespace libft::demo
