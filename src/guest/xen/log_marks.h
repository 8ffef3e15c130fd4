// SPDX-License-Identifier: LGPL-2.1-or-later
// Who saves or migrates a domain switches Xen's log of written pages off and on for itself, and
// takes from it what it says; nobody is told. So libft has Xen log a few pages that nobody wrote:
// as long as they come back with the others, nobody else has touched the log since.
//
// A page that is written in each epoch, such as xenstore's ring when the guest suspends itself,
// would come back from another's log as well. Therefore these are chosen anew each time, among
// those that were not written lately, and several: a guest that writes all of them by chance in one
// epoch is one that writes nearly everything. Session's thread.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "libft/page_set.h"

namespace libft::xen {

class LogMarks {
 public:
  // `pages`: all that the domain has.
  explicit LogMarks(std::vector<PageRun> pages);

  // Which to mark now: not those in `written`, Xen's bits.
  std::span<const std::uint64_t> choose(std::span<const std::uint64_t> written);
  void forget() { marks_.clear(); }  // The log was lost, and they with it.
  bool all_in(std::span<const std::uint64_t> written) const;

 private:
  std::uint64_t any_page();

  std::vector<PageRun> pages_;
  std::uint64_t count_ = 0;
  std::vector<std::uint64_t> marks_;
  std::minstd_rand random_;  // Not to be unpredictable, only spread.
};

}  // namespace libft::xen
