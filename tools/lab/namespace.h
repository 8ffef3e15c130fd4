// SPDX-License-Identifier: LGPL-2.1-or-later
// A lab::Namespace is a network namespace with one thread that lives in it: what the thread opens
// or starts belongs to that "host". The lab tests and the demo use it. It has no name in the file
// system: when it is destroyed, or this process dies in any way, its processes are killed and the
// kernel takes the rest away. Any thread may call it; calls into one namespace wait for one
// another.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "os/child.h"
#include "os/fd.h"

namespace libft::lab {

// Root, or root in a user namespace of one's own where the distribution allows that: what the rest
// of the lab needs. REQUIRES: called first in main(), before any thread exists.
Status become_namespace_root();

class Namespace {
 public:
  static Result<std::unique_ptr<Namespace>> create(std::string name);
  ~Namespace();
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;

  const std::string& name() const { return name_; }
  int fd() const { return fd_.get(); }
  std::string path() const;  // For `nsenter --net=PATH` and `ip link set ... netns PATH`.

  // Runs `work` on the thread that lives there, and waits for it.
  void within(const std::function<void()>& work);

  Result<os::Child> start(const os::ChildOptions& options);
  // Runs it to its end. A failure carries what it printed.
  Status run(std::vector<std::string> argv, std::string_view input = {});
  // Lines for `ip -batch`: all of them, or a failure that quotes ip.
  Status ip(std::string_view lines) { return run({"ip", "-batch", "-"}, lines); }

  // Everything that lives there, this process excepted, whoever started it: SIGKILL is a host's
  // death (repeated until nothing is left), SIGSTOP its stall. Returns how many.
  int signal_all(int number);

 private:
  explicit Namespace(std::string name) : name_(std::move(name)) {}
  void serve();
  Status settle();
  Status start_janitor();
  std::vector<pid_t> processes() const;

  std::string name_;
  os::ScopedFd fd_;
  std::optional<os::Child> janitor_;
  os::ScopedFd janitor_input_;  // Its end tells the janitor that we are gone.

  std::mutex callers_;  // One piece of work at a time.
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* work_ = nullptr;
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace libft::lab
