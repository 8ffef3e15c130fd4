// SPDX-License-Identifier: LGPL-2.1-or-later
// The manual arbiter: a person decides. Each host keeps its own copy of the record in a directory
// of its own, and no swap that takes something away from the other side happens until a person, who
// knows that the other side is dead, has permitted it on this host.
//
// What it protects from, and what not: libft by itself never starts a second owner. A person who
// permits a take-over while the old primary still runs, or permits both sides, makes two owners; no
// program can notice that from one host. Power the other host off first.
// Calls block for as long as a local disk does. Any thread; any number of processes of one host.
#pragma once

#include "failover/record_folder.h"

namespace libft::failover {

class ManualArbiter final : public Arbiter {
 public:
  explicit ManualArbiter(std::string directory) : folder_(std::move(directory)) {}

  std::string description() const override { return "manual " + folder_.directory(); }
  bool automatic() const override { return false; }
  SwapAnswer create(const GuestId& guest, const OwnershipRecord& record) override;

  // Won at once when the owner stays and nobody is removed (a backup joins), and when the owner
  // says that the guest ended: both only bind this host more. Everything else is unknown until
  // permit() was called for exactly `from` within the last minute.
  SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from,
                  const OwnershipRecord& to) override;
  ReadAnswer read(const GuestId& guest) override { return folder_.read(guest); }

  // A person says: the other side is dead, this host may go on from `from`. Makes `from` this
  // host's copy of the record (a backup has none of its own). Good for one swap and for
  // kPermitLife: a permission that lay about would be a failover that nobody decides.
  Status permit(const GuestId& guest, const OwnershipRecord& from);

  static constexpr Nanos kPermitLife = std::chrono::seconds{60};

 private:
  std::string permit_path(const GuestId& guest) const;
  bool take_permit(const GuestId& guest, const OwnershipRecord& from) const;

  RecordFolder folder_;
};

}  // namespace libft::failover
