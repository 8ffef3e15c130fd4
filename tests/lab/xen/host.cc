// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/host.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "os/real_clock.h"
#include "os/socket.h"
#include "qemu/qmp.h"

namespace libft::lab {
namespace {

using std::chrono::seconds;

constexpr unsigned kMemoryMib = 2048;
constexpr useconds_t kLookAgainUs = 50'000;

// docs/XEN.md says what goes wrong without each of these.
constexpr const char* kProcessor = "max,-smap,-smep,-avx,-avx2,-xsave,-rdtscp";
constexpr const char* kXenArguments =
    "console=com1 com1=115200,8n1 dom0_mem=768M,max:768M dom0_max_vcpus=1 loglvl=info "
    "guest_loglvl=info spec-ctrl=no xpti=no pv-l1tf=no sched=credit watchdog=0 bootscrub=0";
constexpr const char* kDom0Arguments =
    "console=hvc0 rdinit=/init mitigations=off tsc=reliable nokaslr lab.host=";

struct Card {
  const char* tap;
  const char* bridge;  // In the host's namespace; none: the tap itself has our address.
  int network;
};
constexpr std::array<Card, 4> kCards = {{{"command", nullptr, 76},
                                         {"vm-service", "br0", 77},
                                         {"vm-replica", "br1", 78},
                                         {"vm-heart", "br2", 79}}};

int number_of(Side side) { return side == Side::a ? 1 : 2; }

std::vector<std::string> machine(Side side) {
  std::vector<std::string> argv = {"-accel",      "tcg,thread=multi",
                                   "-machine",    "q35,memory-backend=ram",
                                   "-cpu",        kProcessor,
                                   "-smp",        "1",
                                   "-m",          std::to_string(kMemoryMib),
                                   "-nodefaults", "-display",
                                   "none",        "-no-reboot"};
  for (const Card& card : kCards) {
    argv.insert(
        argv.end(),
        {"-netdev",
         fmt::format("tap,id=n{0},ifname={1},script=no,downscript=no", card.network, card.tap),
         "-device",
         fmt::format("virtio-net-pci,netdev=n{0},mac=52:54:00:{0}:00:0{1},romfile=", card.network,
                     number_of(side))});
  }
  return argv;
}

// The multiboot modules are separated by commas: those within one are doubled.
std::string doubled_commas(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == ',' ? std::string(",,") : std::string(1, c);
  return out;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// dom0/init says how far it is in lines like "LAB 28.42 ready".
std::string last_word_of_init(const std::string& console) {
  std::istringstream lines(console);
  std::string word;
  for (std::string line; std::getline(lines, line);) {
    while (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.starts_with("LAB ")) word = line.substr(line.rfind(' ') + 1);
  }
  return word;
}

Status run_here(std::vector<std::string> argv, Nanos patience) {
  os::ChildOptions options;
  options.argv = std::move(argv);
  const std::string name = fmt::format("{}", fmt::join(options.argv, " "));
  FT_ASSIGN(auto child, os::Child::start(options));
  FT_ASSIGN(const auto end, child.wait(patience));
  return end.clean() ? Status{} : Status(Code::io, name + ": " + os::to_string(end));
}

Status moved(const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::rename(from, to, error);
  if (!error) return {};
  // Another file system.
  return run_here({"cp", "--sparse=always", from, to}, seconds(60));
}

// Saved RAM is not in the stream: QEMU leaves out what is shared, and the file is the memory.
Status leave_out_shared_memory(qemu::Qmp& monitor) {
  auto done =
      monitor.execute("migrate-set-capabilities",
                      {{"capabilities", {{{"capability", "x-ignore-shared"}, {"state", true}}}}});
  return done ? Status{} : done.error();
}

}  // namespace

std::string XenHost::description(Side side) {
  return fmt::format("{}\n{}\n{}{}", fmt::join(machine(side), " "), kXenArguments, kDom0Arguments,
                     number_of(side));
}

Result<std::unique_ptr<XenHost>> XenHost::create(Namespace& home, Side side, std::string image,
                                                 std::string folder) {
  std::unique_ptr<XenHost> host(new XenHost(home, side, std::move(image), std::move(folder)));
  FT_TRY(host->wire());
  FT_TRY(host->make_disk(host->image_ + "/root.ext4", "raw"));
  return host;
}

XenHost::~XenHost() { kill(); }

// TwoHosts gave this namespace the addresses of a host: here they are dom0's, and what is left is
// the wire between the switch and the emulated card.
Status XenHost::wire() {
  std::string wiring =
      "addr flush dev br0\naddr flush dev rep0\naddr flush dev hb0\n"
      "link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
      "link add br2 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
      "link set rep0 master br1\nlink set hb0 master br2\nlink set br1 up\nlink set br2 up\n";
  for (const Card& card : kCards) {
    wiring += fmt::format("tuntap add {0} mode tap\nlink set {0} up\n", card.tap);
    wiring += card.bridge != nullptr
                  ? fmt::format("link set {} master {}\n", card.tap, card.bridge)
                  : fmt::format("addr add 10.{}.0.254/24 dev {}\n", card.network, card.tap);
  }
  return home_.ip(wiring);
}

Status XenHost::make_disk(const std::string& backing, const char* format) {
  const std::string disk = HostFiles(folder_).disk;
  ::unlink(disk.c_str());
  return run_here({"qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", format, disk},
                  seconds(20));
}

Status XenHost::start(const std::string& memory_file, Memory memory,
                      std::vector<std::string> more) {
  const HostFiles files(folder_);
  os::ChildOptions qemu;
  qemu.argv = {"qemu-system-x86_64"};
  const auto add = [&](std::vector<std::string> words) {
    qemu.argv.insert(qemu.argv.end(), words.begin(), words.end());
  };
  add(machine(side_));
  add({"-object", fmt::format("memory-backend-file,id=ram,size={}M,mem-path={},share={}",
                              kMemoryMib, memory_file, memory == Memory::kept ? "on" : "off")});
  add({"-kernel", image_ + "/xen", "-append", kXenArguments, "-initrd",
       fmt::format("{}/vmlinuz {}{},{}/initrd.img", image_, doubled_commas(kDom0Arguments),
                   number_of(side_), image_)});
  add({"-drive", fmt::format("file={},format=qcow2,if=none,id=disk", files.disk), "-device",
       "virtio-blk-pci,drive=disk", "-serial", "file:" + console(), "-qmp",
       fmt::format("unix:{}/qmp,server=on,wait=off", folder_)});
  add(std::move(more));
  ::unlink(console().c_str());
  const os::ScopedFd log(
      ::open((folder_ + "/qemu.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!log.valid()) return os::errno_status("open " + folder_ + "/qemu.log");
  qemu.stdout_fd = qemu.stderr_fd = log.get();
  qemu.own_session = true;
  FT_ASSIGN(qemu_, home_.start(qemu));
  return {};
}

Status XenHost::boot() {
  kill();
  const std::string memory = HostFiles(folder_).memory;
  ::unlink(memory.c_str());  // Memory that starts as zeros, and stays a file with holes.
  return start(memory, Memory::kept, {});
}

Status XenHost::in_time(std::string_view what, Nanos patience, const std::function<bool()>& done) {
  const os::RealClock clock;
  const Time deadline = clock.now() + patience;
  while (!done()) {
    const char* name = side_ == Side::a ? "a" : "b";
    if (!running()) {
      return Status(Code::peer_lost, fmt::format("host {} ended while it was to {}: {}", name, what,
                                                 content_of(folder_ + "/qemu.log")));
    }
    if (panicked()) return Status(Code::peer_lost, fmt::format("host {} panicked", name));
    if (clock.now() > deadline) {
      return Status(Code::timeout, fmt::format("host {} did not {} in time", name, what));
    }
    ::usleep(kLookAgainUs);
  }
  return {};
}

Status XenHost::wait_ready(Nanos patience) {
  std::string said;
  FT_TRY(in_time("become ready", patience, [&] {
    said = last_word_of_init(content_of(console()));
    return said == "ready" || said == "failed";
  }));
  if (said == "ready") return {};
  return Status(Code::io, "dom0 says that xl does not work: see " + console());
}

bool XenHost::running() const {
  if (!qemu_) return false;
  return !qemu_->wait(Nanos{0});  // A failure to wait: it has not ended.
}

bool XenHost::panicked() const {
  const std::string said = content_of(console());
  return said.find("Panic on CPU") != said.npos || said.find("Kernel panic") != said.npos;
}

void XenHost::kill() {
  if (qemu_) qemu_->kill_and_reap();
}

Result<std::unique_ptr<qemu::Qmp>> XenHost::monitor() {
  const std::string path = folder_ + "/qmp";
  FT_TRY(in_time("open its monitor", seconds(20), [&] {
    auto probe = os::SocketAddress::unix_path(path);
    return probe && os::connect_socket(*probe, Millis{200}).has_value();
  }));
  return qemu::Qmp::connect(
      path, [](const qemu::Json&) {}, seconds(20));
}

Status XenHost::restore(const std::string& saved, Use use) {
  kill();
  const HostFiles from(saved), here(folder_);
  FT_TRY(make_disk(std::filesystem::absolute(from.disk), "qcow2"));
  if (use == Use::save_again) {
    FT_TRY(run_here({"cp", "--sparse=always", from.memory, here.memory}, seconds(120)));
  }
  // Otherwise a private mapping of the saved memory: it is read as it is needed.
  FT_TRY(start(use == Use::save_again ? here.memory : from.memory,
               use == Use::save_again ? Memory::kept : Memory::thrown_away,
               {"-incoming", "defer"}));
  FT_TRY(load(from.devices));
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  auto set = run(fmt::format("date -s @{}.{:09}", now.tv_sec, now.tv_nsec), seconds(60));
  return set ? Status{} : set.error().within("set the restored host's clock");
}

Status XenHost::load(const std::string& devices) {
  FT_ASSIGN(const auto control, monitor());
  FT_TRY(leave_out_shared_memory(*control));
  auto begun = control->execute("migrate-incoming", {{"uri", "exec:cat " + devices}});
  if (!begun) return begun.error();
  FT_TRY(in_time("load what was saved", seconds(60), [&] {
    const auto status = control->execute("query-status");
    return status && qemu::text_at(*status, "status") != "inmigrate";
  }));
  auto going = control->execute("cont");
  return going ? Status{} : going.error();
}

// QEMU 7.2 refuses to load a processor that was inside an SVM guest (it takes the flag for KVM's,
// target/i386/machine.c). Xen's text is where no guest's is, and the hypervisor runs thousands of
// times a second, so a few tries find it there.
Status XenHost::stop_in_hypervisor(qemu::Qmp& control) {
  return in_time("be stopped outside its guests", seconds(30), [&] {
    const auto registers = control.execute("stop")
                               ? control.human("info registers")
                               : Result<std::string>(failure(Code::io, "cannot be stopped"));
    if (registers && registers->find("RIP=ffff82d0") != std::string::npos) return true;
    static_cast<void>(control.execute("cont"));
    return false;
  });
}

Status XenHost::save(const std::string& saved) {
  const std::string part = saved + ".part";
  std::filesystem::remove_all(part);
  std::filesystem::create_directories(part);
  const HostFiles here(folder_), there(part);
  FT_ASSIGN(auto control, monitor());
  FT_TRY(leave_out_shared_memory(*control));
  FT_TRY(stop_in_hypervisor(*control));
  auto begun = control->execute("migrate", {{"uri", "exec:cat > " + there.devices}});
  if (!begun) return begun.error();
  std::string status;
  FT_TRY(in_time("be saved", seconds(60), [&] {
    const auto now = control->execute("query-migrate");
    status = now ? qemu::text_at(*now, "status") : "unknown";
    return status == "completed" || status == "failed";
  }));
  if (status != "completed") return Status(Code::io, "QEMU cannot save the host: " + status);
  static_cast<void>(control->execute("quit"));
  FT_ASSIGN(const auto end, qemu_->wait(seconds(20)));
  if (!end.clean()) return Status(Code::io, "QEMU of the saved host: " + os::to_string(end));
  FT_TRY(moved(here.disk, there.disk));
  FT_TRY(moved(here.memory, there.memory));
  std::error_code error;
  std::filesystem::rename(part, saved, error);
  return error ? Status(Code::io, "keep the saved host: " + error.message()) : Status{};
}

Result<CommandResult> XenHost::command(std::string_view line, Nanos limit, std::string_view input) {
  const std::string address = fmt::format("10.76.0.{}", number_of(side_));
  FT_ASSIGN(const auto to, os::resolve({address, kCommandPort}, os::ResolveFor::connecting));
  std::optional<Result<os::ScopedFd>> connection;
  home_.within([&] { connection.emplace(os::connect_socket(to.front(), seconds(15))); });
  if (!*connection) {
    return failure(connection->error().within(fmt::format("command \"{}\"", line)));
  }
  return run_command(std::move(**connection), line, limit, input);
}

Result<std::string> XenHost::run(std::string_view line, Nanos limit, std::string_view input) {
  FT_ASSIGN(auto result, command(line, limit, input));
  if (result.code == 124) {
    return failure(Code::timeout, fmt::format("\"{}\" took too long: {}", line, result.output));
  }
  if (result.code != 0) {
    return failure(Code::io,
                   fmt::format("\"{}\": exit code {}: {}", line, result.code, result.output));
  }
  return std::move(result.output);
}

Status XenHost::push(const std::vector<std::string>& files, const std::string& folder,
                     Nanos limit) {
  const std::string archive = folder_ + "/push.tar";
  std::vector<std::string> tar = {"tar", "-c", "-f", archive};
  for (const auto& file : files) {
    const auto path = std::filesystem::absolute(file);
    tar.insert(tar.end(), {"-C", path.parent_path(), path.filename()});
  }
  FT_TRY(run_here(tar, limit));
  auto put = run(fmt::format("mkdir -p '{0}' && tar -x -f - -C '{0}'", folder), limit,
                 content_of(archive));
  ::unlink(archive.c_str());
  return put ? Status{} : put.error().within("put files onto the host");
}

}  // namespace libft::lab
