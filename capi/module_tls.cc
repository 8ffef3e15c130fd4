// SPDX-License-Identifier: LGPL-2.1-or-later
// libft-tls.so: TLS around any transport, with OpenSSL.
#include "modules.h"

extern "C" __attribute__((visibility("default"))) const void* libft_tls_module() {
  static const libft::capi::Module<libft::capi::WrapTls> module{LIBFT_VERSION,
                                                                &libft::transport::wrap_tls};
  return &module;
}
