// SPDX-License-Identifier: LGPL-2.1-or-later
// A struct of functions that the host gave, on its way in: copied, checked, and its `free` called
// when it is refused. On the host's thread, within the function that was given it.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

#include "desk.h"
#include "structs.h"

namespace libft::capi {

struct Needed {
  const char* name;
  bool there;
};

// All that are not there, in one message.
inline Outcome needed(const char* what, std::initializer_list<Needed> functions) {
  std::string missing;
  for (const Needed& function : functions)
    if (!function.there) missing += (missing.empty() ? "" : ", ") + std::string(function.name);
  if (missing.empty()) return {};
  return {FT_E_INVALID, std::string(what) + ": these functions are missing: " + missing,
          "implement them: they have no default"};
}

template <class Port>
class Given {
 public:
  explicit Given(const Port* given) {
    const std::size_t head = offsetof(Port, free) + sizeof(given->free);
    if (given != nullptr && given->struct_size >= head) {
      port.free = given->free;
      port.user = given->user;
    }
    given_ = given;
  }
  Given(const Given&) = delete;
  Given& operator=(const Given&) = delete;
  ~Given() {
    if (port.free != nullptr) port.free(port.user);
  }

  // Every struct of the first release is taken whole.
  Outcome take(const char* what, std::uint32_t flags_known) {
    const auto free = port.free;
    const auto user = port.user;
    const Outcome taken = take_struct(given_, sizeof(Port), port);
    port.free = free;
    port.user = user;
    if (!taken.ok()) return {taken.code, std::string(what) + ": " + taken.cause, taken.remedy};
    if ((port.flags & ~flags_known) != 0)
      return {FT_E_INVALID, std::string(what) + ": unknown flags"};
    return {};
  }

  // From here on libft calls `free`, through the desk.
  std::shared_ptr<Life> adopt(const std::shared_ptr<Desk>& desk) {
    Life::Cancel cancel = nullptr;
    if constexpr (requires { port.cancel; }) cancel = port.cancel;
    auto life = std::make_shared<Life>(desk, port.flags, port.user, port.free, cancel);
    port.free = nullptr;
    return life;
  }

  Port port{};

 private:
  const Port* given_;
};

}  // namespace libft::capi
