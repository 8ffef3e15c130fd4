// SPDX-License-Identifier: LGPL-2.1-or-later
// How a function of the C ABI ends: an ft_status and, for people, cause and remedy. A Status of the
// C++ API becomes one; so do the misuses that only C can commit. Values; any thread.
#pragma once

#include <string>

#include "libft.h"
#include "libft/status.h"

namespace libft::capi {

struct Outcome {
  std::int32_t code = FT_OK;
  std::string cause, remedy;

  Outcome() = default;
  Outcome(std::int32_t c, std::string why, std::string what = {})
      : code(c), cause(std::move(why)), remedy(std::move(what)) {}
  Outcome(const Status& status);  // Implicit: FT_TRY and plain returns.
  bool ok() const { return code >= 0; }
};

std::int32_t status_of(Code code);
// What a port answered, as the core understands it: whatever is no status is a defect of the port.
Status to_status(std::int32_t code, const std::string& cause, const std::string& remedy);

// Stores it in `error` and as this thread's last one when it is a failure, and returns its code.
std::int32_t report(const Outcome& outcome, const char* phase, ft_error* error);
// As report, without touching the thread's message: for what callbacks are told.
ft_error to_error(const Outcome& outcome, const char* phase);

// Runs `body`, which returns an Outcome; nothing that it throws passes.
template <class Body>
std::int32_t guarded(const char* phase, ft_error* error, Body&& body) noexcept {
  try {
    try {
      return report(body(), phase, error);
    } catch (const std::bad_alloc&) {
      return report({FT_E_EXHAUSTED, "no memory", {}}, phase, error);
    } catch (const std::exception& e) {
      return report({FT_E_INTERNAL, e.what(), "please report it with the log"}, phase, error);
    }
  } catch (...) {
    return FT_E_INTERNAL;  // Not even the message could be made.
  }
}

}  // namespace libft::capi

// Leaves the enclosing function, which returns an Outcome, when `expression` failed.
#define FT_CHECK(expression)                                                                      \
  do {                                                                                            \
    if (::libft::capi::Outcome ft_outcome_ = (expression); !ft_outcome_.ok()) return ft_outcome_; \
  } while (false)
// The same for a Result<T>, whose value it declares.
#define FT_GET(declaration, expression)                                       \
  auto FT_ASSIGN_JOIN(ft_got_, __LINE__) = (expression);                      \
  if (!FT_ASSIGN_JOIN(ft_got_, __LINE__))                                     \
    return ::libft::capi::Outcome(FT_ASSIGN_JOIN(ft_got_, __LINE__).error()); \
  declaration = std::move(*FT_ASSIGN_JOIN(ft_got_, __LINE__))
