// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl bench`: what a checkpoint costs without a hypervisor, beside a plain memcpy of the same
// pages in the same run, and what the pages cost on their way. It measures the internals, so it
// includes them; nothing here is used by a protection.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench_capi.h"
#include "bench_machine.h"
#include "bench_record.h"
#include "bench_smp.h"
#include "commands.h"
#include "guest/memory/memory_guest.h"
#include "os/mmap_arena.h"
#include "os/real_clock.h"
#include "os/thread_pool.h"
#include "output/memory_gate.h"
#include "report.h"
#include "strategy/checkpoint/checkpointer.h"
#include "strategy/checkpoint/epoch_assembler.h"
#include "strategy/checkpoint/epoch_encoder.h"
#include "wire/frame.h"

namespace libft::ftctl {

namespace {

using checkpoint::CapturedEpoch;

constexpr std::size_t kPageBytes = guest::MemoryGuest::kPageBytes;
constexpr unsigned kSlots = 3;  // As a session with its default of 2 epochs in flight.
constexpr double kTargetRatio = 1.5, kTargetExtraMs = 1;

double ms_between(std::chrono::steady_clock::time_point from,
                  std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

double at(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

struct Row {
  std::uint64_t dirty = 0;
  std::vector<double> pause, memcpy, encode, whole, parts[4];
  double pages = 0, page_bytes_sent = 0, raw = 0, delta = 0;
};

// The pair in one process: a guest, its checkpointer and encoder, and a backup that decodes.
class Pair {
 public:
  Pair(std::uint64_t pages, os::MmapArena& arena, os::ThreadPool& pool)
      : id_(*GuestId::from_name("bench")),
        guest_(guest::make_memory_guest(pages, 1)),
        standby_(guest::make_memory_standby(pages)),
        arena_(arena),
        encoder_(id_, guest_->info(), pool, {}),
        assembler_(id_, standby_->info(), arena) {}

  // `through`: what arguments say; empty: nothing crosses the C ABI.
  Status open(std::uint64_t dirty_max, const std::string& through);
  Status synchronise();
  Status measure(std::uint64_t dirty, int epochs, Row& row);
  // Every second epoch through the C ABI, so that both see the same machine.
  Status measure_both(std::uint64_t dirty, int epochs, Row& direct, Row& through);

 private:
  Status checkpoint_once(std::uint64_t dirty, Row* row, bool through = false);
  void copy_plainly(const PageSet& pages);
  Status deliver();
  Status send(std::span<const std::span<const std::byte>> pieces);

  GuestId id_;
  std::unique_ptr<guest::MemoryGuest> guest_, standby_;
  std::unique_ptr<output::MemoryGate> gate_;
  os::RealClock clock_;
  os::MmapArena& arena_;
  std::unique_ptr<ThroughCapi> through_;  // The same guest, as a port of the C ABI.
  std::unique_ptr<checkpoint::Checkpointer> direct_, crossing_;
  checkpoint::EpochEncoder encoder_;
  checkpoint::EpochAssembler assembler_;
  std::span<std::byte> copy_;    // Where memcpy copies to.
  std::vector<std::byte> wire_;  // What was sent and not yet received.
  std::uint64_t epoch_ = 0;
};

Status Pair::open(std::uint64_t dirty_max, const std::string& through) {
  FT_ASSIGN(gate_, output::MemoryGate::create({}, [](std::span<const std::byte>) {}));
  const std::size_t bytes = (dirty_max + 64) * kPageBytes;
  FT_ASSIGN(direct_,
            checkpoint::Checkpointer::make(*guest_, *gate_, arena_, clock_, kSlots, bytes));
  if (!through.empty()) {
    through_ = through_capi(*guest_, through == "capi-loop");
    OutputGate& gate = through_->gate(*gate_);
    FT_ASSIGN(crossing_, checkpoint::Checkpointer::make(through_->guest(), gate, arena_, clock_,
                                                        kSlots, bytes));
  }
  FT_ASSIGN(copy_, arena_.reserve(bytes, bytes));
  wire_.reserve(2 * bytes);
  return {};
}

Status Pair::send(std::span<const std::span<const std::byte>> pieces) {
  for (const auto& piece : pieces) wire_.insert(wire_.end(), piece.begin(), piece.end());
  return {};
}

Status Pair::deliver() {
  wire::FrameReader reader(id_);
  for (std::size_t taken = 0; taken < wire_.size();) {
    const std::span<std::byte> space = reader.space();
    const std::size_t some = std::min(space.size(), wire_.size() - taken);
    std::memcpy(space.data(), wire_.data() + taken, some);
    reader.stored(some);
    taken += some;
    for (;;) {
      FT_ASSIGN(const std::optional<wire::Frame> frame, reader.next());
      if (!frame) break;
      FT_ASSIGN(const auto complete, assembler_.on_frame(*frame));
      if (complete) assembler_.apply();
    }
  }
  wire_.clear();
  return {};
}

// So that the measured epochs are deltas against a complete image, as in a protection.
Status Pair::synchronise() {
  guest_->step(guest_->info().pages());
  FT_TRY(guest_->start_tracking());
  constexpr std::uint64_t kPiece = 256;
  for (const MemoryRegion& region : guest_->info().memory) {
    const std::uint64_t pages = region.bytes.size() / kPageBytes;
    for (std::uint64_t first = 0; first < pages; first += kPiece) {
      const std::uint64_t count = std::min(kPiece, pages - first);
      FT_TRY(encoder_.encode_sync(
          Generation{1}, PageNo{region.first.value + first},
          region.bytes.subspan(first * kPageBytes, count * kPageBytes),
          [this](std::span<const std::span<const std::byte>> pieces) { return send(pieces); }));
      FT_TRY(deliver());
    }
  }
  return checkpoint_once(1, nullptr);
}

void Pair::copy_plainly(const PageSet& pages) {
  std::byte* to = copy_.data();
  for (const PageRun& run : pages.runs()) {
    for (const MemoryRegion& region : guest_->info().memory) {
      const std::uint64_t region_pages = region.bytes.size() / kPageBytes;
      if (run.first < region.first || run.first.value >= region.first.value + region_pages)
        continue;
      const std::size_t offset = (run.first.value - region.first.value) * kPageBytes;
      std::memcpy(to, region.bytes.data() + offset, run.count * kPageBytes);
      to += run.count * kPageBytes;
    }
  }
}

Status Pair::checkpoint_once(std::uint64_t dirty, Row* row, bool through) {
  checkpoint::Checkpointer* const checkpointer = through ? crossing_.get() : direct_.get();
  guest_->step(dirty);
  const bool first = epoch_ == 0;
  const auto begin = std::chrono::steady_clock::now();
  FT_ASSIGN(CapturedEpoch * epoch,
            checkpointer->run({EpochId{Generation{1}, Epoch{++epoch_}}, first, false, false}));
  const auto captured = std::chrono::steady_clock::now();
  copy_plainly(epoch->pages);
  const auto copied = std::chrono::steady_clock::now();
  FT_ASSIGN(const checkpoint::EncodeStatistics sent,
            encoder_.encode(*epoch, [this](std::span<const std::span<const std::byte>> pieces) {
              return send(pieces);
            }));
  const auto encoded = std::chrono::steady_clock::now();
  FT_TRY(deliver());
  const auto applied = std::chrono::steady_clock::now();
  FT_TRY(gate_->release(epoch->id));
  if (row != nullptr) {
    const auto& times = epoch->times;
    const auto ms = [](Nanos n) { return std::chrono::duration<double, std::milli>(n).count(); };
    row->pause.push_back(ms(times.stopped()));
    const Nanos parts[] = {times.pause, times.capture, times.seal, times.resume};
    for (std::size_t i = 0; i < std::size(parts); ++i) row->parts[i].push_back(ms(parts[i]));
    row->memcpy.push_back(ms_between(captured, copied));
    row->encode.push_back(ms_between(copied, encoded));
    row->whole.push_back(ms_between(begin, captured) + ms_between(copied, applied));
    row->pages += static_cast<double>(epoch->pages.pages());
    row->page_bytes_sent += static_cast<double>(sent.bytes);
    row->raw += static_cast<double>(sent.raw);
    row->delta += static_cast<double>(sent.delta);
  }
  checkpointer->give_back(epoch);
  return {};
}

Status Pair::measure(std::uint64_t dirty, int epochs, Row& row) {
  row.dirty = dirty;
  for (unsigned warm = 0; warm <= kSlots; ++warm) FT_TRY(checkpoint_once(dirty, nullptr));
  for (int i = 0; i < epochs; ++i) FT_TRY(checkpoint_once(dirty, &row));
  return {};
}

Status Pair::measure_both(std::uint64_t dirty, int epochs, Row& direct, Row& through) {
  direct.dirty = through.dirty = dirty;
  for (unsigned warm = 0; warm <= 2 * kSlots; ++warm)
    FT_TRY(checkpoint_once(dirty, nullptr, warm % 2 == 1));
  for (int i = 0; i < 2 * epochs; ++i)
    FT_TRY(checkpoint_once(dirty, i % 2 == 0 ? &direct : &through, i % 2 == 1));
  return {};
}

Json figures(const Row& row) {
  const double count = static_cast<double>(row.pause.size());
  const double copy = at(row.memcpy, 0.5), pause = at(row.pause, 0.5);
  const double page_bytes = row.pages / count * static_cast<double>(kPageBytes);
  Json json{{"dirty_pages", row.dirty},
            {"pages_per_epoch", row.pages / count},
            {"epochs", row.pause.size()},
            {"pause_ms_p50", pause},
            {"pause_ms_p99", at(row.pause, 0.99)},
            {"memcpy_ms_p50", copy},
            {"memcpy_ms_p99", at(row.memcpy, 0.99)},
            {"ratio", copy > 0 ? pause / copy : 0},
            {"encode_gb_per_s", page_bytes / (at(row.encode, 0.5) * 1e6)},
            {"wire_bytes_per_page", row.page_bytes_sent / row.pages},
            {"epochs_per_s", 1000 / at(row.whole, 0.5)},
            {"within_target", pause <= kTargetRatio * copy + kTargetExtraMs}};
  const char* const names[] = {"pause", "capture", "seal", "resume"};
  for (std::size_t i = 0; i < std::size(names); ++i) {
    json["phase_ms_p50"][names[i]] = at(row.parts[i], 0.5);
  }
  return json;
}

double overhead_percent(const Row& direct, const Row& through) {
  const double before = at(direct.pause, 0.5);
  return before > 0 ? 100 * (at(through.pause, 0.5) - before) / before : 0;
}

void print_row(const Json& row) {
  fmt::print("{:>7}  {:>9.3f} {:>9.3f}  {:>9.3f} {:>6.2f}  {:>7.2f}  {:>7.0f}  {:>8.1f}  {}\n",
             row["dirty_pages"].get<std::uint64_t>(), row["pause_ms_p50"].get<double>(),
             row["pause_ms_p99"].get<double>(), row["memcpy_ms_p50"].get<double>(),
             row["ratio"].get<double>(), row["encode_gb_per_s"].get<double>(),
             row["wire_bytes_per_page"].get<double>(), row["epochs_per_s"].get<double>(),
             row["within_target"].get<bool>() ? "yes" : "NO");
  std::fflush(stdout);
}

Status run(const Arguments& arguments, Json& report) {
  const std::uint64_t pages = static_cast<std::uint64_t>(arguments.memory_mib) * 256;
  os::MmapArena arena;
  os::ThreadPool pool;
  // The arena outlives what it gave memory to.
  constexpr struct {
    std::uint64_t dirty;
    int epochs;
  } kRows[] = {{500, 500}, {5000, 200}, {50000, 40}};
  std::uint64_t most = 0;
  for (const auto& row : kRows) most = std::max(most, std::min(row.dirty, pages / 2));
  Pair pair(pages, arena, pool);
  FT_TRY(pair.open(most, arguments.through));
  FT_TRY(pair.synchronise());
  report = {
      {"memory_mib", arguments.memory_mib}, {"workers", pool.workers()}, {"rows", Json::array()}};
  fmt::print("checkpoints of a guest of {} MiB in memory, {} workers\n\n", arguments.memory_mib,
             pool.workers());
  fmt::print("{:>7}  {:>9} {:>9}  {:>9} {:>6}  {:>7}  {:>7}  {:>8}  {}\n", "pages", "pause p50",
             "p99 ms", "memcpy ms", "ratio", "GB/s", "B/page", "epochs/s", "in target");
  for (const auto& wanted : kRows) {
    Row row;
    const std::uint64_t dirty = std::min(wanted.dirty, pages / 2);
    const int epochs = arguments.epochs > 0 ? arguments.epochs : wanted.epochs;
    if (arguments.through.empty()) {
      FT_TRY(pair.measure(dirty, epochs, row));
      report["rows"].push_back(figures(row));
      print_row(report["rows"].back());
      continue;
    }
    Row through;
    FT_TRY(pair.measure_both(dirty, epochs, row, through));
    report["rows"].push_back(figures(row));
    print_row(report["rows"].back());
    Json crossed = figures(through);
    crossed["through"] = arguments.through;
    crossed["overhead_percent"] = overhead_percent(row, through);
    report["rows"].push_back(crossed);
    print_row(crossed);
    fmt::print("         through the C ABI, {:+.2f} % of the pause (medians)\n",
               crossed["overhead_percent"].get<double>());
  }
  fmt::print(
      "\npause: pause, capture, seal and resume of one checkpoint. memcpy: the same pages, right "
      "after\nit. GB/s: page bytes encoded, all workers. epochs/s: checkpoint, encode, decode and "
      "apply.\nTarget: pause p50 at most {} times the memcpy plus {} ms.\n",
      kTargetRatio, kTargetExtraMs);
  return {};
}

}  // namespace

int bench_command(const Arguments& arguments) {
  // Each line when it is known, into a pipe or a file too: a row may take minutes.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Json report;
  const auto measure = !arguments.machine ? run
                       : arguments.record ? bench_record
                       : arguments.smp    ? bench_smp
                                          : bench_machine;
  const Status ran = measure(arguments, report);
  if (!ran.ok()) return print_error(ran.within("bench"));
  if (arguments.json_file.empty()) return kFine;
  std::ofstream out(arguments.json_file);
  out << report.dump(2) << "\n";
  out.close();
  if (out) return kFine;
  return print_error(
      Status(Code::io, fmt::format("{}: it could not be written", arguments.json_file)));
}

}  // namespace libft::ftctl
