// SPDX-License-Identifier: LGPL-2.1-or-later
#include "folder.h"

#include <dlfcn.h>

#include <filesystem>

namespace libft::capi {

std::string own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0) return ".";
  const std::string file = info.dli_fname;
  const auto slash = file.rfind('/');
  return slash == std::string::npos ? "." : file.substr(0, slash);
}

namespace {

// Installed in libft/ beside the library, or in a build folder.
std::string find(const std::string& name, const std::string& built_in) {
  std::error_code error;
  for (const std::string& place : {std::string("/libft/"), "/../src/guest/" + built_in + "/"}) {
    const std::string file = own_folder() + place + name;
    if (std::filesystem::exists(file, error))
      return std::filesystem::absolute(file, error).lexically_normal().string();
  }
  return {};
}

}  // namespace

std::string preload_object() { return find("libft-preload.so", "qemu"); }

std::string xen_module() { return find("libft-xen.so", "xen"); }

std::string xen_adopt() { return find("xen-adopt", "xen"); }

}  // namespace libft::capi
