// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/strategy_table.h"

#include <doctest/doctest.h>

namespace libft::demo {
namespace {

BenchRow row(std::string asked, std::string what, Load load, double p50, double requests_per_s) {
  BenchRow row;
  row.guest = "QEMU";
  row.asked = std::move(asked);
  row.what = std::move(what);
  row.load = load;
  row.offered_per_s = 50;
  row.seconds = 7;
  row.requests_per_s = requests_per_s;
  row.client_p50 = p50, row.client_p99 = 2 * p50, row.client_max = 3 * p50;
  row.is_protected = row.what != "unprotected";
  return row;
}

// Redis is answered sooner by comparison, the page later.
std::vector<BenchRow> made_up() {
  std::vector<BenchRow> rows{
      row("Redis", "unprotected", Load::open, 1, 50),
      row("Redis", "unprotected", Load::closed, 0.5, 2000),
      row("Redis", "checkpoint", Load::open, 31, 50),
      row("Redis", "checkpoint", Load::closed, 25, 40),
      row("Redis", "compare", Load::open, 4, 50),
      row("a page", "unprotected", Load::open, 2, 50),
      row("a page", "checkpoint", Load::open, 30, 50),
      row("a page", "compare", Load::open, 60, 50),
  };
  rows[2].gap_ms = 321;
  rows[3].errors = 3;
  rows[4].compared_per_s = 300, rows[4].by_checkpoint_per_s = 100;
  return rows;
}

TEST_CASE("a line joins the two loads, and compares them with the guest alone") {
  const std::string table = strategy_table(made_up());
  // 30 ms more than alone; 40 a second one at a time, 50 times fewer; the gap; all errors.
  CHECK(
      table.find("| QEMU: Redis, 50/s offered | checkpoint | 31 / 62 / 93 | 30 | 40 | 50.0 | 0.0 |"
                 "  | 0.00 / 0.00 | 0.0 | 0.00 / 0.00 | 0.00 | 321 | 3 |\n") != std::string::npos);
  CHECK(table.find(
            "| QEMU: Redis, 50/s offered | unprotected | 1.0 / 2.0 / 3.0 | | 2000 | | | | | | | | "
            "| 0 |\n") != std::string::npos);
  CHECK(table.find("| compare | 4.0 / 8.0 / 12 | 3.0 | | | 0.0 | 300 (75 %) |") !=
        std::string::npos);
}

TEST_CASE("each line has as many cells as the head") {
  const std::string table = strategy_table(made_up());
  std::size_t lines = 0;
  for (std::size_t from = 0; table[from] == '|'; ++lines) {
    const std::size_t end = table.find('\n', from);
    CHECK(std::count(table.begin() + static_cast<std::ptrdiff_t>(from),
                     table.begin() + static_cast<std::ptrdiff_t>(end), '|') == 15);
    from = end + 1;
  }
  CHECK(lines == 2 + 6);
}

TEST_CASE("the table says where comparing pays, and where it does not") {
  const std::string table = strategy_table(made_up());
  CHECK(table.find("for: Redis (4.0, by checkpoints 31).\n") != std::string::npos);
  CHECK(table.find("did not for: a page (60, by checkpoints 30).\n") != std::string::npos);
  std::vector<BenchRow> rows = made_up();
  std::erase_if(rows, [](const BenchRow& row) { return row.what == "compare"; });
  CHECK(strategy_table(rows).find("omparing") == std::string::npos);
}

TEST_CASE("what was measured beside another strategy is told for each load") {
  const std::string text = beside_text(made_up());
  CHECK(text.find("Redis, 50/s offered, 7 s each") != std::string::npos);
  CHECK(
      text.find("compare      latency p50 / p99: 4.00 / 8.00, added p50: 3.00, 0.0 checkpoints/s, "
                "300 frames/s by comparison, 100 by checkpoint\n") != std::string::npos);
  CHECK(text.find("compare      latency p50 / p99: 60.00 / 120.00, added p50: 58.00") !=
        std::string::npos);
}

TEST_CASE("only what stands between the marks is replaced") {
  const std::string text = "prose\n<!-- x -->\nold\n<!-- /x -->\nmore prose\n";
  const auto once = put_between_marks(text, "x", "new\n");
  REQUIRE(once);
  CHECK(*once == "prose\n<!-- x -->\nnew\n<!-- /x -->\nmore prose\n");
  CHECK(*put_between_marks(*once, "x", "new\n") == *once);
  for (const char* const wrong :
       {"", "<!-- x -->", "<!-- /x --> <!-- x -->", "<!-- x --><!-- x --><!-- /x -->"})
    CHECK(put_between_marks(wrong, "x", "new\n").error().code() == Code::not_found);
}

TEST_CASE("both ways of an interface are counted") {
  const char* const text =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
      "    lo:     100       1    0    0    0     0          0         0      100       1    0    "
      "0\n"
      "  rep0: 7000 9 0 0 0 0 0 0 300 9 0 0 0 0 0 0\n";
  CHECK(interface_bytes(text, "rep0") == 7300);
  CHECK(interface_bytes(text, "lo") == 200);
  CHECK(!interface_bytes(text, "eth0"));
  CHECK(!interface_bytes("  rep0: 1 2 3\n", "rep0"));
}

}  // namespace
}  // namespace libft::demo
