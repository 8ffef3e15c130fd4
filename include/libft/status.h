// SPDX-License-Identifier: LGPL-2.1-or-later
// Status is how every libft call says whether it worked; Result<T> is a value or the reason why not.
// The code tells the caller what to do; the message names the cause and, where there is one, the
// remedy. Values: copy and move freely, any thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace libft {

enum class Code {
  ok = 0,
  invalid,       // The request itself is wrong: correct it and ask again.
  unsupported,   // This host, guest or peer cannot do it: the message says what is missing.
  not_found,     // The thing named does not exist.
  busy,          // Somebody else holds it now: try later.
  timeout,       // No answer in time. What was asked may have happened or not.
  io,            // A system call failed; the message carries errno's text.
  peer_lost,     // The connection to the peer is gone: ask the arbiter before anything else.
  corrupt,       // Bytes that are not what the format says. Nothing of them was applied.
  refused,       // The peer or the arbiter said no: read the message, do not retry as it is.
  fenced,        // Another replica owns the guest: stop, never retry.
  guest_gone,    // The guest ended or its process died.
  exhausted,     // A limit was reached: memory, queue, disk.
  cancelled,     // The caller asked to stop.
  internal,      // A defect in libft: please report it with the log.
};

std::string_view to_string(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::ok; }
  explicit operator bool() const { return ok(); }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same failure, with what was being done in front: "replicate epoch 41: send: Broken pipe".
  Status within(std::string_view doing) const;

  // "peer_lost: replicate epoch 41: send: Broken pipe", or "ok".
  std::string to_string() const;

 private:
  Code code_ = Code::ok;
  std::string message_;
};

template <class T>
using Result = tl::expected<T, Status>;

inline tl::unexpected<Status> failure(Code code, std::string message) {
  return tl::unexpected<Status>(Status(code, std::move(message)));
}
inline tl::unexpected<Status> failure(Status status) {
  return tl::unexpected<Status>(std::move(status));
}

}  // namespace libft

// Leaves the enclosing function (which returns Status or Result<T>) when `expression` failed.
#define FT_TRY(expression)                                     \
  do {                                                         \
    if (::libft::Status ft_status_ = (expression); !ft_status_.ok()) \
      return ::libft::detail::Leave{std::move(ft_status_)};    \
  } while (false)

// `FT_ASSIGN(auto fd, open_socket(path));` declares fd, or leaves with the failure.
#define FT_ASSIGN_JOIN2(a, b) a##b
#define FT_ASSIGN_JOIN(a, b) FT_ASSIGN_JOIN2(a, b)
#define FT_ASSIGN(declaration, expression)                                                    \
  auto FT_ASSIGN_JOIN(ft_result_, __LINE__) = (expression);                                   \
  if (!FT_ASSIGN_JOIN(ft_result_, __LINE__))                                                  \
    return ::libft::detail::Leave{std::move(FT_ASSIGN_JOIN(ft_result_, __LINE__)).error()};   \
  declaration = std::move(*FT_ASSIGN_JOIN(ft_result_, __LINE__))

namespace libft::detail {
struct Leave {  // Converts to whatever the enclosing function returns.
  Status status;
  operator Status() && { return std::move(status); }
  template <class T>
  operator Result<T>() && { return tl::unexpected<Status>(std::move(status)); }
};
}  // namespace libft::detail
