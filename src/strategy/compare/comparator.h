// SPDX-License-Identifier: LGPL-2.1-or-later
// The Comparator says which of the primary's frames may leave: those whose content the follower,
// who runs from the same checkpoint on, has sent as well; and when the pair must go on from a new
// one, which covers the others. (Dong et al., "COLO: COarse-grained LOck-stepping", SoCC 2013.)
// From events to verdicts: no I/O, no clock, no lock; one thread. Bytes may be anything.
//
//               captured()              follower_runs()
//   checkpoint ------------> loading ------------------> comparing
//     ^  nothing is compared,  ^  the primary's frames      |   |
//     |  nothing released      |  wait for the follower     |   |
//     |                        +--------- captured() -------+   |
//     +------------- a reason, once: the verdict says it -------+
//
// It keeps neither frames nor their order: it names them by number. What is released of one flow
// keeps its order; between flows there is none.
#pragma once

#include <map>
#include <optional>
#include <unordered_map>
#include <variant>

#include "strategy/compare/packet_flow.h"
#include "strategy/compare/tcp_flow.h"
#include "strategy/compare/verdict.h"

namespace libft::compare {

struct ComparatorOptions {
  // How long the follower may take to say the same. Longer: latency where hosts differ in speed;
  // shorter: more checkpoints.
  Millis answer_max{20};
  // The same for frames that only acknowledge, which hosts delay by up to 40 ms, and merge.
  Millis acknowledgement_max{200};
  std::size_t bytes_max = 64u << 20;  // Of what is kept to be compared, of both sides.
  std::size_t flows_max = 65536;
};

struct ComparatorStatistics {
  std::uint64_t released = 0;                  // Frames that left because both said the same.
  std::uint64_t by_checkpoint = 0;             // Frames that had to wait for one.
  std::array<std::uint64_t, 5> checkpoints{};  // Wanted, by reason.
};

class Comparator {
 public:
  explicit Comparator(const ComparatorOptions& options) : options_(options) {}

  Verdict on_primary(FrameNo number, unsigned nic, BytesView frame, Time now);
  // Of a follower that does not run from the newest checkpoint, nothing must come here. What it
  // says before follower_runs() counts then.
  Verdict on_follower(unsigned nic, BytesView frame);
  // What the world sent, as the primary gets it.
  void on_world(unsigned nic, BytesView frame);
  Verdict on_time(Time now);
  std::optional<Time> deadline() const;  // When on_time() is due.

  // The primary stands still, and its capture is what the follower will run from. All that it has
  // sent belongs to that checkpoint, and leaves when the backup has acknowledged it.
  void captured();
  // From that checkpoint on. REQUIRES: the backup acknowledged it, and the frames that belong to it
  // are released.
  Verdict follower_runs(Time now);
  // No follower will run from the newest checkpoint: what the primary sends waits for the next one.
  void rest();

  std::size_t bytes() const { return bytes_; }
  std::size_t flows() const { return flows_.size(); }
  const ComparatorStatistics& statistics() const { return statistics_; }

 private:
  enum class State { checkpoint, loading, comparing };
  struct Flow {
    std::variant<TcpFlow, PacketFlow> compared;
    bool heard = true;  // Since the checkpoint.
  };

  // What the comparison needs of a frame, or why it cannot have it.
  struct Taken {
    std::optional<TcpSegment> segment;  // Else a packet.
    Flow* flow = nullptr;
    Reason reason = Reason::none;
  };

  Flow* flow_for(const Packet& packet);  // nullptr: there is no room.
  Taken take(const Packet& packet, BytesView frame);
  Verdict want(Reason reason);
  void leave_to_checkpoint(const Packet& packet, BytesView frame);
  Verdict judge(Flow& flow);
  static std::size_t bytes_of(const Flow& flow);
  template <class Change>
  void counted(Flow& flow, Change change);
  void drop_flows();

  ComparatorOptions options_;
  State state_ = State::checkpoint;
  std::unordered_map<FlowKey, Flow, FlowKeyHash> flows_;
  std::size_t bytes_ = 0;
  Time follower_since_;
  // When the primary sent what still waits.
  std::map<FrameNo, Time> waiting_, acknowledging_;
  ComparatorStatistics statistics_;
};

}  // namespace libft::compare
