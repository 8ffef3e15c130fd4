// SPDX-License-Identifier: LGPL-2.1-or-later
// Formats: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h.
#include "output/plug_messages.h"

#include <arpa/inet.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/plug.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace libft::output {
namespace {

constexpr std::uint32_t kIngressHandle = 0xffff0000;
constexpr std::uint32_t kIngressFilters = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);

NetlinkMessage link_message(int type, int flags, int ifindex) {
  ifinfomsg link{};
  link.ifi_index = ifindex;
  NetlinkMessage message(type, flags);
  message.append(&link, sizeof link);
  return message;
}

NetlinkMessage tc_message(int type, int flags, int ifindex, std::uint32_t parent,
                          std::uint32_t handle = 0, std::uint32_t info = 0) {
  tcmsg traffic{};
  traffic.tcm_ifindex = ifindex;
  traffic.tcm_parent = parent;
  traffic.tcm_handle = handle;
  traffic.tcm_info = info;
  NetlinkMessage message(type, flags);
  message.append(&traffic, sizeof traffic);
  return message;
}

// With a build function of libnl-route, which knows this queue's options.
NetlinkMessage plug_message(int ifindex, std::uint32_t handle, int flags, PlugOrder order,
                            std::uint32_t limit_bytes) {
  const std::unique_ptr<rtnl_qdisc, decltype(&rtnl_qdisc_put)> queue(rtnl_qdisc_alloc(),
                                                                     &rtnl_qdisc_put);
  nl_msg* built = nullptr;
  if (queue == nullptr) std::abort();  // No memory for an object.
  rtnl_tc* const traffic = TC_CAST(queue.get());
  rtnl_tc_set_ifindex(traffic, ifindex);
  rtnl_tc_set_parent(traffic, TC_H_ROOT);
  if (handle != 0) rtnl_tc_set_handle(traffic, handle);
  if (rtnl_tc_set_kind(traffic, "plug") != 0) std::abort();  // libnl 3.2.11 and later know it.
  switch (order) {
    case PlugOrder::block: rtnl_qdisc_plug_buffer(queue.get()); break;
    case PlugOrder::release_one: rtnl_qdisc_plug_release_one(queue.get()); break;
    case PlugOrder::release_indefinite: rtnl_qdisc_plug_release_indefinite(queue.get()); break;
    case PlugOrder::limit:
      rtnl_qdisc_plug_set_limit(queue.get(), static_cast<int>(limit_bytes));
      break;
  }
  if (rtnl_qdisc_build_add_request(queue.get(), flags, &built) != 0) std::abort();
  return NetlinkMessage(built);
}

NetlinkMessage action_message(int type, int flags) {
  tcamsg action{};
  action.tca_family = AF_UNSPEC;
  NetlinkMessage message(type, flags);
  message.append(&action, sizeof action);
  return message;
}

// One entry of a list of actions: which kind, which index, and where it leads.
void put_mirred(NetlinkMessage& message, std::uint32_t index, int to_ifindex) {
  tc_mirred redirect{};
  redirect.index = index;
  redirect.action = TC_ACT_STOLEN;
  redirect.eaction = TCA_EGRESS_REDIR;
  redirect.ifindex = static_cast<__u32>(to_ifindex);
  message.nest(1, [&] {
    message.put_text(TCA_ACT_KIND, "mirred");
    message.nest(TCA_ACT_OPTIONS,
                 [&] { message.put(TCA_MIRRED_PARMS, &redirect, sizeof redirect); });
  });
}

NetlinkMessage redirect_by_index(int type, std::uint32_t index) {
  NetlinkMessage message = action_message(type, type == RTM_GETACTION ? NLM_F_ECHO : 0);
  message.nest(TCA_ACT_TAB, [&] {
    message.nest(1, [&] {
      message.put_text(TCA_ACT_KIND, "mirred");
      message.put_number(TCA_ACT_INDEX, index);
    });
  });
  return message;
}

std::uint32_t filter_info() { return TC_H_MAKE(kFilterPriority << 16, htons(ETH_P_ALL)); }

using Attributes = std::vector<nlattr*>;

std::optional<Attributes> attributes_of(const nlmsghdr& message, int family_bytes, int type_max) {
  Attributes attributes(static_cast<std::size_t>(type_max) + 1);
  if (nlmsg_parse(const_cast<nlmsghdr*>(&message), family_bytes, attributes.data(), type_max,
                  nullptr) != 0) {
    return std::nullopt;
  }
  return attributes;
}

Attributes nested(nlattr* outer, int type_max) {
  Attributes attributes(static_cast<std::size_t>(type_max) + 1);
  if (outer != nullptr) nla_parse_nested(attributes.data(), type_max, outer, nullptr);
  return attributes;
}

std::string text_in(const nlattr* attribute) {
  if (attribute == nullptr) return {};
  const auto* text = static_cast<const char*>(nla_data(attribute));
  return {text, ::strnlen(text, static_cast<std::size_t>(nla_len(attribute)))};
}

// Kernels append fields to their structures, and older ones lack the last: copy what is there.
template <class T>
T value_in(const nlattr* attribute) {
  T value{};
  if (attribute == nullptr) return value;
  std::memcpy(&value, nla_data(attribute),
              std::min(sizeof value, static_cast<std::size_t>(nla_len(attribute))));
  return value;
}

template <class Family>
const Family* family_of(const nlmsghdr& message) {
  if (nlmsg_datalen(&message) < static_cast<int>(sizeof(Family))) return nullptr;
  return static_cast<const Family*>(nlmsg_data(&message));
}

// Of the first entry in a list of actions, when that is a redirection.
std::optional<tc_mirred> mirred_in(nlattr* list) {
  const Attributes entry = nested(nested(list, TCA_ACT_MAX_PRIO)[1], TCA_ACT_MAX);
  if (text_in(entry[TCA_ACT_KIND]) != "mirred" || entry[TCA_ACT_OPTIONS] == nullptr) {
    return std::nullopt;
  }
  return value_in<tc_mirred>(nested(entry[TCA_ACT_OPTIONS], TCA_MIRRED_MAX)[TCA_MIRRED_PARMS]);
}

}  // namespace

NetlinkMessage get_link(const std::string& name) {
  NetlinkMessage message = link_message(RTM_GETLINK, 0, 0);
  message.put_text(IFLA_IFNAME, name.c_str());
  return message;
}

NetlinkMessage get_link(int ifindex) { return link_message(RTM_GETLINK, 0, ifindex); }

NetlinkMessage add_ifb(const std::string& name, const std::string& alias) {
  NetlinkMessage message = link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
  message.put_text(IFLA_IFNAME, name.c_str());
  message.put_text(IFLA_IFALIAS, alias.c_str());
  message.nest(IFLA_LINKINFO, [&] { message.put_text(IFLA_INFO_KIND, "ifb"); });
  return message;
}

NetlinkMessage set_link(int ifindex, bool up) {
  ifinfomsg link{};
  link.ifi_index = ifindex;
  link.ifi_change = IFF_UP;
  link.ifi_flags = up ? IFF_UP : 0;
  NetlinkMessage message(RTM_NEWLINK, 0);
  message.append(&link, sizeof link);
  return message;
}

NetlinkMessage without_addresses(int ifindex) {
  NetlinkMessage message = link_message(RTM_NEWLINK, 0, ifindex);
  const std::uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
  message.nest(IFLA_AF_SPEC, [&] {
    message.nest(AF_INET6, [&] { message.put(IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof mode); });
  });
  return message;
}

NetlinkMessage delete_link(int ifindex) { return link_message(RTM_DELLINK, 0, ifindex); }

NetlinkMessage replace_plug(int ifindex, std::uint32_t handle, std::uint32_t limit_bytes) {
  return plug_message(ifindex, handle, NLM_F_CREATE | NLM_F_REPLACE, PlugOrder::limit, limit_bytes);
}

NetlinkMessage order_plug(int ifindex, PlugOrder order, std::uint32_t limit_bytes) {
  return plug_message(ifindex, 0, NLM_F_ECHO, order, limit_bytes);
}

NetlinkMessage get_queue(int ifindex) {
  return tc_message(RTM_GETQDISC, NLM_F_ECHO, ifindex, TC_H_ROOT);
}

NetlinkMessage set_redirect(std::uint32_t index, int to_ifindex) {
  NetlinkMessage message = action_message(RTM_NEWACTION, NLM_F_CREATE | NLM_F_REPLACE);
  message.nest(TCA_ACT_TAB, [&] { put_mirred(message, index, to_ifindex); });
  return message;
}

NetlinkMessage get_redirect(std::uint32_t index) { return redirect_by_index(RTM_GETACTION, index); }
NetlinkMessage delete_redirect(std::uint32_t index) {
  return redirect_by_index(RTM_DELACTION, index);
}

NetlinkMessage add_ingress(int ifindex) {
  NetlinkMessage message =
      tc_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex, TC_H_CLSACT, kIngressHandle);
  message.put_text(TCA_KIND, "clsact");
  return message;
}

NetlinkMessage delete_ingress(int ifindex) {
  return tc_message(RTM_DELQDISC, 0, ifindex, TC_H_CLSACT, kIngressHandle);
}

NetlinkMessage add_filter(int ifindex, std::uint32_t redirect_index) {
  NetlinkMessage message = tc_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, ifindex,
                                      kIngressFilters, 1, filter_info());
  message.put_text(TCA_KIND, "matchall");
  message.nest(TCA_OPTIONS, [&] {
    // The redirection exists; the kernel takes it by its index and leaves where it leads.
    message.nest(TCA_MATCHALL_ACT, [&] { put_mirred(message, redirect_index, 0); });
  });
  return message;
}

NetlinkMessage delete_filter(int ifindex) {
  NetlinkMessage message =
      tc_message(RTM_DELTFILTER, 0, ifindex, kIngressFilters, 1, filter_info());
  message.put_text(TCA_KIND, "matchall");
  return message;
}

NetlinkMessage list_filters(int ifindex) {
  return tc_message(RTM_GETTFILTER, NLM_F_DUMP, ifindex, kIngressFilters);
}

std::optional<LinkState> parse_link(const nlmsghdr& message) {
  const auto* link = family_of<ifinfomsg>(message);
  if (message.nlmsg_type != RTM_NEWLINK || link == nullptr) return std::nullopt;
  const auto attributes = attributes_of(message, sizeof *link, IFLA_MAX);
  if (!attributes) return std::nullopt;
  const auto counts = value_in<rtnl_link_stats64>((*attributes)[IFLA_STATS64]);
  LinkState state;
  state.ifindex = link->ifi_index;
  state.up = (link->ifi_flags & IFF_UP) != 0;
  state.kind = text_in(nested((*attributes)[IFLA_LINKINFO], IFLA_INFO_MAX)[IFLA_INFO_KIND]);
  state.packets_from = counts.rx_packets;
  state.packets_to = counts.tx_packets;
  state.packets_from_dropped = counts.rx_dropped;
  return state;
}

std::optional<QueueState> parse_queue(const nlmsghdr& message) {
  const auto* traffic = family_of<tcmsg>(message);
  if (message.nlmsg_type != RTM_NEWQDISC || traffic == nullptr) return std::nullopt;
  const auto attributes = attributes_of(message, sizeof *traffic, TCA_MAX);
  if (!attributes) return std::nullopt;
  const Attributes counts = nested((*attributes)[TCA_STATS2], TCA_STATS_MAX);
  const auto left = value_in<gnet_stats_basic>(counts[TCA_STATS_BASIC]);
  const auto held = value_in<gnet_stats_queue>(counts[TCA_STATS_QUEUE]);
  QueueState state;
  state.kind = text_in((*attributes)[TCA_KIND]);
  state.handle = traffic->tcm_handle;
  state.packets = held.qlen;
  state.bytes = held.backlog;
  state.packets_left = counts[TCA_STATS_PKT64] != nullptr
                           ? value_in<std::uint64_t>(counts[TCA_STATS_PKT64])
                           : left.packets;
  state.drops = held.drops;
  return state;
}

std::optional<int> parse_redirect(const nlmsghdr& message) {
  const auto* action = family_of<tcamsg>(message);
  if (action == nullptr) return std::nullopt;
  const auto attributes = attributes_of(message, sizeof *action, TCA_ACT_TAB);
  if (!attributes) return std::nullopt;
  const auto redirect = mirred_in((*attributes)[TCA_ACT_TAB]);
  if (!redirect) return std::nullopt;
  return static_cast<int>(redirect->ifindex);
}

std::optional<FilterState> parse_filter(const nlmsghdr& message) {
  const auto* traffic = family_of<tcmsg>(message);
  if (message.nlmsg_type != RTM_NEWTFILTER || traffic == nullptr) return std::nullopt;
  const auto attributes = attributes_of(message, sizeof *traffic, TCA_MAX);
  if (!attributes) return std::nullopt;
  FilterState state;
  state.priority = static_cast<std::uint16_t>(TC_H_MAJ(traffic->tcm_info) >> 16);
  state.kind = text_in((*attributes)[TCA_KIND]);
  if (state.kind == "matchall") {
    const auto redirect =
        mirred_in(nested((*attributes)[TCA_OPTIONS], TCA_MATCHALL_MAX)[TCA_MATCHALL_ACT]);
    if (redirect && redirect->eaction == TCA_EGRESS_REDIR) state.redirect_index = redirect->index;
  }
  return state;
}

}  // namespace libft::output
