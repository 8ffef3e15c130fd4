// SPDX-License-Identifier: LGPL-2.1-or-later
// A Xen host in memory: domains with pages that can really be mapped, xenstore, a guest that
// suspends itself when it is asked to, a network backend that comes, device models, and a
// toolstack. Any one call, counted from 0, can be made to fail. Any thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "guest/xen/xen_guest.h"

namespace libft::xen {

struct FakeDomain {
  DomainInfo info;
  int memory = -1;  // A memfd; page `slots[number]` of it.
  std::map<std::uint64_t, std::uint64_t> slots;
  std::set<std::uint64_t> hidden;  // Lent by Xen: not ordinary memory.
  std::set<std::uint64_t> dirty;
  std::vector<std::uint64_t> lent;  // Mapped by a backend.
  std::map<std::uint32_t, std::uint64_t> params;
  std::vector<std::byte> context;
  TscInfo tsc;
  CpuPolicy policy;
  std::uint64_t pool = 0;
  bool logs = false, obedient = true, ran = false;
  std::uint32_t ports = 0;
  bool runs() const { return !info.paused && !info.shutdown; }
};

// The process that emulates an HVM domain's devices: its state is 16 bytes.
struct FakeModel {
  pid_t pid = 0;
  bool runs = false, logs = false, waits = false;
  std::vector<std::byte> state;
};

class FakeHost : public std::enable_shared_from_this<FakeHost> {
 public:
  static constexpr std::uint64_t kStorePage = 1000, kConsolePage = 1001;

  FakeHost() = default;
  ~FakeHost();
  FakeHost(const FakeHost&) = delete;

  // A PVH domain that runs, with pages 0-63, 100-199 and two special ones, and an interface.
  DomId add_guest(const std::string& name);
  // An HVM domain with a device model: its process is 100 and its number.
  DomId add_hvm_guest(const std::string& name);
  std::span<std::byte> page(DomId domain, std::uint64_t number);  // Mapped for good.
  void write_page(DomId domain, std::uint64_t number, std::uint8_t value);

  XenOptions options();

  // Only the calls of the first object that options().open hands out are counted, and fail.
  void fail_call(int number) { fail_ = number; }
  bool failed() const { return fired_; }

  std::recursive_mutex mutex;
  std::map<DomId, FakeDomain> domains;
  std::map<DomId, FakeModel> models;
  std::vector<std::string> arguments;  // Of each device model that is found.
  std::set<std::string> interfaces;    // That exist.
  std::map<std::string, std::string> store;
  std::map<std::string, std::uint64_t> changes;  // Of orders to guests.
  unsigned others_ask = 0;  // Who give the same order before the guest has read libft's.
  bool others_first =
      false;  // The guest suspends itself for others, and does not read libft's order.
  std::string while_suspending;  // An order that is given while it suspends itself.
  XenVersion version{4, 17, "4.17.7"};
  std::uint64_t free_bytes = 1u << 30, pod_entries = 0;
  std::optional<CpuPolicy> most;  // Of CPU features, that a domain can have here.
  std::vector<std::string> joined, announced;
  bool open_vswitch = true;
  std::map<std::string, std::string> switch_ports;  // The backend's folder, by interface.
  std::set<DomId> destroyed;
  std::map<DomId, Userdata> userdata;  // Of the toolstack's.
  int panics = 0;  // Xen 4.17 falls over the vCPUs of a dying domain that is resumed.

 private:
  friend class FakeCalls;
  friend class FakeDeviceModel;
  friend class FakeDeviceModels;
  void add_pages(FakeDomain& domain, std::uint64_t first, std::uint64_t count);
  Status count(std::string_view call);

  int fail_ = -1, calls_ = 0, opened_ = 0;
  bool fired_ = false;
  DomId next_ = 1;
  std::vector<std::span<std::byte>> mapped_;
};

}  // namespace libft::xen
