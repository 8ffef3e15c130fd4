// SPDX-License-Identifier: LGPL-2.1-or-later
// The module libft-xen.so holds the only code of libft that links Xen's libraries, whose names
// change with every minor of Xen; whoever wants the Xen driver opens it at run time. This is both
// sides' view of its single entry. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "guest/xen/calls.h"

namespace libft::xen {

// Raised with each change of XenCalls or of the types in its signatures.
constexpr std::uint32_t kModuleVersion = 4;
constexpr char kModuleEntry[] = "libft_xen_module";

struct ModuleEntry {
  std::uint32_t version;
  const char* libft;  // The release of libft that it was built with.
  const char* xen;    // The minor whose libraries it links: "4.17".
  Result<std::unique_ptr<XenCalls>> (*open)();
};
using GetModuleEntry = const ModuleEntry* (*)();

// Opens the module, which stays in the process for good: threads of Xen's libraries may run in it.
// `file` empty: the module was not found, and the answer says how to get it.
Result<OpenCalls> open_module(const std::string& file);

}  // namespace libft::xen
