// SPDX-License-Identifier: LGPL-2.1-or-later
// The plug gate's requests as the kernel reads them, and its refusals. What the kernel does with
// the requests is tested in tests/lab/plug.
#include "output/plug_messages.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/route/qdisc/plug.h>
#include <sched.h>

#include <cstring>
#include <thread>

#include "os/fd.h"
#include "output/plug_gate.h"
#include "output/plug_rig.h"
#include "support/frames_world.h"

namespace libft::output {
namespace {

tcmsg traffic_of(const NetlinkMessage& message) {
  return *static_cast<tcmsg*>(nlmsg_data(&message.header()));
}

const nlattr* attribute(const NetlinkMessage& message, std::size_t family_bytes, int type) {
  const nlattr* found = nlmsg_find_attr(&message.header(), static_cast<int>(family_bytes), type);
  REQUIRE(found != nullptr);
  return found;
}

tc_plug_qopt plug_of(const NetlinkMessage& message) {
  const nlattr* const options = attribute(message, sizeof(tcmsg), TCA_OPTIONS);
  tc_plug_qopt plug{};
  REQUIRE(nla_len(options) == sizeof plug);
  std::memcpy(&plug, nla_data(options), sizeof plug);
  return plug;
}

TEST_CASE("plug messages: a plug queue is made at the root, and takes orders") {
  const auto made = replace_plug(7, 0x20000, 4096);
  CHECK(made.header().nlmsg_type == RTM_NEWQDISC);
  CHECK((made.header().nlmsg_flags & (NLM_F_CREATE | NLM_F_REPLACE)) ==
        (NLM_F_CREATE | NLM_F_REPLACE));
  CHECK(traffic_of(made).tcm_ifindex == 7);
  CHECK(traffic_of(made).tcm_parent == TC_H_ROOT);
  CHECK(traffic_of(made).tcm_handle == 0x20000);
  CHECK(plug_of(made).action == TCQ_PLUG_LIMIT);
  CHECK(plug_of(made).limit == 4096);
  CHECK(parse_queue(made.header())->kind == "plug");

  CHECK(plug_of(order_plug(7, PlugOrder::block)).action == TCQ_PLUG_BUFFER);
  CHECK(plug_of(order_plug(7, PlugOrder::release_one)).action == TCQ_PLUG_RELEASE_ONE);
  const auto released = order_plug(7, PlugOrder::release_indefinite);
  CHECK(plug_of(released).action == TCQ_PLUG_RELEASE_INDEFINITE);
  // An order must never make a queue: where there is none, nothing is held, and that is an error.
  CHECK((released.header().nlmsg_flags & NLM_F_CREATE) == 0);
}

TEST_CASE("plug messages: a filter takes frames of every protocol to the shared redirection") {
  const auto filter = add_filter(7, 0x40000009);
  CHECK(filter.header().nlmsg_type == RTM_NEWTFILTER);
  CHECK((filter.header().nlmsg_flags & NLM_F_EXCL) != 0);
  CHECK(traffic_of(filter).tcm_parent == 0xfffffff2);
  CHECK(TC_H_MIN(traffic_of(filter).tcm_info) == htons(ETH_P_ALL));
  const auto parsed = parse_filter(filter.header());
  REQUIRE(parsed);
  CHECK(parsed->kind == "matchall");
  CHECK(parsed->priority == kFilterPriority);
  CHECK(parsed->redirect_index == 0x40000009);
  CHECK_FALSE(parse_filter(add_ingress(7).header()));

  CHECK(parse_redirect(set_redirect(0x40000009, 12).header()) == 12);
  CHECK_FALSE(parse_redirect(get_redirect(0x40000009).header()));
}

// As the kernel describes a queue: the second structure has grown before and may grow again.
NetlinkMessage queue_answer(std::size_t missing_bytes) {
  NetlinkMessage answer(RTM_NEWQDISC, 0);
  tcmsg traffic{};
  traffic.tcm_handle = 0x10000;
  answer.append(&traffic, sizeof traffic);
  answer.put_text(TCA_KIND, "plug");
  answer.nest(TCA_STATS2, [&] {
    gnet_stats_basic left{};
    left.packets = 11;
    gnet_stats_queue held{};
    held.qlen = 3;
    held.backlog = 180;
    held.drops = 2;
    answer.put(TCA_STATS_BASIC, &left, sizeof left);
    answer.put(TCA_STATS_QUEUE, &held, sizeof held - missing_bytes);
  });
  return answer;
}

TEST_CASE("plug messages: a queue's counts are read, of shorter structures as well") {
  for (const std::size_t missing : {0u, 8u}) {
    const auto state = parse_queue(queue_answer(missing).header());
    REQUIRE(state);
    CHECK(state->kind == "plug");
    CHECK(state->handle == 0x10000);
    CHECK(state->packets == 3);
    CHECK(state->bytes == 180);
    CHECK(state->drops == 2);
    CHECK(state->packets_left == 11);
  }
  NetlinkMessage stump(RTM_NEWQDISC, 0);
  CHECK_FALSE(parse_queue(stump.header()));
  CHECK_FALSE(parse_filter(stump.header()));
  CHECK_FALSE(parse_link(stump.header()));
  CHECK_FALSE(parse_redirect(stump.header()));
}

TEST_CASE("plug messages: a link's kind and counts are read") {
  NetlinkMessage answer(RTM_NEWLINK, 0);
  ifinfomsg link{};
  link.ifi_index = 5;
  answer.append(&link, sizeof link);
  rtnl_link_stats64 counts{};
  counts.rx_packets = 8;
  counts.tx_packets = 6;
  counts.rx_dropped = 1;
  answer.put(IFLA_STATS64, &counts, sizeof counts);
  answer.nest(IFLA_LINKINFO, [&] { answer.put_text(IFLA_INFO_KIND, "ifb"); });
  const auto state = parse_link(answer.header());
  REQUIRE(state);
  CHECK(state->ifindex == 5);
  CHECK(state->kind == "ifb");
  CHECK(state->packets_from == 8);
  CHECK(state->packets_to == 6);
  CHECK(state->packets_from_dropped == 1);
}

TEST_CASE("plug messages: a device is kept from addresses of its own") {
  const auto message = without_addresses(5);
  nlattr* const families =
      nlmsg_find_attr(const_cast<nlmsghdr*>(&message.header()), sizeof(ifinfomsg), IFLA_AF_SPEC);
  REQUIRE(families != nullptr);
  nlattr* const family =
      nla_find(static_cast<nlattr*>(nla_data(families)), nla_len(families), AF_INET6);
  REQUIRE(family != nullptr);
  const nlattr* const mode =
      nla_find(static_cast<nlattr*>(nla_data(family)), nla_len(family), IFLA_INET6_ADDR_GEN_MODE);
  REQUIRE(mode != nullptr);
  CHECK(*static_cast<std::uint8_t*>(nla_data(mode)) == IN6_ADDR_GEN_MODE_NONE);
}

GuestId guest() { return *GuestId::from_name("web"); }

TEST_CASE("plug gate: its devices' names fit Linux, and differ between guests") {
  const auto names = plug_queue_names(guest());
  CHECK(names[0].size() == 13);
  CHECK(names[0] != names[1]);
  CHECK(names[0] != plug_queue_names(*GuestId::from_name("web2"))[0]);
}

Status refused(std::vector<std::string> devices, std::uint64_t bytes_held_max = 1 << 20) {
  support::MemoryLog log;
  PlugGateOptions options;
  options.guest = guest();
  options.devices = std::move(devices);
  options.bytes_held_max = bytes_held_max;
  const auto gate = open_plug_gate(std::move(options), log);
  return gate ? Status() : gate.error();
}

TEST_CASE("plug gate: what cannot be is refused with its reason") {
  CHECK(refused({}).code() == Code::invalid);
  CHECK(refused({"a-name-that-is-too-long"}).code() == Code::invalid);
  CHECK(refused({"lo", "lo"}).message().find("twice") != std::string::npos);
  CHECK(refused({"lo"}, 100).code() == Code::invalid);
  const Status missing = refused({"vif-nowhere"});
  CHECK(missing.code() == Code::not_found);
  CHECK(missing.message().find("vif-nowhere does not exist") != std::string::npos);
}

TEST_CASE("plug gate: a kernel without the modules is named, with the remedy") {
  // In a network namespace of a thread's own, which ends with it: a host's devices are not touched.
  bool own_namespace = false, left_something = false;
  Status status;
  std::thread([&] {
    own_namespace = ::unshare(CLONE_NEWNET) == 0;
    if (!own_namespace) return;
    status = refused({"lo"});
    left_something = ::if_nametoindex(plug_queue_names(guest())[0].c_str()) != 0;
  }).join();
  if (!own_namespace || status.ok()) {
    MESSAGE("not tried: this needs root, and a kernel without ifb or sch_plug");
    return;
  }
  INFO(status.message());
  CHECK(status.code() == Code::unsupported);
  CHECK(status.message().find(plug_queue_names(guest())[0]) != std::string::npos);
  CHECK(status.message().find("modprobe -a ifb sch_plug") != std::string::npos);
  CHECK_FALSE(left_something);  // Neither the ifb device, which this kernel may have made.
}

}  // namespace
}  // namespace libft::output
