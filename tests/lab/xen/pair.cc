// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/pair.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "lab/guest_image.h"
#include "os/file.h"
#include "os/poll.h"
#include "os/real_clock.h"
#include "os/socket.h"

namespace libft::lab {
namespace {

using std::chrono::seconds;

constexpr Nanos kImageTime = seconds(900);
constexpr Nanos kBootTime = seconds(400);
constexpr Nanos kCreateTime = seconds(180);
constexpr Nanos kGuestTime = seconds(900);  // An HVM guest needs minutes: docs/XEN.md.

Result<std::string> new_folder(const XenLab& lab, const std::string& name) {
  std::error_code error;
  std::filesystem::create_directories(lab.runs, error);
  std::string path =
      fmt::format("{}/{}-XXXXXX", std::filesystem::absolute(lab.runs).string(), name);
  if (::mkdtemp(path.data()) == nullptr) return failure(os::errno_status("make " + path));
  return path;
}

// One connection, one question.
bool redis_answers() {
  const auto to = os::resolve({kGuestAddress, 6379}, os::ResolveFor::connecting);
  if (!to) return false;
  const auto redis = os::connect_socket(to->front(), seconds(2));
  if (!redis || ::send(redis->get(), "PING\r\n", 6, MSG_NOSIGNAL) != 6) return false;
  const auto woke = os::wait_ready(redis->get(), POLLIN, -1, seconds(5));
  std::array<char, 8> answer{};
  return woke && *woke == os::Woke::ready &&
         ::recv(redis->get(), answer.data(), answer.size(), 0) >= 5 && answer[0] == '+';
}

// Saved hosts are gigabytes: images that nobody asked for in two weeks go.
void forget_old_images(const std::filesystem::path& image) {
  using std::filesystem::file_time_type;
  const auto now = file_time_type::clock::now();
  std::error_code ignored;
  std::filesystem::last_write_time(image / "complete", now, ignored);
  for (const auto& other : std::filesystem::directory_iterator(image.parent_path(), ignored)) {
    const auto asked = std::filesystem::last_write_time(other.path() / "complete", ignored);
    if (ignored || !other.path().filename().string().starts_with("xen-")) continue;
    if (now - asked > std::chrono::days(14)) std::filesystem::remove_all(other.path(), ignored);
  }
}

bool until(Nanos patience, const std::function<bool()>& done) {
  const os::RealClock clock;
  const Time deadline = clock.now() + patience;
  while (!done()) {
    if (clock.now() > deadline) return false;
    ::usleep(50'000);
  }
  return true;
}

}  // namespace

Result<XenLab> XenLab::find(const std::string& cache, const std::string& runs) {
  FT_ASSIGN(std::string image, run_image_script(FT_MAKE_XEN_IMAGE, cache, kImageTime));
  forget_old_images(image);
  return XenLab{std::move(image), runs};
}

XenLab XenLab::find_or_skip(const std::string& folder) {
  const auto skip = [](const std::string& reason) {
    fmt::print("skipped: {}\n", reason);
    std::fflush(stdout);
    std::_Exit(77);
  };
  if (::access("/dev/net/tun", R_OK | W_OK) != 0) {
    skip("/dev/net/tun is not there or not open to this user");
  }
  const char* cache = std::getenv("LIBFT_CACHE");
  auto lab = find(cache != nullptr && *cache == '/' ? cache : folder, folder + "/runs");
  if (!lab) skip("no image for the Xen lab: " + lab.error().message());
  if (const Status root = become_namespace_root(); !root.ok()) skip(root.message());
  return std::move(*lab);
}

Result<std::unique_ptr<XenPair>> XenPair::create(const XenLab& lab, const std::string& name) {
  FT_ASSIGN(std::string folder, new_folder(lab, name));
  std::unique_ptr<XenPair> pair(new XenPair(std::move(folder)));
  FT_ASSIGN(pair->net_, TwoHosts::create());
  for (const Side side : {Side::a, Side::b}) {
    const std::string own = pair->folder_ + (side == Side::a ? "/a" : "/b");
    std::filesystem::create_directory(own);
    FT_ASSIGN(pair->hosts_[side == Side::a ? 0 : 1],
              XenHost::create(pair->net_->host(side), side, lab.image, own));
  }
  return pair;
}

XenPair::~XenPair() {
  for (auto& host : hosts_) {
    if (host) host->kill();
  }
  std::error_code ignored;
  for (const char* side : {"/a", "/b"}) {
    const HostFiles large(folder_ + side);
    for (const auto& file : {large.disk, large.memory}) std::filesystem::remove(file, ignored);
  }
  if (!keep_) std::filesystem::remove_all(folder_, ignored);
}

Status XenPair::boot() {
  for (auto& host : hosts_) FT_TRY(host->boot());
  for (auto& host : hosts_) FT_TRY(host->wait_ready(kBootTime));
  return {};
}

Status XenPair::create_guest(Side side, const XenGuest& guest) {
  const std::string file = fmt::format("/etc/xen/{}.cfg", guest.name);
  auto put = host(side).run("cat > " + file, seconds(30), xl_config(guest));
  if (!put) return put.error();
  auto created = host(side).run("xl create " + file, kCreateTime);
  if (!created) return created.error();
  return wait_for_redis(kGuestTime).within("guest " + guest.name);
}

Status XenPair::wait_for_redis(Nanos patience) {
  const bool answered = until(patience, [&] {
    bool yes = false;
    net_->client().within([&] { yes = redis_answers(); });
    return yes;
  });
  return answered ? Status{} : Status(Code::timeout, "the guest's Redis does not answer");
}

Result<std::string> XenPair::start_etcd() {
  const std::string url = fmt::format("http://{}:2379", kClientAddress);
  const std::string peers = "http://127.0.0.1:2380";
  const os::ScopedFd log(
      ::open((folder_ + "/etcd.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  os::ChildOptions etcd;
  etcd.argv = {"etcd",
               "--name",
               "lab",
               "--data-dir",
               folder_ + "/etcd",
               "--listen-client-urls",
               url,
               "--advertise-client-urls",
               url,
               "--listen-peer-urls",
               peers,
               "--initial-advertise-peer-urls",
               peers,
               "--initial-cluster",
               "lab=" + peers};
  etcd.stdout_fd = etcd.stderr_fd = log.get();
  etcd.own_session = true;
  auto child = net_->client().start(etcd);
  if (!child) return failure(child.error().within("start etcd (apt-get install etcd-server)"));
  etcd_ = std::move(*child);
  FT_ASSIGN(const auto to, os::resolve({kClientAddress, 2379}, os::ResolveFor::connecting));
  const bool listens = until(seconds(30), [&] {
    bool connected = false;
    net_->client().within(
        [&] { connected = os::connect_socket(to.front(), Millis{200}).has_value(); });
    return connected;
  });
  if (!listens) return failure(Code::timeout, "etcd does not listen: see " + folder_ + "/etcd.log");
  return "etcd:" + url;
}

void XenPair::collect_logs() {
  for (auto& host : hosts_) {
    if (!host || !host->running()) continue;
    const auto told = host->command(
        "xl list; xl dmesg | tail -n 50; dmesg | tail -n 50; xenstore-ls -f | head -n 400; "
        "tail -n 50 /var/log/xen/* /tmp/*.log; ip -s link; tc -s qdisc",
        seconds(30));
    const std::string text = told ? told->output : told.error().to_string();
    static_cast<void>(os::write_file_atomically(
        fmt::format("{}/{}-at-the-end.txt", folder_, host->side() == Side::a ? "a" : "b"), text));
  }
}

std::string XenPair::panic() const {
  for (const auto& host : hosts_) {
    if (host && host->panicked()) return "host panicked: " + host->console();
  }
  return {};
}

Status attempt_on_pairs(const XenLab& lab, const std::string& name,
                        const std::optional<XenGuest>& guest,
                        const std::function<Status(XenPair&)>& attempt) {
  for (int retries = 0;; ++retries) {
    auto pair = prepared_pair(lab, name, guest);
    const Status done = pair ? attempt(**pair) : pair.error();
    if (done.ok()) return done;
    std::string panic;
    if (pair) {
      panic = (*pair)->panic();
      (*pair)->keep_folder();
      (*pair)->collect_logs();
      fmt::print("logs are in {}\n", (*pair)->folder());
    }
    // A lost host or a late answer may be the emulation's fault; a wrong answer is not.
    const bool emulation =
        !panic.empty() || done.code() == Code::timeout || done.code() == Code::peer_lost;
    if (!emulation || retries == 1) return panic.empty() ? done : done.within(panic);
    fmt::print("lab retried: {}: {} {}\n", name, done.to_string(), panic);
    std::fflush(stdout);
  }
}

}  // namespace libft::lab
