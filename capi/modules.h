// SPDX-License-Identifier: LGPL-2.1-or-later
// Adapters that need a library which libft.so must not drag into its host live in modules, opened
// at run time when something asks for them: one entry each, seen here from both sides.
#pragma once

#include "failover/etcd_open.h"
#include "output/plug_gate.h"
#include "transport/tls.h"

namespace libft::capi {

// What a module's entry returns. It fits only the libft that was built with it: C++ types cross.
template <class Function>
struct Module {
  const char* libft;  // LIBFT_VERSION
  Function function;
};

using OpenPlug = decltype(&output::open_plug_gate);
using WrapTls = decltype(&transport::wrap_tls);
using OpenEtcd = decltype(&failover::open_etcd);

constexpr char kPlugEntry[] = "libft_plug_module";
constexpr char kTlsEntry[] = "libft_tls_module";
constexpr char kEtcdEntry[] = "libft_etcd_module";

}  // namespace libft::capi
