// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/open_arbiter.h"

#include <fmt/format.h>

#include "failover/etcd_open.h"
#include "failover/file_arbiter.h"
#include "failover/manual_arbiter.h"

namespace libft::failover {
namespace {

using Opened = Result<std::unique_ptr<Arbiter>>;

constexpr std::string_view kChoices =
    "use file:/DIRECTORY (one host, or a directory on storage that both hosts reach), "
    "etcd:http://HOST:2379[,http://HOST:2379] (an etcd cluster), or manual:/DIRECTORY (a person "
    "decides, no automatic failover)";

Status check_directory(std::string_view kind, std::string_view path) {
  if (path.starts_with('/')) return {};
  return Status(Code::invalid, fmt::format("arbiter {}:{}: give a directory from the root: {}:/DIR",
                                           kind, path, kind));
}

Opened open_file(std::string_view rest) {
  FT_TRY(check_directory("file", rest));
  return std::make_unique<FileArbiter>(std::string(rest));
}

Opened open_manual(std::string_view rest) {
  FT_TRY(check_directory("manual", rest));
  return std::make_unique<ManualArbiter>(std::string(rest));
}

Opened refuse_none(std::string_view) {
  return failure(Code::refused, fmt::format("without an arbiter nobody can decide who owns the "
                                            "guest when the hosts lose each other: {}",
                                            kChoices));
}

struct ArbiterKind {
  std::string_view name;
  Opened (*open)(std::string_view rest);
};

constexpr ArbiterKind kArbiters[] = {
    {"file", open_file}, {"etcd", open_etcd}, {"manual", open_manual}, {"none", refuse_none}};

}  // namespace

Result<std::unique_ptr<Arbiter>> open_arbiter(std::string_view spec) {
  const auto colon = spec.find(':');
  const auto rest = colon == std::string_view::npos ? "" : spec.substr(colon + 1);
  for (const auto& kind : kArbiters)
    if (spec.substr(0, colon) == kind.name) return kind.open(rest);
  return failure(Code::invalid, fmt::format("arbiter \"{}\": {}", spec, kChoices));
}

// The record as both sides know it: its owner is the primary, and both are in sync.
Status permit(std::string_view spec, const GuestId& guest, const SessionStatus& status) {
  constexpr std::string_view kManual = "manual:";
  if (!spec.starts_with(kManual) || status.peer.empty()) return {};
  FT_ASSIGN(const Incarnation peer, incarnation_from_string(status.peer));
  OwnershipRecord record;
  record.generation = status.generation;
  record.owner = status.role == Role::primary ? status.self : peer;
  record.in_sync = {record.owner, status.role == Role::primary ? peer : status.self};
  return ManualArbiter(std::string(spec.substr(kManual.size()))).permit(guest, record);
}

}  // namespace libft::failover
