// SPDX-License-Identifier: LGPL-2.1-or-later
#include "machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/checksum.h"
#include "device_tree.h"
#include "layout.h"

namespace libft::machine {

namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kStateMagic = 0x3148434d5446424c;  // First word of the state.
constexpr std::uint64_t kTreeBytesMax = 0x10000;
constexpr std::uint64_t kMemoryMin = 4 << 20, kMemoryMax = std::uint64_t{2} << 30;
constexpr unsigned kA0 = 10, kA1 = 11;
// A round is long against what it costs to begin and end one, and short against the time after
// which an interrupt should be noticed: 0.2 ms.
constexpr std::uint64_t kRoundSteps = 100'000, kRoundStepsMin = 2000;

// What firmware leaves to the supervisor: everything but its own calls.
constexpr std::uint64_t kDelegatedExceptions = 0xb1ff, kDelegatedInterrupts = 0x222;
constexpr std::uint64_t kCountersReadable = 7;  // cycle, time, instret

Status check(const MachineOptions& options) {
  if (options.harts < 1 || options.harts > kHartsMax)
    return Status(Code::invalid,
                  fmt::format("machine: {} harts; 1 to {} work", options.harts, kHartsMax));
  if (options.memory_bytes < kMemoryMin || options.memory_bytes > kMemoryMax ||
      options.memory_bytes % kPageBytes != 0) {
    return Status(Code::invalid, "machine: memory is from 4 MiB to 2 GiB, in whole pages");
  }
  if (options.quantum == 0 || options.steps_per_tick == 0)
    return Status(Code::invalid, "machine: the quantum and the steps a tick are at least 1");
  return {};
}

}  // namespace

void Machine::Finisher::store(std::uint64_t offset, unsigned, std::uint64_t value) {
  if (offset != 0) return;
  switch (value & 0xffff) {
    case 0x3333: machine_.end(End::failed); break;
    case 0x5555: machine_.end(End::shut_down); break;
    case 0x7777: machine_.end(End::reset_requested); break;
    default: break;
  }
}

Machine::Machine(MachineOptions options, MachineSinks sinks)
    : options_(std::move(options)),
      sinks_(std::move(sinks)),
      clock_{options_.steps_per_tick},
      memory_(kMemoryBase, options_.memory_bytes),
      clint_([this] { return clock_.ticks(now()); }),
      uart_([this](std::byte byte) { console_put(byte); }),
      net_(memory_, options_.mac, [this](auto frame) { sinks_.frame(frame); }),
      entropy_(memory_, [this](std::uint32_t bytes) { sinks_.entropy_wanted(bytes); }),
      finisher_(*this),
      sbi_(*this) {
  const auto virtio = [](unsigned slot) { return kVirtioBase + slot * kVirtioStride; };
  bus_.add(kUartBase, Uart::kBytes, uart_);
  bus_.add(kPlicBase, Plic::kBytes, plic_);
  bus_.add(virtio(kNetSlot), VirtioMmio::kBytes, net_);
  bus_.add(virtio(kEntropySlot), VirtioMmio::kBytes, entropy_);
  bus_.add(kClintBase, Clint::kBytes, clint_);
  bus_.add(kFinisherBase, kPageBytes, finisher_);
  if (options_.writable_disk)
    block_.emplace(memory_, disk_.emplace(kDiskBase, options_.writable_disk->bytes()));
  else if (options_.disk)
    block_.emplace(memory_, options_.disk);
  if (block_) bus_.add(virtio(kBlockSlot), VirtioMmio::kBytes, *block_);
  if (options_.smp == Smp::threads && options_.harts > 1) crew_.emplace(memory_, options_.harts);
  for (unsigned id = 0; id < options_.harts; ++id) {
    cores_.push_back(std::make_unique<Core>(crew_ ? crew_->view(id) : memory_, bus_, clock_,
                                            options_.boot == Boot::supervisor));
    if (crew_) crew_->add(*cores_.back());
    cores_.back()->hart.id = id;
    cores_.back()->hart.started = false;
  }
}

Result<std::unique_ptr<Machine>> Machine::create_empty(MachineOptions options, MachineSinks sinks) {
  FT_TRY(check(options));
  if (!sinks.frame) sinks.frame = [](auto) {};
  if (!sinks.console) sinks.console = [](auto) {};
  if (!sinks.entropy_wanted) sinks.entropy_wanted = [](auto) {};
  return std::unique_ptr<Machine>(new Machine(std::move(options), std::move(sinks)));
}

Result<std::unique_ptr<Machine>> Machine::create(MachineOptions options, MachineSinks sinks) {
  FT_ASSIGN(std::unique_ptr<Machine> machine, create_empty(std::move(options), std::move(sinks)));
  FT_TRY(machine->place_images());
  return machine;
}

// From the top of memory: the device tree, the initial RAM disk; from the bottom: the kernel.
Status Machine::place_images() {
  const std::uint64_t top = kMemoryBase + options_.memory_bytes - kTreeBytesMax;
  const std::uint64_t initrd_at = (top - options_.initrd.size()) & ~(kPageBytes - 1);
  const std::uint64_t kernel_at =
      kMemoryBase + (options_.boot == Boot::supervisor ? kKernelOffset : 0);
  const std::vector<std::byte> tree = device_tree(options_, initrd_at);
  if (tree.size() > kTreeBytesMax)
    return Status(Code::invalid, "machine: the kernel's command line is too long");
  if (options_.initrd.size() > options_.memory_bytes / 2 || kernel_at >= initrd_at ||
      options_.kernel.size() > initrd_at - kernel_at) {
    return Status(Code::invalid, fmt::format("machine: kernel and initrd do not fit into {} MiB; "
                                             "remedy: give it more memory",
                                             options_.memory_bytes >> 20));
  }
  memory_.write(kernel_at, options_.kernel);
  memory_.write(initrd_at, options_.initrd);
  memory_.write(top, tree);
  const unsigned first = options_.boot == Boot::supervisor ? 1 : options_.harts;
  for (unsigned id = 0; id < first; ++id) start_hart(id, kernel_at, top);
  return {};
}

// As SBI 9.1 wants it: supervisor mode, no translation, no interrupts, a0 the hart, a1 the
// argument.
void Machine::begin_hart(Hart& hart, std::uint64_t pc, std::uint64_t opaque) {
  const std::uint32_t id = hart.id;
  const std::uint64_t steps = hart.steps;
  hart = Hart{};
  hart.id = id;
  hart.steps = steps;
  hart.pc = pc;
  hart.x[kA0] = id;
  hart.x[kA1] = opaque;
  if (options_.boot == Boot::machine) return;
  hart.mode = Mode::supervisor;
  hart.medeleg = kDelegatedExceptions;
  hart.mideleg = kDelegatedInterrupts;
  hart.mcounteren = kCountersReadable;
}

void Machine::start_hart(unsigned id, std::uint64_t pc, std::uint64_t opaque) {
  begin_hart(cores_[id]->hart, pc, opaque);
  cores_[id]->reset_translations();
}

void Machine::console_put(std::byte byte) { sinks_.console(std::span(&byte, 1)); }

std::uint64_t Machine::now() const { return executing_ != nullptr ? executing_->now() : position_; }

// Interrupt lines are a function of the devices' state and the time.
void Machine::update_lines() {
  plic_.set_level(kUartSource, uart_.interrupts());
  plic_.set_level(kNetSlot + 1, net_.interrupts());
  plic_.set_level(kBlockSlot + 1, block_ && block_->interrupts());
  plic_.set_level(kEntropySlot + 1, entropy_.interrupts());
  const std::uint64_t time = clock_.ticks(position_);
  for (unsigned id = 0; id < options_.harts; ++id) {
    const auto line = [](bool on, unsigned number) { return on ? bit(number) : 0; };
    cores_[id]->hart.lines = line(clint_.software(id), kMachineSoftware) |
                             line(clint_.deadline(id) <= time, kMachineTimer) |
                             line(sbi_.deadline(id) <= time, kSupervisorTimer) |
                             line(plic_.interrupts(2 * id), kMachineExternal) |
                             line(plic_.interrupts(2 * id + 1), kSupervisorExternal);
  }
}

// The next position at which a timer expires.
std::uint64_t Machine::event_after(std::uint64_t position) const {
  const std::uint64_t time = clock_.ticks(position);
  std::uint64_t first = kNever;
  for (unsigned id = 0; id < options_.harts; ++id) {
    for (const std::uint64_t deadline : {clint_.deadline(id), sbi_.deadline(id)})
      if (deadline > time) first = std::min(first, deadline);
  }
  return first > kNever / clock_.steps_per_tick ? kNever : first * clock_.steps_per_tick;
}

bool Machine::idle() const {
  return std::ranges::none_of(cores_, [](const auto& core) { return core->hart.runnable(); });
}

std::optional<Position> Machine::next_event() const {
  const std::uint64_t at = event_after(position_);
  if (at == kNever) return std::nullopt;
  return Position{at};
}

// Gives the turn to the next hart that can use it. Without one nothing changes, so that it does not
// matter how often, and between which inputs, somebody looked.
bool Machine::choose_hart() {
  if (turn_left_ > 0) return true;
  for (unsigned i = 1; i <= options_.harts; ++i) {
    const unsigned next = (turn_ + i) % options_.harts;
    if (!cores_[next]->hart.runnable()) continue;
    turn_ = next;
    turn_left_ = options_.quantum;
    return true;
  }
  return false;
}

// Nobody else executes: what a hart of a crew lacks, it has at once.
Run Machine::execute_alone(unsigned id, std::uint64_t steps) {
  Core& core = *cores_[id];
  Run all{Exit::postponed, 0};
  executing_ = &core;
  while (all.exit == Exit::postponed && all.steps < steps) {
    const Run run = core.run(steps - all.steps, position_ + all.steps);
    all = {run.exit, all.steps + run.steps};
    if (run.exit == Exit::postponed) crew_->let_have(id, core.postponed_for());
  }
  executing_ = nullptr;
  position_ += all.steps;
  return all;
}

// A turn ends with its instructions, or when its hart waits or stops; with it ends what the hart
// reserved, so that a reservation never meets another hart's stores.
void Machine::execute(std::uint64_t until) {
  Core& core = *cores_[turn_];
  const std::uint64_t steps =
      std::min({until - position_, event_after(position_) - position_, turn_left_});
  const Run run = execute_alone(turn_, steps);
  turn_left_ -= run.steps;
  if (run.exit == Exit::firmware_call) sbi_.call(core.hart);
  if (!core.hart.started || core.hart.waiting) turn_left_ = 0;
  if (turn_left_ == 0) core.hart.reserved = false;
}

void Machine::run(Position until, WhenIdle when_idle) {
  while (position_ < until.value && end_ == End::running && !diverged_) {
    update_lines();
    if (scheduled_) {
      execute_again(*std::exchange(scheduled_, std::nullopt));
    } else if (choose_hart()) {
      execute(until.value);
    } else {
      if (when_idle == WhenIdle::stop) return;
      position_ = std::min(until.value, event_after(position_));
    }
  }
}

std::vector<unsigned> Machine::runnable() const {
  std::vector<unsigned> harts;
  for (unsigned id = 0; id < options_.harts; ++id)
    if (cores_[id]->hart.runnable()) harts.push_back(id);
  return harts;
}

void Machine::run_live(Position until, const RoundSink& sink) {
  while (crew_ && position_ < until.value && end_ == End::running && !diverged_ && !scheduled_) {
    update_lines();
    const std::vector<unsigned> harts = runnable();
    const std::uint64_t room = std::min(until.value, event_after(position_)) - position_;
    // Besides its steps, each hart may have one at a device.
    const std::uint64_t steps =
        std::min(kRoundSteps, room / std::max<std::size_t>(1, harts.size()) - 1);
    if (harts.size() > 1 && room >= harts.size() * kRoundStepsMin) {
      execute_round(harts, steps, sink);
    } else if (choose_hart()) {
      execute(until.value);
    } else {
      return;
    }
  }
  run(until, WhenIdle::stop);
}

void Machine::execute_round(const std::vector<unsigned>& harts, std::uint64_t steps,
                            const RoundSink& sink) {
  const bool anew = std::exchange(anew_, false);
  if (anew) crew_->begin_anew();
  Crew::Exits exits{};
  Round round = crew_->record(harts, position_, steps, exits);
  round.anew = anew;
  if (sink) sink(Position{position_}, {GuestInput::Kind::schedule, encode(round)});
  finish_round(round, exits);
}

void Machine::execute_again(const Round& round) {
  const auto waits = [&](std::size_t id) {
    return round.parts[id].executed && !cores_[id]->hart.runnable();
  };
  for (std::size_t id = 0; id < options_.harts; ++id) diverged_ = diverged_ || waits(id);
  if (diverged_) return;
  if (round.anew) crew_->begin_anew();
  anew_ = false;
  Crew::Exits exits{};
  if (crew_->replay(round, position_, exits)) {
    finish_round(round, exits);
  } else {
    diverged_ = true;
  }
}

// What harts that executed at once need the rest of the machine for, one after the other.
void Machine::finish_round(const Round& round, const Crew::Exits& exits) {
  for (const Round::Part& part : round.parts) position_ += part.steps;
  for (unsigned id = 0; id < options_.harts; ++id) {
    Hart& hart = cores_[id]->hart;
    if (!round.parts[id].executed) continue;
    Exit exit = exits[id];
    if (exit == Exit::postponed) exit = execute_alone(id, 1).exit;
    if (exit == Exit::firmware_call) sbi_.call(hart);
    hart.reserved = false;
  }
  turn_left_ = 0;
}

Status Machine::deliver(const GuestInput& input) {
  switch (input.kind) {
    case GuestInput::Kind::frame: net_.receive(input.bytes); break;
    case GuestInput::Kind::console: uart_.receive(input.bytes); break;
    case GuestInput::Kind::entropy: entropy_.receive(input.bytes); break;
    case GuestInput::Kind::schedule: {
      if (!crew_) return Status(Code::corrupt, "machine: a schedule for harts that take turns");
      FT_ASSIGN(scheduled_, decode_round(input.bytes, options_.harts, memory_.pages()));
      break;
    }
  }
  return {};
}

namespace {

void archive_hart(Archive& a, Hart& h) {
  for (std::size_t i = 1; i < 32; ++i) a.field(h.x[i]);
  a.field(h.pc);
  std::uint8_t mode = static_cast<std::uint8_t>(h.mode);
  a.field(mode);
  h.mode = mode == 0 ? Mode::user : mode == 1 ? Mode::supervisor : Mode::machine;
  for (std::uint64_t* field : {&h.mstatus,      &h.medeleg,
                               &h.mideleg,      &h.mie,
                               &h.pending,      &h.mtvec,
                               &h.mcounteren,   &h.mcountinhibit,
                               &h.mscratch,     &h.mepc,
                               &h.mcause,       &h.mtval,
                               &h.menvcfg,      &h.stvec,
                               &h.scounteren,   &h.sscratch,
                               &h.sepc,         &h.scause,
                               &h.stval,        &h.satp,
                               &h.senvcfg,      &h.steps,
                               &h.cycle_offset, &h.instret_offset,
                               &h.reservation,  &h.reserved_physical}) {
    a.field(*field);
  }
  a.field(h.reserved), a.field(h.started), a.field(h.waiting);
}

}  // namespace

void Machine::archive(Archive& a) {
  a.field(position_), a.field(turn_), a.field(turn_left_);
  a.field(end_, End::failed);
  for (const std::unique_ptr<Core>& core : cores_) archive_hart(a, core->hart);
  clint_.archive(a), plic_.archive(a), uart_.archive(a), sbi_.archive(a);
  net_.archive(a), entropy_.archive(a);
  if (block_) block_->archive(a);
}

void Machine::save(std::vector<std::byte>& state) {
  serialise(state);
  begin_anew();
}

void Machine::serialise(std::vector<std::byte>& state) {
  state.clear();
  base::ByteAppender header(state);
  header.write(kStateMagic);
  header.write(std::uint64_t{0});  // The checksum of what follows.
  Archive a(state);
  archive(a);
  base::store_le(state.data() + 8, base::checksum(std::span(state).subspan(16)));
}

// The state is read over the machine's own, which is kept for the case that it is not one.
Status Machine::load(std::span<const std::byte> state) {
  if (state.size() < 16 || base::load_le<std::uint64_t>(state.data()) != kStateMagic ||
      base::load_le<std::uint64_t>(state.data() + 8) != base::checksum(state.subspan(16))) {
    return Status(Code::corrupt, "machine's state: it is damaged, or another thing");
  }
  std::vector<std::byte> before;
  serialise(before);
  Archive a(state.subspan(16));
  archive(a);
  if (!a.done() || turn_ >= options_.harts) {
    Archive back(std::span<const std::byte>(before).subspan(16));
    archive(back);
    return Status(Code::corrupt, "machine's state: it is of another machine");
  }
  memory_.forget();
  if (disk_) disk_->forget();
  scheduled_.reset();
  diverged_ = false;
  update_lines();
  return {};
}

std::uint64_t Machine::state_hash() {
  std::vector<std::byte> state;
  serialise(state);
  std::array<std::byte, 8> memory_hash;
  base::store_le(memory_hash.data(), memory_.hash());
  if (disk_) base::ByteAppender(state).write(disk_->hash());
  return base::checksum(memory_hash, state);
}

}  // namespace libft::machine
