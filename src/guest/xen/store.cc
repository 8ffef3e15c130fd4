// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "guest/xen/inspect.h"
#include "guest/xen/warm.h"

namespace libft::xen {
namespace {

constexpr Nanos kBackendPatience = Millis{20000}, kModelPatience = Millis{10000};
// XenbusState (public/io/xenbus.h).
constexpr char kInitialising[] = "1", kInitWait[] = "2";

// Writes nodes until one fails.
class Writer {
 public:
  Writer(XenCalls& calls, DomId domain) : calls_(calls), domain_(domain) {}

  void dom0s(const std::string& path, const std::string& value) {
    put(path, value, 0, std::nullopt);
  }
  void readable(const std::string& path, const std::string& value) { put(path, value, 0, domain_); }
  void guests(const std::string& path, const std::string& value) {
    put(path, value, domain_, std::nullopt);
  }
  // The guest's, and dom0's drivers read it.
  void shared(const std::string& path, const std::string& value) { put(path, value, domain_, 0); }
  const Status& status() const { return status_; }

 private:
  void put(const std::string& path, const std::string& value, DomId owner,
           std::optional<DomId> reader) {
    if (status_.ok()) status_ = calls_.write(path, value);
    if (status_.ok()) status_ = calls_.permit(path, owner, reader);
  }
  XenCalls& calls_;
  const DomId domain_;
  Status status_;
};

std::string vm_path(const Shape& shape) { return "/vm/" + to_string(shape.uuid); }
std::string libxl_path(DomId domain) { return fmt::format("/libxl/{}", domain); }
std::string front_path(DomId domain, const char* kind, unsigned index) {
  return domain_path(domain, fmt::format("device/{}/{}", kind, index));
}
std::string back_path(DomId domain, const char* kind, unsigned index) {
  return fmt::format("/local/domain/0/backend/{}/{}/{}", kind, domain, index);
}
std::string front_path(DomId domain, const Vif& vif) {
  return front_path(domain, "vif", vif.index);
}
std::string back_path(DomId domain, const Vif& vif) { return back_path(domain, "vif", vif.index); }
std::string model_path(DomId domain) {
  return fmt::format("/local/domain/0/device-model/{}", domain);
}

Status write_vif(XenCalls& calls, DomId domain, const Vif& vif) {
  const std::string front = front_path(domain, vif), back = back_path(domain, vif);
  const std::string libxl = fmt::format("{}/device/vif/{}", libxl_path(domain), vif.index);
  Writer writer(calls, domain);
  writer.shared(front, "");
  writer.shared(front + "/backend", back);
  writer.shared(front + "/backend-id", "0");
  writer.shared(front + "/handle", std::to_string(vif.index));
  if (!vif.value("mac").empty()) writer.shared(front + "/mac", vif.value("mac"));
  if (!vif.value("mtu").empty()) writer.shared(front + "/mtu", vif.value("mtu"));
  writer.shared(front + "/state", kInitialising);
  writer.dom0s(libxl, "");
  writer.dom0s(libxl + "/frontend", front);
  writer.dom0s(libxl + "/backend", back);
  writer.dom0s(libxl + "/frontend-id", std::to_string(domain));
  writer.readable(back, "");
  for (const auto& [key, value] : vif.backend) {
    if (key == "vifname") continue;  // A name is this host's affair.
    writer.readable(back + "/" + key, value);
    writer.dom0s(libxl + "/" + key, value);
  }
  writer.readable(back + "/frontend", front);
  writer.readable(back + "/frontend-id", std::to_string(domain));
  writer.readable(back + "/online", "1");
  writer.readable(back + "/state", kInitialising);  // Last: dom0's driver begins.
  return writer.status();
}

// QEMU looks for it, and serves it.
Status write_keyboard(XenCalls& calls, DomId domain) {
  const std::string front = front_path(domain, "vkbd", 0), back = back_path(domain, "vkbd", 0);
  const std::string libxl = libxl_path(domain) + "/device/vkbd/0";
  Writer writer(calls, domain);
  writer.shared(front, "");
  writer.shared(front + "/backend", back);
  writer.shared(front + "/backend-id", "0");
  writer.shared(front + "/state", kInitialising);
  writer.dom0s(libxl, "");
  writer.dom0s(libxl + "/frontend", front);
  writer.dom0s(libxl + "/backend", back);
  writer.readable(back, "");
  writer.readable(back + "/frontend", front);
  writer.readable(back + "/frontend-id", std::to_string(domain));
  writer.readable(back + "/online", "1");
  writer.readable(back + "/state", kInitialising);
  return writer.status();
}

Status wait_for_backend(XenCalls& calls, const std::string& back) {
  const auto deadline = std::chrono::steady_clock::now() + kBackendPatience;
  FT_TRY(calls.watch(back + "/state"));
  Status status;
  for (;;) {
    const auto state = calls.read(back + "/state");
    if (!state) {
      status = state.error();
      break;
    }
    if (*state && **state == kInitWait) break;
    if (std::chrono::steady_clock::now() >= deadline) {
      status = Status(Code::timeout, "dom0's network driver did not come: modprobe xen-netback");
      break;
    }
    status = calls.wait(Millis{100}, -1);
    if (!status.ok()) break;
  }
  (void)calls.unwatch(back + "/state");
  return status;
}

// A domain that was migrated to this host by its owner has the UUID of the warm one here.
bool others_have(XenCalls& calls, const std::string& vm) {
  const auto ids = calls.list("/local/domain");
  if (!ids) return true;
  return std::any_of(ids->begin(), ids->end(), [&](const std::string& id) {
    const auto theirs = calls.read("/local/domain/" + id + "/vm");
    return !theirs || *theirs == vm;
  });
}

}  // namespace

Status describe_domain(XenCalls& calls, DomId domain, const Shape& shape, const std::string& name) {
  Writer writer(calls, domain);
  const auto at = [&](const char* node) { return domain_path(domain, node); };
  writer.readable(domain_path(domain), "");
  writer.readable(vm_path(shape), "");
  writer.dom0s(vm_path(shape) + "/uuid", to_string(shape.uuid));
  writer.dom0s(vm_path(shape) + "/name", name);
  writer.dom0s(libxl_path(domain), "");
  writer.dom0s(libxl_path(domain) + "/type", shape.type);
  writer.dom0s(libxl_path(domain) + "/device", "");
  writer.readable(at("vm"), vm_path(shape));
  writer.readable(at("name"), name);
  writer.readable(at("domid"), std::to_string(domain));
  for (const char* folder : {"cpu", "memory", "device", "control"}) writer.readable(at(folder), "");
  writer.guests(at("device/suspend/event-channel"), "");
  for (const char* node :
       {"control/shutdown", "control/sysrq", "control/feature-poweroff", "control/feature-reboot",
        "control/feature-suspend", "data", "drivers", "feature", "attr", "error"})
    writer.guests(at(node), "");
  writer.readable(at("control/platform-feature-multiprocessor-suspend"), "1");
  writer.readable(at("control/platform-feature-xs_reset_watches"), "1");
  for (const StoreNode& node : shape.nodes) {
    const std::string path = domain_path(domain, node.path);
    node.guests ? writer.guests(path, node.value) : writer.readable(path, node.value);
  }
  if (writer.status().ok() && shape.keyboard) return write_keyboard(calls, domain);
  return writer.status();
}

Status describe_model(XenCalls& calls, DomId domain, pid_t pid) {
  Writer writer(calls, domain);
  writer.dom0s(libxl_path(domain) + "/dm-version", "qemu_xen");
  writer.readable(domain_path(domain, "image"), "");
  writer.readable(domain_path(domain, "image/device-model-pid"), std::to_string(pid));
  return writer.status();
}

Status wait_for_model(XenCalls& calls, DomId domain) {
  const auto deadline = std::chrono::steady_clock::now() + kModelPatience;
  for (;;) {
    FT_ASSIGN(const auto state, calls.read(model_path(domain) + "/state"));
    if (state && *state == "running") return {};
    if (std::chrono::steady_clock::now() >= deadline)
      return Status(Code::timeout, "the device model does not say that it is running");
    FT_TRY(calls.wait(Millis{5}, -1));
  }
}

Status rename_domain(XenCalls& calls, DomId domain, const Shape& shape, const std::string& name) {
  FT_TRY(calls.write(domain_path(domain, "name"), name));
  return calls.write(vm_path(shape) + "/name", name);
}

Status introduce_domain(XenCalls& calls, DomId domain, const StoreChannels& channels) {
  Writer writer(calls, domain);
  const auto at = [&](const char* node) { return domain_path(domain, node); };
  writer.readable(at("store"), "");
  writer.readable(at("store/port"), std::to_string(channels.store_port));
  writer.readable(at("store/ring-ref"), std::to_string(channels.store_page));
  if (channels.console_page != 0) {
    writer.readable(at("console"), "");
    writer.readable(at("console/backend-id"), "0");
    writer.readable(at("console/limit"), "1048576");
    writer.readable(at("console/type"), "xenconsoled");
    writer.readable(at("console/output"), "pty");
    writer.readable(at("console/port"), std::to_string(channels.console_port));
    writer.readable(at("console/ring-ref"), std::to_string(channels.console_page));
  }
  if (!writer.status().ok()) return writer.status();
  return calls.introduce(domain, channels.store_page, channels.store_port);
}

namespace {

Status connect(HostNetwork& network, const Vif& vif, const std::string& interface,
               const std::string& back) {
  if (vif.connection() == Connection::open_vswitch) return network.join_switch(interface, back);
  return network.join(interface, vif.value("bridge"));
}

}  // namespace

Status prepare_vifs(XenCalls& calls, DomId domain, const Shape& shape, HostNetwork& network) {
  for (const Vif& vif : shape.vifs) FT_TRY(write_vif(calls, domain, vif));
  for (const Vif& vif : shape.vifs) {
    const std::string back = back_path(domain, vif), interface = interface_of(domain, vif);
    FT_TRY(wait_for_backend(calls, back).within(interface));
    FT_TRY(connect(network, vif, interface, back));
    // What the hotplug script says when it has done the same.
    FT_TRY(calls.write(back + "/hotplug-status", "connected"));
    if (vif.emulated) FT_TRY(connect(network, vif, emulated_interface(domain, vif.index), back));
  }
  return {};
}

void leave_switches(DomId domain, const Shape& shape, HostNetwork& network) {
  for (const Vif& vif : shape.vifs) {
    if (vif.connection() != Connection::open_vswitch) continue;
    network.leave_switch(interface_of(domain, vif));
    if (vif.emulated) network.leave_switch(emulated_interface(domain, vif.index));
  }
}

std::string interface_of(DomId domain, const Vif& vif) {
  return fmt::format("vif{}.{}", domain, vif.index);
}

void forget_domain(XenCalls& calls, DomId domain, const Shape& shape) {
  const auto vm = calls.read(domain_path(domain, "vm"));
  for (const Vif& vif : shape.vifs) (void)calls.remove(back_path(domain, vif));
  for (const char* kind : {"vif", "vkbd"})
    (void)calls.remove(fmt::format("/local/domain/0/backend/{}/{}", kind, domain));
  (void)calls.remove(model_path(domain));
  (void)calls.remove(domain_path(domain));
  (void)calls.remove(libxl_path(domain));
  if (vm && *vm && !others_have(calls, **vm)) (void)calls.remove(**vm);
  (void)calls.remove(warm_mark(domain));
}

}  // namespace libft::xen
