// SPDX-License-Identifier: LGPL-2.1-or-later
#include "keeper.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "control.h"
#include "os/real_clock.h"

namespace libft::ftd {

namespace {

constexpr Millis kAskAgain{50};
constexpr std::chrono::seconds kLongLife{60};  // After that, failures before it do not count.

Json read_json(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return Json::parse(text.str(), nullptr, false);
}

// What is known of a process that an earlier ftd started.
struct Life {
  ftctl::ProcessId process;
  std::uint64_t seen = 0;
  Start as = Start::nothing;
  std::string role;
};

std::optional<Life> read_life(const std::string& path) {
  const Json json = read_json(path);
  try {
    Life life;
    life.process = {json.at("pid").get<pid_t>(), json.at("start_ticks").get<std::uint64_t>()};
    life.seen = json.at("seen").get<std::uint64_t>();
    life.as = json.at("as") == "primary" ? Start::primary : Start::backup;
    life.role = json.at("role").get<std::string>();
    return life;
  } catch (const Json::exception&) {
    return std::nullopt;  // None, or one of a host that lost power while it was written.
  }
}

}  // namespace

Keeper::Keeper(Places places, Protection protection, Save save, Tell tell)
    : places_(std::move(places)),
      protection_(std::move(protection)),
      save_(std::move(save)),
      tell_(std::move(tell)) {}

bool Keeper::names_peer() const {
  const auto peer = protection_.section.find("peer");
  return peer != protection_.section.end() && !peer->empty();
}

// A package that is installed puts a new file in the old one's place.
bool Keeper::outdated() const {
  if (!process_) return false;
  std::error_code error;
  const std::string runs = fmt::format("/proc/{}/exe", process_->id().pid);
  const bool same = std::filesystem::equivalent(runs, places_.ftctl, error);
  return !error && !same;
}

// By what was stored when it was started; or, where ftd died before it could be, by its socket.
Result<Process> Keeper::find_process() {
  if (const auto life = read_life(file(".life.json"))) {
    if (auto process = Process::adopt(life->process)) return process;
  }
  FT_ASSIGN(const ftctl::Caller there, ftctl::listener_of(control()));
  return Process::adopt(ftctl::process_of(there.pid));
}

void Keeper::resume(bool hold) {
  held_ = hold;
  const auto life = read_life(file(".life.json"));
  started_as_ = life ? life->as : protection_.start;
  role_ = life ? life->role : "";
  if (auto process = find_process()) {
    process_ = std::move(*process);
    if (life && life->process.pid == process_->id().pid) seen_ = life->seen;
    phase_ = Phase::starting;
    at_ = began_ = Clock::now();
    return;
  }
  if (life) {  // It ended while nobody looked.
    last_ending_ = ftctl::read_ending(file(".end.json"), life->process.pid);
    on_end();
    return;
  }
  if (protection_.start == Start::nothing || held_) return;
  phase_ = Phase::due;
  at_ = Clock::now();
}

void Keeper::begin(Start start, Once once) {
  protection_.start = start;
  protection_.note.clear();
  once_ = once;
  last_ending_.reset();
  failures_ = 0;
  phase_ = Phase::due;
  at_ = Clock::now();
  save();
}

void Keeper::replace_section(Json section) {
  protection_.section = std::move(section);
  save();
}

void Keeper::hold() {
  held_ = true;
  if (phase_ == Phase::due) phase_ = Phase::nothing;
}

void Keeper::release() {
  held_ = false;
  if (process_ || protection_.start == Start::nothing || phase_ == Phase::due) return;
  phase_ = Phase::due;
  at_ = Clock::now();
}

void Keeper::add_to(std::vector<pollfd>& waits) const {
  if (process_) waits.push_back({process_->pidfd(), POLLIN, 0});
  if (stream_) waits.push_back({stream_->fd(), POLLIN, 0});
}

std::optional<Keeper::Clock::time_point> Keeper::deadline() const {
  if (phase_ == Phase::due || (process_ && !stream_)) return at_;
  return std::nullopt;
}

void Keeper::turn() {
  if (phase_ == Phase::due && Clock::now() >= at_) {
    if (const Status started = start_process(); !started) {
      last_ending_ = ftctl::ending_of(started);
      on_end();
    }
  }
  if (!process_) return;
  const bool ended = process_->ended();  // First: its last words are in the stream by then.
  if (!stream_ && !ended && Clock::now() >= at_) listen();
  if (stream_) {
    std::vector<Json> answers;
    const Status read = stream_->read(answers);
    take(answers);
    if (!read.ok()) {
      stream_.reset();
      at_ = Clock::now() + kAskAgain;
    }
  }
  if (ended) {
    last_ending_ = ftctl::read_ending(file(".end.json"), process_->id().pid);
    on_end();
  }
}

Result<std::vector<std::string>> Keeper::command() const {
  const Json config{{"state_dir", places_.run},
                    {"control", control()},
                    {"end_file", file(".end.json")},
                    {"guests", {{protection_.name, protection_.section}}}};
  FT_TRY(ftctl::replace_file(file(".config.json"), config.dump(2) + "\n"));
  std::vector<std::string> argv{places_.ftctl};
  if (protection_.start == Start::backup) {
    argv.insert(argv.end(), {"standby", "--name", protection_.name});
  } else {
    argv.insert(argv.end(), {"protect", protection_.name});
  }
  argv.insert(argv.end(), {"--foreground", "--config", file(".config.json")});
  return argv;
}

Status Keeper::start_process() {
  FT_ASSIGN(auto argv, command());
  ::unlink(file(".end.json").c_str());
  if (protection_.start != Start::backup && once_.anew) argv.emplace_back("--anew");
  if (protection_.start != Start::backup && once_.resume) argv.emplace_back("--resume");
  FT_ASSIGN(process_, Process::start(std::move(argv),
                                     fmt::format("{}/{}.log", places_.logs, protection_.name)));
  started_as_ = protection_.start;
  role_.clear();
  seen_ = 0;
  phase_ = Phase::starting;
  at_ = began_ = Clock::now();
  store_life();
  return {};
}

void Keeper::listen() {
  at_ = Clock::now() + kAskAgain;
  auto stream = Stream::open(control());
  if (!stream || !stream->ask({{"command", "status"}}).ok()) return;
  stream_ = std::move(*stream);
}

void Keeper::take(const std::vector<Json>& answers) {
  for (const Json& answer : answers) {
    if (!answer.value("ok", false)) {  // It is just starting.
      stream_.reset();
      at_ = Clock::now() + kAskAgain;
      return;
    }
    if (const auto guests = answer.find("guests"); guests != answer.end() && !guests->empty()) {
      if (phase_ == Phase::starting) once_ = {};
      phase_ = Phase::serving;
      learn(guests->front());
      // All of them: a book that begins with ftd's own start would miss what made the guest's life.
      (void)stream_->ask({{"command", "events"}, {"follow", true}});
    }
    if (answer.contains("event")) {
      take_event(answer["event"], answer.value("n", std::uint64_t{0}));
    }
  }
}

void Keeper::take_event(const Json& event, std::uint64_t number) {
  const bool again = number < seen_;
  if (again) {
    tell_(event, true);
    return;
  }
  seen_ = number + 1;
  learn(event);
  const std::string name = event.value("event", "");
  const bool paused =
      name == "guest_paused" || (protection_.owner_paused && name != "guest_resumed");
  if (paused != protection_.owner_paused) {
    protection_.owner_paused = paused;
    save();
  }
  tell_(event, false);
  store_life();
}

// What it is now is what it is started as when it has to be again.
void Keeper::learn(const Json& status) {
  const std::string role = status.value("role", "");
  if (role.empty() || role == role_) return;
  role_ = role;
  store_life();
  const Start start = role == "primary" ? Start::primary : Start::backup;
  if ((role == "primary" || role == "backup") && protection_.start != start) {
    protection_.start = start;
    protection_.note.clear();
    protection_.owner_paused = false;
    save();
  }
}

void Keeper::on_end() {
  const bool lived_long = Clock::now() - began_ > kLongLife;
  const Situation situation{started_as_ == Start::nothing ? protection_.start : started_as_,
                            role_ == "primary", names_peer(), lived_long ? 0 : failures_};
  const Next next = next_after(situation, last_ending_);
  process_.reset();
  stream_.reset();
  phase_ = Phase::nothing;
  ::unlink(file(".life.json").c_str());
  tell_own(last_ending_ ? std::string(to_string(last_ending_->how)) : "killed", next.note);
  protection_.note = next.note;
  const bool tried = once_.only_try && role_.empty();
  role_.clear();
  // What a person ended stays ended; what was ended for a while (hold()) comes back.
  const bool for_a_while = held_ && last_ending_ && last_ending_->how == ftctl::End::left;
  if (!tried && !for_a_while) protection_.start = next.start;
  save();
  failures_ = situation.failures + 1;
  once_ = {};
  once_.resume = next.resume && !protection_.owner_paused;
  if (tried || held_ || next.start == Start::nothing) return;
  phase_ = Phase::due;
  at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(next.delay);
}

void Keeper::store_life() {
  if (!process_) return;
  const Json json{{"pid", process_->id().pid},
                  {"start_ticks", process_->id().start_ticks},
                  {"seen", seen_},
                  {"as", to_string(started_as_)},
                  {"role", role_}};
  // A successor that does not find it looks at the control socket.
  (void)ftctl::replace_file(file(".life.json"), json.dump() + "\n");
}

void Keeper::tell_own(const std::string& event, const std::string& text) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto since_boot = os::RealClock().now().since_start;
  tell_(Json{{"at_s", std::chrono::duration<double>(since_boot).count()},
             {"time", std::chrono::duration<double>(now).count()},
             {"guest", protection_.name},
             {"event", "ftctl_" + event},
             {"text", text},
             {"role", "none"},
             {"state", "none"},
             {"protected", false}},
        false);
}

void Keeper::save() {
  if (const Status saved = save_(protection_); !saved) {
    tell_own("not_stored", "a restarted ftd will not know this: " + saved.message());
  }
}

}  // namespace libft::ftd
