// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/relayed_qmp.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>

#include "os/event_fd.h"

namespace libft::qemu {
namespace {

constexpr std::size_t kPendingMax = 64;

// What answers find: it outlives the connection, because an answer may be late.
struct Pending {
  struct Slot {
    std::optional<Result<Json>> answer;
    bool abandoned = false;
  };
  std::mutex mutex;
  std::condition_variable answered;
  std::map<Qmp::Ticket, Slot> slots;
  Qmp::Ticket posted = 0;
};

Result<Json> parse_reply(const Result<std::string>& reply) {
  if (!reply) return failure(reply.error().within("the toolstack's QMP"));
  const Json message = Json::parse(*reply, nullptr, false);
  if (!message.is_object() || !(message.contains("return") || message.contains("error")))
    return failure(Code::corrupt, fmt::format("the toolstack's QMP: no reply of QEMU's: {}",
                                              reply->substr(0, 60)));
  return answer_in(message);
}

void take(Pending& pending, Qmp::Ticket ticket, const Result<std::string>& reply) {
  auto answer = parse_reply(reply);
  const std::scoped_lock lock(pending.mutex);
  const auto slot = pending.slots.find(ticket);
  if (slot == pending.slots.end()) return;
  if (slot->second.abandoned) {
    pending.slots.erase(slot);
  } else {
    slot->second.answer = std::move(answer);
    pending.answered.notify_all();
  }
}

class RelayedQmp final : public Qmp {
 public:
  RelayedQmp(std::shared_ptr<QmpRelay> relay, os::EventFd wake, EventSink sink)
      : relay_(std::move(relay)), wake_(std::move(wake)), sink_(std::move(sink)) {
    relay_->set_event_sink([this](std::string_view text) { on_event(text); });
  }
  ~RelayedQmp() override { relay_->set_event_sink(nullptr); }

  Result<Ticket> post(std::string_view lines, unsigned commands, int fd) override;
  Result<Json> wait(Ticket ticket, Nanos timeout) override;
  void forget(Ticket ticket) override;

  // Readable when an event came: the sink had it already.
  int fd() const override { return wake_.fd(); }
  void drain() override { (void)wake_.drain(); }
  // QEMU's end shows by its process.
  bool lost() const override { return false; }
  const Json& greeting() const override { return greeting_; }
  pid_t server() const override { return 0; }

 private:
  void on_event(std::string_view text) {
    const Json event = Json::parse(text, nullptr, false);
    if (!event.is_object() || !event.contains("event")) return;
    if (sink_) sink_(event);
    wake_.signal();
  }

  const std::shared_ptr<QmpRelay> relay_;
  const std::shared_ptr<Pending> pending_ = std::make_shared<Pending>();
  os::EventFd wake_;
  const EventSink sink_;
  const Json greeting_;
};

Result<Qmp::Ticket> RelayedQmp::post(std::string_view lines, unsigned commands, int fd) {
  os::ScopedFd along;  // Of its own: the command may outlive who gave the descriptor.
  if (fd >= 0) {
    along.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!along.valid()) return failure(os::errno_status("duplicate a descriptor for QEMU"));
  }
  Ticket first = 0;
  {
    const std::scoped_lock lock(pending_->mutex);
    if (pending_->slots.size() + commands > kPendingMax)
      return failure(Code::exhausted, "the toolstack's QMP has not answered the last commands");
    first = pending_->posted;
    for (unsigned i = 0; i < commands; ++i) pending_->slots[pending_->posted++];
  }
  for (Ticket ticket = first; !lines.empty(); ++ticket) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    relay_->execute(std::string(lines.substr(0, end)), std::move(along),
                    [pending = pending_, ticket](const Result<std::string>& reply) {
                      take(*pending, ticket, reply);
                    });
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return first;
}

Result<Json> RelayedQmp::wait(Ticket ticket, Nanos timeout) {
  std::unique_lock lock(pending_->mutex);
  const auto slot = pending_->slots.find(ticket);
  if (slot == pending_->slots.end()) return failure(Code::internal, "QMP answer awaited twice");
  if (!pending_->answered.wait_for(lock, timeout,
                                   [&] { return slot->second.answer.has_value(); })) {
    slot->second.abandoned = true;
    return failure(Code::timeout, fmt::format("the toolstack's QMP did not answer within {} ms",
                                              timeout / Millis{1}));
  }
  Result<Json> answer = std::move(*slot->second.answer);
  pending_->slots.erase(slot);
  return answer;
}

void RelayedQmp::forget(Ticket ticket) {
  const std::scoped_lock lock(pending_->mutex);
  const auto slot = pending_->slots.find(ticket);
  if (slot == pending_->slots.end()) return;
  slot->second.abandoned = true;
  if (slot->second.answer) pending_->slots.erase(slot);
}

}  // namespace

Result<std::unique_ptr<Qmp>> relay_qmp(std::shared_ptr<QmpRelay> relay, Qmp::EventSink sink) {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  return std::unique_ptr<Qmp>(
      std::make_unique<RelayedQmp>(std::move(relay), std::move(wake), std::move(sink)));
}

}  // namespace libft::qemu
