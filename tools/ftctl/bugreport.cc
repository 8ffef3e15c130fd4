// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl bugreport`: one archive of what ftctl, ftd and the host say about themselves. No guest's
// memory, no console, no key: what is a secret is taken out of every text (redact.h).
#include <fmt/format.h>
#include <stdlib.h>

#include <ctime>
#include <filesystem>
#include <fstream>

#include "commands.h"
#include "descriptor.h"
#include "ftd_socket.h"
#include "os/child.h"
#include "os/file.h"
#include "redact.h"
#include "report.h"

namespace libft::ftctl {

namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kPatience{30};
constexpr std::size_t kTailBytes = 1u << 20;

// The last of it: what led to the fault.
std::string tail_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  in.seekg(0, std::ios::end);
  const auto size = static_cast<std::size_t>(std::max<std::streamoff>(in.tellg(), 0));
  const std::size_t from = size > kTailBytes ? size - kTailBytes : 0;
  in.seekg(static_cast<std::streamoff>(from));
  std::string text(size - from, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return text;
}

class Report {
 public:
  explicit Report(fs::path folder) : folder_(std::move(folder)) {}

  void keep(const std::string& name, const std::string& text) const {
    (void)os::write_file_atomically((folder_ / name).string(), redact(text), 0600);
  }
  void keep_file(const fs::path& file) const {
    std::error_code error;
    if (!fs::is_regular_file(file, error)) return;
    std::string name = file.string();
    std::replace(name.begin(), name.end(), '/', '_');
    keep(name, tail_of(file));
  }
  // What a program says, whatever its exit code; a program that is not there is noted.
  void keep_output(const std::string& name, std::vector<std::string> argv) const {
    const std::string raw = (folder_ / (name + ".raw")).string();
    std::FILE* out = std::fopen(raw.c_str(), "we");
    if (out == nullptr) return;
    os::ChildOptions options;
    options.argv = std::move(argv);
    options.stdout_fd = options.stderr_fd = ::fileno(out);
    auto child = os::Child::start(options);
    const Status ran = child ? (child->wait(kPatience) ? Status() : Status(Code::timeout, "no end"))
                             : child.error();
    std::fclose(out);
    keep(name, tail_of(raw) + (ran.ok() ? "" : "\n(" + ran.message() + ")\n"));
    fs::remove(raw);
  }

 private:
  fs::path folder_;
};

void collect(const Report& report, const Settings& settings) {
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  const std::vector<std::string> where{"--state-dir", settings.state_dir};
  const auto own = [&](const char* name, std::vector<std::string> words) {
    words.insert(words.begin(), self);
    words.insert(words.end(), where.begin(), where.end());
    report.keep_output(name, std::move(words));
  };
  report.keep("version.txt", "ftctl " FTCTL_VERSION "\n");
  own("status.json", {"status", "--json"});
  own("list.txt", {"list"});
  own("events.jsonl", {"events", "--json"});
  own("metrics.txt", {"metrics"});
  own("doctor.txt", {"doctor"});
  report.keep_output("uname.txt", {"uname", "-a"});
  report.keep_output("links.txt", {"ip", "-d", "link"});
  report.keep_output("qdiscs.txt", {"tc", "qdisc"});
  report.keep_output("filters.txt", {"sh", "-c",
                                     "for d in /sys/class/net/*; do echo \"$d\"; "
                                     "tc filter show dev \"${d##*/}\" ingress; done"});
  report.keep_output("processes.txt", {"ps", "-eo", "pid,ppid,stat,rss,etime,cls,rtprio,comm"});
  report.keep_output("journal.txt", {"journalctl", "-u", "ftd", "--no-pager", "-n", "5000"});
  for (const char* file : {"/etc/os-release", "/proc/meminfo", "/proc/cpuinfo",
                           "/etc/libft/ftctl.json", "/etc/libft/ftd.json", "/etc/xen/libft.conf"}) {
    report.keep_file(file);
  }
  std::error_code error;
  for (const std::string& folder :
       {settings.state_dir, std::string("/var/log/libft"), std::string("/var/lib/libft"),
        settings.state_dir + "/protections"}) {
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename();
      if (name.ends_with(".log") || name.ends_with(".protection.json") ||
          name.ends_with(".end.json") || name.ends_with(".jsonl")) {
        report.keep_file(entry.path());
      }
    }
  }
}

std::string default_file() {
  char text[64] = {};
  const std::time_t now = std::time(nullptr);
  std::tm broken{};
  ::localtime_r(&now, &broken);
  std::strftime(text, sizeof text, "libft-bugreport-%Y%m%d-%H%M%S.tar.gz", &broken);
  return text;
}

Status pack(const fs::path& folder, const std::string& file) {
  os::ChildOptions tar;
  tar.argv = {"tar", "-czf", file, "-C", folder.parent_path().string(), folder.filename().string()};
  tar.stderr_fd = 2;
  FT_ASSIGN(os::Child child, os::Child::start(tar));
  FT_ASSIGN(const os::ChildEnd end, child.wait(kPatience));
  if (end.clean()) return {};
  return with_remedy(Code::io, fmt::format("tar: {}", os::to_string(end)),
                     "name a file in a folder that can be written");
}

}  // namespace

int bugreport_command(const Arguments& arguments, const Config& config) {
  const auto settings = settings_for(arguments, config, "");
  if (!settings) return print_error(settings.error());
  const std::string file = arguments.guests.empty() ? default_file() : arguments.guests[0];
  char scratch[] = "/tmp/libft-bugreport-XXXXXX";  // Mode 0700.
  if (::mkdtemp(scratch) == nullptr) return print_error(system_error("a folder in /tmp"));
  const fs::path folder = fs::path(scratch) / "libft-bugreport";
  fs::create_directory(folder);
  collect(Report(folder), *settings);
  const Status packed = pack(folder, file);
  fs::remove_all(scratch);
  if (!packed.ok()) return print_error(packed);
  fmt::print("{}: read it before you send it\n", file);
  return kFine;
}

}  // namespace libft::ftctl
