// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/etcd_arbiter.h"

#include <fmt/ranges.h>

#include "failover/answers.h"

namespace libft::failover {
namespace {

std::string key_of(const GuestId& guest) { return "/libft/guests/" + guest.name(); }

Result<OwnershipRecord> record_in(const GuestId& guest, const EtcdClient::Value& value) {
  auto record = record_from_string(value.text);
  if (!record) return failure(record.error().within("etcd key " + key_of(guest)));
  return record;
}

}  // namespace

Result<std::unique_ptr<Arbiter>> EtcdArbiter::open(EtcdOptions options) {
  std::string description = fmt::format("etcd {}", fmt::join(options.endpoints, ","));
  FT_ASSIGN(auto client, EtcdClient::open(std::move(options)));
  return std::make_unique<EtcdArbiter>(std::move(client), std::move(description));
}

SwapAnswer EtcdArbiter::create(const GuestId& guest, const OwnershipRecord& record) {
  EtcdClient::Transaction transaction;
  transaction.key = key_of(guest);
  transaction.condition = EtcdClient::Condition::absent;
  transaction.value = to_string(record);
  const auto outcome = client_->transact(transaction);
  if (!outcome) return unknown(outcome.error().to_string());
  if (outcome->stored) return won(record);
  if (!outcome->found)
    return unknown("etcd: a record was there and vanished: is somebody deleting?");
  const auto found = record_in(guest, *outcome->found);
  if (!found) return unknown(found.error().to_string());
  // Asked of two servers, the first of which did it and did not answer: it is ours.
  return outcome->repeated && *found == record ? won(record) : lost(*found);
}

// The usual case is one round trip: "if the value is the text of `from`". Only when the same record
// stands there in other words (another version wrote it) its revision is compared instead.
SwapAnswer EtcdArbiter::swap(const GuestId& guest, const OwnershipRecord& from,
                             const OwnershipRecord& to) {
  if (auto wrong = refuse_generation(from, to)) return *wrong;
  EtcdClient::Transaction transaction;
  transaction.key = key_of(guest);
  transaction.condition = EtcdClient::Condition::equals;
  transaction.expected.text = to_string(from);
  transaction.value = to_string(to);
  for (int tries = 0; tries < 2; ++tries) {
    const auto outcome = client_->transact(transaction);
    if (!outcome) return unknown(outcome.error().to_string());
    if (outcome->stored) return won(to);
    if (!outcome->found) return unknown(missing_text(guest));
    const auto found = record_in(guest, *outcome->found);
    if (!found) return unknown(found.error().to_string());
    // `to` names an incarnation, so it is there because of us: an earlier attempt, or an earlier
    // server of this one. Anything but `from` is final: generations grow, `from` never returns.
    if (*found == to) return won(to);
    if (*found != from) return lost(*found);
    transaction.condition = EtcdClient::Condition::unchanged;
    transaction.expected = *outcome->found;
  }
  return unknown("etcd: " + key_of(guest) + " changes faster than it can be swapped");
}

ReadAnswer EtcdArbiter::read(const GuestId& guest) {
  const auto value = client_->get(key_of(guest));
  if (!value) return read_unknown(value.error().to_string());
  if (!*value) return read_missing();
  const auto record = record_in(guest, **value);
  return record ? read_found(*record) : read_unknown(record.error().to_string());
}

}  // namespace libft::failover
