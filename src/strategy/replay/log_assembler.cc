// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/log_assembler.h"

#include <fmt/format.h>

#include <utility>

namespace libft::replay {
namespace {

Status corrupt(const EpochId& id, const std::string& what) {
  return Status(Code::corrupt, fmt::format("log of epoch {}: {}", to_string(id), what));
}

}  // namespace

void LogAssembler::begin(EpochId base, Position at) {
  base_ = base;
  at_ = at;
  drop_partial();
}

void LogAssembler::drop_partial() {
  partial_ = {};
  frames_ = 0;
}

Status LogAssembler::check(const wire::Frame& frame, const wire::LogFrame& log) const {
  const EpochId& id = frame.header.id;
  if (base_ == EpochId{}) return corrupt(id, "no checkpoint was there before it");
  if (frames_ > 0 && id != partial_.id)
    return corrupt(id, fmt::format("it comes amid that of {}", to_string(partial_.id)));
  if (log.base != base_)
    return corrupt(
        id, fmt::format("it builds on {}, here is {}", to_string(log.base), to_string(base_)));
  if (id.generation < base_.generation || id.epoch <= base_.epoch)
    return corrupt(id, fmt::format("it is not newer than {}", to_string(base_)));
  if (log.sequence != frames_)
    return corrupt(id, fmt::format("frame {} comes where {} is due", log.sequence, frames_));
  if (partial_.coded.size() + log.coded.size() > wire::kLogBytesMax)
    return corrupt(id, "it is longer than any can be");
  return {};
}

Status LogAssembler::check_whole(const wire::LogEpoch& epoch, std::uint64_t checksum) const {
  if (epoch.mark.bytes != epoch.coded.size())
    return corrupt(epoch.id,
                   fmt::format("{} bytes of {} came", epoch.coded.size(), epoch.mark.bytes));
  if (wire::log_checksum(epoch) != checksum) return corrupt(epoch.id, "its checksum is wrong");
  if (epoch.mark.from != at_)
    return corrupt(epoch.id, fmt::format("it begins at {}, the one before it ends at {}",
                                         epoch.mark.from.value, at_.value));
  std::span<const std::byte> rest = epoch.coded;
  std::uint64_t inputs = 0;
  for (Position at = epoch.mark.from; !rest.empty(); ++inputs) {
    FT_ASSIGN(const wire::LoggedInput input, wire::next_input(rest, at));
    at = input.at;
    if (at > epoch.mark.until) return corrupt(epoch.id, "an input lies behind its end");
  }
  if (inputs != epoch.mark.inputs)
    return corrupt(epoch.id, fmt::format("{} inputs of {} came", inputs, epoch.mark.inputs));
  return {};
}

Result<std::optional<wire::LogEpoch>> LogAssembler::on_frame(const wire::Frame& frame) {
  FT_ASSIGN(const wire::LogFrame log, wire::decode_log(frame));
  FT_TRY(check(frame, log));
  partial_.id = frame.header.id;
  partial_.base = log.base;
  partial_.coded.insert(partial_.coded.end(), log.coded.begin(), log.coded.end());
  ++frames_;
  if (!log.mark) return std::nullopt;
  partial_.mark = *log.mark;
  FT_TRY(check_whole(partial_, log.checksum));
  wire::LogEpoch whole = std::move(partial_);
  begin(whole.id, whole.mark.until);
  return whole;
}

}  // namespace libft::replay
