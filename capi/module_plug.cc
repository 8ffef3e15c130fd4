// SPDX-License-Identifier: LGPL-2.1-or-later
// libft-plug.so: the gate in the host's kernel, with libnl.
#include "modules.h"

extern "C" __attribute__((visibility("default"))) const void* libft_plug_module() {
  static const libft::capi::Module<libft::capi::OpenPlug> module{LIBFT_VERSION,
                                                                 &libft::output::open_plug_gate};
  return &module;
}
