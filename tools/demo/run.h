// SPDX-License-Identifier: LGPL-2.1-or-later
// One run of the demo, from the boot of the guest to the verdict: protect, load, let the victim
// fail at a random moment, see who goes on, protect again, ask the guest what it still knows. The
// demo's main thread calls it; the client and the observer work beside it.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>

#include "demo/observer.h"
#include "demo/redis_client.h"
#include "demo/world.h"

namespace libft::demo {

struct RunParts {
  const DemoOptions& options;
  Interrupt& interrupt;
  std::string guest;   // Folder with vmlinuz, initrd.img, cmdline.
  std::string folder;  // For this run's logs; exists.
  std::function<void(const std::string&)> say;
};

// A guest that is up on host A, with a client connected and an observer watching. What the runs and
// the bench have in common.
struct Stage {
  std::unique_ptr<World> world;  // First: the last to go.
  std::unique_ptr<Ftctl> primary, backup;
  std::unique_ptr<Observer> observer;
  std::unique_ptr<RedisClient> client;
};
Result<Stage> set_stage(const RunParts& parts, const std::string& token);
// Starts a backup on host B and waits until the guest is protected.
Status protect_stage(const RunParts& parts, Stage& stage);
// Waits; fails at once when `ftctl` ends meanwhile.
Status wait_for(const RunParts& parts, Ftctl& ftctl, std::string_view what, Nanos patience,
                const std::function<bool()>& done);

// A failure means that the run could not be judged (its environment failed, or it was interrupted);
// what went wrong with the protection itself is in the result's problems.
Result<RunResult> run_demo(const RunParts& parts, int number, std::uint64_t seed, bool reprotect);

}  // namespace libft::demo
