// SPDX-License-Identifier: LGPL-2.1-or-later
// The small commands: keygen, qemu-args and may-start.
#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>
#include <filesystem>

#include "commands.h"
#include "descriptor.h"
#include "logger.h"
#include "report.h"
#include "start_guard.h"
#include "wiring.h"

namespace libft::ftctl {

namespace {

Result<Settings> settings_of(const Arguments& arguments, const Config& config,
                             const std::string& guest) {
  FT_ASSIGN(Settings settings,
            settings_for(arguments, config, config.guests.contains(guest) ? guest : ""));
  settings.name = guest;
  if (settings.arbiter.empty() && !settings.manual_failover) {
    return failure(with_remedy(Code::invalid,
                               fmt::format("nobody can say who owns guest {}", guest),
                               "name the arbiter that it is protected with: --arbiter SPEC, or in "
                               "the configuration"));
  }
  return settings;
}

Status ask(Host& host, const Arguments& arguments, const Config& config, const std::string& guest) {
  FT_ASSIGN(const Settings settings, settings_of(arguments, config, guest));
  FT_ASSIGN(const GuestId id, GuestId::from_name(guest));
  return may_start({guest, host_name(settings), config.guests.contains(guest)},
                   host.read_record(settings, id));
}

Status no_key_made(const std::string& file, int error) {
  const std::string folder = std::filesystem::path(file).parent_path();
  // Not made here: a misspelled one would get the key.
  if (error == ENOENT && !folder.empty()) {
    return with_remedy(Code::io, fmt::format("{}: there is no folder {}", file, folder),
                       "mkdir -p " + folder);
  }
  return with_remedy(Code::io, fmt::format("{}: {}", file, std::strerror(error)),
                     error == EEXIST ? "use the key that is there, or name a new file"
                                     : "name a new file in a folder that you may write to");
}

}  // namespace

int keygen_command(const Arguments& arguments) {
  if (arguments.guests.size() != 1) {
    return print_error(with_remedy(Code::invalid, "no file was named", "ftctl keygen FILE"));
  }
  const auto key = generate_key();
  if (!key) return print_error(key.error());
  const std::string& file = arguments.guests[0];
  // Never over a key that is there: the other host uses it.
  const Descriptor fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return print_error(no_key_made(file, errno));
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

int may_start_command(const Arguments& arguments, const Config& config) {
  std::vector<std::string> guests = arguments.guests;
  if (guests.empty())
    for (const auto& [name, unused] : config.guests) guests.push_back(name);
  if (guests.empty()) {
    return print_error(with_remedy(Code::invalid, "no guest was named",
                                   "ftctl may-start GUEST, or name guests in the configuration"));
  }
  const auto log = Logger::open("", false);
  if (!log) return print_error(log.error());
  const auto host = Host::make(**log);
  if (!host) return print_error(host.error());
  int code = kFine;
  for (const std::string& guest : guests) {
    const Status may = ask(**host, arguments, config, guest);
    if (may) {
      fmt::print("{} may be started here\n", guest);
      continue;
    }
    const int failed = print_error(may);
    if (code == kFine) code = failed;
  }
  return code;
}

}  // namespace libft::ftctl
