// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/plug_rig.h"

#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "os/fd.h"

namespace libft::output {
namespace {

constexpr std::string_view kModules =
    "modprobe -a ifb sch_plug sch_ingress act_mirred cls_matchall";

// What a kernel without the module answers, in the cases that have no other reason.
bool lacks_module(int error) { return error == ENOENT || error == EOPNOTSUPP; }

Status refusal(const std::string& doing, int error, const std::string& words) {
  const Status plain = os::errno_status(doing, error);
  const std::string text =
      words.empty() ? plain.message() : fmt::format("{} (the kernel: {})", plain.message(), words);
  if (error == EPERM || error == EACCES) {
    return Status(Code::refused, text + "; remedy: run it as root (CAP_NET_ADMIN, CAP_NET_RAW)");
  }
  if (lacks_module(error)) {
    return Status(Code::unsupported,
                  fmt::format("{}; remedy: {} (Debian: package linux-image-amd64 or -cloud-amd64)",
                              text, kModules));
  }
  return Status(plain.code(), text);
}

Status ask(NetlinkSocket& netlink, const NetlinkMessage& request, const std::string& doing,
           const NetlinkSocket::Reply& reply = {}) {
  std::string words;
  const int error = netlink.ask_errno(request, reply, words);
  return error == 0 ? Status() : refusal(doing, error, words);
}

Status check_names(const std::vector<std::string>& devices) {
  if (devices.empty()) return Status(Code::invalid, "a plug gate needs at least one device");
  for (const std::string& name : devices) {
    if (name.empty() || name.size() >= IFNAMSIZ) {
      return Status(Code::invalid, fmt::format("device \"{}\": a name has 1 to {} characters", name,
                                               IFNAMSIZ - 1));
    }
    if (std::count(devices.begin(), devices.end(), name) > 1) {
      return Status(Code::invalid, fmt::format("device {} is named twice", name));
    }
  }
  return {};
}

}  // namespace

std::array<std::string, 2> plug_queue_names(const GuestId& guest) {
  std::string name = "ft";  // 13 characters in all; Linux takes 15.
  for (unsigned i = 0; i < 5; ++i) name += fmt::format("{:02x}", guest.bytes()[i]);
  return {name + "a", name + "b"};
}

Result<PlugRig> PlugRig::assemble(const PlugRigSpec& spec) {
  FT_TRY(check_names(spec.devices));
  FT_ASSIGN(auto netlink, NetlinkSocket::open());
  PlugRig rig(std::move(netlink), spec);
  FT_TRY(rig.find_devices());
  FT_TRY(rig.find_leftovers());
  if (Status status = rig.put_together(); !status.ok()) {
    rig.undo();
    return failure(std::move(status));
  }
  return rig;
}

// Frames are redirected last: into queues that hold.
Status PlugRig::put_together() {
  FT_TRY(ensure_queue(0));
  FT_TRY(ensure_queue(1));
  FT_TRY(ensure_redirect());
  for (unsigned device = 0; device < devices_.size(); ++device) FT_TRY(ensure_filter(device));
  return {};
}

Result<std::optional<LinkState>> PlugRig::find_link(const std::string& name) {
  std::optional<LinkState> link;
  std::string words;
  const int error = netlink_.ask_errno(
      get_link(name), [&](nlmsghdr& message) { link = parse_link(message); }, words);
  if (error != 0 && error != ENODEV) {
    return failure(refusal(fmt::format("look for device {}", name), error, words));
  }
  return link;
}

Status PlugRig::find_devices() {
  for (const std::string& name : spec_.devices) {
    FT_ASSIGN(const auto link, find_link(name));
    if (!link) {
      return Status(Code::not_found,
                    fmt::format("device {} does not exist here; remedy: name the guest's vif or "
                                "TAP devices as `ip link` shows them",
                                name));
    }
    devices_.push_back(link->ifindex);
  }
  return {};
}

Status PlugRig::find_leftovers() {
  for (unsigned i = 0; i < queues_.size(); ++i) {
    FT_ASSIGN(const auto link, find_link(names_[i]));
    if (!link) continue;
    if (link->kind != "ifb") {
      return Status(Code::refused, fmt::format("device {} has a name that libft needs and is no "
                                               "ifb; remedy: rename it",
                                               names_[i]));
    }
    if (!spec_.adopt) {
      return Status(Code::busy,
                    fmt::format("device {} holds output of guest {} for an earlier process; "
                                "remedy: adopt it, or take it away (`ip link del {}`)",
                                names_[i], spec_.guest.name(), names_[i]));
    }
    queues_[i].ifindex = link->ifindex;
    adopted_ = true;
  }
  return {};
}

Status PlugRig::ensure_queue(unsigned queue) {
  Queue& here = queues_[queue];
  if (here.ifindex == 0) {
    const std::string alias = fmt::format("libft: held output of {}", spec_.guest.name());
    FT_TRY(ask(netlink_, add_ifb(names_[queue], alias),
               fmt::format("make ifb device {}", names_[queue])));
    FT_ASSIGN(const auto link, find_link(names_[queue]));
    if (!link) return Status(Code::io, fmt::format("device {} is gone again", names_[queue]));
    here.ifindex = link->ifindex;
  }
  // The kernel's own frames would be held among the guest's. Without an address it sends none: an
  // ifb device has neither neighbours (NOARP) nor groups (no MULTICAST) to ask for. Before it is
  // up, else they are on their way. Such frames cannot leave either way, so that a refusal, as by a
  // kernel without IPv6, is no failure.
  std::string words;
  netlink_.ask_errno(without_addresses(here.ifindex), {}, words);
  FT_ASSIGN(const QueueState state, root_queue(queue));
  here.handle = state.handle;
  if (state.kind == "plug") {
    FT_TRY(block(queue));
    FT_TRY(ask(netlink_, order_plug(here.ifindex, PlugOrder::limit, spec_.queue_bytes_max),
               "limit a plug queue"));
  } else {
    FT_TRY(empty(queue));
  }
  return ask(netlink_, set_link(here.ifindex, true), fmt::format("set {} up", names_[queue]));
}

// Unique on this host as long as the first queue lives, and above what the kernel chooses itself.
std::uint32_t PlugRig::redirect_index() const {
  return 0x40000000u | static_cast<std::uint32_t>(queues_[0].ifindex);
}

Status PlugRig::ensure_redirect() {
  std::optional<int> leads_to;
  std::string words;
  const int error = netlink_.ask_errno(
      get_redirect(redirect_index()),
      [&](nlmsghdr& message) { leads_to = parse_redirect(message); }, words);
  if (error == 0 && leads_to) {
    for (unsigned i = 0; i < queues_.size(); ++i) {
      if (*leads_to != queues_[i].ifindex) continue;
      filling_ = i;
      return {};
    }
  }
  return redirect_to(0);
}

// Whether our filter is there. Somebody else's could take frames past the gate, or hide them from
// it: refused, and left as it is.
Result<bool> PlugRig::filtered_by_us(unsigned device) {
  bool ours = false;
  std::string others;
  FT_TRY(ask(netlink_, list_filters(devices_[device]),
             fmt::format("list the filters of {}", spec_.devices[device]), [&](nlmsghdr& message) {
               const auto filter = parse_filter(message);
               if (!filter) return;
               if (filter->redirect_index == redirect_index()) {
                 ours = true;
               } else if (filter->priority != kFilterPriority || filter->kind != "matchall" ||
                          filter->redirect_index != 0) {
                 others = fmt::format("{} at priority {}", filter->kind, filter->priority);
               }
             }));
  if (others.empty()) return ours;
  return failure(
      Code::refused,
      fmt::format(
          "device {} has a filter of somebody else for what comes in ({}), which could take "
          "frames past the gate; remedy: look at `tc filter show dev {} ingress` and remove "
          "it, or give the guest another device",
          spec_.devices[device], others, spec_.devices[device]));
}

Status PlugRig::ensure_filter(unsigned device) {
  const std::string& name = spec_.devices[device];
  FT_ASSIGN(const bool there, filtered_by_us(device));
  if (there) {
    filters_.push_back(devices_[device]);
    return {};
  }
  std::string words;
  const int error = netlink_.ask_errno(add_ingress(devices_[device]), {}, words);
  if (error == 0) ingress_made_.push_back(devices_[device]);
  // EEXIST: somebody else attached one. It serves us as well, and stays when we go.
  if (error != 0 && error != EEXIST) {
    return refusal(fmt::format("attach an ingress queue to {}", name), error, words);
  }
  FT_TRY(ask(netlink_, add_filter(devices_[device], redirect_index()),
             fmt::format("redirect what comes from {}", name)));
  filters_.push_back(devices_[device]);
  return {};
}

Status PlugRig::redirect_to(unsigned queue) {
  FT_TRY(ask(netlink_, set_redirect(redirect_index(), queues_[queue].ifindex),
             fmt::format("redirect the guest's output to {}", names_[queue])));
  filling_ = queue;
  return {};
}

Status PlugRig::block(unsigned queue) {
  return ask(netlink_, order_plug(queues_[queue].ifindex, PlugOrder::block),
             fmt::format("block {}", names_[queue]));
}

Result<std::uint64_t> PlugRig::unblock(unsigned queue) {
  FT_ASSIGN(const LinkState link, link_of(queue));
  FT_ASSIGN(const QueueState state, look(queue));
  FT_TRY(ask(netlink_, order_plug(queues_[queue].ifindex, PlugOrder::release_indefinite),
             fmt::format("unblock {}", names_[queue])));
  return link.packets_to + link.packets_from_dropped + state.packets;
}

Status PlugRig::empty(unsigned queue) {
  Queue& here = queues_[queue];
  const std::uint32_t handle = here.handle == 0x10000 ? 0x20000 : 0x10000;
  FT_TRY(ask(netlink_, replace_plug(here.ifindex, handle, spec_.queue_bytes_max),
             fmt::format("attach a plug queue to {}", names_[queue])));
  here.handle = handle;
  return {};
}

// One that the kernel attached by itself is not described: a state without a kind.
Result<QueueState> PlugRig::root_queue(unsigned queue) {
  QueueState state;
  FT_TRY(ask(netlink_, get_queue(queues_[queue].ifindex),
             fmt::format("look at the queue of {}", names_[queue]), [&](nlmsghdr& message) {
               if (const auto parsed = parse_queue(message)) state = *parsed;
             }));
  return state;
}

Result<QueueState> PlugRig::look(unsigned queue) {
  FT_ASSIGN(QueueState state, root_queue(queue));
  if (state.kind == "plug") return state;
  return failure(Code::io, fmt::format("somebody else took the plug queue of {} away: the guest's "
                                       "output is not held any more",
                                       names_[queue]));
}

Result<LinkState> PlugRig::link_of(unsigned queue) {
  std::optional<LinkState> link;
  const std::string doing = fmt::format("look at {}", names_[queue]);
  FT_TRY(ask(netlink_, get_link(queues_[queue].ifindex), doing,
             [&](nlmsghdr& message) { link = parse_link(message); }));
  if (!link) return failure(Code::io, doing + ": the kernel's answer says nothing of it");
  queues_[queue].strays = link->packets_from_dropped;
  return *link;
}

Result<std::uint64_t> PlugRig::strays(unsigned queue) {
  FT_ASSIGN(const LinkState link, link_of(queue));
  return link.packets_from_dropped;
}

// An ifb device counts a frame as received when it comes from the queue, and as sent when it goes
// on, or as dropped when it is a stray. Between leaving the queue and being received a frame is
// nowhere: therefore `count`. The strays are those of an earlier look: the kernel does not read its
// counts at one time, and a stray dropped in between would stand for a frame of the guest that is
// still on its way. When there were new ones, the next look agrees.
Result<bool> PlugRig::drained(unsigned queue, std::uint64_t count) {
  FT_ASSIGN(const QueueState state, look(queue));
  if (state.packets != 0) return false;
  const std::uint64_t strays = queues_[queue].strays;
  FT_ASSIGN(const LinkState link, link_of(queue));
  const std::uint64_t gone = link.packets_to + strays;
  return link.packets_from == gone && gone >= count;
}

std::uint64_t PlugRig::packets_towards_guest() {
  std::uint64_t packets = 0;
  std::string words;
  for (const int ifindex : devices_) {
    // A device that is gone counts no more.
    netlink_.ask_errno(
        get_link(ifindex),
        [&](nlmsghdr& message) {
          if (const auto link = parse_link(message)) packets += link->packets_to;
        },
        words);
  }
  return packets;
}

Status PlugRig::remove(const PlugRigSpec& spec) {
  FT_ASSIGN(auto netlink, NetlinkSocket::open());
  PlugRig rig(std::move(netlink), spec);
  rig.spec_.adopt = true;
  rig.spec_.devices.clear();
  for (const std::string& name : spec.devices) {
    FT_ASSIGN(const auto link, rig.find_link(name));
    if (!link) continue;
    rig.spec_.devices.push_back(name);
    rig.devices_.push_back(link->ifindex);
  }
  FT_TRY(rig.find_leftovers());
  for (unsigned i = 0; i < rig.devices_.size() && rig.queues_[0].ifindex != 0; ++i) {
    const auto ours = rig.filtered_by_us(i);
    if (ours && *ours) rig.filters_.push_back(rig.devices_[i]);
  }
  rig.take_apart();
  return {};
}

// After a failure: what was adopted stays as it was, so that output stays held.
void PlugRig::undo() {
  if (!adopted_) take_apart();
}

void PlugRig::detach() {
  std::string words;
  for (const int device : filters_) netlink_.ask_errno(delete_filter(device), {}, words);
  for (const int device : ingress_made_) {
    bool used = false;  // By filters that somebody else attached since.
    netlink_.ask_errno(
        list_filters(device), [&](nlmsghdr&) { used = true; }, words);
    if (!used) netlink_.ask_errno(delete_ingress(device), {}, words);
  }
  filters_.clear();
  ingress_made_.clear();
}

void PlugRig::take_apart() {
  std::string words;
  detach();
  // The kernel lets go of a deleted filter's redirection a little later (an RCU grace period).
  for (int tries = 0; queues_[0].ifindex != 0 && tries < 100; ++tries) {
    if (netlink_.ask_errno(delete_redirect(redirect_index()), {}, words) != EPERM) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (const Queue& queue : queues_) {
    if (queue.ifindex != 0) netlink_.ask_errno(delete_link(queue.ifindex), {}, words);
  }
}

}  // namespace libft::output
