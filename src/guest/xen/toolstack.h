// SPDX-License-Identifier: LGPL-2.1-or-later
// What a host's toolstack keeps of a domain beside Xen and xenstore: with xl, libxl's configuration
// of it and the file that it was created from. A domain that goes on elsewhere takes both along, so
// that the toolstack there knows it as its own. The driver asks through Toolstack; XlHelper has the
// program xen-adopt do it, which alone is linked with libxl. Session's thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "guest/xen/calls.h"
#include "os/child.h"

namespace libft::xen {

using Userdata = std::map<std::string, std::string>;  // By libxl's name for it.

// Of a peer: only what a toolstack is to be given, in bounds. Code::corrupt otherwise.
Status check(const Userdata& userdata);

class Toolstack {
 public:
  virtual ~Toolstack() = default;
  // Empty: the domain is not of this toolstack, or nobody can say.
  virtual Userdata read(DomId domain) = 0;
  // Begins to; nobody waits for it, and a domain lives without.
  virtual void write(DomId domain, const Userdata& userdata) = 0;
  // Of a domain that is gone.
  virtual void forget(DomId domain, const Uuid& uuid) = 0;
};

class XlHelper final : public Toolstack {
 public:
  // Without a program nothing is read or written. `folder` is libxl's.
  explicit XlHelper(std::string program = {}, std::string folder = "/var/lib/xen")
      : program_(std::move(program)), folder_(std::move(folder)) {}

  Userdata read(DomId domain) override;
  void write(DomId domain, const Userdata& userdata) override;
  void forget(DomId domain, const Uuid& uuid) override;

  bool done(Nanos patience);  // Whether what was written last is written, and without an error.

 private:
  Result<std::string> ask(DomId domain, const std::string& name) const;

  const std::string program_, folder_;
  std::optional<os::Child> writer_;
};

}  // namespace libft::xen
