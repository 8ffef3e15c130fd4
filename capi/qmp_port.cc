// SPDX-License-Identifier: LGPL-2.1-or-later
#include "ports.h"

namespace libft::capi {
namespace {

class PortQmp final : public qemu::QmpRelay {
 public:
  PortQmp(const ft_qmp_port& port, std::shared_ptr<Life> life)
      : port_(port), life_(std::move(life)), news_(life_->desk()->news()) {}
  ~PortQmp() override { news_->forget(this); }

  void execute(std::string command, os::ScopedFd fd, Answer answer) override {
    struct Given {
      std::string command;
      os::ScopedFd fd;
    };
    const auto given = std::make_shared<Given>(Given{std::move(command), std::move(fd)});
    life_->desk()->begin(
        life_, Wants::bytes,
        [user = life_->user(), run = port_.execute, given](ft_op* op) {
          return run(user, op, given->command.c_str(), given->fd.get());
        },
        [answer = std::move(answer)](const Status& status, const OpResults& results) {
          if (!status.ok()) return answer(failure(status));
          answer(std::string(reinterpret_cast<const char*>(results.bytes.data()),
                             results.bytes.size()));
        });
  }
  void set_event_sink(std::function<void(std::string_view)> sink) override {
    if (sink) return news_->listen_qmp(this, std::move(sink));
    news_->forget(this);
  }

 private:
  const ft_qmp_port port_;
  const std::shared_ptr<Life> life_;
  const std::shared_ptr<News> news_;
};

}  // namespace

std::shared_ptr<qemu::QmpRelay> make_qmp(const ft_qmp_port& port, std::shared_ptr<Life> life) {
  return std::make_shared<PortQmp>(port, std::move(life));
}

}  // namespace libft::capi
