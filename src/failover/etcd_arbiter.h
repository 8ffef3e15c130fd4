// SPDX-License-Identifier: LGPL-2.1-or-later
// The etcd arbiter: records under /libft/guests/<name> in an etcd cluster, the arbiter for replicas
// on two hosts. Three members that fail independently are its normal size; one etcd on one of the
// two hosts protects from nothing.
// One thread at a time, an ArbiterThread's: calls block up to EtcdOptions::total, a swap twice that
// when somebody else wrote the same record in other words.
#pragma once

#include "failover/etcd_client.h"
#include "libft/arbiter.h"

namespace libft::failover {

class EtcdArbiter final : public Arbiter {
 public:
  static Result<std::unique_ptr<Arbiter>> open(EtcdOptions options);
  EtcdArbiter(std::unique_ptr<EtcdClient> client, std::string description)
      : client_(std::move(client)), description_(std::move(description)) {}

  std::string description() const override { return description_; }
  bool automatic() const override { return true; }
  SwapAnswer create(const GuestId& guest, const OwnershipRecord& record) override;
  SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from,
                  const OwnershipRecord& to) override;
  ReadAnswer read(const GuestId& guest) override;

 private:
  std::unique_ptr<EtcdClient> client_;
  std::string description_;
};

}  // namespace libft::failover
