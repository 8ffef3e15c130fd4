// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/observer.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "demo/namespace.h"
#include "demo/statistics.h"
#include "lab/guest/protocol.h"
#include "os/poll.h"
#include "os/real_clock.h"
#include "os/thread.h"

namespace libft::demo {
namespace {

constexpr std::size_t kWindow = 8;    // Questions on their way; few enough for any queue.
constexpr Millis kAskAgain{300};      // Longer than a protected answer waits.
constexpr Millis kAskAgainMax{5000};  // Of a guest that is slow, or between two hosts.

Time now() { return os::RealClock().now(); }

struct Sockets {
  os::ScopedFd beats, queries;
};

Result<Sockets> open_sockets(const ObserverOptions& options) {
  FT_TRY(enter_namespace(options.netns_fd));
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_port = htons(LAB_BEAT_PORT);
  sockaddr_in guest{};
  guest.sin_family = AF_INET;
  guest.sin_port = htons(LAB_QUERY_PORT);
  if (::inet_pton(AF_INET, options.guest.c_str(), &guest.sin_addr) != 1) {
    return failure(Code::invalid, fmt::format("\"{}\" is no IPv4 address", options.guest));
  }
  Sockets sockets;
  const int kind = SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  sockets.beats = os::ScopedFd(::socket(AF_INET, kind, 0));
  sockets.queries = os::ScopedFd(::socket(AF_INET, kind, 0));
  if (::bind(sockets.beats.get(), reinterpret_cast<sockaddr*>(&here), sizeof here) != 0) {
    return failure(os::errno_status("bind the observer's port"));
  }
  if (::connect(sockets.queries.get(), reinterpret_cast<sockaddr*>(&guest), sizeof guest) != 0) {
    return failure(os::errno_status("address the guest's observer"));
  }
  return sockets;
}

// One answer that fits, or nothing before the deadline. An ICMP error (the guest is between two
// hosts) shows as a failed recv and means the same as silence.
template <typename Answer>
std::optional<Answer> receive(int fd, Nanos patience) {
  const auto woke = os::wait_ready(fd, POLLIN, -1, patience);
  if (!woke || *woke != os::Woke::ready) return std::nullopt;
  Answer answer{};
  const ssize_t got = ::recv(fd, &answer, sizeof answer, 0);
  if (got != static_cast<ssize_t>(sizeof answer)) return std::nullopt;
  if (answer.magic != LAB_ANSWER_MAGIC) return std::nullopt;
  return answer;
}

void send_query(int fd, std::uint32_t kind, std::uint64_t argument) {
  const LabQuery query{LAB_QUERY_MAGIC, kind, argument};
  // A refused send is asked again like one that was lost on its way.
  [[maybe_unused]] const ssize_t sent = ::send(fd, &query, sizeof query, MSG_NOSIGNAL);
}

// What the guest says it remembers of outputs that were seen, asked for in runs of counters.
class KnownOutputs {
 public:
  explicit KnownOutputs(const std::vector<Output>& seen)
      : first_(seen.front().counter), values_(seen.back().counter - first_ + 1) {
    for (const Output& output : seen) {
      if (open_.empty() || output.counter - open_.back() >= LAB_RUN)
        open_.push_back(output.counter);
    }
    runs_ = open_.size();
  }

  void take(const LabKnown& answer) {
    const auto run = std::find(open_.begin(), open_.end(), answer.argument);
    if (run == open_.end()) return;  // Asked twice.
    for (std::uint64_t i = 0; i < LAB_RUN; ++i) {
      const std::uint64_t at = *run - first_ + i;
      if (at >= values_.size() || (answer.remembered >> i & 1) == 0) continue;
      std::copy_n(std::begin(answer.random[i]), sizeof answer.random[i],
                  values_[at].emplace().begin());
    }
    open_.erase(run);
  }

  const std::vector<std::uint64_t>& open() const { return open_; }  // First counters of runs.
  std::size_t runs() const { return runs_; }
  const std::vector<std::optional<OutputValue>>& values() const { return values_; }

 private:
  std::uint64_t first_;
  std::vector<std::uint64_t> open_;
  std::size_t runs_ = 0;
  std::vector<std::optional<OutputValue>> values_;  // Of first_ and those after it.
};

std::optional<LabAnswer> ask(int fd, std::uint32_t kind, std::uint64_t argument) {
  send_query(fd, kind, argument);
  const Time again = now() + kAskAgain;
  while (now() < again) {
    const auto answer = receive<LabAnswer>(fd, again - now());
    if (answer && answer->kind == kind && answer->argument == argument) return answer;
  }
  return std::nullopt;
}

// The argument is the question's moment, so that a late answer to an earlier one is not taken for
// it.
Result<LabAnswer> ask_once(int fd, std::uint32_t kind, Nanos patience, Time* sent) {
  const Time end = now() + patience;
  while (now() < end) {
    const Time asked = now();
    const auto answer = ask(fd, kind, static_cast<std::uint64_t>(asked.since_start.count()));
    if (!answer) continue;
    if (sent != nullptr) *sent = asked;
    return *answer;
  }
  return failure(Code::timeout, "the guest did not answer the observer");
}

}  // namespace

Result<std::unique_ptr<Observer>> Observer::start(const ObserverOptions& options) {
  Result<Sockets> sockets = failure(Code::internal, "the opening thread did not run");
  os::start_thread("demo-open", [&] { sockets = open_sockets(options); }).join();
  if (!sockets) return failure(sockets.error());
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  std::unique_ptr<Observer> observer(new Observer(options, std::move(sockets->beats),
                                                  std::move(sockets->queries), std::move(wake)));
  observer->thread_ = os::start_thread("demo-observer", [raw = observer.get()] { raw->run(); });
  return observer;
}

Observer::Observer(ObserverOptions options, os::ScopedFd beats, os::ScopedFd queries,
                   os::EventFd wake)
    : options_(std::move(options)),
      beats_(std::move(beats)),
      queries_(std::move(queries)),
      wake_(std::move(wake)) {}

Observer::~Observer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.signal();
}

void Observer::run() {
  for (;;) {
    const auto woke = os::wait_ready(beats_.get(), POLLIN, wake_.fd(), os::kForever);
    const std::lock_guard lock(mutex_);
    if (stopping_ || !woke) return;
    take_beats();
  }
}

void Observer::take_beats() {
  LabBeat beat{};
  for (;;) {
    const ssize_t got = ::recv(beats_.get(), &beat, sizeof beat, MSG_DONTWAIT);
    if (got < 0) return;
    if (got != static_cast<ssize_t>(sizeof beat) || beat.magic != LAB_BEAT_MAGIC) continue;
    Output output{beat.counter, {}, now()};
    std::copy(std::begin(beat.random), std::end(beat.random), output.value.begin());
    history_.see(output);
  }
}

std::vector<Output> Observer::remembered_since(Time from) {
  const std::lock_guard lock(mutex_);
  std::vector<Output> seen = history_.seen_since(from);
  const std::uint64_t newest = history_.newest();
  std::erase_if(seen,
                [&](const Output& output) { return newest - output.counter > LAB_HISTORY - 1000; });
  return seen;
}

Result<Observer::Verdict> Observer::ask_since(Time from, Nanos patience) {
  const std::vector<Output> seen = remembered_since(from);
  if (seen.empty()) return Verdict{};
  OutputHistory asked;
  for (const Output& output : seen) asked.see(output);

  const std::lock_guard one_at_a_time(query_mutex_);
  KnownOutputs known(seen);
  Time end = now() + patience;  // Without any answer: how long all take depends on how many.
  Nanos ask_again = kAskAgain;
  while (!known.open().empty() && now() < end) {
    const std::size_t before = known.open().size(), batch = std::min(kWindow, before);
    for (std::size_t i = 0; i < batch; ++i) send_query(queries_.get(), LAB_KNOWN, known.open()[i]);
    const Time again = now() + ask_again;
    while (before - known.open().size() < batch && now() < again) {
      const auto answer = receive<LabKnown>(queries_.get(), again - now());
      if (answer && answer->kind == LAB_KNOWN) known.take(*answer);
    }
    const std::size_t got = before - known.open().size();
    if (got > 0) end = now() + patience;
    // Asking faster than a slow guest answers fills its queue with questions that it has answered.
    ask_again = got == batch ? kAskAgain : std::min<Nanos>(2 * ask_again, kAskAgainMax);
  }
  if (!known.open().empty()) {
    return failure(Code::timeout, fmt::format("the guest did not say what it knows: {} of {} "
                                              "questions about {} outputs are open",
                                              known.open().size(), known.runs(), seen.size()));
  }
  return Verdict{seen.size(), asked.count_unknown(seen.front().counter, known.values())};
}

Status Observer::set_beats(Nanos period, Nanos patience) {
  const std::lock_guard one_at_a_time(query_mutex_);
  const Time end = now() + patience;
  while (now() < end)
    if (ask(queries_.get(), LAB_BEATS, static_cast<std::uint64_t>(period.count()))) return {};
  return Status(Code::timeout, "the guest did not answer the observer");
}

Result<ClockPair> Observer::guest_clock(Nanos patience) {
  const std::lock_guard one_at_a_time(query_mutex_);
  // The question reaches a running guest at once and only the answer is held, so the moment of
  // asking is the one to compare with; the median ignores the questions that met a pause.
  std::vector<std::pair<Nanos, ClockPair>> pairs;
  for (int i = 0; i < 7; ++i) {
    Time asked;
    auto answer = ask_once(queries_.get(), LAB_CLOCK, patience, &asked);
    if (!answer) return failure(answer.error());
    const ClockPair pair{asked, Nanos{static_cast<std::int64_t>(answer->value[0])}};
    pairs.emplace_back(pair.here.since_start - pair.guest, pair);
  }
  std::sort(pairs.begin(), pairs.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return pairs[pairs.size() / 2].second;
}

Result<std::uint64_t> Observer::guest_retransmissions(Nanos patience) {
  const std::lock_guard one_at_a_time(query_mutex_);
  FT_ASSIGN(const LabAnswer answer, ask_once(queries_.get(), LAB_TCP, patience, nullptr));
  return answer.value[0];
}

std::uint64_t Observer::seen() const {
  const std::lock_guard lock(mutex_);
  return history_.seen();
}

std::uint64_t Observer::repeated() const {
  const std::lock_guard lock(mutex_);
  return history_.repeated();
}

std::uint64_t Observer::contradicted() const {
  const std::lock_guard lock(mutex_);
  return history_.contradicted();
}

}  // namespace libft::demo
