// SPDX-License-Identifier: LGPL-2.1-or-later
// A SpeculativeGuest is a standby Guest's optional facet: it executes ahead of the image that it
// holds, as a replica that nobody hears, and is rolled back to a newer image, again and again. The
// QEMU driver's standby has it. One thread at a time, which need not be the session's; of the
// Guest's own functions only accepts() may be called on another one meanwhile.
//
//   image_changed()*, reload(), run()   halt(), reload(), run()   ...   halt() or activate()
#pragma once

#include <cstddef>
#include <span>

#include "libft/guest.h"

namespace libft {

class SpeculativeGuest {
 public:
  // From now on info().memory is an image apart from the memory that executes, which takes as much
  // again, and is written by its owner alone. It begins as that memory is. Idempotent.
  virtual Status begin_speculation() = 0;

  // These pages of the image were written.
  virtual void image_changed(const PageSet& pages) = 0;

  // The guest is as in the image again, with `state`, ready to run: what it wrote itself is put
  // back from there. On failure nothing is loaded, and it may be tried again.
  // REQUIRES: begin_speculation(); it does not run.
  virtual Status reload(std::span<const std::byte> state) = 0;

  // REQUIRES: reload() was the last call that succeeded. It then executes, stays a standby, and
  // ends with its Guest. load_state() has nothing to do, and activate() makes it the guest that it
  // is.
  virtual Status run() = 0;

  // Ends what runs or was loaded; the image is not touched. Nothing runs: nothing happens.
  virtual void halt() = 0;
  virtual bool runs() const = 0;

 protected:
  ~SpeculativeGuest() = default;
};

}  // namespace libft
