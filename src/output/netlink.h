// SPDX-License-Identifier: LGPL-2.1-or-later
// A request to the kernel's network configuration, and its answer: libnl's messages with an owner,
// and the kernel's refusals with their own words. The plug gate's helpers use it. One thread at a
// time for each object; a socket stays in the network namespace of the thread that opened it.
#pragma once

#include <linux/netlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "libft/status.h"

namespace libft::output {

class NetlinkMessage {
 public:
  // `type` as in linux/rtnetlink.h; NLM_F_REQUEST and NLM_F_ACK are added when it is sent.
  NetlinkMessage(int type, int flags);
  // Takes what a build function of libnl-route made.
  explicit NetlinkMessage(nl_msg* built) : message_(built) {}

  nl_msg* get() const { return message_.get(); }
  nlmsghdr& header() const { return *nlmsg_hdr(message_.get()); }

  // A message grows by libnl's page; what libft puts into one fits many times, so that a failure is
  // a defect here and asserted.
  void append(const void* data, std::size_t bytes);
  void put(int type, const void* data, std::size_t bytes);
  void put_text(int type, const char* text);
  void put_number(int type, std::uint32_t number) { put(type, &number, sizeof number); }

  // The attributes that `fill` puts are inside attribute `type`.
  template <class Fill>
  void nest(int type, Fill fill) {
    nlattr* const start = begin_nest(type);
    fill();
    end_nest(start);
  }

 private:
  struct Free {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
  };
  nlattr* begin_nest(int type);
  void end_nest(nlattr* start);

  std::unique_ptr<nl_msg, Free> message_;
};

class NetlinkSocket {
 public:
  static Result<NetlinkSocket> open();

  // Waits for the kernel's verdict, which it gives before the call that asks it returns. `doing`
  // becomes the first words of a failure; `reply` sees each message that comes before the verdict.
  using Reply = std::function<void(nlmsghdr& message)>;
  Status ask(const NetlinkMessage& request, std::string_view doing, const Reply& reply = {});

  // As ask(), with the errno instead of a Status: 0, or what the kernel answered. For requests
  // whose refusal is an answer. `words` receives the kernel's explanation where it has one.
  int ask_errno(const NetlinkMessage& request, const Reply& reply, std::string& words);

 private:
  struct Close {
    void operator()(nl_sock* socket) const { nl_socket_free(socket); }
  };
  explicit NetlinkSocket(nl_sock* socket) : socket_(socket) {}

  std::unique_ptr<nl_sock, Close> socket_;
};

}  // namespace libft::output
