// SPDX-License-Identifier: LGPL-2.1-or-later
// Saved hosts: made once for each image, QEMU and guest, and kept beside the image. Host b is the
// same whatever runs on host a, so it is saved once.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <span>

#include "base/checksum.h"
#include "lab/xen/pair.h"
#include "os/real_clock.h"
#include "os/thread.h"

namespace libft::lab {
namespace {

using std::chrono::seconds;

// Says what took how long, for whoever waits.
class Stopwatch {
 public:
  void say(const std::string& what) {
    const Time now = clock_.now();
    fmt::print("lab: {} in {:.1f} s\n", what, std::chrono::duration<double>(now - last_).count());
    std::fflush(stdout);
    last_ = now;
  }

 private:
  os::RealClock clock_;
  Time last_ = clock_.now();
};

class SavedHosts {
 public:
  static Result<SavedHosts> open(const XenLab& lab, const std::optional<XenGuest>& guest);

  Status make_missing();
  const std::string& a() const { return guest_ ? with_guest_ : a_; }
  const std::string& b() const { return b_; }

 private:
  SavedHosts(const XenLab& lab, std::optional<XenGuest> guest)
      : lab_(lab), guest_(std::move(guest)) {}
  static bool there(const std::string& saved) {
    return std::filesystem::exists(HostFiles(saved).devices);
  }
  Status lock();
  Status make_pair();
  Status make_guest();

  const XenLab lab_;
  const std::optional<XenGuest> guest_;
  std::string a_, b_, with_guest_;
  os::ScopedFd lock_;
};

std::string qemu_version() {
  std::string text(200, '\0');
  FILE* out = ::popen("qemu-system-x86_64 --version", "re");
  if (out == nullptr) return {};
  text.resize(std::fread(text.data(), 1, text.size(), out));
  ::pclose(out);
  return text;
}

std::string key_of(const std::string& text) {
  return fmt::format("{:016x}", base::checksum(std::as_bytes(std::span(text))));
}

Result<SavedHosts> SavedHosts::open(const XenLab& lab, const std::optional<XenGuest>& guest) {
  SavedHosts saved(lab, guest);
  const std::string folder = lab.image + "/saved";
  std::error_code error;
  std::filesystem::create_directories(folder, error);

  // The paths are in it because a saved disk names the one that it stands on.
  const std::string version = qemu_version() + lab.image;
  saved.a_ = fmt::format("{}/a-{}", folder, key_of(version + XenHost::description(Side::a)));
  saved.b_ = fmt::format("{}/b-{}", folder, key_of(version + XenHost::description(Side::b)));
  if (guest) {
    saved.with_guest_ =
        fmt::format("{}-{}-{}", saved.a_, to_string(guest->kind), key_of(xl_config(*guest)));
  }
  return saved;
}

Status SavedHosts::make_missing() {
  if (there(a_) && there(b_) && there(a())) return {};
  FT_TRY(lock());
  if (!there(a_) || !there(b_)) FT_TRY(make_pair().within("boot and save two hosts"));
  if (guest_ && !there(with_guest_)) FT_TRY(make_guest().within("save a host with a guest"));
  return {};
}

// Others may be making the same: whoever waited for them finds it made.
Status SavedHosts::lock() {
  const std::string path = lab_.image + "/saved/lock";
  lock_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!lock_.valid()) return os::errno_status("open " + path);
  return ::flock(lock_.get(), LOCK_EX) == 0 ? Status{} : os::errno_status("lock " + path);
}

// A failure keeps what the hosts can tell about it.
Status explained(XenPair& pair, Status done) {
  if (!done.ok()) {
    pair.keep_folder();
    pair.collect_logs();
    fmt::print("logs are in {}\n", pair.folder());
  }
  return done;
}

Status SavedHosts::make_pair() {
  Stopwatch watch;
  FT_ASSIGN(const auto pair, XenPair::create(lab_, "save-pair"));
  FT_TRY(explained(*pair, pair->boot()));
  watch.say("two hosts booted");
  FT_TRY(pair->host(Side::a).save(a_));
  FT_TRY(pair->host(Side::b).save(b_));
  watch.say("two hosts saved");
  return {};
}

Status SavedHosts::make_guest() {
  Stopwatch watch;
  FT_ASSIGN(const auto pair, XenPair::create(lab_, "save-guest"));
  FT_TRY(pair->host(Side::a).restore(a_, XenHost::Use::save_again));
  watch.say("host a restored");
  FT_TRY(explained(*pair, pair->create_guest(Side::a, *guest_)));
  watch.say(fmt::format("guest {} created, its Redis answers", to_string(guest_->kind)));
  FT_TRY(pair->host(Side::a).save(with_guest_));
  watch.say("host a saved");
  return {};
}

}  // namespace

Result<std::unique_ptr<XenPair>> prepared_pair(const XenLab& lab, const std::string& name,
                                               const std::optional<XenGuest>& guest) {
  std::string a, b;
  {
    FT_ASSIGN(auto saved, SavedHosts::open(lab, guest));
    FT_TRY(saved.make_missing());
    a = saved.a();
    b = saved.b();
  }
  Stopwatch watch;
  FT_ASSIGN(auto pair, XenPair::create(lab, name));
  Status other;
  auto restored = os::start_thread(
      "ft-lab-restore", [&] { other = pair->host(Side::b).restore(b, XenHost::Use::run); });
  const Status first = pair->host(Side::a).restore(a, XenHost::Use::run);
  restored.join();
  FT_TRY(first);
  FT_TRY(other);
  if (guest) FT_TRY(pair->wait_for_redis(seconds(60)));
  watch.say("two hosts restored");
  return pair;
}

}  // namespace libft::lab
