// SPDX-License-Identifier: LGPL-2.1-or-later
// A Shell is a domain that libft built to continue another: same processors, same page numbers,
// memory really reserved, and nothing in it that runs. It is destroyed with this object unless it
// was set free. Session's thread.
//
//   built -> loaded -> running (set free)      destroyed from any state but the last
#pragma once

#include <memory>
#include <span>
#include <string>

#include "guest/xen/calls.h"
#include "guest/xen/device_model.h"
#include "guest/xen/memory.h"
#include "guest/xen/network.h"
#include "guest/xen/shape.h"
#include "guest/xen/state.h"
#include "guest/xen/store.h"

namespace libft::xen {

class Shell {
 public:
  // `runs` empty: without memory, to try a state in.
  static Result<std::unique_ptr<Shell>> build(XenCalls& calls, const Shape& shape,
                                              std::span<const PageRun> runs,
                                              const std::string& name);
  ~Shell();
  Shell(const Shell&) = delete;
  Shell& operator=(const Shell&) = delete;

  DomId domain() const { return domain_; }

  // Starts its device model, which waits for a state. REQUIRES: the shape has one.
  Status start_model(DeviceModels& models);
  // What serves the domain once it was set free; empty when it has none.
  std::unique_ptr<DeviceModel> take_model() { return std::move(model_); }

  Status plug_in(HostNetwork& network) { return prepare_vifs(calls_, domain_, shape_, network); }

  // Parameters, time, processors, devices. The pages of xenstore's and the console's rings begin
  // anew.
  Status load(const DomainState& state, const DomainMemory* memory);
  // Introduces and runs it. REQUIRES: load() succeeded, with memory. It is free only when all of
  // it succeeded: on failure the domain is paused, and goes with this object.
  Status run(const std::string& name);
  // Runs it until its processors have worked for a moment without an end. It stays ours.
  Status try_out();

 private:
  Status begin();
  Shell(XenCalls& calls, Shape shape) : calls_(calls), shape_(std::move(shape)) {}
  Status make(std::span<const PageRun> runs);
  Status set_policy();

  XenCalls& calls_;
  const Shape shape_;
  DomId domain_ = 0;  // 0: none.
  StoreChannels channels_;
  std::unique_ptr<DeviceModel> model_;
  bool free_ = false;
};

}  // namespace libft::xen
