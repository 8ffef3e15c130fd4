// SPDX-License-Identifier: LGPL-2.1-or-later
// A WitnessLink is a backup's link to its witness: it gives the witness the backup's guest, as it
// is where both were compared, and each log from there on, and hears its votes. When the backup is
// outvoted, it fetches the witness's guest. Made and destroyed on the session's thread; the relay
// is called on the follower's.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "session/connection.h"
#include "session/context.h"
#include "session/follow_thread.h"
#include "session/whole_image.h"
#include "strategy/checkpoint/epoch_assembler.h"
#include "wire/message.h"

namespace libft::session {

class WitnessLink {
 public:
  struct Sinks {                  // From any thread.
    std::function<void()> ready;  // There is room for the image: relay() may begin.
    // What primary and backup came to. Of the epoch that the image is taken of, too: there all that
    // the witness can say is the hash.
    std::function<void(EpochId, replay::Ballot primary, replay::Ballot backup)> came_to;
    std::function<void(wire::Message)> message;
    std::function<void(EpochId)> image;  // The witness's guest is here whole: apply_image().
    std::function<void(Status)> broken;
  };

  // Welcomes it. `guest` outlives the link, and the relay.
  WitnessLink(Context& context, Guest& guest, std::unique_ptr<Transport> transport,
              std::vector<std::byte> received, const wire::Hello& hello, const Incarnation& self,
              Sinks sinks);
  ~WitnessLink();

  const std::string& host() const { return host_; }

  // Gives the image first.
  std::shared_ptr<const FollowThread::Relay> relay() const;
  // The same from where the witness stands already.
  std::shared_ptr<const FollowThread::Relay> relay_on() const;

  // What the witness's guest is at the end of epoch `id`, the newest that it was given.
  void fetch_image(EpochId id);
  // Into the guest's memory; the state is to be loaded. REQUIRES: it was here, and nobody executes.
  std::vector<std::byte> apply_image();

  void say(const wire::Message& message);  // Best effort.

 private:
  struct Fetching {  // The receiver's too.
    std::mutex mutex;
    std::unique_ptr<checkpoint::EpochAssembler> assembler;
  };

  Context& context_;
  Guest& guest_;
  const std::string host_;
  Sinks sinks_;
  std::shared_ptr<Fetching> fetching_;
  std::shared_ptr<WholeImage> image_;       // The sender's, then the follower's, then the sender's.
  std::shared_ptr<Connection> connection_;  // Last: its threads use the rest.
};

}  // namespace libft::session
