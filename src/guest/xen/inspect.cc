// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "guest/xen/cpuid.h"
#include "guest/xen/facts.h"

namespace libft::xen {
namespace {

// Below the domain's folder, as libxl writes them; those with `true` belong to the guest.
const std::pair<const char*, bool> kNodes[] = {{"memory/target", false},
                                               {"memory/static-max", false},
                                               {"memory/videoram", false},
                                               {"platform", false},
                                               {"vm-data", false},
                                               {"cpu", false},
                                               {"control/feature-poweroff", true},
                                               {"control/feature-reboot", true},
                                               {"control/feature-suspend", true},
                                               {"data", true},
                                               {"drivers", true},
                                               {"feature", true},
                                               {"attr", true}};

// Of a backend: what its owner said when he made it. The rest is the two drivers' conversation.
const std::set<std::string> kVifKeys{"mac", "bridge", "script", "ip",      "rate",
                                     "mtu", "type",   "handle", "trusted", "vifname"};

// Device kinds that libft remakes, or that need no remaking.
const std::set<std::string> kKnownDevices{"vif",     "vbd", "suspend", "vkbd",
                                          "console", "pci", "vtpm"};

// One node and all below it.
Status collect(XenCalls& calls, DomId domain, const std::string& path, bool guests,
               std::vector<StoreNode>& nodes) {
  FT_ASSIGN(const auto value, calls.read(domain_path(domain, path)));
  if (!value) return {};
  if (nodes.size() >= 1000) return Status(Code::exhausted, "too many nodes in xenstore");
  nodes.push_back({path, *value, guests});
  FT_ASSIGN(const auto names, calls.list(domain_path(domain, path)));
  for (const std::string& name : names)
    FT_TRY(collect(calls, domain, path + "/" + name, guests, nodes));
  return {};
}

class Inspector {
 public:
  Inspector(XenCalls& calls, DomId domain) : calls_(calls), domain_(domain) {}

  Result<Inspection> run() {
    FT_ASSIGN(const auto info, calls_.domain(domain_));
    if (!info || info->dying)
      return failure(Code::not_found, fmt::format("there is no domain {}", domain_));
    FT_ASSIGN(const XenVersion version, calls_.version());
    found_.missing = check_version(version);
    found_.shape.xen = version.text;
    FT_TRY(names(*info));
    if (!info->hvm) {
      refuse(
          "it is a PV guest, whose written pages Xen logs only with shadow paging: boot its "
          "kernel as PVH (type=\"pvh\")");
      return std::move(found_);
    }
    FT_TRY(platform(*info));
    FT_TRY(memory(*info));
    FT_TRY(devices());
    FT_TRY(disks());
    for (const auto& [node, guests] : kNodes)
      FT_TRY(collect(calls_, domain_, node, guests, found_.shape.nodes));
    return std::move(found_);
  }

 private:
  void refuse(std::string why) { found_.missing.push_back(std::move(why)); }

  Result<std::string> text(const std::string& path) {
    FT_ASSIGN(auto value, calls_.read(path));
    return value.value_or("");
  }

  Status names(const DomainInfo& info) {
    Shape& shape = found_.shape;
    shape.uuid = info.handle;
    shape.emulation = info.emulation;
    shape.misc = info.misc;
    shape.vcpus = info.vcpus;
    shape.max_pages = info.max_pages;
    FT_ASSIGN(shape.name, text(domain_path(domain_, "name")));
    if (shape.name.empty()) shape.name = fmt::format("domain-{}", domain_);
    FT_ASSIGN(shape.type, text(fmt::format("/libxl/{}/type", domain_)));
    if (shape.type.empty()) shape.type = info.emulation == kEmulateLapic ? "pvh" : "hvm";
    return {};
  }

  Status platform(const DomainInfo& info) {
    if (!info.hap) refuse("it runs without hardware-assisted paging (hap=0): start it with hap=1");
    const bool pvh = info.emulation == kEmulateLapic;
    if (pvh != (found_.shape.type == "pvh"))
      refuse(
          fmt::format("its type is \"{}\", and what Xen emulates for it is another's: let xl "
                      "build it",
                      found_.shape.type));
    if (!pvh) FT_TRY(device_model());
    FT_ASSIGN(found_.shape.policy, calls_.cpu_policy(domain_));
    if (nested()) refuse("it may run guests of its own: start it with nestedhvm=0");
    FT_ASSIGN(const std::uint64_t callback, calls_.param(domain_, kParamCallbackIrq));
    found_.shape.cooperative = callback != 0;
    for (const std::uint32_t index : kCarriedParams) {
      auto value = calls_.param(domain_, index);
      if (!value && !param_may_be_missing(index)) return value.error();
      // Of those that libxl sets, zero may not be what a new domain has.
      const bool chosen = index == kParamTimerMode || index == kParamHpet;
      if (value && (*value != 0 || chosen)) found_.params.push_back({index, *value});
      if (value && index == kParamConsolePfn) found_.console = *value;
      if (value && index == kParamStorePfn) found_.store = *value;
      if (value) FT_TRY(watcher(index, *value));
    }
    if (found_.store == 0) refuse("it has no page for xenstore: let xl build it");
    const auto altp2m = calls_.param(domain_, kParamAltp2m);
    if (altp2m && *altp2m != 0)
      refuse("it has several views of its memory (altp2m): start it with altp2m=\"disabled\"");
    return {};
  }

  // Nothing says that somebody hears of what the domain does to its memory; but he has taken the
  // page by which he is told out of it (libxenctrl's xc_vm_event_enable).
  Status watcher(std::uint32_t param, std::uint64_t ring) {
    const bool told =
        param == kParamPagingRing || param == kParamMonitorRing || param == kParamSharingRing;
    if (!told || ring == 0) return {};
    bool there = false;
    FT_TRY(calls_.look(domain_, ring, std::span(&there, 1)));
    if (!there)
      refuse(
          "another program watches its memory (introspection, paging, sharing), or did: end that "
          "program, and start the guest anew");
    return {};
  }

  // What QEMU is and does is asked elsewhere.
  Status device_model() {
    FT_ASSIGN(const std::string version, text(fmt::format("/libxl/{}/dm-version", domain_)));
    FT_ASSIGN(const std::string pid, text(domain_path(domain_, "image/device-model-pid")));
    if (version == "qemu_xen_traditional")
      refuse("its device model is qemu-xen-traditional: start it with the upstream one (qemu-xen)");
    const auto [end, error] =
        std::from_chars(pid.data(), pid.data() + pid.size(), found_.device_model);
    if (error != std::errc() || end != pid.data() + pid.size() || found_.device_model <= 0)
      refuse("xenstore does not say which process is its device model");
    return {};
  }

  bool nested() const {
    constexpr std::uint32_t kVmx = 1u << 5, kSvm = 1u << 2;
    const auto leaves = leaves_of(found_.shape.policy);
    return std::any_of(leaves.begin(), leaves.end(), [](const CpuidLeaf& one) {
      return (one.leaf == 1 && (one.registers[ecx] & kVmx) != 0) ||
             (one.leaf == 0x80000001 && (one.registers[ecx] & kSvm) != 0);
    });
  }

  Status memory(const DomainInfo& info) {
    FT_ASSIGN(const std::uint64_t on_demand, calls_.pod_entries(domain_));
    FT_ASSIGN(const std::string target, text(domain_path(domain_, "memory/target")));
    FT_ASSIGN(const std::string maximum, text(domain_path(domain_, "memory/static-max")));
    if (on_demand != 0 ||
        (!target.empty() && !maximum.empty() &&
         std::strtoull(target.c_str(), nullptr, 10) < std::strtoull(maximum.c_str(), nullptr, 10)))
      refuse(
          "its memory is smaller than its maximum (ballooned or populated on demand): set "
          "memory and maxmem to the same size");
    if (info.paged_pages != 0 || info.shared_pages != 0)
      refuse("Xen pages or shares its memory: turn that off");
    FT_ASSIGN(found_.shape.paging_pool_bytes, calls_.paging_pool(domain_));
    return {};
  }

  Status devices() {
    FT_ASSIGN(const auto kinds, calls_.list(domain_path(domain_, "device")));
    for (const std::string& kind : kinds) {
      FT_ASSIGN(const auto entries, calls_.list(domain_path(domain_, "device/" + kind)));
      if (entries.empty() || kind == "suspend") continue;
      if (kind == "pci") refuse("it has a passed-through PCI device: detach it");
      if (kind == "vtpm")
        refuse("it has a virtual TPM, whose state libft does not carry: detach it");
      if (!kKnownDevices.contains(kind))
        refuse(
            fmt::format("it has a device of the kind \"{}\", which libft does not remake on "
                        "the backup: detach it",
                        kind));
      for (const std::string& entry : entries) FT_TRY(device(kind, entry));
    }
    FT_ASSIGN(const auto stub, calls_.read(domain_path(domain_, "image/device-model-domid")));
    if (stub) refuse("its device model runs in a stub domain: start it without one");
    FT_ASSIGN(const auto backends, calls_.list(domain_path(domain_, "backend")));
    if (!backends.empty())
      refuse("it is a driver domain: other guests' devices would go with it; protect those guests");
    return {};
  }

  Status device(const std::string& kind, const std::string& entry) {
    const std::string front = domain_path(domain_, fmt::format("device/{}/{}", kind, entry));
    FT_ASSIGN(const std::string host, text(front + "/backend-id"));
    if (!host.empty() && host != "0")
      refuse(
          fmt::format("its device {}/{} is served by domain {} and not by dom0: have it served "
                      "from dom0",
                      kind, entry, host));
    if (kind == "vkbd" && (entry != "0" || found_.device_model == 0))
      refuse("it has a keyboard (vkbd) that no device model of its own serves: detach it");
    found_.shape.keyboard |= kind == "vkbd";
    if (kind != "vif") return {};
    FT_ASSIGN(const std::string back, text(front + "/backend"));
    FT_ASSIGN(const auto keys, calls_.list(back));
    Vif vif;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), vif.index);
    if (error != std::errc() || end != entry.data() + entry.size())
      return Status(Code::unsupported, "a vif without a number: " + front);
    for (const std::string& key : keys) {
      if (!kVifKeys.contains(key)) continue;
      FT_ASSIGN(vif.backend[key], text(back + "/" + key));
    }
    const std::string script = vif.value("script");
    if (vif.value("bridge").empty() || !vif.connection())
      refuse(
          fmt::format("its interface {} is connected by the script \"{}\": libft connects "
                      "interfaces to bridges and to Open vSwitch (vif-bridge, vif-openvswitch)",
                      entry, script));
    found_.shape.vifs.push_back(std::move(vif));
    return {};
  }

  Status disks() {
    for (const char* kind : {"vbd", "vbd3", "qdisk", "tap", "tap2"}) {
      const std::string folder = fmt::format("/local/domain/0/backend/{}/{}", kind, domain_);
      FT_ASSIGN(const auto entries, calls_.list(folder));
      for (const std::string& entry : entries) {
        FT_ASSIGN(const std::string mode, text(folder + "/" + entry + "/mode"));
        FT_ASSIGN(const std::string dev, text(folder + "/" + entry + "/dev"));
        refuse(
            fmt::format("it has a {} disk ({}): libft does not hold disks at the memory's "
                        "epoch yet; keep the root in an initramfs",
                        mode.starts_with('w') ? "writable" : "read-only", dev));
      }
    }
    return {};
  }

  XenCalls& calls_;
  const DomId domain_;
  Inspection found_;
};

}  // namespace

std::string domain_path(DomId domain, const std::string& node) {
  return node.empty() ? fmt::format("/local/domain/{}", domain)
                      : fmt::format("/local/domain/{}/{}", domain, node);
}

std::vector<std::string> check_version(const XenVersion& version) {
  if (version.major == kXenMajor && version.minor >= kXenMinorOldest &&
      version.minor <= kXenMinorNewest)
    return {};
  return {fmt::format("this host runs Xen {}, and libft knows {}.{} to {}.{}: nobody has tried it",
                      version.text, kXenMajor, kXenMinorOldest, kXenMajor, kXenMinorNewest)};
}

Result<DomId> find_domain(XenCalls& calls, const std::string& name) {
  FT_ASSIGN(const auto ids, calls.list("/local/domain"));
  DomId number = 0;
  const auto parse = [](const std::string& text, DomId& into) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
    return error == std::errc() && end == text.data() + text.size();
  };
  for (const std::string& id : ids) {
    FT_ASSIGN(const auto found, calls.read("/local/domain/" + id + "/name"));
    if (found && *found == name && parse(id, number)) return number;
  }
  if (parse(name, number) && number != 0) {
    FT_ASSIGN(const auto info, calls.domain(number));
    if (info) return number;
  }
  return failure(Code::not_found,
                 fmt::format("this host has no domain named \"{}\": `xl list` shows them", name));
}

Result<Inspection> inspect(XenCalls& calls, DomId domain) { return Inspector(calls, domain).run(); }

Result<std::unique_ptr<DeviceModel>> inspect_model(DeviceModels& models, DomId domain,
                                                   Inspection& found) {
  if (found.device_model == 0) return std::unique_ptr<DeviceModel>();
  FT_ASSIGN(auto model, models.find(domain, found.device_model));
  found.shape.device_model = read_arguments(model.arguments, found.missing);
  found.shape.device_model->version = std::move(model.version);
  return std::move(model.model);
}

}  // namespace libft::xen
