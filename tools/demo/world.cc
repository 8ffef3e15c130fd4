// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/world.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "demo/control_client.h"
#include "os/file.h"
#include "os/real_clock.h"
#include "os/socket.h"

namespace libft::demo {
namespace {

constexpr const char* kGuestName = "demo";
constexpr const char* kTap = "tap0";
constexpr std::uint16_t kPort = 7070, kHeartbeatPort = 7071;

std::string heartbeats(Side side) {
  return fmt::format("{}:{},{}:{}", lab::TwoHosts::replication_address(side), kHeartbeatPort,
                     lab::TwoHosts::heartbeat_address(side), kHeartbeatPort);
}

// Where host `side` is reached by each of the two paths.
std::string addresses(Side side) {
  return fmt::format("tcp:{}:{},tcp:{}:{}", lab::TwoHosts::replication_address(side), kPort,
                     lab::TwoHosts::heartbeat_address(side), kPort);
}

// By either: when one falls silent, replication goes on by the other.
std::string listening() { return fmt::format("tcp:0.0.0.0:{}", kPort); }

}  // namespace

std::optional<Json> Ftctl::status() const {
  auto found = ask_status(control);
  return found ? std::optional(std::move(*found)) : std::nullopt;
}

bool Ftctl::protects() const {
  const auto now = status();
  return now && now->value("protected", false) && now->value("role", "") == "primary";
}

bool Ftctl::runs_guest() const {
  const auto now = status();
  return now && now->value("role", "") == "primary";
}

bool Ftctl::backs() const {
  const auto now = status();
  return now && now->value("role", "") == "backup";
}

void Ftctl::kill() {
  const auto now = status();
  if (!now || !now->contains("keeper")) {
    child->kill_and_reap();
  } else if (const pid_t pid = (*now)["keeper"].value("pid", 0); pid > 0) {
    ::kill(pid, SIGKILL);
  }
}

Result<std::unique_ptr<World>> World::create(const DemoOptions& options, const std::string& guest,
                                             const std::string& folder, Interrupt& interrupt) {
  std::unique_ptr<World> world(new World(options, guest, folder, interrupt));
  FT_TRY(world->set_up());
  return world;
}

// The namespaces go with their processes; etcd lives in the client's.
World::~World() = default;

Status World::set_up() {
  FT_ASSIGN(hosts_, lab::TwoHosts::create());
  for (const Side side : {Side::a, Side::b}) FT_TRY(hosts_->add_tap(side, kTap));
  if (options_.replicas == 3) FT_TRY(hosts_->add_third());
  FT_TRY(make_key());
  if (!options_.machine) FT_TRY(write_guest_description());
  if (options_.arbiter == "etcd") return start_etcd();
  std::error_code error;
  std::filesystem::create_directories(folder_ + "/arbiter", error);
  if (error) return Status(Code::io, "make the arbiter's directory: " + error.message());
  arbiter_ = "file:" + folder_ + "/arbiter";
  return {};
}

Status World::make_key() {
  FT_ASSIGN(const os::ScopedFd log, log_file("keygen.log"));
  os::ChildOptions keygen;
  keygen.argv = {options_.ftctl, "keygen", folder_ + "/key"};
  keygen.stdout_fd = keygen.stderr_fd = log.get();
  FT_ASSIGN(os::Child child, os::Child::start(keygen));
  FT_ASSIGN(const os::ChildEnd end, child.wait(std::chrono::seconds{20}));
  if (end.clean()) return {};
  return Status(Code::io, fmt::format("ftctl keygen: {}", os::to_string(end)));
}

Status World::write_guest_description() {
  FT_ASSIGN(std::string append, os::read_file(guest_ + "/cmdline", 4096));
  while (!append.empty() && append.back() == '\n') append.pop_back();
  append += fmt::format(" libft.ip={}/24 libft.observer={}{}", lab::kGuestAddress,
                        lab::kClientAddress, options_.all_loads ? " libft.web" : "");
  const Json description = {
      {"memory", fmt::format("{}M", options_.memory_mib)},
      {"kernel", guest_ + "/vmlinuz"},
      {"initrd", guest_ + "/initrd.img"},
      {"append", append},
      {"serial", console_log()},
      {"guest_agent", true},
      {"nics", Json::array({{{"model", "virtio-net-pci"}, {"mac", "52:54:00:77:00:10"}}})}};
  return os::write_file_atomically(folder_ + "/guest.json", description.dump(2) + "\n");
}

// On the client's side of the switches: a third place, which a dying host does not take along.
Status World::start_etcd() {
  FT_ASSIGN(const os::ScopedFd log, log_file("etcd.log"));
  const std::string url = fmt::format("http://{}:2379", lab::kClientAddress);
  os::ChildOptions etcd;
  etcd.argv = {"etcd",
               "--name",
               "demo",
               "--data-dir",
               folder_ + "/etcd",
               "--listen-client-urls",
               url,
               "--advertise-client-urls",
               url,
               "--listen-peer-urls",
               "http://127.0.0.1:2380",
               "--initial-advertise-peer-urls",
               "http://127.0.0.1:2380",
               "--initial-cluster",
               "demo=http://127.0.0.1:2380"};
  etcd.stdout_fd = etcd.stderr_fd = log.get();
  etcd.own_session = true;
  auto child = hosts_->client().start(etcd);
  if (!child) return child.error().within("start etcd (apt-get install etcd-server)");
  etcd_ = std::move(*child);
  arbiter_ = "etcd:" + url;
  FT_ASSIGN(const auto addresses,
            os::resolve({lab::kClientAddress, 2379}, os::ResolveFor::connecting));
  return interrupt_.wait("etcd to listen", std::chrono::seconds{30}, [&] {
    bool connected = false;
    hosts_->client().within(
        [&] { connected = os::connect_socket(addresses.front(), Millis{200}).has_value(); });
    return connected;
  });
}

Result<os::ScopedFd> World::log_file(const std::string& name) const {
  const std::string path = folder_ + "/" + name;
  os::ScopedFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.valid()) return failure(os::errno_status("open " + path));
  return fd;
}

Result<std::unique_ptr<Ftctl>> World::protect(Side side) {
  if (!options_.machine)
    return start(side, "protect", {{"guest", "qemu:" + folder_ + "/guest.json"}});
  return start(
      side, "protect",
      {{"guest", fmt::format("machine:{0}/Image,mib={1},initrd={0}/initrd.cpio,"
                             "append=console=ttyS0 ip={2} observer={3}",
                             guest_, kMachineMib, lab::kGuestAddress, lab::kClientAddress)}});
}

Result<std::unique_ptr<Ftctl>> World::stand_by(Side side) {
  return start(side, "standby", {{"peer", addresses(other(side))}});
}

Result<std::unique_ptr<Ftctl>> World::witness() {
  const std::string stem = folder_ + "/C";
  os::ChildOptions program;
  program.argv = {options_.ftctl,
                  "witness",
                  "--name",
                  kGuestName,
                  "--host",
                  "host-c",
                  "--peer",
                  fmt::format("tcp:{}:{},tcp:{}:{}", lab::TwoHosts::replication_address(Side::b),
                              kPort, lab::TwoHosts::replication_address(Side::a), kPort),
                  "--key-file",
                  folder_ + "/key",
                  "--state-dir",
                  stem + "-state",
                  "--control",
                  stem + ".sock"};
  FT_ASSIGN(const os::ScopedFd out, log_file("C.log"));
  program.stdout_fd = program.stderr_fd = out.get();
  program.own_session = true;
  FT_ASSIGN(os::Child child, hosts_->third().start(program));
  return std::make_unique<Ftctl>(Ftctl{
      Side::b, stem + ".sock", stem + ".log", {}, std::make_shared<os::Child>(std::move(child))});
}

World::Words World::common_words(Side side) const {
  return {{"name", kGuestName},
          {"host", fmt::format("host-{}", side == Side::a ? 'a' : 'b')},
          {"listen", listening()},
          {"heartbeat", heartbeats(side)},
          {"tap", kTap},
          {"arbiter", arbiter_},
          {"key_file", folder_ + "/key"},
          {"state_dir", state_folder(side)}};
}

// The guest is named by the command, everything else by options: `--state-dir DIR`.
std::vector<std::string> World::ftctl_command(const std::string& duty, const Words& words) const {
  std::vector<std::string> argv = {options_.ftctl, duty};
  for (const auto& [name, value] : words) {
    std::string option = "--" + name;
    std::replace(option.begin(), option.end(), '_', '-');
    if (name != "guest") argv.push_back(option);
    argv.push_back(value);
  }
  if (duty == "protect") argv.insert(argv.end(), {"--strategy", options_.strategy});
  if (options_.interval_ms > 0)
    argv.insert(argv.end(), {"--interval", std::to_string(options_.interval_ms)});
  if (options_.answer_max_ms > 0)
    argv.insert(argv.end(), {"--answer-max", std::to_string(options_.answer_max_ms)});
  if (options_.fixed) argv.emplace_back("--fixed");
  return argv;
}

// The library's options by their own names: `state_dir=DIR`.
std::vector<std::string> World::pair_command(const std::string& duty, const Words& words) const {
  std::vector<std::string> argv = {options_.pair, duty};
  for (const auto& [name, value] : words) argv.push_back(name + "=" + value);
  if (options_.interval_ms > 0)
    argv.push_back(fmt::format("interval_us={}", options_.interval_ms * 1000));
  if (options_.fixed) argv.emplace_back("adaptive=0");
  return argv;
}

Result<std::unique_ptr<Ftctl>> World::start(Side side, const std::string& duty, Words words) {
  const std::string stem = fmt::format("{}/{}{}", folder_, letter(side), ++started_);
  const std::string control = stem + ".sock", log = stem + ".log", epochs = stem + ".epochs";
  for (auto& word : common_words(side)) words.push_back(std::move(word));
  words.emplace_back("control", control);
  words.emplace_back("epochs_log", epochs);
  os::ChildOptions program;
  program.argv =
      options_.through == "capi" ? pair_command(duty, words) : ftctl_command(duty, words);
  if (through_ftd()) return start_through_ftd(side, program.argv, epochs);
  FT_ASSIGN(const os::ScopedFd out, log_file(fmt::format("{}{}.log", letter(side), started_)));
  program.stdout_fd = program.stderr_fd = out.get();
  program.own_session = true;  // Ctrl-C is for the demo, which ends it in order.
  FT_ASSIGN(os::Child child, hosts_->host(side).start(program));
  return std::make_unique<Ftctl>(
      Ftctl{side, control, log, epochs, std::make_shared<os::Child>(std::move(child))});
}

std::string World::state_folder(Side side) const {
  return fmt::format("{}/{}-state", folder_, letter(side));
}

// Once a host's ftd knows the guest, it does by itself whatever is due, also after the host's
// death.
Result<std::unique_ptr<Ftctl>> World::start_through_ftd(Side side,
                                                        const std::vector<std::string>& argv,
                                                        const std::string& epochs) {
  const bool known = ftds_.contains(side);
  FT_TRY(boot_ftd(side));
  Ftd& ftd = ftds_[side];
  if (!known) {
    ftd.epochs_log = epochs;
    os::ChildOptions ftctl;
    ftctl.argv = argv;
    // For the time when this host is the backup.
    if (argv[1] == "protect") {
      ftctl.argv.insert(ftctl.argv.end(), {"--peer", addresses(other(side))});
    }
    FT_ASSIGN(const os::ScopedFd out, log_file(fmt::format("{}-ftctl.log", letter(side))));
    ftctl.stdout_fd = ftctl.stderr_fd = out.get();
    FT_ASSIGN(os::Child child, hosts_->host(side).start(ftctl));
    FT_ASSIGN(const os::ChildEnd end, child.wait(std::chrono::seconds{60}));
    if (!end.clean()) {
      return failure(Code::refused,
                     fmt::format("ftctl {} through ftd: {}; see {}/{}-ftctl.log", argv[1],
                                 os::to_string(end), folder_, letter(side)));
    }
  }
  return std::make_unique<Ftctl>(
      Ftctl{side, state_folder(side) + "/ftd.sock", ftd.log, ftd.epochs_log, ftd.child});
}

Status World::boot_ftd(Side side) {
  const Ftd& ftd = ftds_[side];
  if (ftd.child && !ftd.child->wait(Nanos{0})) return {};
  // As /run is after a boot; what is to be kept up lies in a folder beside it.
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(state_folder(side), error)) {
    if (!entry.is_directory()) std::filesystem::remove(entry.path(), error);
  }
  return start_ftd(side);
}

Status World::start_ftd(Side side) {
  namespace fs = std::filesystem;
  Ftd& ftd = ftds_[side];
  const fs::path here = fs::path(options_.ftctl).parent_path();
  const fs::path installed = here / "../sbin/ftd", built = here / "../ftd/ftd";
  ftd.log = fmt::format("{}/{}-ftd.log", folder_, letter(side));
  os::ChildOptions options;
  options.argv = {fs::exists(installed) ? installed.string() : built.string(), "--state-dir",
                  state_folder(side), "--ftctl", options_.ftctl};
  FT_ASSIGN(const os::ScopedFd out, log_file(fmt::format("{}-ftd.log", letter(side))));
  options.stdout_fd = options.stderr_fd = out.get();
  options.own_session = true;
  FT_ASSIGN(os::Child child, hosts_->host(side).start(options));
  ftd.child = std::make_shared<os::Child>(std::move(child));
  FT_ASSIGN(const auto socket, os::SocketAddress::unix_path(state_folder(side) + "/ftd.sock"));
  return interrupt_.wait("ftd to answer", std::chrono::seconds{30},
                         [&] { return os::connect_socket(socket, Millis{200}).has_value(); });
}

Status World::restart_ftd(Side side) {
  os::Child& child = *ftds_.at(side).child;
  FT_TRY(child.signal(SIGTERM));
  FT_ASSIGN(const os::ChildEnd end, child.wait(std::chrono::seconds{20}));
  if (!end.clean()) return Status(Code::internal, "ftd ended with " + os::to_string(end));
  return start_ftd(side);
}

Status World::upgrade(Side side) {
  FT_ASSIGN(const os::ScopedFd out, log_file(fmt::format("{}-ftctl.log", letter(side))));
  os::ChildOptions ftctl;
  ftctl.argv = {options_.ftctl, "upgrade", kGuestName, "--state-dir", state_folder(side)};
  ftctl.stdout_fd = ftctl.stderr_fd = out.get();
  FT_ASSIGN(os::Child child, hosts_->host(side).start(ftctl));
  FT_ASSIGN(const os::ChildEnd end, child.wait(std::chrono::seconds{120}));
  if (end.clean()) return {};
  return Status(Code::refused,
                fmt::format("ftctl upgrade on {}: {}; see {}/{}-ftctl.log", letter(side),
                            os::to_string(end), folder_, letter(side)));
}

Result<Time> World::kill_host(Side side) {
  // Cables first: a kernel that still reached the other side would say goodbye for the dead.
  const Time instant = os::RealClock().now();
  FT_TRY(hosts_->cut(side));
  hosts_->host(side).signal_all(SIGKILL);
  return instant;
}

}  // namespace libft::demo
