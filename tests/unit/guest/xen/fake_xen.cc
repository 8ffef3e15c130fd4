// SPDX-License-Identifier: LGPL-2.1-or-later
#include "unit/guest/xen/fake_xen.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/assert.h"
#include "guest/xen/cpuid.h"
#include "guest/xen/facts.h"

namespace libft::xen {
namespace {

constexpr std::uint64_t kSlots = 4096;

class FakeNetwork final : public HostNetwork {
 public:
  explicit FakeNetwork(FakeHost& host) : host_(host) {}
  Status join(const std::string& interface, const std::string& bridge) override {
    host_.joined.push_back(interface + " " + bridge);
    return {};
  }
  Status join_switch(const std::string& interface, const std::string& backend) override {
    if (!host_.open_vswitch) return Status(Code::unsupported, "no ovs-vsctl on this host: install");
    host_.switch_ports[interface] = backend;
    return {};
  }
  void leave_switch(const std::string& interface) override { host_.switch_ports.erase(interface); }
  Status announce(const std::string& bridge, const std::string& mac) override {
    host_.announced.push_back(bridge + " " + mac);
    return {};
  }
  bool exists(const std::string& interface) override {
    return host_.interfaces.contains(interface);
  }

 private:
  FakeHost& host_;
};

class FakeToolstack final : public Toolstack {
 public:
  explicit FakeToolstack(FakeHost& host) : host_(host) {}
  Userdata read(DomId domain) override { return host_.userdata[domain]; }
  void write(DomId domain, const Userdata& userdata) override { host_.userdata[domain] = userdata; }
  void forget(DomId domain, const Uuid&) override { host_.userdata.erase(domain); }

 private:
  FakeHost& host_;
};

}  // namespace

// Counts each call first: a call that fails has done nothing.
#define FT_CALL(name)                                                                       \
  const std::scoped_lock lock(host_->mutex);                                                \
  if (counted_)                                                                             \
    if (Status injected = host_->count(name); !injected.ok()) return libft::detail::Leave { \
        std::move(injected)                                                                 \
      }
#define FT_DOMAIN(domain)                                                                       \
  if (!host_->domains.contains(domain)) return libft::detail::Leave{Status(Code::io, "ESRCH")}; \
  FakeDomain& d = host_->domains.at(domain)

class FakeCalls final : public XenCalls {
 public:
  FakeCalls(std::shared_ptr<FakeHost> host, bool counted)
      : host_(std::move(host)), counted_(counted) {}

  Result<XenVersion> version() override {
    FT_CALL("version");
    return host_->version;
  }
  Result<std::uint64_t> free_bytes() override {
    FT_CALL("free_bytes");
    return host_->free_bytes;
  }
  Result<CpuPolicy> cpu_policy_max() override {
    FT_CALL("cpu_policy_max");
    return host_->most.value_or(CpuPolicy());
  }
  Result<std::optional<DomainInfo>> domain(DomId domain) override {
    FT_CALL("domain");
    const auto found = host_->domains.find(domain);
    if (found == host_->domains.end()) return std::optional<DomainInfo>();
    if (found->second.runs()) {
      found->second.ran = true;
      found->second.info.cpu_nanos += 10'000'000;
    }
    return std::optional(found->second.info);
  }
  Result<DomId> create(const NewDomain& config) override {
    FT_CALL("create");
    const DomId id = host_->next_++;
    FakeDomain& d = host_->domains[id];
    d.info.id = id;
    d.info.hvm = d.info.hap = d.info.paused = true;
    d.info.handle = config.handle;
    d.info.emulation = config.emulation;
    d.info.vcpus = config.vcpus;
    d.memory = ::memfd_create("fake", MFD_CLOEXEC);
    FT_ASSERT(::ftruncate(d.memory, kSlots * kPageBytes) == 0);
    return id;
  }
  Status destroy(DomId domain) override {
    FT_CALL("destroy");
    FT_DOMAIN(domain);
    ::close(d.memory);
    host_->free_bytes += d.slots.size() * kPageBytes;
    host_->domains.erase(domain);
    host_->destroyed.insert(domain);
    return {};
  }
  Status pause(DomId domain) override {
    FT_CALL("pause");
    FT_DOMAIN(domain);
    d.info.paused = true;
    return {};
  }
  Status unpause(DomId domain) override {
    FT_CALL("unpause");
    FT_DOMAIN(domain);
    d.info.paused = false;
    d.ran = true;
    return {};
  }
  Status suspend(DomId domain) override {
    FT_CALL("suspend");
    FT_DOMAIN(domain);
    if (d.info.shutdown) return {};
    const auto model = host_->models.find(domain);
    if (model != host_->models.end() && !model->second.runs) return {};  // It waits for it.
    d.info.shutdown = true;
    d.info.reason = kShutdownSuspend;
    return {};
  }
  Status resume(DomId domain) override {
    FT_CALL("resume");
    host_->panics += host_->destroyed.contains(domain);
    FT_DOMAIN(domain);
    if (!d.info.shutdown || d.info.reason != kShutdownSuspend) return Status(Code::io, "EINVAL");
    d.info.shutdown = false;
    return {};
  }
  Status set_vcpus(DomId domain, std::uint32_t vcpus) override {
    FT_CALL("set_vcpus");
    FT_DOMAIN(domain);
    d.info.vcpus = vcpus;
    return {};
  }
  Status set_max_memory(DomId domain, std::uint64_t kib) override {
    FT_CALL("set_max_memory");
    FT_DOMAIN(domain);
    d.info.max_pages = kib / 4;
    return {};
  }
  Result<std::uint64_t> paging_pool(DomId domain) override {
    FT_CALL("paging_pool");
    FT_DOMAIN(domain);
    return d.pool;
  }
  Status set_paging_pool(DomId domain, std::uint64_t bytes) override {
    FT_CALL("set_paging_pool");
    FT_DOMAIN(domain);
    d.pool = bytes;
    return {};
  }
  Result<CpuPolicy> cpu_policy(DomId domain) override {
    FT_CALL("cpu_policy");
    FT_DOMAIN(domain);
    return d.policy;
  }
  Status set_cpu_policy(DomId domain, const CpuPolicy& policy) override {
    FT_CALL("set_cpu_policy");
    FT_DOMAIN(domain);
    if (host_->most && !cpuid_line(policy, *host_->most).empty())
      return Status(Code::refused, "CPUID leaf 0x1");
    d.policy = policy;
    return {};
  }
  Result<std::uint64_t> pod_entries(DomId) override {
    FT_CALL("pod_entries");
    return host_->pod_entries;
  }
  Result<std::uint32_t> new_port(DomId domain) override {
    FT_CALL("new_port");
    FT_DOMAIN(domain);
    return ++d.ports;
  }
  Status seed_grants(DomId domain, std::uint64_t, std::uint64_t) override {
    FT_CALL("seed_grants");
    FT_DOMAIN(domain);
    return d.slots.empty() ? Status(Code::io, "no memory") : Status();
  }
  Result<std::uint64_t> page_numbers(DomId domain) override {
    FT_CALL("page_numbers");
    FT_DOMAIN(domain);
    return d.slots.empty() ? 0 : d.slots.rbegin()->first + 1;
  }
  Status populate(DomId domain, std::span<const std::uint64_t> pages, unsigned order) override {
    FT_CALL("populate");
    FT_DOMAIN(domain);
    if (order != 0) return Status(Code::exhausted, "no large pieces here");
    for (const std::uint64_t page : pages) host_->add_pages(d, page, 1);
    host_->free_bytes -= pages.size() * kPageBytes;
    return {};
  }
  Status look(DomId domain, std::uint64_t first, std::span<bool> present) override {
    FT_CALL("look");
    FT_DOMAIN(domain);
    for (std::size_t i = 0; i < present.size(); ++i)
      present[i] = d.slots.contains(first + i) && !d.hidden.contains(first + i);
    return {};
  }
  Status map(DomId domain, std::span<const std::uint64_t> pages, std::byte* at) override {
    FT_CALL("map");
    FT_DOMAIN(domain);
    for (const std::uint64_t page : pages) {
      if (!d.slots.contains(page)) return Status(Code::io, "no such page");
      void* const mapped = ::mmap(at, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                                  d.memory, static_cast<off_t>(d.slots[page] * kPageBytes));
      if (mapped == MAP_FAILED) return Status(Code::io, "mmap");
      at += kPageBytes;
    }
    return {};
  }
  Status log_dirty(DomId domain) override {
    FT_CALL("log_dirty");
    FT_DOMAIN(domain);
    if (std::exchange(d.logs, true)) return Status(Code::io, "EINVAL");
    d.dirty.clear();
    return {};
  }
  Status log_dirty_off(DomId domain) override {
    FT_CALL("log_dirty_off");
    FT_DOMAIN(domain);
    d.logs = false;
    return {};
  }
  Result<std::span<const std::uint64_t>> take_dirty(DomId domain, std::uint64_t pages) override {
    FT_CALL("take_dirty");
    FT_DOMAIN(domain);
    bits_.assign((pages + 63) / 64, 0);
    for (const std::uint64_t page : std::exchange(d.dirty, {}))
      if (page < pages) bits_[page / 64] |= std::uint64_t{1} << page % 64;
    return std::span<const std::uint64_t>(bits_);
  }
  Status mark_dirty(DomId domain, std::span<const std::uint64_t> pages) override {
    FT_CALL("mark_dirty");
    FT_DOMAIN(domain);
    if (d.logs) d.dirty.insert(pages.begin(), pages.end());
    return {};
  }
  Status lent(DomId domain, std::vector<std::uint64_t>& pages) override {
    FT_CALL("lent");
    FT_DOMAIN(domain);
    pages.insert(pages.end(), d.lent.begin(), d.lent.end());
    return {};
  }
  Status context(DomId domain, std::vector<std::byte>& context) override {
    FT_CALL("context");
    FT_DOMAIN(domain);
    if (d.runs()) return Status(Code::io, "it runs");
    context = d.context;
    return {};
  }
  Status set_context(DomId domain, std::span<const std::byte> context) override {
    FT_CALL("set_context");
    FT_DOMAIN(domain);
    if (context.size() != 64) return Status(Code::io, "EINVAL");
    d.context.assign(context.begin(), context.end());
    return {};
  }
  Result<std::uint64_t> param(DomId domain, std::uint32_t index) override {
    FT_CALL("param");
    FT_DOMAIN(domain);
    return d.params[index];
  }
  Status set_param(DomId domain, std::uint32_t index, std::uint64_t value) override {
    FT_CALL("set_param");
    FT_DOMAIN(domain);
    d.params[index] = value;
    return {};
  }
  Result<TscInfo> tsc(DomId domain) override {
    FT_CALL("tsc");
    FT_DOMAIN(domain);
    return d.tsc;
  }
  Status set_tsc(DomId domain, const TscInfo& tsc) override {
    FT_CALL("set_tsc");
    FT_DOMAIN(domain);
    d.tsc = tsc;
    return {};
  }

  Result<std::optional<std::string>> read(const std::string& path) override {
    FT_CALL("read");
    const auto found = host_->store.find(path);
    if (found == host_->store.end()) return std::optional<std::string>();
    return std::optional(found->second);
  }
  Result<std::vector<std::string>> list(const std::string& path) override {
    FT_CALL("list");
    std::set<std::string> names;
    for (const auto& [node, value] : host_->store) {
      if (!node.starts_with(path + "/")) continue;
      const std::string rest = node.substr(path.size() + 1);
      names.insert(rest.substr(0, rest.find('/')));
    }
    return std::vector<std::string>(names.begin(), names.end());
  }
  Status write(const std::string& path, const std::string& value) override {
    FT_CALL("write");
    host_->store[path] = value;
    react(path, value);
    return {};
  }
  Status remove(const std::string& path) override {
    FT_CALL("remove");
    std::erase_if(host_->store, [&](const auto& node) {
      return node.first == path || node.first.starts_with(path + "/");
    });
    return {};
  }
  Status permit(const std::string&, DomId, std::optional<DomId>) override {
    FT_CALL("permit");
    return {};
  }
  Result<bool> replace(const std::string& path, const std::string& expected,
                       const std::string& value) override {
    FT_CALL("replace");
    const auto found = host_->store.find(path);
    if (found == host_->store.end() || found->second != expected) return false;
    found->second = value;
    react(path, value);
    return true;
  }
  Status introduce(DomId domain, std::uint64_t, std::uint32_t) override {
    FT_CALL("introduce");
    if (!host_->domains.contains(domain)) return Status(Code::io, "ESRCH");
    return {};
  }
  Status store_resumed(DomId) override {
    FT_CALL("store_resumed");
    return {};
  }
  Status watch(const std::string&) override {
    FT_CALL("watch");
    return {};
  }
  Status unwatch(const std::string&) override {
    FT_CALL("unwatch");
    return {};
  }
  Status wait(Nanos timeout, int) override {
    {
      FT_CALL("wait");
      read_orders();
    }
    std::this_thread::sleep_for(std::min<Nanos>(timeout, Millis{1}));
    return {};
  }

  std::uint64_t fired(const std::string& path) const override {
    const std::scoped_lock lock(host_->mutex);
    const auto found = host_->changes.find(path);
    return found == host_->changes.end() ? 0 : found->second;
  }

 private:
  // What guests and dom0's drivers do when they see the node.
  void react(const std::string& path, const std::string& value) {
    if (path.ends_with("/control/shutdown")) ++host_->changes[path];
    if (value == "suspend") read_orders();
    if (path.starts_with("/local/domain/0/backend/vif/") && path.ends_with("/state") &&
        value == "1")
      host_->store[path] = "2";
  }

  // As Linux does: it empties the node, and reads what comes while it suspends itself afterwards.
  void read_orders() {
    for (auto& [id, d] : host_->domains) {
      const std::string path = fmt::format("/local/domain/{}/control/shutdown", id);
      const auto order = host_->store.find(path);
      if (order == host_->store.end() || order->second.empty()) continue;
      if (d.obedient && d.runs()) obey(d, path, std::string(order->second));
    }
  }
  void obey(FakeDomain& d, const std::string& path, const std::string& order) {
    d.info.shutdown = order == "suspend" || order == "poweroff";
    d.info.reason = order == "suspend" ? kShutdownSuspend : kShutdownPoweroff;
    if (host_->others_first) return;
    host_->store[path] = std::exchange(host_->while_suspending, {});
    host_->changes[path] += 1 + host_->others_ask + (host_->store[path].empty() ? 0 : 1);
  }

  const std::shared_ptr<FakeHost> host_;
  const bool counted_;
  std::vector<std::uint64_t> bits_;
};

#define FT_MODEL(call)                                                                     \
  const std::scoped_lock lock(host_->mutex);                                               \
  if (Status injected = host_->count(call); !injected.ok()) return injected;               \
  if (!host_->models.contains(domain_)) return Status(Code::not_found, "no device model"); \
  FakeModel& m = host_->models.at(domain_)

class FakeDeviceModel final : public DeviceModel {
 public:
  FakeDeviceModel(std::shared_ptr<FakeHost> host, DomId domain, bool ours)
      : host_(std::move(host)), domain_(domain), ours_(ours) {}
  ~FakeDeviceModel() override {
    if (ours_) end();
  }
  pid_t pid() const override { return host_->models.at(domain_).pid; }
  Status log_writes(bool on) override {
    FT_MODEL("log_writes");
    m.logs = on;
    return {};
  }
  Status stop() override {
    FT_MODEL("stop");
    m.runs = false;
    return {};
  }
  Status save(std::vector<std::byte>& state) override {
    FT_MODEL("save");
    if (m.runs) return Status(Code::io, "it runs");
    state = m.state;
    return {};
  }
  Status load(std::span<const std::byte> state) override {
    FT_MODEL("load");
    if (!m.waits || state.size() != 16) return Status(Code::io, "EINVAL");
    m.waits = false;
    m.state.assign(state.begin(), state.end());
    return {};
  }
  Status go_on() override {
    FT_MODEL("go_on");
    if (m.waits) return Status(Code::io, "it has no state");
    m.runs = true;
    host_->store[fmt::format("/local/domain/0/device-model/{}/state", domain_)] = "running";
    return {};
  }
  void keep() override { ours_ = false; }
  void end() override {
    const std::scoped_lock lock(host_->mutex);
    host_->models.erase(domain_);
  }

 private:
  const std::shared_ptr<FakeHost> host_;
  const DomId domain_;
  bool ours_;
};

class FakeDeviceModels final : public DeviceModels {
 public:
  explicit FakeDeviceModels(std::shared_ptr<FakeHost> host) : host_(std::move(host)) {}
  Result<Found> find(DomId domain, pid_t pid) override {
    const std::scoped_lock lock(host_->mutex);
    FT_TRY(host_->count("find"));
    if (!host_->models.contains(domain) || host_->models.at(domain).pid != pid)
      return failure(Code::not_found, "no device model");
    return Found{host_->arguments, "7.2.22",
                 std::make_unique<FakeDeviceModel>(host_, domain, false)};
  }
  Result<std::unique_ptr<DeviceModel>> start(DomId domain, const DeviceModelShape& shape,
                                             const std::string&) override {
    const std::scoped_lock lock(host_->mutex);
    FT_TRY(host_->count("start"));
    FT_TRY(check(shape));
    host_->models[domain] = {static_cast<pid_t>(100 + domain), false, false, true, {}};
    return std::make_unique<FakeDeviceModel>(host_, domain, true);
  }

 private:
  const std::shared_ptr<FakeHost> host_;
};

FakeHost::~FakeHost() {
  for (auto& [id, domain] : domains) ::close(domain.memory);
  for (const auto mapped : mapped_) ::munmap(mapped.data(), mapped.size());
}

Status FakeHost::count(std::string_view call) {
  if (calls_++ != fail_) return {};
  fired_ = true;
  return Status(Code::io, fmt::format("{}: injected", call));
}

void FakeHost::add_pages(FakeDomain& domain, std::uint64_t first, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    domain.slots.emplace(first + i, domain.slots.size());
    ++domain.info.total_pages;
  }
}

DomId FakeHost::add_guest(const std::string& name) {
  NewDomain config;
  config.handle = {1, 2, 3};
  config.emulation = kEmulateLapic;
  FakeCalls calls(shared_from_this(), false);
  const DomId id = *calls.create(config);
  FakeDomain& d = domains[id];
  d.info.paused = false;
  d.ran = true;
  d.info.max_pages = 256;
  add_pages(d, 0, 64);
  add_pages(d, 100, 100);
  add_pages(d, kStorePage, 2);
  d.params = {{kParamCallbackIrq, 1},
              {kParamStorePfn, kStorePage},
              {kParamConsolePfn, kConsolePage},
              {kParamIdentPt, 0x1000}};
  d.context.assign(64, std::byte{7});
  d.tsc = {0, 2'000'000, 0, 12345};
  d.policy.leaves.assign(48, 1);
  const std::string path = fmt::format("/local/domain/{}", id);
  const std::string back = fmt::format("/local/domain/0/backend/vif/{}/0", id);
  store[path + "/name"] = name;
  store[path + "/control/shutdown"] = "";
  store[path + "/memory/target"] = "1024";
  store[path + "/memory/static-max"] = "1024";
  store[path + "/device/vif/0/backend"] = back;
  store[path + "/device/vif/0/backend-id"] = "0";
  store[back + "/mac"] = "00:16:3e:00:00:01";
  store[back + "/bridge"] = "xenbr0";
  store[back + "/script"] = "/etc/xen/scripts/vif-bridge";
  store[fmt::format("/libxl/{}/type", id)] = "pvh";
  return id;
}

DomId FakeHost::add_hvm_guest(const std::string& name) {
  const DomId id = add_guest(name);
  const std::string path = fmt::format("/local/domain/{}", id);
  domains[id].info.emulation = 0xbff;
  models[id] = {static_cast<pid_t>(100 + id), true, false, false, {16, std::byte{5}}};
  arguments = {
      "-xen-domid",
      std::to_string(id),
      "-no-shutdown",
      "-machine",
      "xenfv,suppress-vmdesc=on",
      "-m",
      "128",
      "-device",
      "rtl8139,id=nic0,netdev=net0,mac=00:16:3e:00:00:01",
      "-netdev",
      fmt::format("type=tap,id=net0,ifname=vif{}.0-emu,br=xenbr0,script=no,downscript=no", id)};
  store[fmt::format("/libxl/{}/type", id)] = "hvm";
  store[fmt::format("/libxl/{}/dm-version", id)] = "qemu_xen";
  store[path + "/image/device-model-pid"] = std::to_string(100 + id);
  store[path + "/device/vkbd/0/backend"] = fmt::format("/local/domain/0/backend/vkbd/{}/0", id);
  store[path + "/device/vkbd/0/backend-id"] = "0";
  store[path + "/device/vkbd/0/page-ref"] = "130";
  return id;
}

std::span<std::byte> FakeHost::page(DomId domain, std::uint64_t number) {
  const std::scoped_lock lock(mutex);
  FakeDomain& d = domains.at(domain);
  void* const mapped = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, d.memory,
                              static_cast<off_t>(d.slots.at(number) * kPageBytes));
  FT_ASSERT(mapped != MAP_FAILED);
  return mapped_.emplace_back(static_cast<std::byte*>(mapped), kPageBytes);
}

void FakeHost::write_page(DomId domain, std::uint64_t number, std::uint8_t value) {
  const std::scoped_lock lock(mutex);
  page(domain, number)[5] = std::byte{value};
  if (domains.at(domain).logs) domains.at(domain).dirty.insert(number);
}

XenOptions FakeHost::options() {
  XenOptions options;
  options.open = [self = shared_from_this()]() -> Result<std::unique_ptr<XenCalls>> {
    return std::make_unique<FakeCalls>(self, self->opened_++ == 0);
  };
  options.network = std::make_shared<FakeNetwork>(*this);
  options.device_models = std::make_shared<FakeDeviceModels>(shared_from_this());
  options.toolstack = std::make_shared<FakeToolstack>(*this);
  options.suspend_patience = Millis{200};
  return options;
}

}  // namespace libft::xen
