// SPDX-License-Identifier: LGPL-2.1-or-later
// What a Protection asks the arbiter before it begins: may the guest be started on this host, and
// whose life of it a new one puts an end to.
#include <fmt/format.h>

#include <future>

#include "failover/answers.h"
#include "failover/arbiter_thread.h"
#include "failover/open_arbiter.h"
#include "failover/start_guard.h"
#include "os/thread.h"
#include "protection.h"

namespace libft::capi {
namespace {

using failover::MayStart;

Outcome told(const std::string& guest, const std::string& host, const ReadAnswer& answer) {
  switch (failover::may_start(host, answer)) {
    case MayStart::yes: return {};
    case MayStart::owned_elsewhere:
      return {FT_E_FENCED,
              fmt::format("guest {} is owned by {}", guest, to_string(answer.record.owner)),
              "stand by here to be its backup"};
    case MayStart::held_by_backup:
      return {FT_E_REFUSED,
              fmt::format("the life of guest {} on this host is over, and a backup holds its state",
                          guest),
              "let the backup take over (fail_over there), or protect with the option anew"};
    case MayStart::no_record:
      return {FT_E_NOT_FOUND, fmt::format("there is no record of guest {}", guest),
              "start it if it was never protected; else restore the arbiter's records"};
    case MayStart::unknown: break;
  }
  return {FT_E_TIMEOUT,
          fmt::format("the arbiter does not say who owns guest {}: {}", guest, answer.detail),
          "see that it answers, then ask again"};
}

}  // namespace

// Waits, but not for longer than the options say. `port`: the host's arbiter; null: what the
// options name.
ReadAnswer Protection::read_record(Arbiter* port) const {
  if (port != nullptr) return port->read(guest_);
  auto arbiter = failover::open_arbiter(options_.settings().arbiter);
  if (!arbiter) return failover::read_unknown(arbiter.error().message());
  failover::ArbiterThread thread(std::move(*arbiter),
                                 {.deadline = options_.session_options().arbiter_timeout});
  auto promise = std::make_shared<std::promise<ReadAnswer>>();
  auto answer = promise->get_future();
  thread.post_read(guest_, [promise](ReadAnswer read) { promise->set_value(std::move(read)); });
  return answer.get();
}

Outcome Protection::may_start(Given<ft_completion>& done) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::fresh)
    return {FT_E_STATE, "the session was started, or is asking",
            "ask a session that does nothing else yet"};
  Arbiter* const port = arbiter_spec_.empty() ? arbiter_.get() : nullptr;
  if (port == nullptr) {  // What is wrong with its name is told at once.
    FT_GET([[maybe_unused]] const auto opened, failover::open_arbiter(options_.settings().arbiter));
  }
  phase_ = Phase::asking;
  const auto id = note_wish("may_start", done);
  starter_ = os::start_thread("ft-ask", [this, port, id] {
    const ReadAnswer answer = read_record(port);
    {
      const std::scoped_lock answered(mutex_);
      if (phase_ == Phase::asking) phase_ = Phase::fresh;
    }
    const std::string record =
        answer.outcome == ReadAnswer::Outcome::found ? to_string(answer.record) : "";
    (void)desk_->post([this, id, record, outcome = told(guest_.name(), host(), answer)] {
      complete(id, outcome, record);
    });
  });
  return {};
}

// The option anew: whoever the record names as the owner is the life that ends.
Status Protection::end_earlier_life(Arbiter* port, SessionOptions& options) const {
  const ReadAnswer answer = read_record(port);
  if (answer.outcome == ReadAnswer::Outcome::unknown) {
    const Outcome why = told(guest_.name(), host(), answer);
    return to_status(FT_E_TIMEOUT, why.cause, why.remedy);
  }
  options.take_over_record = answer.outcome == ReadAnswer::Outcome::found && !answer.record.ended;
  options.earlier = answer.record.owner;
  return {};
}

}  // namespace libft::capi
