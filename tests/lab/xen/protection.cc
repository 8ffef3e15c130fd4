// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/protection.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <sstream>

#include "lab/guest/protocol.h"
#include "os/child.h"
#include "os/file.h"
#include "os/random.h"
#include "os/real_clock.h"

namespace libft::lab {
namespace {

using demo::Json;
using std::chrono::seconds;

constexpr Nanos kCommand = seconds(60);  // On a busy machine an emulated one is slow.
constexpr Nanos kProtectPatience = seconds(300);
constexpr Nanos kAnswerPatience = seconds(60);
constexpr Nanos kEndPatience = seconds(90);
constexpr double kWritesPerSecond = 20;

Time now() { return os::RealClock().now(); }
char letter(Side side) { return side == Side::a ? 'a' : 'b'; }

std::string peers_of(Side side) {
  const Side peer = other(side);
  return fmt::format("tcp:{}:7070,tcp:{}:7070", TwoHosts::replication_address(peer),
                     TwoHosts::heartbeat_address(peer));
}

std::vector<std::string> programs_of(const Programs& programs) {
  const std::filesystem::path module = programs.module;
  std::vector<std::string> files{programs.ftctl, module, module.parent_path() / "xen-adopt"};
  if (programs.pair == nullptr) return files;
  const std::filesystem::path library = programs.library;
  files.insert(files.end(), {programs.pair, library});
  for (const char* name : {"libft-etcd.so", "libft-plug.so", "libft-tls.so"})
    files.push_back(library.parent_path() / name);
  return files;
}

std::string grep_log(std::string_view event) {
  return fmt::format("grep -qE '(^| ){}' /tmp/ftctl.log", event);
}

Status run_here(std::vector<std::string> argv) {
  os::ChildOptions options;
  options.argv = std::move(argv);
  const std::string name = options.argv.front();
  FT_ASSIGN(auto child, os::Child::start(options));
  FT_ASSIGN(const auto end, child.wait(kCommand));
  return end.clean() ? Status{} : Status(Code::io, name + ": " + os::to_string(end));
}

}  // namespace

Status expect(bool as_it_must_be, std::string otherwise) {
  return as_it_must_be ? Status{} : Status(Code::corrupt, std::move(otherwise));
}

// --- Protection ---------------------------------------------------------------------------------

Result<std::unique_ptr<Protection>> Protection::install(XenPair& pair, const Programs& programs,
                                                        Heartbeats heartbeats) {
  const std::string folder = pair.folder() + "/install";
  std::filesystem::create_directory(folder);
  std::vector<std::string> files;
  for (const std::string& program : programs_of(programs)) {
    files.push_back(folder + "/" + std::filesystem::path(program).filename().string());
    FT_TRY(run_here({"strip", "-o", files.back(), program}));  // Mostly debug information.
  }
  files.push_back(folder + "/libft.key");
  FT_TRY(run_here({programs.ftctl, "keygen", files.back()}));
  std::unique_ptr<Protection> made(new Protection(pair, heartbeats, programs.pair != nullptr));
  for (const Side side : {Side::a, Side::b}) {
    FT_TRY(pair.host(side).push(files, "/usr/local/bin", kCommand));
    // libft.so looks for its modules in a folder beside it.
    FT_ASSIGN(const auto linked, pair.host(side).run("ln -sfn . /usr/local/bin/libft", kCommand));
    FT_TRY(made->favour_dom0(side));
  }
  FT_ASSIGN(made->arbiter_, pair.start_etcd());
  return made;
}

// One processor for dom0 and a guest that never sleeps for long: with equal shares libft, and all
// network of both, get half of it (docs/XEN.md).
Status Protection::favour_dom0(Side side) {
  FT_ASSIGN(const auto set, pair_.host(side).run("xl sched-credit -d Domain-0 -w 4096", kCommand));
  return {};
}

std::string Protection::ftctl_line(Side side, std::string_view what) const {
  const bool primary = what == "protect";
  return fmt::format(
      "ftctl {}{} --name guest --state-dir /run/libft --listen tcp:0.0.0.0:7070 "
      "--heartbeat {}:7071,{}:7071 --arbiter {} --key-file /usr/local/bin/libft.key "
      "--heartbeat-interval {} --heartbeat-missed {} --arbiter-timeout 10000 --epochs-log "
      "/tmp/epochs "
      "--log-file /tmp/ftctl.log",
      what, primary ? " xen:guest" : " --peer " + peers_of(side),
      TwoHosts::replication_address(side), TwoHosts::heartbeat_address(side), arbiter_,
      heartbeats_.interval_ms, heartbeats_.missed);
}

// The same in the C ABI's words.
std::string Protection::pair_line(Side side, std::string_view what) const {
  return fmt::format(
      "env LD_LIBRARY_PATH=/usr/local/bin ft-pair {} control=/run/libft/guest.sock "
      "epochs_log=/tmp/epochs state_dir=/run/libft "
      "name=guest {} listen=tcp:0.0.0.0:7070 heartbeat={}:7071,{}:7071 arbiter={} "
      "key_file=/usr/local/bin/libft.key heartbeat_interval_us={} heartbeat_missed_max={} "
      "arbiter_timeout_us=10000000 > /tmp/ftctl.log",
      what, what == "protect" ? "guest=xen:guest" : "peer=" + peers_of(side),
      TwoHosts::replication_address(side), TwoHosts::heartbeat_address(side), arbiter_,
      heartbeats_.interval_ms * 1000, heartbeats_.missed);
}

// Its exit code is kept, for who asks when it has ended.
Status Protection::start(Side side, std::string_view what) {
  const std::string line = through_capi_ ? pair_line(side, what) : ftctl_line(side, what);
  auto started = pair_.host(side).run(
      fmt::format("mkdir -p /run/libft; rm -f /tmp/epochs /tmp/ended /tmp/ftctl.log; setsid sh -c "
                  "'{} & echo $! > "
                  "/run/ftctl.pid; "
                  "wait $!; echo $? > /tmp/ended' > /tmp/ftctl.out 2>&1 < /dev/null &",
                  line),
      kCommand);
  return started ? Status{} : started.error();
}

Status Protection::protect(Side side) { return start(side, "protect"); }

Status Protection::stand_by(Side side) { return start(side, "standby"); }

Status Protection::establish(Side side) {
  FT_TRY(protect(side));
  // Who dials before the other side listens has it begin connections that both then give up, which
  // an emulated host answers slowly.
  FT_TRY(wait_for(side, "ftctl to have the guest", kProtectPatience,
                  "[ -e /run/libft/ft-pair ] || ls /run/libft/*.guest.json > /dev/null 2>&1"));
  FT_TRY(stand_by(other(side)));
  return wait_until_protected(side);
}

Result<Json> Protection::status(Side side) {
  // 3 says that it is not protected: an answer as well.
  FT_ASSIGN(const auto said,
            pair_.host(side).command("ftctl status guest --json --state-dir /run/libft", kCommand));
  if (said.code == 124) return failure(Code::timeout, "ftctl status took too long");
  Json parsed = Json::parse(said.output, nullptr, false);
  if (parsed.is_object()) return parsed;
  return failure(Code::not_found, said.output);
}

// Looks on the host: a command from outside costs an emulated one a second of its processor.
Status Protection::wait_for(Side side, std::string_view what, Nanos patience,
                            std::string_view condition) {
  FT_ASSIGN(const auto said,
            pair_.host(side).command(fmt::format("until {}; do [ -e /tmp/ended ] && exit 9; "
                                                 "sleep 0.5; done",
                                                 condition),
                                     patience));
  if (said.code == 0) return {};
  const bool ended = said.code == 9;
  return Status(ended ? Code::guest_gone : Code::timeout,
                fmt::format("waiting for {} on host {}: {}{}", what, letter(side),
                            ended ? "ftctl ended there" : "it takes too long", last_words(side)));
}

Status Protection::wait_for_event(Side side, std::string_view event, Nanos patience) {
  return wait_for(side, event, patience, grep_log(event));
}

Status Protection::wait_for_epochs(Side side, std::uint64_t count, Nanos patience) {
  return wait_for(side, fmt::format("{} epochs", count), patience,
                  fmt::format("[ $(cat /tmp/epochs 2> /dev/null | wc -l) -ge {} ]", count));
}

Status Protection::wait_for_more_epochs(Side side, std::uint64_t more, Nanos patience) {
  return wait_for(
      side, fmt::format("{} more epochs", more), patience,
      fmt::format("n=$(wc -l < /tmp/epochs); : ${{first:=$n}}; [ $n -ge $((first + {})) ]", more));
}

Result<bool> Protection::has_told(Side side, std::string_view event) {
  FT_ASSIGN(const auto said, pair_.host(side).command(grep_log(event), kCommand));
  if (said.code > 1) return failure(Code::timeout, "look for " + std::string(event));
  return said.code == 0;
}

Status Protection::expect_told(Side side, std::string_view event) {
  FT_ASSIGN(const bool told, has_told(side, event));
  return expect(told, fmt::format("ftctl on host {} did not tell of \"{}\"{}", letter(side), event,
                                  told ? "" : last_words(side)));
}

Status Protection::expect_untold(Side side, std::string_view event) {
  FT_ASSIGN(const bool told, has_told(side, event));
  return expect(!told, fmt::format("ftctl on host {} told of \"{}\"{}", letter(side), event,
                                   told ? last_words(side) : ""));
}

Status Protection::begin_log_anew(Side side) {
  auto emptied = pair_.host(side).run(": > /tmp/ftctl.log", kCommand);
  return emptied ? Status{} : emptied.error();
}

Status Protection::wait_until_protected(Side side) {
  return wait_for(side, "the guest to be protected", kProtectPatience,
                  "ftctl status guest --state-dir /run/libft > /dev/null 2>&1");
}

std::string Protection::last_words(Side side) {
  const auto said = pair_.host(side).command("tail -n 12 /tmp/ftctl.log /tmp/ftctl.out", kCommand);
  return said ? "\n" + said->output : std::string();
}

Result<std::string> Protection::order(Side side, std::string_view order) {
  return pair_.host(side).run(fmt::format("ftctl {} guest --state-dir /run/libft", order),
                              kCommand);
}

Result<int> Protection::exit_code(Side side, Nanos patience) {
  FT_ASSIGN(const auto said,
            pair_.host(side).command("until [ -s /tmp/ended ]; do sleep 0.5; done; cat /tmp/ended",
                                     patience));
  if (said.code == 0) return std::atoi(said.output.c_str());
  return failure(Code::timeout,
                 fmt::format("ftctl on host {} does not end{}", letter(side), last_words(side)));
}

Status Protection::expect_end(Side side, int code) {
  FT_ASSIGN(const int ended, exit_code(side, kEndPatience));
  return expect(ended == code,
                fmt::format("ftctl on host {} ended with {}, not with {}{}", letter(side), ended,
                            code, ended == code ? "" : last_words(side)));
}

Status Protection::kill(Side side) {
  auto killed = pair_.host(side).run("kill -9 $(cat /run/ftctl.pid)", kCommand);
  return killed ? Status{} : killed.error();
}

Status Protection::leave(Side side) {
  FT_ASSIGN(const auto asked, pair_.host(side).command("kill $(cat /run/ftctl.pid)", kCommand));
  return expect_end(side, kFine);
}

Result<std::vector<Json>> Protection::epochs(Side side) {
  FT_ASSIGN(const std::string text, pair_.host(side).run("cat /tmp/epochs", kCommand));
  std::vector<Json> epochs;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Json epoch = Json::parse(line, nullptr, false);
    if (epoch.is_object()) epochs.push_back(std::move(epoch));
  }
  return epochs;
}

Result<std::vector<std::string>> Protection::domains(Side side) {
  FT_ASSIGN(const std::string text,
            pair_.host(side).run("xl list | awk 'NR > 2 { print $1 }'", kCommand));
  std::vector<std::string> names;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) names.push_back(line);
  return names;
}

Status Protection::expect_domains(Side side, const std::vector<std::string>& names) {
  FT_ASSIGN(const auto there, domains(side));
  return expect(there == names,
                fmt::format("on host {} there are the domains [{}], not [{}]", letter(side),
                            fmt::join(there, " "), fmt::join(names, " ")));
}

// --- Outsiders ----------------------------------------------------------------------------------

Result<Outsiders> Outsiders::meet(XenPair& pair) {
  Outsiders met;
  const int outside = pair.net().client().fd();
  FT_ASSIGN(met.observer, demo::Observer::start({kGuestAddress, outside}));
  demo::RedisClientOptions client;
  client.address = kGuestAddress;
  client.netns_fd = outside;
  // Two tests begin with the same guest: the values of one must not be those of the other.
  std::array<std::uint8_t, 8> token{};
  FT_TRY(os::random_bytes(token));
  client.token = fmt::format("{:02x}", fmt::join(token, ""));
  client.connect_timeout = kAnswerPatience;
  FT_ASSIGN(met.client, demo::RedisClient::connect(client));
  met.since = now();
  return met;
}

void Outsiders::offer_load() { client->offer(demo::Load::open, kWritesPerSecond); }

Status Outsiders::wait_for_answers(std::uint64_t more, Nanos patience) {
  const std::uint64_t wanted = client->acknowledged() + more;
  const Time end = now() + patience;
  while (client->acknowledged() < wanted) {
    if (!client->survived()) return Status(Code::corrupt, "connection: " + client->end_reason());
    if (now() > end) return Status(Code::timeout, "the guest does not answer the client");
    ::usleep(10'000);
  }
  return {};
}

Result<Verdict> Outsiders::judge() {
  const Status drained = client->drain(kAnswerPatience);
  if (!client->survived()) return failure(Code::corrupt, "connection: " + client->end_reason());
  FT_TRY(drained.within("wait for the last answers"));
  FT_ASSIGN(const auto read, client->read_back(kAnswerPatience));
  FT_ASSIGN(const auto verdict, observer->ask_since(since, kAnswerPatience));
  fmt::print(
      "judged: connection alive; {} writes acknowledged, {} read back, {} lost; {} outputs "
      "seen, {} asked for, {} unknown, {} contradicted\n",
      client->acknowledged(), read.checked, read.lost, observer->seen(), verdict.asked,
      verdict.unknown, observer->contradicted());
  if (read.lost != 0 || verdict.unknown != 0 || observer->contradicted() != 0) {
    return failure(Code::corrupt, "the guest is not the one that the world has seen");
  }
  if (read.checked == 0 || verdict.asked == 0) return failure(Code::internal, "nothing was judged");
  return Verdict{read.checked, verdict.asked};
}

Status Outsiders::tell_guest(XenPair& pair, int kind) {
  bool sent = false;
  pair.net().client().within([&] {
    const os::ScopedFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(LAB_QUERY_PORT);
    ::inet_pton(AF_INET, kGuestAddress, &to.sin_addr);
    const LabQuery query{LAB_QUERY_MAGIC, static_cast<std::uint32_t>(kind), 0};
    sent = ::sendto(socket.get(), &query, sizeof query, 0, reinterpret_cast<sockaddr*>(&to),
                    sizeof to) == sizeof query;
  });
  return sent ? Status{} : Status(Code::io, "the guest could not be told");
}

}  // namespace libft::lab
