// SPDX-License-Identifier: LGPL-2.1-or-later
#include "table.h"

#include <fmt/format.h>

namespace libft::xl {

using Json = nlohmann::json;

namespace {

double median(const Json& status, const char* key) {
  const auto found = status.find(key);
  return found != status.end() && found->is_object() ? found->value("p50", 0.0) : 0;
}

// "7/0123...": the domain's number; of a guest that is no domain, or not here yet, none.
std::string id_of(const Json& status) {
  const std::string domain = status.value("domain", "");
  return domain.empty() ? "-" : domain.substr(0, domain.find('/'));
}

// Of "host-b/0123...": the host.
std::string peer_of(const Json& status) {
  const std::string peer = status.value("peer", "");
  return peer.empty() ? "-" : peer.substr(0, peer.find('/'));
}

// How old the state is that a failover would restore: half of them are younger.
std::string lag_of(const Json& status) {
  if (!status.value("protected", false)) return "-";
  return fmt::format("{:.1f}", median(status, "interval_ms") + median(status, "output_held_ms"));
}

std::string epoch_of(const Json& status) {
  const auto newest =
      std::max(status.value("epoch_captured", 0ull), status.value("epoch_acknowledged", 0ull));
  return newest == 0 ? "-" : std::to_string(newest);
}

}  // namespace

std::string list_table(const std::vector<Json>& statuses) {
  constexpr const char* kLine = "{:<40} {:>5} {:<8} {:<16} {:<13} {:>9} {:>8}\n";
  std::string out = fmt::format(kLine, "Name", "ID", "ROLE", "PEER", "STATE", "EPOCH", "LAG(ms)");
  for (const Json& status : statuses) {
    out +=
        fmt::format(kLine, status.value("guest", ""), id_of(status), status.value("role", ""),
                    peer_of(status), status.value("state", ""), epoch_of(status), lag_of(status));
  }
  return out;
}

}  // namespace libft::xl
