// SPDX-License-Identifier: LGPL-2.1-or-later
// The WitnessRunner executes a guest a third time, beside primary and backup, and says at each
// epoch what it came to. It dials the backup, is given that replica's guest and the logs since, and
// when the backup is outvoted gives it its own. It never runs the guest. Session's thread, except
// where the connector prepares the standby.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "session/connector.h"
#include "session/context.h"
#include "session/follow_thread.h"
#include "session/whole_image.h"
#include "strategy/checkpoint/epoch_assembler.h"
#include "strategy/replay/log_assembler.h"

namespace libft::session {

class WitnessRunner {
 public:
  static Result<std::unique_ptr<WitnessRunner>> make(Context& context, Replica& replica);
  ~WitnessRunner();

 private:
  WitnessRunner(Context& context, Replica& replica, Incarnation self);

  void connect();
  Status prepare(const wire::Welcome& welcome);  // The connector's thread.
  void on_welcomed(const wire::Welcome& welcome, const std::string& description);
  void on_frame(const OwnedFrame& frame);
  Status handle(const wire::Frame& frame);
  Status on_image(const wire::Frame& frame);
  Status begin(EpochId id);
  Status on_log(const wire::Frame& frame);
  void on_message(const wire::Message& message);
  void vote(EpochId id, const replay::Ballot& ballot);
  void give_image(std::shared_ptr<WholeImage> image);
  void on_lost(const Status& status);
  void on_not_welcome(const Status& status);
  void announce(EpochId newest);
  void publish(std::string_view state);

  Context& context_;
  Replica& replica_;
  const Incarnation self_;
  Incarnation backup_;
  Posting posting_;         // What the connector posts, as long as the runner lives.
  Posting follow_posting_;  // One connection's execution.
  std::unique_ptr<checkpoint::EpochAssembler> assembler_;
  replay::LogAssembler logs_;
  std::unique_ptr<FollowThread> follow_;
  std::string last_trouble_;
  std::unique_ptr<Connector> connector_;  // Last: its thread uses the rest.
};

}  // namespace libft::session
