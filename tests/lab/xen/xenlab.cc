// SPDX-License-Identifier: LGPL-2.1-or-later
// The Xen lab for a person: `xenlab up` holds two hosts, the other commands work on them from
// another terminal. `./dev lab xen --shell` starts it.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>

#include "lab/xen/pair.h"
#include "os/file.h"
#include "os/socket.h"

using namespace libft;
using namespace libft::lab;

namespace {

int complain(const Status& status) {
  fmt::print(stderr, "xenlab: {}\n", status.to_string());
  return 1;
}

int host_number(const std::string& host) { return host == "a" ? 1 : 2; }

// --- xenlab up

struct UpOptions {
  std::string cache, place, guest = "none";
  bool fresh = false, etcd = false;
};

// Where the other commands find the namespaces: they live as long as this process.
Status announce(XenPair& pair, const std::string& place) {
  std::error_code error;
  std::filesystem::create_directories(place, error);
  FT_TRY(os::write_file_atomically(place + "/pid", std::to_string(::getpid())));
  FT_TRY(os::write_file_atomically(place + "/a", pair.net().host(Side::a).path()));
  FT_TRY(os::write_file_atomically(place + "/b", pair.net().host(Side::b).path()));
  return os::write_file_atomically(place + "/client", pair.net().client().path());
}

Result<std::unique_ptr<XenPair>> open_pair(const UpOptions& options) {
  FT_ASSIGN(const XenLab lab, XenLab::find(options.cache, options.place + "/runs"));
  FT_TRY(become_namespace_root());
  std::optional<XenGuest> guest;
  if (options.guest != "none") {
    const auto kind = guest_kind_from(options.guest);
    if (!kind) return failure(Code::invalid, "no guest kind \"" + options.guest + "\"");
    guest = XenGuest{.kind = *kind};
  }
  if (!options.fresh) return prepared_pair(lab, "shell", guest);
  FT_ASSIGN(auto pair, XenPair::create(lab, "shell"));
  FT_TRY(pair->boot());
  if (guest) FT_TRY(pair->create_guest(Side::a, *guest));
  return pair;
}

// Until a signal, or the end of stdin.
void hold() {
  for (char buffer[256]; ::read(STDIN_FILENO, buffer, sizeof buffer) > 0;) {
  }
}

int up(const UpOptions& options) {
  auto pair = open_pair(options);
  if (!pair) return complain(pair.error());
  if (const Status said = announce(**pair, options.place); !said.ok()) return complain(said);
  if (options.etcd) {
    const auto etcd = (*pair)->start_etcd();
    if (!etcd) return complain(etcd.error());
    fmt::print("arbiter: {}\n", *etcd);
  }
  fmt::print(
      "\nTwo Xen hosts, a and b, are up. From another terminal, with PLACE={0}:\n"
      "  xenlab shell PLACE a                     a shell on host a (needs socat here)\n"
      "  xenlab run PLACE a 20 'xl list'          one command, at most 20 s; stdin is passed on\n"
      "  xenlab push PLACE a /usr/local/bin FILE  puts files there\n"
      "  xenlab client PLACE COMMAND...           a command on the client outside (10.77.0.100)\n"
      "Consoles and logs: {1}. Ctrl-D or Ctrl-C here ends everything.\n",
      options.place, (*pair)->folder());
  std::fflush(stdout);
  hold();
  return 0;
}

// --- the commands for a lab that is up

Status enter(const std::string& place, const std::string& which) {
  FT_ASSIGN(const std::string pid, os::read_file(place + "/pid", 64));
  FT_ASSIGN(const std::string net, os::read_file(place + "/" + which, 256));
  const os::ScopedFd user(
      ::open(fmt::format("/proc/{}/ns/user", pid).c_str(), O_RDONLY | O_CLOEXEC));
  const os::ScopedFd here(::open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));
  const os::ScopedFd network(::open(net.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat theirs {
  }, ours{};
  if (!user.valid() || !network.valid() || ::fstat(user.get(), &theirs) != 0 ||
      ::fstat(here.get(), &ours) != 0) {
    return os::errno_status("no lab is up in " + place);
  }
  if (theirs.st_ino != ours.st_ino && ::setns(user.get(), CLONE_NEWUSER) != 0) {
    return os::errno_status("enter the lab's user namespace");
  }
  if (::setns(network.get(), CLONE_NEWNET) != 0) return os::errno_status("enter the namespace");
  return {};
}

Result<CommandResult> ask(const std::string& host, const std::string& line, int limit,
                          const std::string& input) {
  FT_ASSIGN(const auto to, os::resolve({fmt::format("10.76.0.{}", host_number(host)), kCommandPort},
                                       os::ResolveFor::connecting));
  FT_ASSIGN(auto connection, os::connect_socket(to.front(), std::chrono::seconds(15)));
  return run_command(std::move(connection), line, std::chrono::seconds(limit), input);
}

std::string piped_input() {
  if (::isatty(STDIN_FILENO) != 0) return {};
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

int run(const std::string& host, int limit, const std::string& line, const std::string& input) {
  const auto result = ask(host, line, limit, input);
  if (!result) return complain(result.error());
  std::fwrite(result->output.data(), 1, result->output.size(), stdout);
  return result->code;
}

[[noreturn]] void become(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  std::perror(argv[0]);
  std::_Exit(127);
}

int push(const std::string& host, const std::string& folder,
         const std::vector<std::string>& files) {
  std::string tar = "tar -c";
  for (const auto& file : files) {
    const auto path = std::filesystem::absolute(file);
    tar += fmt::format(" -C '{}' '{}'", path.parent_path().string(), path.filename().string());
  }
  FILE* archive = ::popen(tar.c_str(), "re");
  std::string bytes;
  std::vector<char> block(1 << 16);
  for (std::size_t got; (got = std::fread(block.data(), 1, block.size(), archive)) > 0;) {
    bytes.append(block.data(), got);
  }
  if (::pclose(archive) != 0) return 1;
  return run(host, 120, fmt::format("mkdir -p '{0}' && tar -x -C '{0}'", folder), bytes);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Two emulated Xen hosts, to work with by hand"};
  app.require_subcommand(1);
  UpOptions options;
  std::string place, host, line, folder;
  int limit = 20;
  std::vector<std::string> words;

  auto* up_command = app.add_subcommand("up", "hold two hosts until stdin ends");
  up_command->add_option("place", options.place, "a folder for what the others need")->required();
  up_command->add_option("--cache", options.cache, "keeps images and saved hosts")->required();
  up_command->add_option("--guest", options.guest, "on host a: none, pvh, pvh2, hvm or hvm-bare");
  up_command->add_flag("--fresh", options.fresh, "boot, and use no saved hosts");
  up_command->add_flag("--etcd", options.etcd, "start an etcd beside the client");

  const auto add = [&](const char* name, const char* help) {
    auto* command = app.add_subcommand(name, help);
    command->add_option("place", place)->required();
    return command;
  };
  const auto with_host = [&](CLI::App* command) {
    command->add_option("host", host, "a or b")->required()->check(CLI::IsMember({"a", "b"}));
    return command;
  };
  auto* run_it = with_host(add("run", "one command on a host"));
  run_it->add_option("seconds", limit)->required();
  run_it->add_option("command", line)->required();
  auto* push_it = with_host(add("push", "put files onto a host"));
  push_it->add_option("folder", folder)->required();
  push_it->add_option("files", words)->required();
  auto* shell_it = with_host(add("shell", "a shell on a host"));
  auto* client_it = add("client", "a command on the client outside");
  client_it->add_option("command", words)->required();
  client_it->prefix_command();
  CLI11_PARSE(app, argc, argv);

  if (*up_command) return up(options);
  const std::string input = *run_it ? piped_input() : std::string();
  if (const Status in = enter(place, *client_it ? "client" : host); !in.ok()) return complain(in);
  if (*run_it) return run(host, limit, line, input);
  if (*push_it) return push(host, folder, words);
  if (*shell_it) {
    become({"socat", "-,raw,echo=0,escape=0x1d",
            fmt::format("TCP:10.76.0.{}:{}", host_number(host), kShellPort)});
  }
  const auto more = client_it->remaining();
  words.insert(words.end(), more.begin(), more.end());
  become(words);
}
