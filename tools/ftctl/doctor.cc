// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl doctor`: what this host can do, what is missing, and how to get it.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "commands.h"
#include "descriptor.h"
#include "doctor_xen.h"
#include "findings.h"
#include "plan.h"
#include "report.h"
#include "wiring.h"
#include "wiring_xen.h"

namespace libft::ftctl {

namespace {

namespace fs = std::filesystem;

std::string first_line(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// What a command prints; empty when it cannot be run. The command is a constant or a path found in
// PATH, never something from outside.
std::string output_of(const std::string& command) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "re");
  if (pipe == nullptr) return {};
  std::string text;
  std::array<char, 4096> buffer{};
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    text.append(buffer.data(), n);
  }
  return ::pclose(pipe) == 0 ? text : std::string();
}

std::vector<std::string> find_in_path(const std::string& name) {
  std::vector<std::string> found;
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "/usr/bin:/bin");
  std::error_code error;
  for (std::string folder; std::getline(folders, folder, ':');) {
    // /bin is /usr/bin under another name on most systems.
    const std::string file = fs::canonical(folder + "/" + name, error);
    if (!error && std::find(found.begin(), found.end(), file) == found.end()) found.push_back(file);
  }
  return found;
}

void look_at_kernel(Findings& findings) {
  utsname name{};
  ::uname(&name);
  findings.fine("kernel", fmt::format("{} {}", name.sysname, name.release));
}

constexpr int kUsualDirtyPagesPerSecond = 5000;

// A scan is part of each pause: at 5 ms of it a better tracker is worth a newer kernel.
constexpr double kScanMsBearable = 5;

void look_at_trackers(Findings& findings) {
  bool best = true;
  for (const TrackerReport& tracker : trackers()) {
    if (!tracker.works) {
      findings.note("tracker", fmt::format("{}: no: {}", tracker.name, tracker.reason));
      continue;
    }
    std::string text = fmt::format("{}: yes, {:.2f} ms per GiB of guest memory", tracker.name,
                                   tracker.scan_ms_per_gib);
    if (!tracker.advice.empty()) text += "; " + tracker.advice;
    if (best) text += " (this one is used)";
    findings.fine("tracker", text);
    if (best && tracker.name != "userfaultfd" && tracker.scan_ms_per_gib > 0) {
      findings.note(
          "tracker",
          fmt::format("guests above {:.1f} GiB spend more than {:.0f} ms of each pause in "
                      "finding written pages",
                      kScanMsBearable / tracker.scan_ms_per_gib, kScanMsBearable),
          "Linux 6.7 or newer finds them in about a tenth of that time");
    }
    best = false;
  }
  if (best) {
    findings.missing("tracker", "none works here: written pages cannot be found",
                     "run ftctl as root or as the user of QEMU");
  }
}

void look_at_preload(Findings& findings) {
  const std::string object = preload_object();
  if (object.empty()) {
    findings.missing("preload object", "libft-preload.so was not found",
                     "install libft completely; without it the userfaultfd tracker cannot be used");
  } else {
    findings.fine("preload object", object);
  }
}

void look_at_accelerator(Findings& findings) {
  const AcceleratorReport report = accelerator();
  if (report.name == "kvm")
    findings.fine("accelerator", "kvm: " + report.reason);
  else
    findings.note("accelerator", report.name + ": " + report.reason);
}

// Is the command there? QEMU's own list says so; a machine without devices and without an image
// answers at once.
bool has_save_devices_state(const std::string& qemu) {
  const std::string text = output_of(
      "printf '%s\\n' '{\"execute\":\"qmp_capabilities\"}' '{\"execute\":\"query-commands\"}' "
      "'{\"execute\":\"quit\"}' | timeout 10 '" +
      qemu + "' -machine none -nodefaults -display none -qmp stdio -S");
  return text.find("xen-save-devices-state") != std::string::npos;
}

void look_at_qemu(Findings& findings) {
  bool any = false;
  for (const std::string& qemu : find_in_path("qemu-system-x86_64")) {
    if (qemu.find_first_of("'\\") != std::string::npos) continue;
    const std::string version = output_of("timeout 10 '" + qemu + "' --version");
    int major = 0, minor = 0;
    if (std::sscanf(version.c_str(), "QEMU emulator version %d.%d", &major, &minor) != 2) continue;
    any = true;
    const std::string line = version.substr(0, version.find('\n'));
    if (major < 7 || (major == 7 && minor < 2)) {
      findings.missing("QEMU", fmt::format("{}: {}", qemu, line),
                       "the frames gate needs -netdev dgram: QEMU 7.2 or newer");
      continue;
    }
    findings.fine("QEMU", fmt::format("{}: {}", qemu, line));
    if (has_save_devices_state(qemu)) {
      findings.fine("device state", qemu + ": xen-save-devices-state (the faster way)");
    } else {
      findings.note("device state",
                    qemu + ": by migration (xen-save-devices-state is not built in)",
                    "pauses are about 8 ms longer; Debian's x86 build has the command");
    }
  }
  if (!any)
    findings.missing("QEMU", "no qemu-system-x86_64 in PATH", "apt install qemu-system-x86");
}

void look_at_tap(Findings& findings, const Settings& settings) {
  const Descriptor fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    findings.missing("TAP", system_error("/dev/net/tun").message(),
                     "modprobe tun, and run as root or give this user access to it");
  } else if (::geteuid() != 0) {
    findings.note("TAP", "/dev/net/tun opens; devices must be made for this user",
                  "ip tuntap add NAME mode tap user USER; ip link set NAME up");
  } else {
    findings.fine("TAP", "/dev/net/tun opens, as root");
  }
  for (const std::string& tap : settings.tap) {
    if (fs::exists("/sys/class/net/" + tap))
      findings.fine("TAP", tap + " is there");
    else
      findings.note("TAP", tap + " is not there; it is made when the protection starts, as root");
  }
}

void look_at_memory(Findings& findings) {
  std::ifstream in("/proc/meminfo");
  long available_kib = 0, huge = 0;
  for (std::string line; std::getline(in, line);) {
    std::sscanf(line.c_str(), "MemAvailable: %ld", &available_kib);
    std::sscanf(line.c_str(), "HugePages_Total: %ld", &huge);
  }
  findings.fine("memory", fmt::format("{} MiB available", available_kib / 1024));
  const std::string thp = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  if (thp.find("[never]") != std::string::npos || thp.empty()) {
    findings.note("huge pages", "transparent huge pages are off",
                  "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
  } else {
    findings.fine("huge pages", fmt::format("transparent: {}; reserved: {}", thp, huge));
  }
}

void look_at_datagrams(Findings& findings) {
  const std::string length = first_line("/proc/sys/net/unix/max_dgram_qlen");
  const int frames = std::atoi(length.c_str());
  const bool writable = ::access("/proc/sys/net/unix/max_dgram_qlen", W_OK) == 0;
  if (frames >= 512 || writable) {
    findings.fine("max_dgram_qlen",
                  fmt::format("{}{}", length, writable ? ", raised when needed" : ""));
  } else {
    findings.note("max_dgram_qlen", length + ": bursts of the guest's frames may be lost",
                  "sysctl net.unix.max_dgram_qlen=1024");
  }
}

void look_at_qemu_host(Findings& findings, const Settings& settings) {
  look_at_trackers(findings);
  look_at_preload(findings);
  look_at_accelerator(findings);
  look_at_qemu(findings);
  look_at_tap(findings, settings);
  look_at_datagrams(findings);
}

void look_at_scheduling(Findings& findings) {
  rlimit limit{};
  ::getrlimit(RLIMIT_RTPRIO, &limit);
  if (::geteuid() == 0 || limit.rlim_cur > 0) {
    findings.fine("scheduling", "real-time scheduling of heartbeats and pumps is permitted");
  } else {
    findings.note("scheduling", "no real-time scheduling: a busy host may delay heartbeats",
                  "run as root, or permit it: `@ftctl - rtprio 10` in /etc/security/limits.conf");
  }
}

void look_at_arbiter(Findings& findings, const Settings& settings) {
  if (settings.arbiter.empty()) {
    findings.note("arbiter", "none was named", "ftctl doctor --arbiter SPEC tries one");
    return;
  }
  const Status probed = probe_arbiter(settings.arbiter);
  if (probed.ok()) {
    findings.fine("arbiter", settings.arbiter + " answers");
    return;
  }
  const Complaint what = complaint(probed);
  findings.missing(
      "arbiter", settings.arbiter + ": " + what.cause,
      what.remedy.empty() ? "see that it runs and can be reached from here" : what.remedy);
}

void print(const Findings& findings) {
  for (const Finding& finding : findings.all()) {
    const char* const marks[] = {"ok     ", "note   ", "MISSING"};
    fmt::print("{} {:15} {}\n", marks[static_cast<int>(finding.mark)], finding.topic, finding.text);
    if (!finding.remedy.empty()) fmt::print("{:24}remedy: {}\n", "", finding.remedy);
  }
}

void print_json(const Findings& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings.all()) {
    const char* const marks[] = {"ok", "note", "missing"};
    list.push_back({{"mark", marks[static_cast<int>(finding.mark)]},
                    {"topic", finding.topic},
                    {"text", finding.text},
                    {"remedy", finding.remedy}});
  }
  fmt::print("{}\n", list.dump(2, ' ', false, Json::error_handler_t::replace));
}

PlanInput plan_input(const Arguments& arguments, const Settings& of_guest) {
  PlanInput input;
  input.guest = arguments.plan;
  input.memory_mib = arguments.memory_mib;
  input.dirty_rate_given = arguments.dirty_pages_per_second > 0;
  input.dirty_pages_per_second =
      input.dirty_rate_given ? arguments.dirty_pages_per_second : kUsualDirtyPagesPerSecond;
  input.interval_ms = of_guest.interval;
  input.inflight = of_guest.inflight;
  input.staging_mib = of_guest.staging_mib;
  input.reference_mib = of_guest.reference_mib;
  return input;
}

void note_tracker(PlanInput& input) {
  const std::vector<TrackerReport> all = trackers();
  const auto used = std::find_if(all.begin(), all.end(), [](const auto& one) { return one.works; });
  if (used == all.end()) return;
  input.tracker = used->name;
  input.scan_ms_per_gib = used->scan_ms_per_gib;
}

// GUEST is a name of the configuration, or a specification as of `protect`.
int plan_command(const Arguments& arguments, const Config& config, const Settings& settings) {
  const auto known = config.guests.find(arguments.plan);
  const Settings& of_guest = known == config.guests.end() ? settings : known->second;
  PlanInput input = plan_input(arguments, of_guest);
  const std::string& spec = of_guest.guest.empty() ? arguments.plan : of_guest.guest;
  if (is_xen_guest(spec)) {
    const auto plan = plan_of_domain(spec, std::move(input), of_guest);
    if (!plan) return print_error(plan.error());
    fmt::print("{}", plan->text);
    return plan->fits ? kFine : kRefused;
  }
  note_tracker(input);
  fmt::print("{}", plan_text(input));
  return kFine;
}

}  // namespace

int doctor_command(const Arguments& arguments, const Config& config) {
  const auto settings = settings_for(arguments, config, "");
  if (!settings) return print_error(settings.error());
  if (!arguments.plan.empty()) return plan_command(arguments, config, *settings);
  Findings findings;
  look_at_kernel(findings);
  if (is_xen_host())
    look_at_xen(findings);
  else
    look_at_qemu_host(findings, *settings);
  look_at_memory(findings);
  look_at_scheduling(findings);
  look_at_arbiter(findings, *settings);
  if (arguments.json)
    print_json(findings);
  else
    print(findings);
  for (const Finding& finding : findings.all()) {
    if (finding.mark == Mark::missing) return kFailed;
  }
  return kFine;
}

}  // namespace libft::ftctl
