// SPDX-License-Identifier: LGPL-2.1-or-later
// Another program, a new release as a rule, takes this process's place: its session is held, and
// execve keeps the number, the children, and the gate's descriptors with all that waits in them. If
// that program cannot begin, what is left is what a killed ftctl leaves: the gate holds, and
// whoever starts reads the record.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "answers.h"
#include "daemon.h"
#include "hand_over.h"
#include "report.h"

namespace libft::ftctl {

namespace {

constexpr std::int64_t kHoldMs = 1000;

Status cannot(const std::string& why) {
  return with_remedy(Code::unsupported, "this ftctl cannot be replaced in its place: " + why,
                     "it is replaced by a switch-over, or by ending it and starting it again");
}

}  // namespace

// A control client's thread: it waits for the peer, and then for the main thread.
Status Daemon::replace_by(const Json& request) {
  auto argv = request.value("argv", std::vector<std::string>{});
  if (argv.empty()) return Status(Code::invalid, "hold: no program was named");
  if (served_.size() != 1) return cannot("it serves several guests");
  Served& served = served_.front();
  const GuestProcess process = host_.process(served.guest);
  if (process.process.pid == 0 || process.qmp.empty())
    return cannot("its guest is no QEMU that lives in a process of its own");
  FT_TRY(takes_hand_over(argv[0]));
  const auto at_most =
      std::clamp<std::int64_t>(request.value("at_most_ms", kHoldMs), 100, kHoldMax.count());
  FT_ASSIGN(HeldSession held, served.session->hold(Millis{at_most}));
  const Status status = ask_main_thread({std::move(argv), std::move(held), {}});
  if (const Status on = served.session->let_go(); !on)
    log_.write(LogLevel::error, served.guest.name(), on.message());
  return status;
}

Status Daemon::ask_main_thread(Replacement next) {
  auto failed = next.failed.get_future();
  {
    const std::lock_guard lock(replace_mutex_);
    if (leaving_) return Status(Code::cancelled, "this ftctl ends");
    replacement_ = std::move(next);
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto woken = ::write(replace_.get(), &one, sizeof one);  // Else it polls.
  return failed.get();
}

void Daemon::refuse_replacement() {
  const std::lock_guard lock(replace_mutex_);
  leaving_ = true;
  if (replacement_) replacement_->failed.set_value(Status(Code::cancelled, "this ftctl ends"));
  replacement_.reset();
}

// The main thread: its signal mask is the one that the next program expects.
void Daemon::become_replacement() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto told = ::read(replace_.get(), &count, sizeof count);
  std::optional<Replacement> next;
  {
    const std::lock_guard lock(replace_mutex_);
    next.swap(replacement_);
  }
  if (!next) return;
  Served& served = served_.front();
  deliver(served);
  HandOver left;
  left.primary = served.session->status().role == Role::primary;
  left.session = std::move(next->held);
  left.process = host_.process(served.guest);
  const auto book = events_.read(0, Nanos{0});
  left.first_event = book.missed;
  left.events = book.events;
  log_.write(LogLevel::info, served.guest.name(), "held; going on as " + next->argv[0]);
  next->failed.set_value(execute(left, next->argv));
}

Status Daemon::execute(const HandOver& left, std::vector<std::string> argv) {
  FT_ASSIGN(const Descriptor file, write_hand_over(left));
  std::vector<int> kept = left.process.descriptors;
  kept.push_back(file.get());
  argv.insert(argv.end(), {"--hand-over", std::to_string(file.get())});
  return become(std::move(argv), kept);
}

}  // namespace libft::ftctl
