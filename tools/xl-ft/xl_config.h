// SPDX-License-Identifier: LGPL-2.1-or-later
// Settings as a Xen host's administrator writes them: in xl.cfg's own syntax, which libxlutil reads
// (a module, opened at need), or in JSON. One thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "settings.h"

namespace libft::xl {

using Values = std::map<std::string, std::vector<std::string>>;

// What the file has of `names`. An error names file, line as libxlutil has it, and what helps.
Result<Values> read_xl_cfg(const std::string& file, const std::vector<std::string>& names);

// Stores what the file says of protection over `settings`; a file that is not there says nothing.
Status apply_file(ftctl::Settings& settings, const std::string& file);

// The name in a domain's own configuration.
Result<std::string> name_in_xl_cfg(const std::string& file);

}  // namespace libft::xl
