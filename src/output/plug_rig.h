// SPDX-License-Identifier: LGPL-2.1-or-later
// What the plug gate sets up in the kernel, and the few things it does with it: two ifb devices,
// each with a `plug` queue, and one redirection through which all devices of the guest send their
// frames into one of the two. It stays when the process dies: nothing of it belongs to a
// descriptor. One thread at a time.
//
//   vif1.0 --+                      +--> ft0123456789a [plug] --+
//            +--(one redirection)---+                           +--> back to vif1.0, vif1.1: bridge
//   vif1.1 --+                      +--> ft0123456789b [plug] --+
#pragma once

#include <array>
#include <string>
#include <vector>

#include "libft/types.h"
#include "output/plug_messages.h"

namespace libft::output {

struct PlugRigSpec {
  GuestId guest;
  std::vector<std::string> devices;
  std::uint32_t queue_bytes_max = 0;  // Of each queue.
  bool adopt = false;
};

// The names of a guest's two ifb devices.
std::array<std::string, 2> plug_queue_names(const GuestId& guest);

class PlugRig {
 public:
  // Both queues hold when this returns, whatever they did before. After a failure nothing is
  // changed that was there, and what was made is gone again.
  static Result<PlugRig> assemble(const PlugRigSpec& spec);

  // Takes it all away; frames that a queue still holds are lost. Devices or parts that are gone
  // already are no failure.
  static Status remove(const PlugRigSpec& spec);

  // For one that was assembled: the devices' frames go their own way again, past the queues.
  void detach();
  void take_apart();  // As remove(); it serves no more.

  unsigned filling() const { return filling_; }  // The queue into which frames go.
  bool adopted() const { return adopted_; }      // Some of it was there.
  const std::vector<int>& device_ifindexes() const { return devices_; }

  // All devices send into `queue` from now on: one message to the kernel.
  Status redirect_to(unsigned queue);
  Status block(unsigned queue);  // It holds what comes in.
  // It lets out what it holds and what comes in. Returns what its ifb device will have counted when
  // all that it holds now has left. REQUIRES: what left before has left the ifb device, too.
  Result<std::uint64_t> unblock(unsigned queue);
  // Drops all that it holds, and blocks. Nothing leaves in between.
  Status empty(unsigned queue);
  // Fails when the queue is no plug queue any more.
  Result<QueueState> look(unsigned queue);
  // Nothing is held, and nothing is on its way through the ifb device, `count` having gone that
  // way.
  Result<bool> drained(unsigned queue, std::uint64_t count);
  // Frames that came out of the queue and that no device of the guest sent, ever: the kernel or a
  // program sent them by the ifb device itself, which drops what was not redirected to it.
  Result<std::uint64_t> strays(unsigned queue);
  std::uint64_t packets_towards_guest();  // Ever, as its devices count.

 private:
  struct Queue {
    int ifindex = 0;
    std::uint32_t handle = 0;
    std::uint64_t strays = 0;  // When last looked at.
  };

  PlugRig(NetlinkSocket netlink, const PlugRigSpec& spec)
      : netlink_(std::move(netlink)), spec_(spec), names_(plug_queue_names(spec.guest)) {}

  Status put_together();
  Status find_devices();
  Status find_leftovers();
  Status ensure_queue(unsigned queue);
  Result<QueueState> root_queue(unsigned queue);
  Result<LinkState> link_of(unsigned queue);
  Status ensure_redirect();
  Status ensure_filter(unsigned device);
  Result<bool> filtered_by_us(unsigned device);
  void undo();
  Result<std::optional<LinkState>> find_link(const std::string& name);
  std::uint32_t redirect_index() const;

  NetlinkSocket netlink_;
  PlugRigSpec spec_;
  std::array<std::string, 2> names_;
  std::array<Queue, 2> queues_;
  std::vector<int> devices_;
  std::vector<int> filters_;       // Devices that have ours.
  std::vector<int> ingress_made_;  // Devices whose place for filters this object made.
  unsigned filling_ = 0;
  bool adopted_ = false;
};

}  // namespace libft::output
