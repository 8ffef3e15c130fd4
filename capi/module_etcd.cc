// SPDX-License-Identifier: LGPL-2.1-or-later
// libft-etcd.so: the etcd arbiter, with libcurl.
#include "modules.h"

extern "C" __attribute__((visibility("default"))) const void* libft_etcd_module() {
  static const libft::capi::Module<libft::capi::OpenEtcd> module{LIBFT_VERSION,
                                                                 &libft::failover::open_etcd};
  return &module;
}
