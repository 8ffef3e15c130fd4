// SPDX-License-Identifier: LGPL-2.1-or-later
// Debian's Open vSwitch in the virtual machine: its programs lie in /switch. One test thread.
#pragma once

#include <string>

namespace libft::plug_lab {

// Starts it at the first call, for the life of the machine.
void start_open_switch();

void add_switch(const std::string& name);
void add_port(const std::string& name, const std::string& of);
void remove_switch(const std::string& name);

}  // namespace libft::plug_lab
