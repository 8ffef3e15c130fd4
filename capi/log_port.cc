// SPDX-License-Identifier: LGPL-2.1-or-later
#include <string>

#include "ports.h"

namespace libft::capi {
namespace {

constexpr std::size_t kLinesMax = 4096;  // That wait for the host; more are dropped and counted.

class PortLog final : public Log {
 public:
  PortLog(const ft_log_sink& sink, std::shared_ptr<Life> life)
      : write_(sink.write), life_(std::move(life)), queue_(std::make_shared<Queue>()) {}

  void write(LogLevel level, std::string_view area, std::string_view text) override {
    if (!life_) return;
    const auto number = static_cast<std::int32_t>(level);
    if (life_->any_thread())
      return write_(life_->user(), number, std::string(area).c_str(), std::string(text).c_str());
    if (queue_->waiting.fetch_add(1) >= kLinesMax) {
      --queue_->waiting;
      ++queue_->dropped;
      return;
    }
    (void)life_->desk()->post([life = life_, write = write_, queue = queue_, number,
                               a = std::string(area), t = std::string(text)] {
      --queue->waiting;
      if (const auto dropped = queue->dropped.exchange(0))
        write(life->user(), FT_LOG_WARNING, "log",
              (std::to_string(dropped) + " lines were dropped: call ft_session_process more often")
                  .c_str());
      write(life->user(), number, a.c_str(), t.c_str());
    });
  }

 private:
  struct Queue {
    std::atomic<std::size_t> waiting{0}, dropped{0};
  };
  const decltype(ft_log_sink::write) write_;
  const std::shared_ptr<Life> life_;
  const std::shared_ptr<Queue> queue_;
};

}  // namespace

std::unique_ptr<Log> make_log(const ft_log_sink& sink, std::shared_ptr<Life> life) {
  return std::make_unique<PortLog>(sink, std::move(life));
}

}  // namespace libft::capi
