// SPDX-License-Identifier: LGPL-2.1-or-later
// A Crew lets the harts of one machine execute at once, each on a thread of its own, in rounds that
// can be done again exactly: a page of memory is read by many harts or written by one (concurrent
// read, exclusive write: Dunlap et al., "Execution Replay for Multiprocessor Virtual Machines",
// VEE 2008), and where a page passes from hart to hart, the positions of both are recorded.
//
// The harts' views of memory say what each may do. A hart whose next instruction needs more stops
// before it, and asks; the others answer between two of their instructions. Accesses that no
// transfer orders do not conflict, so doing the transfers again, at the same positions, leads to
// the same state. Nothing else passes between harts during a round: devices, interrupts and the
// firmware's calls come between rounds.
//
// One thread calls; between rounds it may execute any hart.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "core.h"
#include "hart_threads.h"
#include "round.h"

namespace libft::machine {

class Crew final : private MemoryViews {
 public:
  Crew(Memory& memory, unsigned harts);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  Memory& view(unsigned hart) { return *views_[hart]; }
  void add(Core& core) { cores_.push_back(&core); }  // In the order of their numbers.

  // --- Between rounds -----------------------------------------------------------------------

  // Lets a hart have what it was postponed for. Nobody needs to know: all others stand still.
  void let_have(unsigned hart, const Wanted& wanted);
  // Nobody has any page any more: as it is after a state was loaded.
  void begin_anew();

  // --- Rounds -------------------------------------------------------------------------------

  // How a hart's part ended; what the machine must do for it.
  using Exits = std::array<Exit, kHartsMax>;

  // Lets `harts` execute at most `steps` each from the machine's position `start`.
  Round record(const std::vector<unsigned>& harts, std::uint64_t start, std::uint64_t steps,
               Exits& exits);
  // Does it again. False: the harts came to something else; the state is of no more use.
  bool replay(const Round& round, std::uint64_t start, Exits& exits);

 private:
  struct Event;
  struct Member;
  using Harts = std::uint8_t;  // As bits.

  // Memory's: between rounds only.
  void take_back(std::uint64_t page) override;
  void gather() override;
  void forget() override { begin_anew(); }

  Harts in_the_way(std::uint64_t page, unsigned hart, bool write) const;
  void set(std::uint64_t page, unsigned hart, Permission permission);
  void leave(std::uint64_t page, unsigned hart, bool to_writer);

  // Recording.
  void execute(unsigned hart, std::uint64_t start, std::uint64_t steps);
  void acquire(unsigned hart, std::uint64_t steps);
  bool try_to_give(unsigned to, unsigned giver);
  void grant(unsigned to);
  void serve_waiting(unsigned giver);
  void answer(unsigned hart, std::uint64_t steps);
  void finish(unsigned hart, std::uint64_t steps, Exit exit);

  // Doing it again.
  void prepare();
  void execute_again(unsigned hart, std::uint64_t start);
  void do_events(unsigned hart, std::uint64_t steps);
  void publish(unsigned hart, std::uint64_t progress);
  void wait_for(const HartAt& at, std::size_t transfer);
  bool claim(unsigned hart);
  void take_from_standing(std::uint64_t page, unsigned hart, bool write);

  Memory& memory_;
  std::vector<std::unique_ptr<Memory>> views_;
  std::vector<Core*> cores_;

  std::mutex mutex_;                      // Who has what, and what stands in Round.
  std::vector<Harts> readers_, writers_;  // By page. A writer is a reader.
  struct Left {
    std::uint64_t round = 0;
    HartAt at;
  };
  std::vector<Left> left_;  // By page: who wrote to it last, and let others read it.
  std::uint64_t round_number_ = 0, tickets_ = 0;
  Round round_;
  std::vector<std::unique_ptr<Member>> members_;
  std::atomic<bool> cut_{false};  // Somebody needs the round to end.
  std::atomic<bool> diverged_{false};
  HartThreads threads_;  // Last: they end first.
};

}  // namespace libft::machine
