// SPDX-License-Identifier: LGPL-2.1-or-later
// The Connector is a backup's link to its primary: a thread that dials until somebody welcomes it,
// prepares the standby replica, and then hands over every frame that arrives. The session's thread
// says who it is (announce) and answers on the connection (send).
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "libft/session.h"
#include "session/mailbox.h"
#include "wire/frame.h"

namespace libft::session {

// A frame that owns its bytes.
struct OwnedFrame {
  wire::FrameHeader header;
  std::vector<std::byte> payload;
  wire::Frame view() const { return {header, payload}; }
};

class Connector {
 public:
  static constexpr std::uint64_t kBackupFeatures =
      wire::feature::delta_pages | wire::feature::delta_state | wire::feature::logs |
      wire::feature::executed | wire::feature::rebases | wire::feature::changes |
      wire::feature::delays | wire::feature::compares | wire::feature::holds;
  struct Self {  // What a Hello says of this replica.
    Incarnation self;
    EpochId newest;
    Incarnation image_of;  // Nobody: there is no image yet.
    std::uint64_t memory_bytes_free = 0;
    std::uint64_t features = kBackupFeatures;
  };
  // Called on the connector's thread. `welcomed` may block: it makes the standby when there is
  // none.
  struct Sinks {
    std::function<Status(const wire::Welcome&, Generation, const std::string& description)>
        welcomed;
    std::function<void(OwnedFrame)> frame;
    std::function<void(Status)> lost;         // A welcomed connection ended.
    std::function<void(Status)> not_welcome;  // Could not connect, or was refused.
  };

  using Dial = std::function<Result<std::unique_ptr<Transport>>(bool another_way)>;
  Connector(const GuestId& guest, Dial dial, Sinks sinks);
  ~Connector();  // Closes and waits for the thread.

  // As whom to dial; a connection made as somebody else is closed.
  void announce(Self self);
  Status send(const std::vector<std::byte>& frame);
  void hang_up();  // Closes the connection that stands, if any; dials again.
  // The same, at once and by another way: nothing arrives by the one that it takes.
  void take_another_way();
  // The primary is expected back soon after it hangs up: dials more often for so long.
  void hurry(Nanos at_most);
  // The session is done with a frame of that size.
  void done_with(std::size_t bytes) { credit_.give(bytes); }

 private:
  void run();
  Status one_connection();
  Status greet(Transport& transport, wire::FrameReader& reader, const Self& self);
  Result<wire::Message> first_message(Transport& transport, wire::FrameReader& reader,
                                      Generation& generation);
  void pause_before_dialing(bool welcomed);

  GuestId guest_;
  Dial dial_;
  Sinks sinks_;
  Credit credit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Transport> transport_;
  std::optional<Self> self_;
  Nanos pause_;
  std::chrono::steady_clock::time_point hurry_until_{};
  bool another_way_ = false, stopping_ = false;
  std::jthread thread_;
};

}  // namespace libft::session
