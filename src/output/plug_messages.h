// SPDX-License-Identifier: LGPL-2.1-or-later
// The requests of which the plug gate is made, as netlink messages, and what their answers say: ifb
// devices, `plug` queues, the one redirection that all devices of a guest share, and the filter
// that sends a device's frames there. Pure: nothing here talks to the kernel. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "output/netlink.h"

namespace libft::output {

// What linux/pkt_sched.h calls TCQ_PLUG_BUFFER, _RELEASE_ONE, _RELEASE_INDEFINITE and _LIMIT.
enum class PlugOrder { block, release_one, release_indefinite, limit };

// Ours comes first of all filters: one before it could take frames past the gate.
inline constexpr std::uint16_t kFilterPriority = 1;

NetlinkMessage get_link(const std::string& name);
NetlinkMessage get_link(int ifindex);
// `alias` is what `ip link` shows to people.
NetlinkMessage add_ifb(const std::string& name, const std::string& alias);
NetlinkMessage set_link(int ifindex, bool up);
// No IPv6 address, and so nothing that the kernel sends by the device itself. Refused
// (EAFNOSUPPORT) by a kernel without IPv6.
NetlinkMessage without_addresses(int ifindex);
NetlinkMessage delete_link(int ifindex);

// A queue of this kind begins to hold when it is made. Takes the place of the root queue that is
// there, and drops what that one holds; the kernel swaps them while the device sends nothing.
NetlinkMessage replace_plug(int ifindex, std::uint32_t handle, std::uint32_t limit_bytes);
// To the root queue that is there. Answered with that queue, as by get_queue().
NetlinkMessage order_plug(int ifindex, PlugOrder order, std::uint32_t limit_bytes = 0);
NetlinkMessage get_queue(int ifindex);

// `index` names the redirection on this host. The same request changes where it leads, for all
// filters at once: the kernel swaps one pointer.
NetlinkMessage set_redirect(std::uint32_t index, int to_ifindex);
NetlinkMessage get_redirect(std::uint32_t index);
NetlinkMessage delete_redirect(std::uint32_t index);

// Where filters for what comes in from a device are attached. Refused (EEXIST) when there is one.
NetlinkMessage add_ingress(int ifindex);
NetlinkMessage delete_ingress(int ifindex);
// All frames of all protocols.
NetlinkMessage add_filter(int ifindex, std::uint32_t redirect_index);
NetlinkMessage delete_filter(int ifindex);
NetlinkMessage list_filters(int ifindex);

struct LinkState {
  int ifindex = 0;
  bool up = false;
  std::string kind;  // "ifb", "tun", "veth"...; empty for hardware and Xen's vifs.
  std::uint64_t packets_from = 0, packets_to = 0;  // As the host counts: received, sent.
  std::uint64_t packets_from_dropped = 0;          // Of those received.
};
std::optional<LinkState> parse_link(const nlmsghdr& message);

struct QueueState {
  std::string kind;
  std::uint32_t handle = 0;
  std::uint64_t packets = 0, bytes = 0;  // Held now.
  std::uint64_t packets_left = 0;        // Ever, of this queue.
  std::uint64_t drops = 0;               // Ever, of this queue.
};
std::optional<QueueState> parse_queue(const nlmsghdr& message);

std::optional<int> parse_redirect(const nlmsghdr& message);  // The ifindex it leads to.

struct FilterState {
  std::uint16_t priority = 0;
  std::string kind;
  std::uint32_t redirect_index = 0;  // 0: not a filter of this gate's form.
};
std::optional<FilterState> parse_filter(const nlmsghdr& message);

}  // namespace libft::output
