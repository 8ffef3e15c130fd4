// SPDX-License-Identifier: LGPL-2.1-or-later
// xl-ft: libft in xl's manner, since xl itself cannot be extended. It asks ftd. docs/XEN.md
// describes it.
#include <fmt/format.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "control.h"
#include "format.h"
#include "ftd_socket.h"
#include "report.h"
#include "table.h"
#include "xl_config.h"

namespace {

using namespace libft;
using namespace libft::ftctl;
using libft::ftctl::Json;

struct Asked {
  std::string command, domain, host;
  std::string conf = "/etc/xen/libft.conf";
  std::string folder = "/etc/xen/ft";
  std::string state_dir = default_state_dir();
  int timeout_ms = 60000;
  bool long_list = false, anew = false;
};

// What xl prints for a domain's number.
Result<std::string> name_of_number(const std::string& number) {
  std::FILE* said = ::popen(("xl domname " + number).c_str(), "re");
  if (said == nullptr) return failure(system_error("xl domname"));
  char text[256] = {};
  const std::size_t got = std::fread(text, 1, sizeof text - 1, said);
  const int code = ::pclose(said);
  std::string name(text, got);
  while (name.ends_with('\n')) name.pop_back();
  if (code == 0 && !name.empty()) return name;
  return failure(Code::not_found, fmt::format("there is no domain {}", number));
}

// As xl takes it: a name, a number, or here also a configuration.
Result<std::string> domain_name(const std::string& domain) {
  if (!domain.empty() && domain.find_first_not_of("0123456789") == std::string::npos) {
    return name_of_number(domain);
  }
  std::error_code error;
  const bool file = domain.find('/') != std::string::npos || domain.ends_with(".cfg");
  if (file && std::filesystem::exists(domain, error)) return xl::name_in_xl_cfg(domain);
  return domain;
}

Result<Settings> settings_of(const Asked& asked, const std::string& name) {
  Settings settings;
  FT_TRY(xl::apply_file(settings, asked.conf));
  for (const char* suffix : {".cfg", ".json"}) {
    FT_TRY(xl::apply_file(settings, fmt::format("{}/{}{}", asked.folder, name, suffix)));
  }
  settings.name = name;
  if (settings.guest.empty()) settings.guest = "xen:" + name;
  if (!asked.host.empty()) {
    const bool port = asked.host.find(':') != std::string::npos;
    settings.peer = {port ? asked.host : asked.host + ":7070"};
  }
  return settings;
}

Result<std::string> ftd_of(const Asked& asked) {
  FT_ASSIGN(const auto ftd, ftd_to_look_at(asked.state_dir));
  if (ftd) return *ftd;
  return failure(with_remedy(Code::not_found, "no ftd runs here", "`systemctl start ftd`"));
}

Result<Json> request_of(const Asked& asked) {
  FT_ASSIGN(const std::string name, domain_name(asked.domain));
  Json request{{"command", asked.command}, {"guest", name}, {"patience_ms", asked.timeout_ms}};
  if (asked.command != "protect" && asked.command != "receive") return request;
  FT_ASSIGN(const Settings settings, settings_of(asked, name));
  request["command"] = asked.command == "receive" ? "standby" : "protect";
  request["settings"] = to_section(settings);
  request["anew"] = asked.anew;
  return request;
}

int show(const Asked& asked, const Json& answer) {
  std::vector<Json> statuses;
  for (const Json& status : answer.value("guests", Json::array())) statuses.push_back(status);
  if (asked.command == "list" && !asked.long_list) {
    fmt::print("{}", xl::list_table(statuses));
    return kFine;
  }
  if (statuses.empty()) {
    return print_error(Status(Code::not_found, "no such domain is protected here"));
  }
  bool all = true;
  for (const Json& status : statuses) {
    all = all && counts_as_protected(status);
    fmt::print("{}", asked.long_list ? status.dump(2) + "\n" : status_text(status));
  }
  return asked.command == "list" || all ? kFine : kNotProtected;
}

Status run(const Asked& asked, int& code) {
  FT_ASSIGN(const std::string ftd, ftd_of(asked));
  FT_ASSIGN(const Json request, request_of(asked));
  FT_ASSIGN(const Json answer, ask_once(ftd, request, asked.timeout_ms + 5000));
  FT_TRY(answer_status(answer));
  if (asked.command == "list" || asked.command == "status") {
    code = show(asked, answer);
  } else if (const std::string text = answer.value("text", ""); !text.empty()) {
    fmt::print("{}\n", text);
  }
  return {};
}

void add_command(CLI::App& app, Asked& asked, const char* name, const char* help, bool domain,
                 bool host) {
  CLI::App* sub = app.add_subcommand(name, help);
  if (domain) sub->add_option("domain", asked.domain, "Name, number, or xl.cfg file")->required();
  if (host) {
    auto* option = sub->add_option("host", asked.host, "The other host: ADDRESS or ADDRESS:PORT");
    if (std::string_view(name) == "receive") option->required();
  }
  if (std::string_view(name) == "list") {
    sub->add_flag("-l,--long", asked.long_list, "Everything, as JSON");
  }
  if (std::string_view(name) == "protect") {
    sub->add_flag("--anew", asked.anew, "Give up what an earlier life of it left elsewhere");
  }
  sub->callback([&asked, name] { asked.command = name; });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("xl-ft protects Xen domains: a second host carries on when the first one dies.");
  app.name("xl-ft");
  app.footer(kExitCodesHelp);
  app.require_subcommand(1);
  app.set_version_flag("--version", "xl-ft " FTCTL_VERSION);
  Asked asked;
  app.add_option("--conf", asked.conf, "For all domains (default: /etc/xen/libft.conf)");
  app.add_option("--ft-dir", asked.folder,
                 "For each, NAME.cfg or NAME.json (default: /etc/xen/ft)");
  app.add_option("--state-dir", asked.state_dir, "Whose ftd is asked");
  app.add_option("--timeout", asked.timeout_ms, "Milliseconds to wait for an answer")
      ->check(CLI::Range(1, 3600000));
  add_command(app, asked, "protect", "Protect a domain that runs here; HOST is its backup", true,
              true);
  add_command(app, asked, "receive", "Be the backup of a domain that runs on HOST", true, true);
  add_command(app, asked, "list", "What is protected here, as `xl list` shows domains", false,
              false);
  add_command(app, asked, "status", "How a domain fares; exit code 3: not protected", true, false);
  add_command(app, asked, "failover", "On the backup: take the domain over now", true, false);
  add_command(app, asked, "switchover", "On the primary: move the domain to its backup", true,
              false);
  add_command(app, asked, "verify", "On the primary: compare all memory of both", true, false);
  add_command(app, asked, "unprotect", "On the primary: give up the backup", true, false);
  add_command(app, asked, "forget", "Keep the domain up no longer", true, false);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  int code = kFine;
  const Status done = run(asked, code);
  return done.ok() ? code : print_error(done);
}
