// SPDX-License-Identifier: LGPL-2.1-or-later
#include "decide.h"

#include <algorithm>

namespace libft::ftd {

namespace {

using ftctl::End;

// Not at once and for ever: what cannot be started is told, and must not fill the log.
Nanos pause_before_try(unsigned failures) {
  return std::min<Nanos>(Millis{200} * (1u << std::min(failures, 8u)), std::chrono::seconds{30});
}

Next be_backup(const Situation& situation, Nanos delay, const std::string& why) {
  if (situation.has_peer) return {Start::backup, delay, false, why};
  return {Start::nothing, {}, false, why + "; no --peer is known whose backup this host could be"};
}

}  // namespace

Next next_after(const Situation& situation, const std::optional<ftctl::Ending>& ending) {
  const Nanos delay = pause_before_try(situation.failures);
  const Start same = situation.was_primary ? Start::primary : situation.was;
  if (!ending) {
    // The sooner the better: until a successor has taken it up, nobody hears the guest.
    const bool first = situation.was_primary && situation.failures == 0;
    return {same, first ? Nanos{} : delay, situation.was_primary, "its ftctl was killed"};
  }
  switch (ending->how) {
    case End::guest_ended:
    case End::left:
    case End::usage: return {Start::nothing, {}, false, ending->why};
    case End::handed_over: return be_backup(situation, Nanos{}, ending->why);
    case End::fenced: return be_backup(situation, delay, ending->why);
    case End::failed: return {same, delay, situation.was_primary, ending->why};
    case End::refused: break;
  }
  // The record says that the other role is due: another host owns the guest, or this one still
  // does.
  if (situation.was == Start::backup) return {Start::primary, delay, true, ending->why};
  return be_backup(situation, delay, ending->why);
}

}  // namespace libft::ftd
