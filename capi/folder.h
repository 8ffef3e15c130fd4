// SPDX-License-Identifier: LGPL-2.1-or-later
// Where libft.so is, and what lies beside it. Any thread.
#pragma once

#include <string>

namespace libft::capi {

std::string own_folder();  // That the library was loaded from.
// What is put in front of the QEMUs that libft starts: its file; empty where it is not installed.
std::string preload_object();
std::string xen_module();  // What speaks with Xen; empty where it is not installed.
std::string xen_adopt();   // The program that speaks with libxl; likewise.

}  // namespace libft::capi
