// SPDX-License-Identifier: LGPL-2.1-or-later
// ftctl: the command line of libft. docs/ftctl.md describes it.
#include <fmt/format.h>

#include <string_view>

#include "commands.h"
#include "hand_over.h"
#include "report.h"
#ifdef FTCTL_DEMO
#include "demo/demo.h"
#endif

namespace {

using namespace libft::ftctl;

int dispatch(const Arguments& arguments) {
  const std::string& command = arguments.command;
  if (command == "version") {
    if (arguments.takes_hand_over != 0) {
      fmt::print("ftctl {} takes format {}\n", FTCTL_VERSION, hand_over_format());
      return arguments.takes_hand_over == hand_over_format() ? kFine : kRefused;
    }
    fmt::print("ftctl {}\n", FTCTL_VERSION);
    return kFine;
  }
  if (command == "keygen") return keygen_command(arguments);
  if (command == "bench") return bench_command(arguments);
  const auto config = load_config(arguments.config, arguments.config_given);
  if (!config) return print_error(config.error());
  if (command == "protect" || command == "run") return protect_command(arguments, *config);
  if (command == "standby") return standby_command(arguments, *config);
  if (command == "witness") return witness_command(arguments, *config);
  if (command == "doctor") return doctor_command(arguments, *config);
  if (command == "forget" || command == "maintenance" || command == "metrics" ||
      command == "upgrade") {
    return ftd_command(arguments, *config);
  }
  if (command == "bugreport") return bugreport_command(arguments, *config);
  if (command == "may-start") return may_start_command(arguments, *config);
  if (command == "qemu-args") return qemu_args_command(arguments, *config);
  return client_command(arguments, *config);
}

int demo(int argc, char** argv) {
#ifdef FTCTL_DEMO
  return demo_main(argc - 1, argv + 1);
#else
  (void)argc, (void)argv;
  return print_error(with_remedy(libft::Code::unsupported, "this ftctl was built without the demo",
                                 "build libft with tools/demo"));
#endif
}

}  // namespace

int main(int argc, char** argv) {
  // The demo has a command line of its own.
  if (argc > 1 && std::string_view(argv[1]) == "demo") return demo(argc, argv);
  try {
    Arguments arguments;
    if (const auto done = parse(argc, argv, arguments)) return *done;
    return dispatch(arguments);
  } catch (const std::exception& error) {
    return print_error(libft::Status(libft::Code::internal, error.what()));
  }
}
