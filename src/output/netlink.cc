// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/netlink.h"

#include <fmt/format.h>
#include <netlink/attr.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "os/fd.h"

namespace libft::output {
namespace {

void must(bool good) {
  if (!good) std::abort();  // No memory for a page, or more attributes than a message has room for.
}

struct Answer {
  const NetlinkSocket::Reply& reply;
  std::string& words;
  int error = 0;
  bool complete = false;
};

// The kernel's own explanation follows the error, when the socket asked for it.
std::string explanation_of(nlmsgerr& error) {
  auto& header = *reinterpret_cast<nlmsghdr*>(reinterpret_cast<char*>(&error) - NLMSG_HDRLEN);
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  std::size_t skip = sizeof error;
  if ((header.nlmsg_flags & NLM_F_CAPPED) == 0) {
    skip += NLMSG_ALIGN(error.msg.nlmsg_len - NLMSG_HDRLEN);
  }
  const int rest = nlmsg_datalen(&header) - static_cast<int>(skip);
  if (rest <= 0) return {};
  auto* first = reinterpret_cast<nlattr*>(reinterpret_cast<char*>(&error) + skip);
  const nlattr* text = nla_find(first, rest, NLMSGERR_ATTR_MSG);
  return text != nullptr ? std::string(nla_get_string(text)) : std::string();
}

int on_message(nl_msg* message, void* argument) {
  auto& answer = *static_cast<Answer*>(argument);
  if (answer.reply) answer.reply(*nlmsg_hdr(message));
  return NL_OK;
}

int on_end(nl_msg*, void* argument) {
  static_cast<Answer*>(argument)->complete = true;
  return NL_STOP;
}

int on_error(sockaddr_nl*, nlmsgerr* error, void* argument) {
  auto& answer = *static_cast<Answer*>(argument);
  answer.error = -error->error;
  answer.words = explanation_of(*error);
  answer.complete = true;
  return NL_STOP;
}

struct FreeCallbacks {
  void operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }
};

}  // namespace

NetlinkMessage::NetlinkMessage(int type, int flags) : message_(nlmsg_alloc_simple(type, flags)) {
  must(message_ != nullptr);
}

void NetlinkMessage::append(const void* data, std::size_t bytes) {
  must(nlmsg_append(get(), const_cast<void*>(data), bytes, NLMSG_ALIGNTO) == 0);
}

void NetlinkMessage::put(int type, const void* data, std::size_t bytes) {
  must(nla_put(get(), type, static_cast<int>(bytes), data) == 0);
}

void NetlinkMessage::put_text(int type, const char* text) {
  must(nla_put_string(get(), type, text) == 0);
}

nlattr* NetlinkMessage::begin_nest(int type) {
  nlattr* const start = nla_nest_start(get(), type | NLA_F_NESTED);
  must(start != nullptr);
  return start;
}

void NetlinkMessage::end_nest(nlattr* start) { must(nla_nest_end(get(), start) == 0); }

Result<NetlinkSocket> NetlinkSocket::open() {
  NetlinkSocket opened(nl_socket_alloc());
  if (opened.socket_ == nullptr) {
    return failure(Code::exhausted, "open a netlink socket: no memory");
  }
  errno = 0;
  if (nl_connect(opened.socket_.get(), NETLINK_ROUTE) != 0) {
    return failure(os::errno_status("open a netlink socket"));
  }
  const int fd = nl_socket_get_fd(opened.socket_.get()), on = 1;
  // Without these the kernel explains less: nothing to check.
  ::setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  return opened;
}

int NetlinkSocket::ask_errno(const NetlinkMessage& request, const Reply& reply,
                             std::string& words) {
  const std::unique_ptr<nl_cb, FreeCallbacks> callbacks(nl_cb_alloc(NL_CB_DEFAULT));
  must(callbacks != nullptr);
  Answer answer{reply, words};
  nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_message, &answer);
  nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_end, &answer);
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_end, &answer);
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &answer);
  // libnl adds NLM_F_REQUEST and, unless told otherwise, NLM_F_ACK.
  if (const int sent = nl_send_auto(socket_.get(), request.get()); sent < 0) {
    words = nl_geterror(sent);
    return EIO;
  }
  while (!answer.complete) {
    if (const int got = nl_recvmsgs(socket_.get(), callbacks.get()); got < 0 && !answer.complete) {
      words = nl_geterror(got);
      return EIO;
    }
  }
  return answer.error;
}

Status NetlinkSocket::ask(const NetlinkMessage& request, std::string_view doing,
                          const Reply& reply) {
  std::string words;
  const int error = ask_errno(request, reply, words);
  if (error == 0) return {};
  const Status status = os::errno_status(doing, error);
  if (words.empty()) return status;
  return Status(status.code(), fmt::format("{} (the kernel: {})", status.message(), words));
}

}  // namespace libft::output
