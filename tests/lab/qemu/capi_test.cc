// SPDX-License-Identifier: LGPL-2.1-or-later
// libft's own QEMU driver behind the C ABI: described, wrapped, attached to, and by QMP that
// belongs to the toolstack. This program has libft.h and libft.so, and nothing else of libft.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <libft.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace {

bool qemu_is_there() { return std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") == 0; }

// A folder, and the QEMU processes that are to end with it.
struct Lab {
  Lab() {
    char name[] = "/tmp/libft-capi-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
    std::ofstream(path + "/guest.json")
        << "{\"memory\": \"64M\", \"kernel\": \"" LIBFT_TINY_GUEST "\", \"accel\": \"tcg\"}\n";
  }
  ~Lab() {
    for (const int pid : pids) ::kill(pid, SIGKILL);
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;
  std::string path;
  std::vector<int> pids;
};

// The tiny guest's counter, out of the process's memory.
std::uint32_t count_of(int pid) {
  const std::string fds = "/proc/" + std::to_string(pid) + "/fd";
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(fds, error)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    if (target.find("memfd:memory-backend-memfd") == std::string::npos) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    std::uint32_t word = 0;
    const bool got = ::pread(fd, &word, sizeof word, 0x200000) == sizeof word;
    ::close(fd);
    if (got) return word;
  }
  return 0;
}

// The toolstack's own connection to QEMU's monitor, which it lends to libft.
class OwnQmp {
 public:
  explicit OwnQmp(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(next_line().find("\"QMP\"") != std::string::npos);
    send("{\"execute\":\"qmp_capabilities\"}", -1);
    REQUIRE(next_line().find("return") != std::string::npos);
  }
  ~OwnQmp() { ::close(fd_); }
  OwnQmp(const OwnQmp&) = delete;
  OwnQmp& operator=(const OwnQmp&) = delete;

  ft_qmp_port port() {
    ft_qmp_port port{};
    port.struct_size = sizeof port;
    port.user = this;
    port.free = [](void* user) { ++static_cast<OwnQmp*>(user)->freed; };
    port.execute = [](void* user, ft_op* op, const char* command, std::int32_t fd) -> std::int32_t {
      auto& self = *static_cast<OwnQmp*>(user);
      ++self.executed;
      self.descriptors += fd >= 0 ? 1 : 0;
      self.waiting_.push_back(op);
      self.send(command, fd);
      return FT_PENDING;
    };
    port.cancel = [](void* user, ft_op* op) {
      auto& self = *static_cast<OwnQmp*>(user);
      for (ft_op*& one : self.waiting_) one = one == op ? nullptr : one;  // Its answer still comes.
      ft_op_done(op, FT_E_CANCELLED);
    };
    return port;
  }
  int fd() const { return fd_; }
  // In the order of the connection, as libft asks for.
  void serve(ft_session* session) {
    read_some();
    for (std::size_t end; (end = input_.find('\n')) != std::string::npos;) {
      const std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      if (line.find("\"event\"") != std::string::npos &&
          line.find("\"return\"") == std::string::npos) {
        events += ft_session_qmp_event(session, line.c_str(), nullptr) == FT_OK ? 1 : 0;
        continue;
      }
      REQUIRE_FALSE(waiting_.empty());
      ft_op* const op = waiting_.front();
      waiting_.pop_front();
      if (op == nullptr) continue;
      ft_op_append(op, line.data(), line.size());
      ft_op_done(op, FT_OK);
    }
  }
  int executed = 0, descriptors = 0, events = 0, freed = 0;

 private:
  void send(const std::string& command, int fd) {
    std::string line = command + "\n";
    iovec piece{line.data(), line.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (fd >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    REQUIRE(::sendmsg(fd_, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(line.size()));
  }
  void read_some() {
    char buffer[65536];
    ssize_t got = 0;
    while ((got = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
      input_.append(buffer, static_cast<std::size_t>(got));
  }
  std::string next_line() {
    std::size_t end = 0;
    while ((end = input_.find('\n')) == std::string::npos) {
      pollfd wait{fd_, POLLIN, 0};
      REQUIRE(::poll(&wait, 1, 10000) == 1);
      read_some();
    }
    std::string line = input_.substr(0, end);
    input_.erase(0, end + 1);
    return line;
  }

  int fd_ = -1;
  std::string input_;
  std::deque<ft_op*> waiting_;
};

// One host's session.
struct Host {
  Host(const Lab& lab, const char* host, std::vector<std::pair<const char*, std::string>> more) {
    ft_options* options = nullptr;
    ft_options_new(&options, nullptr);
    more.insert(more.begin(), {{"name", "tiny"},
                               {"host", host},
                               {"arbiter", "file:" + lab.path},
                               {"state_dir", lab.path + "/" + host},
                               {"listen", "unix:" + lab.path + "/" + host + ".sock"},
                               {"heartbeat", "none"}});
    for (const auto& [name, value] : more)
      REQUIRE_MESSAGE(ft_options_set(options, name, value.c_str(), nullptr) == FT_OK,
                      ft_last_error());
    REQUIRE(ft_session_new(options, &session, nullptr) == FT_OK);
    ft_options_free(options);
    done.struct_size = sizeof done;
    done.user = this;
    done.done = [](void* user, std::int32_t status, const char*, const ft_error* error) {
      auto& self = *static_cast<Host*>(user);
      self.ended = status;
      if (status < 0) self.why = error->cause;
    };
    ft_log_sink sink{};
    sink.struct_size = sizeof sink;
    sink.user = this;
    sink.write = [](void* user, std::int32_t, const char* area, const char* text) {
      static_cast<Host*>(user)->log += std::string(area) + ": " + text + "\n";
    };
    ft_session_set_log(session, &sink, nullptr);
  }
  ~Host() { die(); }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  void die() {
    ft_session_free(session);
    session = nullptr;
  }
  ft_state state() const {
    ft_state now{};
    now.struct_size = sizeof now;
    ft_session_state(session, &now, nullptr);
    return now;
  }
  ft_guest_place place() const {
    ft_guest_place found{};
    found.struct_size = sizeof found;
    REQUIRE(ft_session_guest_place(session, &found, nullptr) == FT_OK);
    return found;
  }
  ft_session* session = nullptr;
  ft_completion done{};
  std::int32_t ended = FT_PENDING;
  std::string why, log;
  OwnQmp* qmp = nullptr;
};

bool drive(const std::vector<Host*>& hosts, const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(90);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::vector<pollfd> waits;
    for (Host* host : hosts) {
      waits.push_back({ft_session_poll_fd(host->session), POLLIN, 0});
      if (host->qmp != nullptr) waits.push_back({host->qmp->fd(), POLLIN, 0});
    }
    ::poll(waits.data(), waits.size(), 20);
    for (Host* host : hosts) {
      if (host->qmp != nullptr) host->qmp->serve(host->session);
      ft_session_process(host->session, nullptr);
    }
  }
  return true;
}

void protect(Host& host) {
  REQUIRE_MESSAGE(ft_session_protect(host.session, &host.done, nullptr) == FT_OK, ft_last_error());
  REQUIRE(drive({&host}, [&] { return host.ended != FT_PENDING; }));
  REQUIRE_MESSAGE(host.ended == FT_OK, host.why << "\n" << host.log);
}

// A backup joins, the primary's host is lost, and the guest goes on counting over there.
void lose(Lab& lab, Host& primary) {
  const int pid = primary.place().pid;
  lab.pids.push_back(pid);
  REQUIRE(drive({&primary}, [&] { return count_of(pid) > 20; }));
  Host backup(lab, "b", {{"peer", "unix:" + lab.path + "/a.sock"}});
  REQUIRE(ft_session_stand_by(backup.session, &backup.done, nullptr) == FT_OK);
  const bool joined = drive({&primary, &backup}, [&] {
    return primary.state().is_protected != 0 && std::strcmp(backup.state().state, "in_sync") == 0;
  });
  REQUIRE_MESSAGE(joined, primary.log << "\n" << backup.log);
  const int standby = backup.place().pid;
  lab.pids.push_back(standby);
  const std::uint32_t before = count_of(pid);
  REQUIRE(before > 0);
  REQUIRE(drive({&primary, &backup}, [&] { return primary.state().epoch_acknowledged > 3; }));
  primary.die();
  ::kill(pid, SIGKILL);
  REQUIRE(ft_session_fail_over(backup.session, nullptr, nullptr) == FT_OK);
  REQUIRE(drive({&backup}, [&] { return backup.state().role == FT_ROLE_PRIMARY; }));
  const std::uint32_t from = count_of(standby);
  CHECK(from > before / 2);
  CHECK(drive({&backup}, [&] { return count_of(standby) > from + 50; }));
}

}  // namespace

TEST_CASE("a guest that a file describes is protected, and goes on on the other host" *
          doctest::skip(!qemu_is_there())) {
  Lab lab;
  Host primary(lab, "a", {{"guest", "qemu:" + lab.path + "/guest.json"}});
  protect(primary);
  lose(lab, primary);
}

TEST_CASE("a command line of its owner's is completed and protected" *
          doctest::skip(!qemu_is_there())) {
  Lab lab;
  Host primary(lab, "a", {});
  const char* const command[] = {"qemu-system-x86_64",
                                 "-M",
                                 "pc",
                                 "-accel",
                                 "tcg",
                                 "-m",
                                 "64M",
                                 "-kernel",
                                 LIBFT_TINY_GUEST,
                                 "-vga",
                                 "none",
                                 "-display",
                                 "none",
                                 "-serial",
                                 "none",
                                 "-nic",
                                 "none",
                                 nullptr};
  REQUIRE(ft_session_set_command(primary.session, command, nullptr) == FT_OK);
  protect(primary);
  lose(lab, primary);
}

// A QEMU that the toolstack starts by itself, with what libft says that it must be given.
int start_qemu(Lab& lab, const std::string& state_dir) {
  ft_options* options = nullptr;
  REQUIRE(ft_options_new(&options, nullptr) == FT_OK);
  ft_options_set(options, "name", "tiny", nullptr);
  ft_options_set(options, "state_dir", state_dir.c_str(), nullptr);
  char text[4096];
  REQUIRE(ft_options_qemu_arguments(options, 64u << 20, 0, text, sizeof text, nullptr, nullptr) ==
          FT_OK);
  ft_options_free(options);
  std::string line = "exec qemu-system-x86_64 -M pc -accel tcg -m 64M -kernel " LIBFT_TINY_GUEST
                     " -vga none -display none -serial none -nic none";
  std::istringstream groups(text);
  for (std::string group; std::getline(groups, group);)
    line = group.starts_with("LD_PRELOAD=") ? group.substr(0, group.find(' ')) + " " + line
                                            : line + " " + group;
  std::filesystem::create_directories(state_dir);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  lab.pids.push_back(pid);
  return pid;
}

TEST_CASE("a QEMU that the toolstack started is attached to" * doctest::skip(!qemu_is_there())) {
  Lab lab;
  const std::string monitor = lab.path + "/a/tiny.qmp";
  const int pid = start_qemu(lab, lab.path + "/a");
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!std::filesystem::exists(monitor) && ::waitpid(pid, nullptr, WNOHANG) == 0 &&
         std::chrono::steady_clock::now() < limit)
    ::poll(nullptr, 0, 20);
  REQUIRE(std::filesystem::exists(monitor));
  Host primary(lab, "a", {{"guest", "qemu:pid=" + std::to_string(pid) + ",qmp=" + monitor}});
  protect(primary);
  lose(lab, primary);
}

TEST_CASE("after a restart of the toolstack: attach again, over QMP of its own" *
          doctest::skip(!qemu_is_there())) {
  Lab lab;
  std::string self;
  ft_guest_place place{};
  {
    Host earlier(lab, "a", {{"guest", "qemu:" + lab.path + "/guest.json"}});
    protect(earlier);
    place = earlier.place();
    lab.pids.push_back(place.pid);
    self = earlier.state().self;
  }
  OwnQmp own(place.qmp);  // QEMU serves one client: libft's is gone with its session.
  Host primary(lab, "a", {{"guest", "qemu:pid=" + std::to_string(place.pid)}, {"earlier", self}});
  const ft_qmp_port port = own.port();
  REQUIRE(ft_session_set_qmp(primary.session, &port, nullptr) == FT_OK);
  primary.qmp = &own;
  protect(primary);
  CHECK(own.executed > 10);
  CHECK(own.descriptors > 0);  // The memory for the devices' state.
  lose(lab, primary);
  CHECK(own.events > 3);  // Whose stop it was.
  CHECK(own.freed == 1);
}

TEST_CASE("what is wrong with a guest of libft's own is told by the completion, with the remedy" *
          doctest::skip(!qemu_is_there())) {
  Lab lab;
  const auto fails = [&](std::vector<std::pair<const char*, std::string>> options) {
    Host host(lab, "a", std::move(options));
    REQUIRE(ft_session_protect(host.session, &host.done, nullptr) == FT_OK);
    REQUIRE(drive({&host}, [&] { return host.ended != FT_PENDING; }));
    CHECK(host.ended < 0);
    CHECK(host.state().role == FT_ROLE_FAILED);
    return host.why;
  };
  CHECK(fails({{"guest", "qemu:/nonexistent.json"}}).find("guest description") !=
        std::string::npos);
  CHECK(fails({{"guest", "qemu:pid=1"}}).find("not understood") != std::string::npos);
  std::ofstream(lab.path + "/nic.json") << "{\"kernel\": \"x\", \"nics\": [{}]}";
  CHECK(fails({{"guest", "qemu:" + lab.path + "/nic.json"}}).find("0 TAP devices") !=
        std::string::npos);
}
