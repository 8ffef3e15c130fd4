// SPDX-License-Identifier: LGPL-2.1-or-later
// A XenPair is the world of one Xen lab test: two emulated Xen hosts, the networks between them, a
// client outside, and etcd beside the client. prepared_pair() makes one in seconds, from hosts that
// were saved running; attempt_on_pairs() gives a test a second, fresh pair when the emulation and
// not libft has failed. The test's main thread calls all of this.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lab/xen/guest.h"
#include "lab/xen/host.h"

namespace libft::lab {

// Where things are. The image and the saved hosts stay for the next time; what a test leaves behind
// is a folder of its own in `runs`, kept only when it failed.
struct XenLab {
  std::string image;  // What make-image.sh printed.
  std::string runs;

  // REQUIRES: called before become_namespace_root(). The first time it downloads packages.
  static Result<XenLab> find(const std::string& cache, const std::string& runs);
  // For a test: the cache that $LIBFT_CACHE names, else `folder`. Ends the process with exit code
  // 77 and the reason where this machine cannot run the lab.
  static XenLab find_or_skip(const std::string& folder);
};

class XenPair {
 public:
  // The networks, and two hosts without power.
  static Result<std::unique_ptr<XenPair>> create(const XenLab& lab, const std::string& name);
  ~XenPair();

  XenHost& host(Side side) { return *hosts_[side == Side::a ? 0 : 1]; }
  TwoHosts& net() { return *net_; }  // cut() and heal() of cables, and the client's namespace.
  const std::string& folder() const { return folder_; }

  // Both from power-on, until both are ready.
  Status boot();

  // Starts the guest and waits until its Redis answers the client.
  Status create_guest(Side side, const XenGuest& guest);
  Status wait_for_redis(Nanos patience);

  // The arbiter of two hosts that share no directory. Returns its name, "etcd:http://...".
  Result<std::string> start_etcd();

  // Into folder(): what the hosts that still answer know about themselves and their guests.
  void collect_logs();
  void keep_folder() { keep_ = true; }
  // Of a host that panicked; empty: none did.
  std::string panic() const;

 private:
  XenPair(std::string folder) : folder_(std::move(folder)) {}

  const std::string folder_;
  bool keep_ = false;
  std::unique_ptr<TwoHosts> net_;
  std::optional<os::Child> etcd_;
  std::array<std::unique_ptr<XenHost>, 2> hosts_;
};

// A running pair, with a guest on host a when one is asked for. Hosts that were not saved yet are
// booted and saved first, which takes minutes; whoever comes at the same time waits.
Result<std::unique_ptr<XenPair>> prepared_pair(const XenLab& lab, const std::string& name,
                                               const std::optional<XenGuest>& guest);

// Runs `attempt` on a prepared pair. When a host panicked, died by itself or did not answer in
// time, the attempt is made once more on a fresh pair, and a line that starts with "lab retried:"
// says so.
Status attempt_on_pairs(const XenLab& lab, const std::string& name,
                        const std::optional<XenGuest>& guest,
                        const std::function<Status(XenPair&)>& attempt);

}  // namespace libft::lab
