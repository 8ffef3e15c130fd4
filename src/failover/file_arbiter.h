// SPDX-License-Identifier: LGPL-2.1-or-later
// The file arbiter: records in a directory that all replicas of a guest see, because they run on
// one host or because the directory is on storage that both reach. The swap is RecordFolder's. On
// shared storage name a directory *inside* the mount: it is then absent, and the answer unknown,
// when the mount is. Calls block as long as the file system does: let an ArbiterThread make them.
#pragma once

#include "failover/record_folder.h"

namespace libft::failover {

class FileArbiter final : public Arbiter {
 public:
  // Does not touch the directory, which may hang: the first request does.
  explicit FileArbiter(std::string directory) : folder_(std::move(directory)) {}

  std::string description() const override { return "file " + folder_.directory(); }
  bool automatic() const override { return true; }
  SwapAnswer create(const GuestId& guest, const OwnershipRecord& record) override {
    return folder_.create(guest, record);
  }
  SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from,
                  const OwnershipRecord& to) override {
    return folder_.swap(guest, from, to);
  }
  ReadAnswer read(const GuestId& guest) override { return folder_.read(guest); }

 private:
  RecordFolder folder_;
};

}  // namespace libft::failover
