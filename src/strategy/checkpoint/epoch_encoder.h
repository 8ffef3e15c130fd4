// SPDX-License-Identifier: LGPL-2.1-or-later
// The EpochEncoder turns captured epochs into frames: zero pages as a bit, deltas against the image
// last sent, raw as the fallback. It owns that reference image (whole guest or a bounded hot set).
// One thread at a time; the work is spread over the executor's workers.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "libft/executor.h"
#include "libft/guest.h"
#include "strategy/checkpoint/captured_epoch.h"

namespace libft::checkpoint {

struct EncoderOptions {
  bool delta = true;        // Feature delta_pages.
  bool delta_state = true;  // Feature delta_state.
  // Memory for the reference image; at least the guest's memory: the whole guest, less: a hot set
  // of the most recently written pages, 0: none (every page raw).
  std::uint64_t reference_bytes_max = ~0ull;
};

struct EncodeStatistics {
  std::uint64_t pages = 0, zero = 0, delta = 0, raw = 0, unchanged = 0;
  std::uint64_t bytes = 0;        // Frames, headers included.
  std::uint64_t reference_bytes = 0;  // Memory the reference image uses now.
};

// Takes whole frames, in order; may block (that is back-pressure); a failure ends the encoding.
using FrameSink = std::function<Status(std::span<const std::span<const std::byte>> pieces)>;

class EpochEncoder {
 public:
  EpochEncoder(const GuestId& guest, const GuestInfo& info, Executor& executor,
               EncoderOptions options);
  ~EpochEncoder();

  // A stream begins anew (first synchronisation, or another peer): nothing is known of its image.
  void reset();

  // The peer reconnected and holds everything up to `base` and nothing newer: the next epoch builds on
  // that. The caller makes sure that all pages sent since travel in its `raw` set; the device state
  // goes whole.
  void resume(EpochId base);

  // The peer's memory came to epoch `base` by itself: the next epoch builds on that, and pages that
  // were written since travel whole, because what the peer holds of them is not known here.
  void adopt(EpochId base);

  // The newest epoch of the stream: what the next one builds upon.
  EpochId base() const;

  // First synchronisation: `count` pages from `first` on, copied to `copy` beforehand.
  Status encode_sync(Generation generation, PageNo first, std::span<const std::byte> copy,
                     const FrameSink& sink);
  Status encode_probe(Generation generation, std::span<const std::byte> state, const FrameSink& sink);

  // A whole epoch: begin (naming its base, the epoch before it in this stream), pages, state, end.
  // On failure the stream is broken: reset() or pages in `raw` at the next one.
  Result<EncodeStatistics> encode(const CapturedEpoch& epoch, const FrameSink& sink);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace libft::checkpoint
