// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hand_over.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/hex.h"
#include "os/child.h"
#include "report.h"

namespace libft::ftctl {

namespace {

constexpr int kOwnFormat = 1;  // Of the JSON here; kHeldFormat is that of the session's bytes.
constexpr off_t kBytesMax = 64 << 20;
constexpr Nanos kAnswersIn = std::chrono::seconds(5);

Json to_json(const HandOver& left) {
  return Json{{"format", hand_over_format()},
              {"primary", left.primary},
              {"session", base::to_hex(left.session.bytes)},
              {"set_running", left.session.set_running},
              {"pid", left.process.process.pid},
              {"start_ticks", left.process.process.start_ticks},
              {"qmp", left.process.qmp},
              {"argv", left.process.argv},
              {"descriptors", left.process.descriptors},
              {"first_event", left.first_event},
              {"events", left.events}};
}

Result<HandOver> from_json(const Json& json) {
  HandOver left;
  const int format = json.at("format").get<int>();
  if (format != hand_over_format())
    return failure(Code::unsupported, fmt::format("what was handed over is of format {}, not {}",
                                                  format, hand_over_format()));
  auto session = base::from_hex(json.at("session").get<std::string>());
  if (!session) return failure(Code::corrupt, "what was handed over is damaged");
  left.primary = json.at("primary").get<bool>();
  left.session = {std::move(*session), json.at("set_running").get<bool>()};
  left.process.process = {json.at("pid").get<pid_t>(), json.at("start_ticks").get<std::uint64_t>()};
  left.process.qmp = json.at("qmp").get<std::string>();
  left.process.argv = json.at("argv").get<std::vector<std::string>>();
  left.process.descriptors = json.at("descriptors").get<std::vector<int>>();
  left.first_event = json.at("first_event").get<std::uint64_t>();
  left.events = json.at("events");
  return left;
}

Result<std::string> read_all(int fd) {
  struct stat there {};
  if (::fstat(fd, &there) != 0) return failure(system_error("what was handed over"));
  if (there.st_size > kBytesMax) return failure(Code::corrupt, "what was handed over is too large");
  std::string text(static_cast<std::size_t>(there.st_size), '\0');
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t got =
        ::pread(fd, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failure(system_error("read what was handed over"));
    done += static_cast<std::size_t>(got);
  }
  return text;
}

bool set_close_on_exec(int fd, bool on) { return ::fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0; }

}  // namespace

int hand_over_format() { return kOwnFormat * 1000 + static_cast<int>(kHeldFormat); }

Result<Descriptor> write_hand_over(const HandOver& left) {
  Descriptor file(::memfd_create("ftctl-hand-over", 0));
  if (!file.valid()) return failure(system_error("memfd_create"));
  const std::string text = to_json(left).dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::write(file.get(), text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failure(system_error("write what is handed over"));
    done += static_cast<std::size_t>(wrote);
  }
  return file;
}

Result<HandOver> read_hand_over(int fd) {
  const Descriptor file(fd);
  FT_ASSIGN(const std::string text, read_all(file.get()));
  try {
    FT_ASSIGN(HandOver left, from_json(Json::parse(text)));
    for (const int kept : left.process.descriptors) set_close_on_exec(kept, true);
    return left;
  } catch (const std::exception& error) {
    return failure(Code::corrupt, fmt::format("what was handed over: {}", error.what()));
  }
}

Status takes_hand_over(const std::string& program) {
  os::ChildOptions options;
  options.argv = {program, "version", "--takes-hand-over", std::to_string(hand_over_format())};
  FT_ASSIGN(os::Child child, os::Child::start(options));
  const auto end = child.wait(kAnswersIn);
  if (!end) return end.error().within(program);
  if (end->clean()) return {};
  return Status(Code::unsupported,
                fmt::format("{} does not take what this ftctl would hand over ({})", program,
                            os::to_string(*end)));
}

Status become(std::vector<std::string> argv, const std::vector<int>& kept) {
  std::vector<char*> pointers;
  for (std::string& argument : argv) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  for (const int fd : kept) set_close_on_exec(fd, false);
  ::execv(pointers[0], pointers.data());
  const Status failed = system_error("execute " + argv[0]);
  for (const int fd : kept) set_close_on_exec(fd, true);
  return failed;
}

}  // namespace libft::ftctl
