// SPDX-License-Identifier: LGPL-2.1-or-later
#include "open_switch.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <chrono>
#include <vector>

#include "os/child.h"

namespace libft::plug_lab {
namespace {

constexpr std::chrono::seconds kPatience{60};

void run(const std::string& program, std::vector<std::string> arguments) {
  os::ChildOptions options;
  options.argv = std::move(arguments);
  options.argv.insert(options.argv.begin(), "/switch/" + program);
  for (const char* folder : {"OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"})
    options.environment.push_back(std::string(folder) + "=/run");
  options.stderr_fd = 2;
  auto child = os::Child::start(options);
  REQUIRE_MESSAGE(child, child.error().to_string());
  const auto end = child->wait(kPatience);
  REQUIRE(end);
  REQUIRE_MESSAGE(end->clean(), program, ": ", os::to_string(*end));
}

void control(std::vector<std::string> orders) {
  orders.insert(orders.begin(), {"--db=unix:/run/db.sock", "--timeout=60"});
  run("ovs-vsctl", std::move(orders));
}

}  // namespace

// --detach returns when the program serves.
void start_open_switch() {
  static bool started = false;
  if (started) return;
  started = true;
  ::mkdir("/run", 0755);
  run("ovsdb-tool", {"create", "/run/conf.db", "/switch/vswitch.ovsschema"});
  run("ovsdb-server",
      {"--remote=punix:/run/db.sock", "--pidfile", "--detach", "--no-chdir", "/run/conf.db"});
  control({"--no-wait", "init"});
  run("ovs-vswitchd",
      {"--pidfile", "--detach", "--no-chdir", "-vconsole:warn", "unix:/run/db.sock"});
}

void add_switch(const std::string& name) { control({"add-br", name}); }
void add_port(const std::string& name, const std::string& of) { control({"add-port", of, name}); }
void remove_switch(const std::string& name) { control({"del-br", name}); }

}  // namespace libft::plug_lab
