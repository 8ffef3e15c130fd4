// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/module.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace libft::xen {

Result<OpenCalls> open_module(const std::string& file) {
  if (file.empty())
    return failure(Code::unsupported,
                   "the Xen module libft-xen.so is not installed: install it beside libft, or "
                   "build libft on a machine with libxen-dev of this host's Xen");
  void* const module = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (module == nullptr)
    return failure(Code::unsupported,
                   fmt::format("open the Xen module: {}; it needs the libraries of the Xen it was "
                               "built for (libxenmisc of the same minor)",
                               ::dlerror()));
  const auto get = reinterpret_cast<GetModuleEntry>(::dlsym(module, kModuleEntry));
  if (get == nullptr)
    return failure(Code::unsupported, fmt::format("{} is no Xen module of libft", file));
  const ModuleEntry& entry = *get();
  if (entry.version != kModuleVersion)
    return failure(Code::unsupported,
                   fmt::format("{} is of libft {} (interface {}), this program needs interface {}: "
                               "install both from the same release",
                               file, entry.libft, entry.version, kModuleVersion));
  return OpenCalls(entry.open);
}

}  // namespace libft::xen
