// SPDX-License-Identifier: LGPL-2.1-or-later
// In libft.so these definitions stand in for those of src/transport/tls.cc,
// src/failover/etcd_open.cc and src/output/plug_gate.cc, which are linked into the modules instead.
#include "modules.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "folder.h"

namespace libft::capi {
namespace {

// Installed in libft/ beside the library, or in a build folder. It stays in the process for good.
Result<void*> open_file(const std::string& name) {
  std::string why;
  for (const char* place : {"/libft/", "/"}) {
    const std::string file = own_folder() + place + name;
    if (void* const module = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE))
      return module;
    why = ::dlerror();
  }
  return failure(Code::unsupported,
                 fmt::format("the module {} does not open: {}; remedy: install it beside libft, "
                             "with the libraries that it needs",
                             name, why));
}

template <class Function>
Result<Function> open_module(const std::string& name, const char* entry) {
  FT_ASSIGN(void* const module, open_file(name));
  const auto get = reinterpret_cast<const Module<Function>* (*)()>(::dlsym(module, entry));
  if (get == nullptr) return failure(Code::unsupported, name + " is no module of libft");
  const Module<Function>& found = *get();
  if (std::string_view(found.libft) != LIBFT_VERSION)
    return failure(Code::unsupported,
                   fmt::format("{} is of libft {}, this is libft {}; remedy: install both from the "
                               "same release",
                               name, found.libft, LIBFT_VERSION));
  return found.function;
}

}  // namespace
}  // namespace libft::capi

namespace libft {

Result<std::unique_ptr<OutputGate>> output::open_plug_gate(PlugGateOptions options, Log& log) {
  FT_ASSIGN(const auto open, capi::open_module<capi::OpenPlug>("libft-plug.so", capi::kPlugEntry));
  return open(std::move(options), log);
}

Result<std::unique_ptr<transport::TlsTransport>> transport::wrap_tls(
    std::unique_ptr<Transport> inner, TlsRole role, const Key& key, const TlsOptions& options) {
  FT_ASSIGN(const auto wrap, capi::open_module<capi::WrapTls>("libft-tls.so", capi::kTlsEntry));
  return wrap(std::move(inner), role, key, options);
}

Result<std::unique_ptr<Arbiter>> failover::open_etcd(std::string_view rest) {
  FT_ASSIGN(const auto open, capi::open_module<capi::OpenEtcd>("libft-etcd.so", capi::kEtcdEntry));
  return open(rest);
}

}  // namespace libft
