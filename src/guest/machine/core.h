// SPDX-License-Identifier: LGPL-2.1-or-later
// A Core executes one hart's instructions: exactly as many as it is told to, unless something needs
// the machine before. Its caches (translations, decoded pages) never show: see memory.h.
// One thread.
#pragma once

#include <array>
#include <cstdint>

#include "bus.h"
#include "hart.h"
#include "memory.h"
#include "tlb.h"

namespace libft::machine {

enum class Exit {
  steps,          // All steps are done.
  device,         // A device register was accessed: interrupt lines and deadlines may have changed.
  firmware_call,  // ECALL in supervisor mode; pc is at the instruction, which is counted.
  waiting,        // WFI was executed.
  postponed,      // The next instruction needs what postponed_for() says, and did nothing yet.
};

// What a hart on a thread of its own must wait for: a page, or that no other hart executes.
struct Wanted {
  bool device = false;
  std::uint64_t page = 0;
  Permission permission = Permission::read;
};

struct Run {
  Exit exit = Exit::steps;
  std::uint64_t steps = 0;  // Executed.
};

// How the machine's position becomes the time that software reads.
struct Clock {
  std::uint64_t steps_per_tick = 25;
  std::uint64_t ticks(std::uint64_t position) const { return position / steps_per_tick; }
};

class Core final : public Translations {
 public:
  Core(Memory& memory, const Bus& bus, Clock clock, bool has_firmware);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  Hart hart;  // Between runs: read and written by the machine. After a change of mode or satp
              // from outside, reset_translations().

  // Executes up to `steps` instructions from the machine's position `now` on.
  // REQUIRES: hart.runnable().
  Run run(std::uint64_t steps, std::uint64_t now);

  // What run() begins with, for a hart that may come to execute nothing: takes an interrupt.
  void enter() {
    hart.waiting = false;
    take_interrupt();
  }

  void reset_translations() { drop_all(); }

  const Wanted& postponed_for() const { return wanted_; }
  void keep_from_devices(bool keep) { no_devices_ = keep; }

  // --- Translations -------------------------------------------------------------------------
  void drop_writable(const std::byte* page) override;
  void drop_writable() override;
  void drop_page(const std::byte* page, const DecodedPage* code) override;
  void drop_all() override;

  // The position of the instruction that is being executed. Devices ask.
  std::uint64_t now() const { return start_ + (steps_ - left_ - 1); }

 private:
  enum class Access { fetch, load, store };
  enum class Outcome {
    done,
    trap,       // cause_ and value_ say which.
    refetch,    // Done, and the next instruction must be looked up anew.
    device,     // Done, and the machine must look.
    postponed,  // Nothing was done: wanted_ says what is missing.
  };
  // One privilege context for each set of translations: SUM changes too often to drop them.
  enum Context {
    kMachineContext,
    kSupervisorContext,
    kSupervisorSumContext,
    kUserContext,
    kContexts
  };

  // access.cc
  Outcome slow_load(std::uint64_t address, unsigned size, std::uint64_t& value);
  Outcome slow_store(std::uint64_t address, unsigned size, std::uint64_t value);
  Outcome load_across(std::uint64_t address, unsigned size, std::uint64_t& value);
  Outcome store_across(std::uint64_t address, unsigned size, std::uint64_t value);
  void store_to_memory(std::uint64_t physical, unsigned size, std::uint64_t value);
  bool has(std::uint64_t physical, Permission permission);
  Outcome failed() const { return postponed_ ? Outcome::postponed : Outcome::trap; }
  bool may_use_devices();
  bool has_both(std::uint64_t address, std::uint64_t second, Access access);
  void keep_readable(std::uint64_t address, std::uint64_t physical);
  void keep_writable(std::uint64_t address, std::uint64_t physical);
  Outcome done_or_refetch();
  DecodedPage* slow_fetch(std::uint64_t pc);
  bool fetch_across(std::uint64_t pc, std::uint32_t& bits);
  bool fetch_half(std::uint64_t address, std::uint32_t& half);

  // mmu.cc
  // A way through the page tables. Only an access that has all it needs changes anything.
  struct Walk {
    std::uint64_t physical = 0;
    bool notes_use = false;  // A or D must be set,
    std::uint64_t at = 0;    // there.
    std::uint64_t entry = 0;
  };
  // False: failed() says how.
  bool translate(std::uint64_t address, Access access, std::uint64_t& physical);
  bool walk(std::uint64_t address, Access access, Walk& way);
  bool has_all(const Walk& way, Access access);
  bool permitted(std::uint64_t entry, Access access, Mode mode) const;
  Mode data_mode() const;
  Tlb& data_tlb();
  Tlb& fetch_tlb();
  bool page_fault(std::uint64_t address, Access access);
  Outcome access_fault(std::uint64_t address, Access access);

  // atomic.cc
  Outcome load_reserved(const Op& op, unsigned size);
  Outcome store_conditional(const Op& op, unsigned size);
  Outcome atomic(const Op& op, unsigned size);

  // csr.cc
  Outcome access_csr(const Op& op);
  bool csr_exists(unsigned number, bool write) const;
  bool counter_readable(unsigned number) const;
  std::uint64_t read_csr(unsigned number) const;
  Outcome write_csr(unsigned number, std::uint64_t value);
  void write_counter(unsigned number, std::uint64_t value);
  std::uint64_t cycles() const { return steps_before_ + (steps_ - left_ - 1); }
  void write_mstatus(std::uint64_t value, std::uint64_t mask);
  Outcome write_satp(std::uint64_t value);

  // trap.cc
  void take_trap(std::uint64_t cause, std::uint64_t value, std::uint64_t pc, bool interrupt);
  bool take_interrupt();
  Outcome machine_return();
  Outcome supervisor_return();
  Outcome wait_for_interrupt();
  Outcome fence_translations(const Op& op);

  Outcome trap(Cause cause, std::uint64_t value) {
    cause_ = cause;
    value_ = value;
    return Outcome::trap;
  }

  Memory& memory_;
  const Bus& bus_;
  Clock clock_;
  bool has_firmware_;
  Cause cause_ = Cause::illegal_instruction;
  std::uint64_t value_ = 0;
  bool postponed_ = false;   // By wanted_, as the last access was.
  bool no_devices_ = false;  // While other harts execute.
  Wanted wanted_;
  bool dropped_ = false;  // drop_all() was called since it was last looked at.
  std::uint64_t start_ = 0, steps_ = 0, left_ = 0;
  std::uint64_t steps_before_ = 0;
  std::array<Tlb, kContexts> tlbs_;
  DecodedPage across_;  // For an instruction that lies on two pages.
};

}  // namespace libft::machine
