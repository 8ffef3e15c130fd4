// SPDX-License-Identifier: LGPL-2.1-or-later
// Ownership records in a directory, changed by the one operation that every file system makes
// atomic, NFS included: giving a complete file a name that is not taken. The file and the manual
// arbiter keep their records here.
//
//   <directory>/<guest>/7.json   the record of generation 7, written once, never changed
//   <directory>/<guest>/8.json   the newest: what is true
//   <directory>/<guest>/#...     a record that is being written; after a crash, litter
//
// Whoever links generation g+1 first has won it. There is no lock, on purpose: a host that stands
// still while it holds a lock would keep the other from taking over, and a lock that a file server
// takes away from a sleeping host would let two win.
// Calls block as long as the file system does. Any thread; any number of processes and hosts.
#pragma once

#include <optional>
#include <string>

#include "libft/arbiter.h"

namespace libft::failover {

class RecordFolder {
 public:
  explicit RecordFolder(std::string directory) : directory_(std::move(directory)) {}

  const std::string& directory() const { return directory_; }

  // As the arbiter's calls of the same name.
  SwapAnswer create(const GuestId& guest, const OwnershipRecord& record) const;
  SwapAnswer swap(const GuestId& guest, const OwnershipRecord& from,
                  const OwnershipRecord& to) const;
  ReadAnswer read(const GuestId& guest) const;

  // Makes `record` the newest, whatever was there, unless that is as new or newer and different.
  Status adopt(const GuestId& guest, const OwnershipRecord& record) const;

 private:
  Result<std::optional<OwnershipRecord>> newest(const GuestId& guest) const;
  // False: that generation's name is taken.
  Result<bool> place(const GuestId& guest, const OwnershipRecord& record) const;
  std::string folder(const GuestId& guest) const { return directory_ + "/" + guest.name(); }

  std::string directory_;
};

}  // namespace libft::failover
