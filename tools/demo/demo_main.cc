// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <thread>

#include "demo/bench.h"
#include "demo/demo.h"
#include "demo/report.h"
#include "demo/run.h"
#include "demo/strategy_table.h"
#include "lab/namespace.h"
#include "os/file.h"
#include "os/random.h"

namespace libft::demo {
namespace {

// A demonstration talks to people: this is the one part of it that writes to stdout.
void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

int complain(const Status& status) {
  std::fputs(fmt::format("ftctl demo: {}\n", status.message()).c_str(), stderr);
  return 1;
}

Result<std::string> make_folder(const std::string& wanted) {
  std::error_code error;
  if (!wanted.empty()) {
    std::filesystem::create_directories(wanted, error);
    if (!error && !std::filesystem::is_empty(wanted, error) && !error)
      return failure(Code::invalid,
                     fmt::format("{} is not empty: name a new folder with --keep-logs", wanted));
    const auto absolute = std::filesystem::absolute(wanted, error);
    if (error) return failure(Code::io, fmt::format("make {}: {}", wanted, error.message()));
    return absolute.string();
  }
  std::string path = std::filesystem::temp_directory_path(error).string() + "/ft-demo-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return failure(os::errno_status("make " + path));
  return path;
}

std::string cache_folder() {
  if (const char* cache = std::getenv("LIBFT_CACHE"); cache != nullptr && *cache == '/')
    return cache;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::string(cache) + "/libft";
  }
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr && *home == '/' ? home : "/tmp") + "/.cache/libft";
}

// Downloads packages the first time; later it only compares their versions.
Result<std::string> find_guest(const DemoOptions& options, const std::string& folder,
                               Interrupt& interrupt) {
  if (!options.guest.empty()) {
    std::error_code error;
    const auto guest = std::filesystem::canonical(options.guest, error);
    if (error || !std::filesystem::exists(guest / "vmlinuz")) {
      return failure(Code::not_found, fmt::format("{}: no guest there (make one with "
                                                  "tools/lab/make-guest.sh DIR)",
                                                  options.guest));
    }
    return guest.string();
  }
  print(options.machine
            ? "preparing the guest (the first time this builds Linux for it: about 8 minutes)\n"
            : "preparing the guest (the first time this downloads Debian's cloud kernel and "
              "Redis)\n");
  const std::string script = options.machine ? LIBFT_LAB_FOLDER "/machine/make-linux.sh"
                                             : LIBFT_LAB_FOLDER "/make-guest.sh";
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failure(os::errno_status("pipe"));
  const os::ScopedFd read_end(ends[0]);
  os::ScopedFd write_end(ends[1]);
  FT_ASSIGN(os::Child making, os::Child::start({.argv = {"bash", script, cache_folder()},
                                                .stdout_fd = write_end.get(),
                                                .stderr_fd = STDERR_FILENO}));
  write_end.reset();
  std::optional<os::ChildEnd> end;
  FT_TRY(interrupt.wait("the guest's image", std::chrono::minutes{30}, [&] {
    if (auto ended = making.wait(Nanos{0})) end = *ended;
    return end.has_value();
  }));
  if (!end->clean()) return failure(Code::io, script + ": " + os::to_string(*end));
  char path[4096];
  const ssize_t got = ::read(read_end.get(), path, sizeof path);
  std::string guest(path, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  while (!guest.empty() && guest.back() == '\n') guest.pop_back();
  if (guest.empty()) return failure(Code::io, script + " named no folder in " + folder);
  return guest;
}

std::uint64_t chosen_seed(const DemoOptions& options) {
  if (options.seed != 0) return options.seed;
  std::uint32_t seed = 1;
  std::uint8_t bytes[4]{1};
  if (os::random_bytes(bytes).ok()) std::memcpy(&seed, bytes, sizeof seed);
  return seed;
}

Status write_results(const DemoOptions& options, const std::vector<RunResult>& runs,
                     const std::vector<BenchRow>& beside) {
  if (!options.json_file.empty()) {
    Json figures = to_json(runs);
    if (!beside.empty()) figures["beside"] = to_json(beside)["rows"];
    FT_TRY(os::write_file_atomically(options.json_file, figures.dump(2) + "\n")
               .within("write " + options.json_file));
  }
  if (!options.html_file.empty() && !runs.empty()) {
    FT_TRY(os::write_file_atomically(options.html_file, html_report(runs))
               .within("write " + options.html_file));
    print(fmt::format("report: {}\n", options.html_file));
  }
  return {};
}

struct Series {
  std::vector<RunResult> runs;
  std::vector<BenchRow> beside;  // Empty: not asked for.
  Status status;                 // Why it ended early.
};

Series run_all(const DemoOptions& options, const std::string& guest, const std::string& folder,
               Interrupt& interrupt) {
  Series series;
  const std::uint64_t seed = chosen_seed(options);
  print(fmt::format("guest: {}, strategy: {}, victim: {}, arbiter: {}, through: {}, seed: {}\n{}",
                    options.machine ? "machine" : "QEMU", options.strategy,
                    to_string(options.victim), options.arbiter, options.through, seed,
                    options.verbose ? "" : header_line()));
  for (int number = 1; number <= options.runs; ++number) {
    const std::string place = fmt::format("{}/run{}", folder, number);
    std::filesystem::create_directories(place);
    const auto say = [&](const std::string& text) {
      if (options.verbose) print(fmt::format("  run {}: {}\n", number, text));
    };
    const RunParts parts{options, interrupt, guest, place, say};
    const bool again = number == 1 || options.reprotect_all;
    auto result = run_demo(parts, number, seed + static_cast<std::uint64_t>(number) - 1, again);
    if (!result) {
      series.status = result.error().within(fmt::format("run {}", number));
      return series;
    }
    if (options.verbose) print(header_line());
    print(run_line(*result));
    // Good runs leave no logs behind unless somebody asked for them.
    if (result->good() && options.keep_logs.empty()) std::filesystem::remove_all(place);
    series.runs.push_back(std::move(*result));
  }
  if (options.beside.empty()) return series;
  const RunParts parts{options, interrupt, guest, folder, [&](const std::string& text) {
                         if (options.verbose) print("  beside: " + text + "\n");
                       }};
  auto beside = run_beside(parts);
  if (beside)
    series.beside = std::move(*beside);
  else
    series.status = beside.error().within("measure beside " + options.beside);
  return series;
}

int conclude(const DemoOptions& options, const Series& series, const std::string& folder) {
  if (!series.runs.empty()) print(summary_text(series.runs));
  if (!series.beside.empty()) print(beside_text(series.beside));
  const Status written = write_results(options, series.runs, series.beside);
  const bool good =
      series.status.ok() && std::all_of(series.runs.begin(), series.runs.end(),
                                        [](const RunResult& run) { return run.good(); });
  if (good && options.keep_logs.empty())
    std::filesystem::remove_all(folder);
  else
    print(fmt::format("logs: {}\n", folder));
  if (!series.status.ok()) return complain(series.status);
  if (!written.ok()) return complain(written);
  print(good ? "nothing was lost, nothing was contradicted\n" : "NOT GOOD: see above\n");
  return good ? 0 : 1;
}

// What would else fail late and with a riddle.
Status check_machine() {
  if (::access("/dev/net/tun", R_OK | W_OK) == 0) return {};
  return os::errno_status(
      "open /dev/net/tun, which the guest's network needs (run as root, or allow it: modprobe tun; "
      "chmod 666 /dev/net/tun)");
}

Status find_programs(DemoOptions& options) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (options.ftctl.empty()) options.ftctl = self.string();
  if (options.through != "capi") return {};
  options.pair = (self.parent_path() / "ft-pair").string();
  if (std::filesystem::exists(options.pair, error)) return {};
  return Status(Code::not_found, options.pair + " is not there; remedy: build it: `./dev build`");
}

// Both kinds of guest, or the one that --guest names.
Result<std::vector<BenchRow>> strategy_rows(const DemoOptions& options, const std::string& folder,
                                            Interrupt& interrupt,
                                            const std::function<void(const std::string&)>& say) {
  std::vector<BenchRow> rows;
  for (const bool machine : {false, true}) {
    if (machine ? !options.guest.empty() : options.machine) continue;
    DemoOptions of_kind = options;
    of_kind.machine = machine;
    of_kind.all_loads = true;
    FT_ASSIGN(const std::string guest, find_guest(of_kind, folder, interrupt));
    const std::string place = folder + (machine ? "/machine" : "/qemu");
    FT_ASSIGN(auto measured, run_strategies({of_kind, interrupt, guest, place, say}));
    std::move(measured.begin(), measured.end(), std::back_inserter(rows));
  }
  return rows;
}

Result<std::string> document_with(const std::string& path, const std::string& table) {
  FT_ASSIGN(const std::string before, os::read_file(path, 16u << 20));
  auto after = put_between_marks(before, "strategies", table);
  if (!after) return failure(after.error().within(path));
  return after;
}

Status tell_strategies(const DemoOptions& options, const std::vector<BenchRow>& rows) {
  const std::string table =
      fmt::format("Recorded on {:%Y-%m-%d} on {} processors, {:g} s a row:\n\n{}",
                  fmt::gmtime(std::time(nullptr)), std::thread::hardware_concurrency(),
                  rows.front().seconds, strategy_table(rows));
  print(table);
  if (options.document.empty()) return {};
  FT_ASSIGN(const std::string document, document_with(options.document, table));
  return os::write_file_atomically(options.document, document).within("write " + options.document);
}

Result<int> bench(const DemoOptions& options, const std::string& folder, Interrupt& interrupt) {
  const auto say = [&](const std::string& text) {
    if (options.verbose) print("  " + text + "\n");
  };
  // What is wrong with it is said before seven minutes have passed.
  if (!options.document.empty())
    if (const auto possible = document_with(options.document, ""); !possible)
      return failure(possible.error());
  Result<std::vector<BenchRow>> rows = failure(Code::internal, "nothing was measured");
  if (options.strategies) {
    rows = strategy_rows(options, folder, interrupt, say);
  } else {
    FT_ASSIGN(const std::string guest, find_guest(options, folder, interrupt));
    rows = run_bench({options, interrupt, guest, folder, say});
  }
  if (!rows) return failure(rows.error().within("logs in " + folder));
  if (options.strategies)
    FT_TRY(tell_strategies(options, *rows));
  else
    print(bench_table(*rows));
  if (!options.json_file.empty()) {
    FT_TRY(os::write_file_atomically(options.json_file, to_json(*rows).dump(2) + "\n"));
  }
  if (options.keep_logs.empty()) std::filesystem::remove_all(folder);
  return 0;
}

Result<int> run(DemoOptions options) {
  FT_TRY(check_machine());
  FT_TRY(lab::become_namespace_root());
  FT_ASSIGN(Interrupt interrupt, Interrupt::take());
  FT_TRY(find_programs(options));
  FT_ASSIGN(const std::string folder, make_folder(options.keep_logs));
  if (options.bench || options.strategies) return bench(options, folder, interrupt);
  FT_ASSIGN(const std::string guest, find_guest(options, folder, interrupt));
  return conclude(options, run_all(options, guest, folder, interrupt), folder);
}

}  // namespace
}  // namespace libft::demo

int demo_main(int argc, char** argv) {
  using namespace libft::demo;
  DemoOptions options;
  if (const auto end = parse(argc, argv, options)) return *end;
  try {
    const auto code = run(std::move(options));
    return code ? *code : complain(code.error());
  } catch (const std::exception& error) {  // The standard library's file functions throw.
    return complain(libft::Status(libft::Code::internal, error.what()));
  }
}
