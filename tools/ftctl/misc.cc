// SPDX-License-Identifier: LGPL-2.1-or-later
// The small commands: keygen and qemu-args.
#include <fcntl.h>
#include <fmt/format.h>

#include "commands.h"
#include "descriptor.h"
#include "report.h"
#include "wiring.h"

namespace libft::ftctl {

int keygen_command(const Arguments& arguments) {
  if (arguments.guests.size() != 1) {
    return print_error(with_remedy(Code::invalid, "no file was named", "ftctl keygen FILE"));
  }
  const auto key = generate_key();
  if (!key) return print_error(key.error());
  const std::string& file = arguments.guests[0];
  // Never over a key that is there: the other host uses it.
  const Descriptor fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return print_error(with_remedy(Code::io, system_error(file).message(), "name a new file"));
  }
  if (::write(fd.get(), key->data(), key->size()) != static_cast<ssize_t>(key->size())) {
    return print_error(system_error(file));
  }
  fmt::print("{}: a new key; copy it to the other host and name it on both with --key-file\n",
             file);
  return kFine;
}

int qemu_args_command(const Arguments& arguments, const Config& config) {
  const auto settings = settings_for(arguments, config, "");
  if (!settings) return print_error(settings.error());
  const std::string name = settings->name.empty() ? "guest" : settings->name;
  const auto text =
      qemu_arguments(name, *settings, static_cast<std::uint64_t>(arguments.memory_mib),
                     static_cast<unsigned>(arguments.nics));
  if (!text) return print_error(text.error());
  fmt::print("{}\n", *text);
  return kFine;
}

}  // namespace libft::ftctl
