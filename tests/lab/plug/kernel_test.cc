// SPDX-License-Identifier: LGPL-2.1-or-later
// What the kernel's `plug` queue does by itself, with its own count of epochs: the facts for which
// the gate uses two queues instead. They are checked here so that docs/XEN.md stays true.
#include <net/if.h>

#include "output/plug_messages.h"
#include "plug_world.h"

namespace libft::plug_lab {
namespace {

using conformance::range;
using output::PlugOrder;

constexpr std::uint32_t kRedirect = 77;

// One device, one ifb with one plug queue: as Remus does it.
class OneQueue {
 public:
  explicit OneQueue(std::uint32_t limit_bytes = 1 << 20) {
    REQUIRE(netlink_);
    ask(output::add_ifb("ifbtest", "test"));
    ifb_ = index_of("ifbtest");
    ask(output::without_addresses(ifb_));
    ask(output::replace_plug(ifb_, 0x10000, limit_bytes));
    ask(output::set_link(ifb_, true));
    const int vif = index_of(network.devices()[0]);
    ask(output::set_redirect(kRedirect, ifb_));
    ask(output::add_ingress(vif));
    ask(output::add_filter(vif, kRedirect));
  }
  ~OneQueue() {
    std::string words;
    netlink_->ask_errno(output::delete_filter(index_of(network.devices()[0])), {}, words);
    // The kernel lets go of it a little later.
    while (netlink_->ask_errno(output::delete_redirect(kRedirect), {}, words) == EPERM) {
    }
    netlink_->ask_errno(output::delete_link(ifb_), {}, words);
  }

  void send(std::uint32_t first, std::uint32_t end) {
    for (std::uint32_t n = first; n < end; ++n) network.send(n);
  }
  void order(PlugOrder order) { ask(output::order_plug(ifb_, order)); }
  void flap() {
    ask(output::set_link(ifb_, false));
    ask(output::set_link(ifb_, true));
  }
  output::QueueState look() {
    output::QueueState state;
    ask(output::get_queue(ifb_), [&](nlmsghdr& m) { state = *output::parse_queue(m); });
    return state;
  }
  // Exactly the frames below `end` have left.
  void left(std::uint32_t first, std::uint32_t end) {
    REQUIRE(network.wait_for(end - first));
    CHECK(network.nothing_more_arrives());
    CHECK(network.arrived_are(range(first, end)));
  }

  Network network;

 private:
  static int index_of(const std::string& name) {
    return static_cast<int>(::if_nametoindex(name.c_str()));
  }
  void ask(const output::NetlinkMessage& message, const output::NetlinkSocket::Reply& reply = {}) {
    const Status status = netlink_->ask(message, "ask", reply);
    REQUIRE_MESSAGE(status.ok(), status.message());
  }

  Result<output::NetlinkSocket> netlink_ = output::NetlinkSocket::open();
  int ifb_ = 0;
};

TEST_CASE("kernel: a new plug queue holds, and one release lets out exactly one epoch") {
  OneQueue queue;
  queue.send(0, 5);
  queue.left(0, 0);
  queue.order(PlugOrder::release_one);  // No block yet: no epoch to release.
  queue.left(0, 0);
  queue.order(PlugOrder::block);
  queue.send(5, 8);
  queue.left(0, 0);
  queue.order(PlugOrder::release_one);
  queue.left(0, 5);
  queue.order(PlugOrder::release_one);
  queue.left(0, 5);
  queue.order(PlugOrder::block);
  queue.order(PlugOrder::release_one);
  queue.left(0, 8);
  CHECK(queue.look().packets == 0);
}

TEST_CASE("kernel: a second block before a release forgets the first") {
  OneQueue queue;
  queue.send(0, 5);
  queue.order(PlugOrder::block);
  queue.send(5, 8);
  queue.order(PlugOrder::block);
  queue.order(PlugOrder::release_one);
  queue.left(0, 3);  // As many as the second epoch has; the five of the first are forgotten.
  queue.order(PlugOrder::release_one);
  queue.left(0, 3);
  queue.send(8, 9);
  queue.order(PlugOrder::block);
  queue.order(PlugOrder::release_one);
  queue.left(0, 4);  // And it stays that far behind.
  CHECK(queue.look().packets == 5);
  queue.order(PlugOrder::release_indefinite);
  queue.left(0, 9);
}

TEST_CASE("kernel: at its limit a plug queue drops what comes, and counts it") {
  OneQueue queue(10 * 60);
  queue.send(0, 25);
  CHECK(queue.look().packets == 10);
  CHECK(queue.look().bytes == 600);
  CHECK(queue.look().drops == 15);
  queue.order(PlugOrder::block);
  queue.order(PlugOrder::release_one);
  queue.left(0, 10);
}

TEST_CASE("kernel: a link that goes down empties the queue, but not its count of frames") {
  OneQueue queue;
  queue.send(0, 5);
  queue.order(PlugOrder::block);
  queue.flap();
  CHECK(queue.look().packets == 0);
  queue.send(5, 8);  // Never sealed...
  queue.order(PlugOrder::release_one);
  queue.left(5, 8);  // ...and out.
}

}  // namespace
}  // namespace libft::plug_lab
