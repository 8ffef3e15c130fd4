// SPDX-License-Identifier: LGPL-2.1-or-later
// A Machine is a small RISC-V computer whose execution is a function of its options, and of the
// inputs and the positions at which they were delivered; of nothing else. A position counts the
// instructions of all harts, and what they slept; it is also the guest's time.
//
// Harts take turns of a quantum on one thread; or, with Smp::threads and while it lives by itself,
// execute at once on several, in rounds that are inputs when they are done again. Device input
// enters by deliver() only; what leaves goes to the sinks, during run(). One thread at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "clint.h"
#include "core.h"
#include "crew.h"
#include "libft/deterministic_guest.h"
#include "libft/status.h"
#include "options.h"
#include "plic.h"
#include "sbi.h"
#include "uart.h"
#include "virtio_devices.h"

namespace libft::machine {

struct MachineSinks {
  std::function<void(std::span<const std::byte>)> frame;
  std::function<void(std::span<const std::byte>)> console;
  std::function<void(std::uint32_t)> entropy_wanted;  // So many bytes; delivered when it suits.
};

enum class WhenIdle {
  skip,  // Sleep to the next event, however far it is.
  stop,  // Return, so that the caller can bring input in the meantime.
};

class Machine final : private SbiHost {
 public:
  static Result<std::unique_ptr<Machine>> create(MachineOptions options, MachineSinks sinks);
  // The same without anything in memory: for load().
  static Result<std::unique_ptr<Machine>> create_empty(MachineOptions options, MachineSinks sinks);

  const MachineOptions& options() const { return options_; }
  Memory& memory() { return memory_; }
  Memory* disk() { return disk_ ? &*disk_ : nullptr; }  // A writable one.
  // From a sink: of the instruction that made the output.
  Position position() const { return Position{now()}; }
  End ended() const { return end_; }

  // Executes until exactly `until`, or until the machine has ended; with WhenIdle::stop also until
  // all harts wait, which changes nothing: the next run goes on from there.
  void run(Position until, WhenIdle when_idle);
  // The same as run() with WhenIdle::stop, but harts may execute at once. `sink` is told each round
  // where it began, before anything that follows from it leaves the machine.
  using RoundSink = std::function<void(Position, const GuestInput&)>;
  void run_live(Position until, const RoundSink& sink);
  // A round that was delivered came to something else; the machine does not run any more.
  bool diverged() const { return diverged_; }
  // All harts wait: nothing happens before next_event() except by input.
  bool idle() const;
  std::optional<Position> next_event() const;

  // At the current position. Input that the guest is not ready for is dropped, as by a real device.
  // Code::corrupt, and nothing happened: a schedule that is none.
  Status deliver(const GuestInput& input);

  // How many random bytes the guest waits for; 0: it does not.
  std::uint32_t entropy_wanted() const { return entropy_.wanted(); }

  // The next round begins without anybody having any page: whoever loads a state knows nothing of
  // which hart has which.
  void begin_anew() { anew_ = true; }

  // Everything but memory and a writable disk; equal states are equal bytes. The next round begins
  // anew.
  void save(std::vector<std::byte>& state);
  // Over memory and disk as they are. On failure the machine is as it was.
  Status load(std::span<const std::byte> state);
  std::uint64_t state_hash();

  Hart& hart(unsigned id) override { return cores_[id]->hart; }  // Tests look.

 private:
  class Finisher final : public Device {
   public:
    explicit Finisher(Machine& machine) : machine_(machine) {}
    std::uint64_t load(std::uint64_t, unsigned) override { return 0; }
    void store(std::uint64_t offset, unsigned size, std::uint64_t value) override;

   private:
    Machine& machine_;
  };

  Machine(MachineOptions options, MachineSinks sinks);
  Status place_images();
  void begin_hart(Hart& hart, std::uint64_t pc, std::uint64_t opaque);
  void archive(Archive& a);
  void serialise(std::vector<std::byte>& state);
  std::vector<unsigned> runnable() const;
  Run execute_alone(unsigned id, std::uint64_t steps);
  void execute_round(const std::vector<unsigned>& harts, std::uint64_t steps,
                     const RoundSink& sink);
  void execute_again(const Round& round);
  void finish_round(const Round& round, const Crew::Exits& exits);
  void update_lines();
  bool choose_hart();
  void execute(std::uint64_t until);
  std::uint64_t event_after(std::uint64_t position) const;
  std::uint64_t now() const;  // Of the instruction that is being executed, if one is.

  unsigned harts() const override { return options_.harts; }
  void start_hart(unsigned id, std::uint64_t pc, std::uint64_t opaque) override;
  void console_put(std::byte byte) override;
  std::uint64_t console_get() override { return ~std::uint64_t{0}; }
  void end(End why) override { end_ = why; }

  MachineOptions options_;
  MachineSinks sinks_;
  Clock clock_;
  Memory memory_;
  std::optional<Memory> disk_;
  Bus bus_;
  Clint clint_;
  Plic plic_;
  Uart uart_;
  VirtioNet net_;
  std::optional<VirtioBlock> block_;
  VirtioEntropy entropy_;
  Finisher finisher_;
  Sbi sbi_;
  std::optional<Crew> crew_;
  std::vector<std::unique_ptr<Core>> cores_;
  std::optional<Round> scheduled_;  // Was delivered, and comes next.
  bool anew_ = true;
  bool diverged_ = false;

  std::uint64_t position_ = 0;
  std::uint32_t turn_ = 0;       // Whose it is,
  std::uint64_t turn_left_ = 0;  // and for how many instructions more.
  End end_ = End::running;
  const Core* executing_ = nullptr;
};

}  // namespace libft::machine
