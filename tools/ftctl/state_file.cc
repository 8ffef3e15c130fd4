// SPDX-License-Identifier: LGPL-2.1-or-later
#include "state_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "descriptor.h"
#include "report.h"

namespace libft::ftctl {

using Json = nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr char kSuffix[] = ".guest.json";

// The name carries the incarnation: on a host that runs both replicas there are two lives at once.
std::string file_of(const std::string& directory, const GuestState& state) {
  const std::string text = to_string(state.self);
  return fmt::format("{}/{}.{}{}", directory, state.name, text.substr(text.rfind('/') + 1, 8),
                     kSuffix);
}

Json to_json(const ProcessId& process) {
  return Json{{"pid", process.pid}, {"start_ticks", process.start_ticks}};
}

ProcessId process_from(const Json& json) {
  return ProcessId{json.at("pid").get<pid_t>(), json.at("start_ticks").get<std::uint64_t>()};
}

Result<GuestState> state_from(const std::string& file) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  try {
    const Json json = Json::parse(text.str());
    GuestState state;
    state.name = json.at("guest").get<std::string>();
    state.host = json.at("host").get<std::string>();
    FT_ASSIGN(state.self, incarnation_from_string(json.at("incarnation").get<std::string>()));
    state.ftctl = process_from(json.at("ftctl"));
    state.guest = process_from(json.at("process"));
    state.domain = json.value("domain", "");  // Releases before Xen wrote none.
    state.qmp = json.at("qmp").get<std::string>();
    state.argv = json.at("argv").get<std::vector<std::string>>();
    state.spec = json.at("spec").get<std::string>();
    state.file = file;
    return state;
  } catch (const Json::exception& error) {
    return failure(Code::corrupt, fmt::format("{}: {}", file, error.what()));
  }
}

Status write_and_sync(const std::string& file, const std::string& text) {
  const Descriptor fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.valid()) return system_error(file);
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return system_error(file);
    done += static_cast<std::size_t>(n);
  }
  return ::fsync(fd.get()) == 0 ? Status() : system_error(file);
}

}  // namespace

Status replace_file(const std::string& file, const std::string& text) {
  const std::string fresh = file + ".new";
  Status wrote = write_and_sync(fresh, text);
  if (wrote.ok() && ::rename(fresh.c_str(), file.c_str()) != 0) wrote = system_error(file);
  if (!wrote.ok()) ::unlink(fresh.c_str());  // Half a file helps nobody and takes space.
  return wrote;
}

Status kill_process(const ProcessId& process, Nanos timeout) {
  if (!alive(process)) return {};
  const Descriptor fd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  if (!fd.valid()) return errno == ESRCH ? Status() : system_error("pidfd_open");
  if (!alive(process)) return {};
  if (::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0) != 0 && errno != ESRCH) {
    return system_error(fmt::format("end process {}", process.pid));
  }
  pollfd wait{fd.get(), POLLIN, 0};
  const auto ms = std::chrono::duration_cast<Millis>(timeout).count();
  if (::poll(&wait, 1, static_cast<int>(ms)) == 1) return {};
  return Status(Code::timeout,
                fmt::format("process {} was killed and is still there", process.pid));
}

std::string whereabouts(const GuestState& state) {
  if (!state.domain.empty()) return "domain " + state.domain;
  return fmt::format("process {}", state.guest.pid);
}

Status write_state(const std::string& directory, const GuestState& state) {
  const Json json{{"guest", state.name},
                  {"host", state.host},
                  {"incarnation", to_string(state.self)},
                  {"ftctl", to_json(state.ftctl)},
                  {"process", to_json(state.guest)},
                  {"domain", state.domain},
                  {"qmp", state.qmp},
                  {"argv", state.argv},
                  {"spec", state.spec}};
  return replace_file(file_of(directory, state),
                      json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void remove_state(const std::string& directory, const GuestState& state) {
  ::unlink(state.file.empty() ? file_of(directory, state).c_str() : state.file.c_str());
}

std::vector<GuestState> read_states(const std::string& directory, const std::string& guest,
                                    std::vector<std::string>& notes) {
  std::vector<GuestState> states;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (!entry.path().filename().string().ends_with(kSuffix)) continue;
    auto state = state_from(entry.path().string());
    if (!state) {
      notes.push_back(state.error().message());
    } else if (state->name == guest) {
      states.push_back(std::move(*state));
    }
  }
  return states;
}

void remove_dead_states(const std::string& directory, const std::string& guest,
                        const Incarnation& self) {
  std::vector<std::string> unreadable;  // Whoever starts next is told of them.
  for (const GuestState& state : read_states(directory, guest, unreadable)) {
    const bool somebody_lives =
        alive(state.guest) || (alive(state.ftctl) && state.ftctl.pid != ::getpid());
    if (!(state.self == self) && !somebody_lives) remove_state(directory, state);
  }
}

Status ensure_state_dir(const std::string& directory) {
  std::error_code error;
  const fs::path parent = fs::path(directory).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return with_remedy(Code::io, system_error("state directory " + directory).message(),
                       "choose another with --state-dir");
  }
  struct stat there {};
  if (::stat(directory.c_str(), &there) != 0) return system_error(directory);
  if (!S_ISDIR(there.st_mode) || there.st_uid != ::geteuid()) {
    return with_remedy(Code::refused,
                       fmt::format("state directory {}: it belongs to somebody else", directory),
                       "choose another with --state-dir");
  }
  if (::access(directory.c_str(), W_OK | X_OK) != 0) {
    return with_remedy(Code::io, system_error("state directory " + directory).message(),
                       "choose another with --state-dir");
  }
  return {};
}

}  // namespace libft::ftctl
