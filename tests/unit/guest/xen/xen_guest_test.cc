// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/xen_guest.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <future>
#include <string_view>

#include "guest/xen/cpuid.h"
#include "guest/xen/facts.h"
#include "guest/xen/memory.h"
#include "guest/xen/needs.h"
#include "support/moment.h"
#include "unit/guest/xen/fake_xen.h"

namespace libft::xen {
namespace {

constexpr char kName[] = "web";

std::shared_ptr<FakeHost> host_with_guest() {
  auto host = std::make_shared<FakeHost>();
  host->add_guest(kName);
  return host;
}

enum class Kind { pvh, hvm, hvm_bare };  // The last has no drivers for Xen.

std::shared_ptr<FakeHost> host_with(Kind kind) {
  if (kind == Kind::pvh) return host_with_guest();
  auto host = std::make_shared<FakeHost>();
  const DomId id = host->add_hvm_guest(kName);
  if (kind == Kind::hvm_bare) {
    host->domains[id].params[kParamCallbackIrq] = 0;
    host->domains[id].obedient = false;
    host->interfaces = {emulated_interface(id, 0)};
  }
  return host;
}

CpuPolicy policy_of(const std::vector<CpuidLeaf>& leaves) {
  CpuPolicy policy;
  policy.leaves.resize(leaves.size() * sizeof(CpuidLeaf));
  std::memcpy(policy.leaves.data(), leaves.data(), policy.leaves.size());
  return policy;
}

void copy_memory(const GuestInfo& from, const GuestInfo& to) {
  for (std::size_t i = 0; i < from.memory.size(); ++i)
    std::memcpy(to.memory[i].bytes.data(), from.memory[i].bytes.data(),
                from.memory[i].bytes.size());
}

// What a session does to a primary, and what it does when a part of it fails.
Status take_epoch(Guest& guest, PageSet& pages, std::vector<std::byte>& state) {
  FT_TRY(guest.pause());
  Status status = guest.take_written(pages);
  if (status.ok()) status = guest.save_state();
  Status resumed = guest.resume();
  if (!resumed.ok()) {
    const Status again = guest.resume();
    if (status.ok()) status = resumed;
    if (!again.ok()) return again;
  }
  FT_TRY(status);
  return guest.fetch_state(state);
}

// Of a primary, which stays paused.
std::vector<std::byte> state_of(Guest& primary) {
  std::vector<std::byte> state;
  REQUIRE(primary.pause().ok());
  REQUIRE(primary.save_state().ok());
  REQUIRE(primary.fetch_state(state).ok());
  return state;
}

Status protect_once(FakeHost& host) {
  FT_ASSIGN(const auto guest, XenGuest::attach(kName, host.options()));
  FT_TRY(guest->start_tracking());
  PageSet pages;
  std::vector<std::byte> state;
  FT_TRY(guest->take_written(pages));
  FT_TRY(take_epoch(*guest, pages, state));
  FT_TRY(take_epoch(*guest, pages, state));
  guest->stop_tracking();
  return {};
}

TEST_CASE("an epoch has the pages that were written, and those that others may write") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE_MESSAGE(guest, guest.error().to_string());
  const DomId id = (*guest)->domain();
  CHECK((*guest)->info().pages() == 166);
  CHECK((*guest)->info().cooperative);
  CHECK((*guest)->interfaces() == std::vector<std::string>{"vif1.0"});
  REQUIRE((*guest)->start_tracking().ok());
  host->write_page(id, 3, 1);
  host->write_page(id, 150, 2);
  host->domains[id].lent = {160, 5000};  // The second is no memory of the guest's.
  PageSet pages;
  std::vector<std::byte> state;
  REQUIRE(take_epoch(**guest, pages, state).ok());
  CHECK(pages.pages() <= 5 + 4);  // And the log's marks.
  for (const std::uint64_t page : {std::uint64_t{3}, std::uint64_t{150}, std::uint64_t{160},
                                   FakeHost::kStorePage, FakeHost::kConsolePage})
    CHECK(pages.contains(PageNo{page}));
  CHECK((*guest)->last_handshake() > Nanos{0});
  CHECK(host->domains[id].runs());
}

TEST_CASE(
    "the driver knows a page that serves others, and one that Xen writes without logging it") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  host->domains[1].lent = {160};
  REQUIRE((*guest)->start_tracking().ok());
  PageSet pages;
  REQUIRE((*guest)->take_written(pages).ok());
  const auto about = [&](std::uint64_t page) { return (*guest)->about(PageNo{page}); };
  CHECK(about(FakeHost::kStorePage) == "xenstore's ring");
  CHECK(about(FakeHost::kConsolePage) == "the console's ring");
  CHECK(about(160) == "lent to another domain");
  CHECK(about(3) == "ram");
  CHECK(about(99'999) == "no memory");

  std::array<std::uint32_t, 1024> words{};
  const auto put = [&] {
    std::memcpy((*guest)->info().memory[0].bytes.data() + 3 * kPageBytes, words.data(), kPageBytes);
  };
  words.fill(1u << 30);  // All masked.
  for (std::size_t i = 1; i < 20; ++i) words[i] = 0;
  words[7] = 1u << 31 | 1u << 29 | 12;  // Pending, linked to another port.
  put();
  CHECK(about(3) == "events, which Xen writes");
  words[900] = 0x00fe0000;
  put();
  CHECK(about(3) == "ram");
}

TEST_CASE("memory that is neither the guest's nor mapped is not reported") {
  const auto host = host_with_guest();
  auto& domain = host->domains[1];
  domain.slots.emplace(300, domain.slots.size());  // Lent by Xen, and not counted.
  domain.hidden = {300};
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  REQUIRE((*guest)->start_tracking().ok());
  host->write_page(1, 300, 1);
  PageSet pages;
  REQUIRE((*guest)->take_written(pages).ok());
  CHECK_FALSE(pages.contains(PageNo{300}));
}

TEST_CASE("a log that was taken and lost makes the next answer all pages") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  PageSet pages;
  REQUIRE((*guest)->start_tracking().ok());
  host->domains[1].info.id = 99;  // As if it were gone, for one call.
  auto node = host->domains.extract(1);
  CHECK_FALSE((*guest)->take_written(pages).ok());
  host->domains.insert(std::move(node));
  REQUIRE((*guest)->take_written(pages).ok());
  CHECK(pages.pages() == 166);
}

TEST_CASE("who migrates the domain gets Xen's log, with what was taken out of it") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  std::promise<GuestEvent> told;
  (*guest)->set_event_sink([&](const GuestEvent& event) { told.set_value(event); });
  PageSet pages;
  REQUIRE((*guest)->start_tracking().ok());
  REQUIRE((*guest)->take_written(pages).ok());
  host->domains[1].dirty.clear();  // Off, and on again.
  host->write_page(1, 3, 1);
  host->write_page(1, FakeHost::kStorePage, 1);  // As a guest does that answers an order.
  CHECK((*guest)->take_written(pages).code() == Code::busy);
  auto event = told.get_future();
  REQUIRE(event.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  CHECK(event.get().kind == GuestEvent::Kind::migrating);
  CHECK(host->domains[1].dirty == std::set<std::uint64_t>{3, FakeHost::kStorePage});
  (*guest)->stop_tracking();
  CHECK(host->domains[1].logs);
  CHECK_FALSE((*guest)->start_tracking().ok());  // Not before they have done.
}

TEST_CASE("a changed memory map ends the protection, and the guest runs on") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  std::promise<GuestEvent> told;
  std::atomic<bool> once{false};
  (*guest)->set_event_sink([&](const GuestEvent& event) {
    if (!once.exchange(true)) told.set_value(event);
  });
  REQUIRE((*guest)->start_tracking().ok());
  {
    const std::scoped_lock lock(host->mutex);
    ++host->domains[1].info.total_pages;
  }
  CHECK_FALSE((*guest)->pause().ok());
  CHECK(host->domains[1].runs());
  auto event = told.get_future();
  REQUIRE(event.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  CHECK(event.get().kind == GuestEvent::Kind::reconfigured);
}

// Each refusal says why, and what to do about it.
struct Refusal {
  const char *reason, *remedy;
  void (*arrange)(FakeHost&);
};
constexpr Refusal kRefusals[] = {
    {"Xen 4.30.0", "libft knows 4.17 to 4.20",
     [](FakeHost& h) {
       h.version = {4, 30, "4.30.0"};
     }},
    {"it is a PV guest", "type=\"pvh\"", [](FakeHost& h) { h.domains[1].info.hvm = false; }},
    {"hardware-assisted paging", "hap=1", [](FakeHost& h) { h.domains[1].info.hap = false; }},
    {"passed-through PCI device", "detach it",
     [](FakeHost& h) { h.store["/local/domain/1/device/pci/0/backend"] = "x"; }},
    {"of the kind \"vusb\"", "detach it",
     [](FakeHost& h) { h.store["/local/domain/1/device/vusb/0/backend"] = "x"; }},
    {"virtual TPM", "detach it",
     [](FakeHost& h) { h.store["/local/domain/1/device/vtpm/0/backend"] = "x"; }},
    {"of the kind \"vdispl\"", "detach it",
     [](FakeHost& h) { h.store["/local/domain/1/device/vdispl/0/backend"] = "x"; }},
    {"served by domain 3", "from dom0",
     [](FakeHost& h) { h.store["/local/domain/1/device/vif/0/backend-id"] = "3"; }},
    {"runs in a stub domain", "start it without one",
     [](FakeHost& h) { h.store["/local/domain/1/image/device-model-domid"] = "5"; }},
    {"driver domain", "protect those guests",
     [](FakeHost& h) { h.store["/local/domain/1/backend/vif/2/0"] = ""; }},
    {"smaller than its maximum", "memory and maxmem to the same size",
     [](FakeHost& h) { h.store["/local/domain/1/memory/target"] = "512"; }},
    {"populated on demand", "memory and maxmem to the same size",
     [](FakeHost& h) { h.pod_entries = 7; }},
    {"Xen pages or shares its memory", "turn that off",
     [](FakeHost& h) { h.domains[1].info.shared_pages = 1; }},
    {"altp2m", "altp2m=\"disabled\"", [](FakeHost& h) { h.domains[1].params[kParamAltp2m] = 1; }},
    {"another program watches its memory", "start the guest anew",
     [](FakeHost& h) { h.domains[1].params[kParamMonitorRing] = 2000; }},
    {"guests of its own", "nestedhvm=0",
     [](FakeHost& h) {
       h.domains[1].policy = policy_of({{1, ~0u, {0, 0, 1u << 5, 0}}});
     }},
    {"writable disk (xvda)", "initramfs",
     [](FakeHost& h) {
       h.store["/local/domain/0/backend/vbd/1/51712/mode"] = "w";
       h.store["/local/domain/0/backend/vbd/1/51712/dev"] = "xvda";
     }},
    {"read-only disk (xvdb)", "initramfs",
     [](FakeHost& h) {
       h.store["/local/domain/0/backend/qdisk/1/51728/mode"] = "r";
       h.store["/local/domain/0/backend/qdisk/1/51728/dev"] = "xvdb";
     }},
    {"vif-route", "vif-bridge",
     [](FakeHost& h) { h.store["/local/domain/0/backend/vif/1/0/script"] = "vif-route"; }},
};

TEST_CASE("what is in the way is refused, with the reason and what to do, and the guest runs on") {
  for (const Refusal& refusal : kRefusals) {
    const auto host = host_with_guest();
    refusal.arrange(*host);
    const auto guest = XenGuest::attach(kName, host->options());
    CAPTURE(refusal.reason);
    REQUIRE_FALSE(guest);
    CHECK(guest.error().code() == Code::unsupported);
    const std::string& why = guest.error().message();
    for (const char* part : {refusal.reason, refusal.remedy})
      CHECK_MESSAGE(why.find(part) != std::string::npos, part, " in: ", why);
    CHECK(host->domains[1].runs());
  }
}

TEST_CASE("everything that is in the way is said at once") {
  const auto host = host_with_guest();
  // A PV guest is not looked at any further.
  for (const Refusal& refusal : kRefusals)
    if (std::string_view(refusal.reason) != "it is a PV guest") refusal.arrange(*host);
  const auto guest = XenGuest::attach(kName, host->options());
  REQUIRE_FALSE(guest);
  for (const Refusal& refusal : kRefusals) {
    if (std::string_view(refusal.reason) == "it is a PV guest") continue;
    CHECK_MESSAGE(guest.error().message().find(refusal.reason) != std::string::npos,
                  refusal.reason);
  }
}

TEST_CASE("a guest that is not there is not found") {
  CHECK(XenGuest::attach("other", host_with_guest()->options()).error().code() == Code::not_found);
}

TEST_CASE("a guest that does not answer runs on, and the question is taken back") {
  const auto host = host_with_guest();
  host->domains[1].obedient = false;
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  const Status paused = (*guest)->pause();
  CHECK(paused.code() == Code::timeout);
  CHECK(host->domains[1].runs());
  CHECK(host->store["/local/domain/1/control/shutdown"].empty());
}

TEST_CASE("an order of its owner's that the guest has not read yet is not overwritten") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  std::string& order = host->store["/local/domain/1/control/shutdown"];
  order = "poweroff";
  host->domains[1].obedient = false;
  CHECK((*guest)->pause().code() == Code::busy);
  CHECK(order == "poweroff");
  order = "";
  host->domains[1].obedient = true;
  CHECK((*guest)->pause().ok());
  CHECK((*guest)->resume().ok());
}

TEST_CASE("an order of its owner's that comes while it suspends itself is not xl save's") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  const auto powered_off = [&] {
    return host->domains[1].info.shutdown && host->domains[1].info.reason == kShutdownPoweroff;
  };
  SUBCASE("it runs again, and reads it") {
    host->while_suspending = "poweroff";
    REQUIRE((*guest)->pause().ok());
    CHECK(host->domains[1].info.reason == kShutdownSuspend);
    REQUIRE((*guest)->resume().ok());
    CHECK((*guest)->pause().ok());
    CHECK(powered_off());
  }
  SUBCASE("what stands there unread is waited for") {
    host->store["/local/domain/1/control/shutdown"] = "poweroff";
    CHECK((*guest)->pause().ok());
    CHECK(powered_off());
  }
  SUBCASE("one that ends nothing does not stand in the way") {
    host->store["/local/domain/1/control/shutdown"] = "trouble";
    REQUIRE((*guest)->pause().ok());
    REQUIRE((*guest)->resume().ok());
    CHECK(host->domains[1].runs());
  }
}

TEST_CASE("a guest that others have suspended is theirs, also when libft asked at the same time") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  SUBCASE("together") { host->others_ask = 1; }
  SUBCASE("a moment later") { host->others_first = true; }
  CHECK((*guest)->pause().code() == Code::busy);
  CHECK(host->domains[1].info.shutdown);
  CHECK(host->store["/local/domain/1/control/shutdown"].empty());
  host->others_ask = 0;
  host->others_first = false;
  CHECK((*guest)->pause().code() == Code::busy);  // Suspended before it was asked.
  CHECK((*guest)->start_tracking().code() == Code::busy);
  guest->reset();
  CHECK(host->domains[1].info.shutdown);  // They set it running, or save it.
}

TEST_CASE("a guest without drivers for Xen is paused without being asked") {
  const auto host = host_with_guest();
  host->domains[1].params[kParamCallbackIrq] = 0;
  host->domains[1].obedient = false;
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  CHECK_FALSE((*guest)->info().cooperative);
  REQUIRE((*guest)->pause().ok());
  CHECK(host->domains[1].info.paused);
  CHECK((*guest)->last_handshake() == Nanos{0});
  REQUIRE((*guest)->resume().ok());
  CHECK(host->domains[1].runs());
}

TEST_CASE("a pause that was prepared takes what the guest answered") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  std::promise<Status> ready;
  (*guest)->prepare_pause([&](const Status& status) { ready.set_value(status); });
  auto answer = ready.get_future();
  REQUIRE(answer.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  CHECK(answer.get().ok());
  CHECK_FALSE(host->domains[1].runs());
  SUBCASE("then pause") {
    REQUIRE((*guest)->pause().ok());
    REQUIRE((*guest)->resume().ok());
    CHECK(host->domains[1].runs());
  }
  SUBCASE("and a driver that goes leaves it running") {
    guest->reset();
    CHECK(host->domains[1].runs());
  }
}

TEST_CASE("a guest that ended is not asked, and not set running") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  {
    const std::scoped_lock lock(host->mutex);
    host->domains[1].info.shutdown = true;
    host->domains[1].info.reason = kShutdownPoweroff;
  }
  REQUIRE((*guest)->pause().ok());
  REQUIRE((*guest)->save_state().ok());
  REQUIRE((*guest)->resume().ok());
  CHECK(host->domains[1].info.shutdown);
}

TEST_CASE("a guest that ended by itself is left to who built it") {
  const auto host = host_with_guest();
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  REQUIRE((*guest)->start_tracking().ok());
  {
    const std::scoped_lock lock(host->mutex);
    host->domains[1].info.shutdown = true;
    host->domains[1].info.reason = kShutdownReboot;
  }
  (*guest)->destroy();
  REQUIRE(host->domains.contains(1));
  CHECK(host->domains[1].info.shutdown);
  CHECK_FALSE(host->domains[1].logs);
  CHECK_FALSE(host->store.contains("/libft/1"));  // Its mark: libft has let go.
  guest->reset();
  CHECK(host->domains.contains(1));
}

TEST_CASE("a guest that was handed over is destroyed as it stands, and never set running") {
  const auto host = host_with_guest();
  auto primary = XenGuest::attach(kName, host->options());
  REQUIRE(primary);
  REQUIRE((*primary)->pause().ok());
  (*primary)->destroy();
  CHECK(host->domains.empty());
  CHECK_FALSE((*primary)->resume().ok());
  primary->reset();
  CHECK(host->panics == 0);
}

TEST_CASE("a standby is warm, continues the guest, and is known by its name then") {
  const auto first = host_with_guest();
  const auto second = std::make_shared<FakeHost>();
  auto primary = XenGuest::attach(kName, first->options());
  REQUIRE(primary);
  auto standby = XenGuest::build_standby((*primary)->info(), second->options());
  REQUIRE_MESSAGE(standby, standby.error().to_string());
  const DomId id = (*standby)->domain();
  CHECK((*standby)->accepts((*primary)->info()).ok());
  CHECK(second->domains[id].info.paused);
  CHECK(second->domains[id].info.total_pages == 166);
  const std::string name = "/local/domain/" + std::to_string(id) + "/name";
  CHECK(second->store[name] == "web--ft");
  CHECK(second->joined == std::vector<std::string>{"vif1.0 xenbr0"});

  first->write_page(1, 120, 42);
  const auto state = state_of(**primary);
  copy_memory((*primary)->info(), (*standby)->info());
  CHECK((*standby)->probe_state(state).ok());
  test::NowForTrial moment(state);
  CHECK((*standby)->trial_run(moment).ok());
  CHECK(moment.held == 1);
  CHECK(moment.let_go_of == 1);
  CHECK(second->domains.size() == 1);  // What was thrown away is gone.
  CHECK_FALSE(second->domains[id].ran);

  REQUIRE((*standby)->load_state(state).ok());
  CHECK_FALSE(second->domains[id].ran);
  REQUIRE((*standby)->activate().ok());
  CHECK(second->domains[id].runs());
  CHECK(second->store[name] == kName);
  CHECK(second->announced == std::vector<std::string>{"xenbr0 00:16:3e:00:00:01"});
  CHECK(second->page(id, 120)[5] == std::byte{42});
  CHECK(second->domains[id].params[kParamStorePort] == 1);
  CHECK(second->domains[id].tsc == first->domains[1].tsc);
  CHECK((*standby)->start_tracking().ok());
  standby->reset();
  CHECK(second->domains[id].runs());
}

TEST_CASE("an interface on Open vSwitch is connected by Xen's script, and its port goes with it") {
  const auto first = host_with_guest(), second = std::make_shared<FakeHost>();
  first->store["/local/domain/0/backend/vif/1/0/script"] = "/etc/xen/scripts/vif-openvswitch";
  auto primary = XenGuest::attach(kName, first->options());
  REQUIRE_MESSAGE(primary, primary.error().to_string());
  SUBCASE("which is there") {
    auto standby = XenGuest::build_standby((*primary)->info(), second->options());
    REQUIRE(standby);
    CHECK(second->joined.empty());
    CHECK(second->switch_ports ==
          std::map<std::string, std::string>{{"vif1.0", "/local/domain/0/backend/vif/1/0"}});
    CHECK(second->store["/local/domain/0/backend/vif/1/0/hotplug-status"] == "connected");
    standby->reset();
    CHECK(second->switch_ports.empty());
  }
  SUBCASE("which is not there") {
    second->open_vswitch = false;
    const auto standby = XenGuest::build_standby((*primary)->info(), second->options());
    REQUIRE_FALSE(standby);
    CHECK(standby.error().code() == Code::unsupported);
    CHECK(standby.error().message().find("no ovs-vsctl") != std::string::npos);
    CHECK(second->domains.empty());
  }
}

TEST_CASE("the toolstack of the backup knows the domain as that of the primary does") {
  const auto first = host_with_guest(), second = std::make_shared<FakeHost>();
  const Userdata kept{{"libxl-json", "{}"}, {"xl", "name = \"web\"\n"}};
  first->userdata[1] = kept;
  auto primary = XenGuest::attach(kName, first->options());
  REQUIRE(primary);
  auto standby = XenGuest::build_standby((*primary)->info(), second->options());
  REQUIRE(standby);
  const DomId id = (*standby)->domain();
  CHECK(second->userdata[id] == kept);
  SUBCASE("a standby that is given up is forgotten") {
    standby->reset();
    CHECK(second->userdata.empty());
  }
  SUBCASE("a promoted one is not") {
    const auto state = state_of(**primary);
    REQUIRE((*standby)->load_state(state).ok());
    REQUIRE((*standby)->activate().ok());
    standby->reset();
    CHECK(second->userdata[id] == kept);
  }
  SUBCASE("what no toolstack keeps is refused") {
    GuestInfo info = (*primary)->info();
    const std::string key = "\"libxl-json\"";
    info.compatibility.replace(info.compatibility.find(key), key.size(), "\"evil\"");
    CHECK(XenGuest::build_standby(info, second->options()).error().code() == Code::corrupt);
  }
}

TEST_CASE("a standby that is given up takes its domain along") {
  const auto first = host_with_guest();
  const auto second = std::make_shared<FakeHost>();
  auto primary = XenGuest::attach(kName, first->options());
  REQUIRE(primary);
  auto standby = XenGuest::build_standby((*primary)->info(), second->options());
  REQUIRE(standby);
  SUBCASE("by destroy") { (*standby)->destroy(); }
  standby->reset();
  CHECK(second->domains.empty());
  CHECK(second->store.empty());
}

TEST_CASE("a standby that goes leaves in xenstore what another domain of its UUID has there") {
  const auto first = host_with_guest();
  const auto second = std::make_shared<FakeHost>();
  auto primary = XenGuest::attach(kName, first->options());
  REQUIRE(primary);
  auto standby = XenGuest::build_standby((*primary)->info(), second->options());
  REQUIRE(standby);
  const std::string vm =
      second->store["/local/domain/" + std::to_string((*standby)->domain()) + "/vm"];
  bool migrated_here = false;
  SUBCASE("alone") {}
  SUBCASE("its owner migrated the guest here") { migrated_here = true; }
  if (migrated_here) second->store["/local/domain/77/vm"] = vm;
  standby->reset();
  CHECK(second->store.contains(vm + "/uuid") == migrated_here);
}

enum class Holder { killed, lives, killed_when_it_was_promoted };

void check_sweep(Kind kind, Holder holder) {
  const auto first = host_with(kind);
  const auto second = std::make_shared<FakeHost>();
  auto primary = XenGuest::attach(kName, first->options());
  REQUIRE(primary);
  auto earlier = XenGuest::build_standby((*primary)->info(), second->options());
  REQUIRE(earlier);
  std::set<DomId> left;
  for (const auto& [id, domain] : second->domains) left.insert(id);
  CHECK(left.size() == (kind == Kind::pvh ? 1 : 2));
  for (const DomId id : left) {
    const std::string number = std::to_string(id);
    if (holder != Holder::lives) second->store["/libft-warm/" + number] = "2147483647 1";
    if (holder == Holder::killed_when_it_was_promoted)
      second->store["/local/domain/" + number + "/name"] = kName;
  }
  // There is room for another one only where that is taken away.
  if (holder == Holder::killed)
    second->free_bytes = needs_of({166, 0, 1, kind == Kind::hvm}).backup_xen - 1;
  auto next = XenGuest::build_standby((*primary)->info(), second->options());
  REQUIRE_MESSAGE(next, next.error().to_string());
  const bool stays = holder != Holder::killed;
  for (const DomId id : left) {
    CHECK(second->domains.contains(id) == stays);
    CHECK(second->models.contains(id) == (stays && kind == Kind::hvm));
  }
  CHECK(second->domains.contains((*next)->domain()));
}

TEST_CASE("the next standby takes away what one that was killed left, and nothing else") {
  for (const Kind kind : {Kind::pvh, Kind::hvm})
    for (const Holder holder : {Holder::killed, Holder::lives, Holder::killed_when_it_was_promoted})
      check_sweep(kind, holder);
}

TEST_CASE("a state of another domain, or none, is refused before anything is touched") {
  const auto host = host_with_guest();
  auto primary = XenGuest::attach(kName, host->options());
  REQUIRE(primary);
  auto standby = XenGuest::build_standby((*primary)->info(), host->options());
  REQUIRE(standby);
  const std::vector<std::byte> none(100);
  CHECK((*standby)->probe_state(none).code() == Code::corrupt);
  CHECK((*standby)->load_state(none).code() == Code::corrupt);
  CHECK((*primary)->load_state(none).code() == Code::internal);
}

TEST_CASE("a host whose Xen has too little memory for the guest is refused, with both figures") {
  const auto host = host_with_guest();
  auto primary = XenGuest::attach(kName, host->options());
  REQUIRE(primary);
  const auto backup = std::make_shared<FakeHost>();
  backup->free_bytes = 3u << 20;
  const auto standby = XenGuest::build_standby((*primary)->info(), backup->options());
  REQUIRE_FALSE(standby);
  CHECK(standby.error().code() == Code::exhausted);
  const std::string& why = standby.error().message();
  for (const char* part : {"needs 6 MiB", "3 MiB are free", "dom0_mem"})
    CHECK_MESSAGE(why.find(part) != std::string::npos, part, " in: ", why);
  CHECK(backup->domains.empty());
}

TEST_CASE("a processor that cannot give what the guest has is refused, with the line that helps") {
  const auto host = host_with_guest();
  constexpr std::uint32_t kPlain = 0xffffffff;
  host->domains[1].policy =
      policy_of({{1, kPlain, {0, 0, 0b1011, 0}}, {7, 0, {9, 1u << 31, 0, 0}}});
  auto primary = XenGuest::attach(kName, host->options());
  REQUIRE(primary);
  const auto backup = std::make_shared<FakeHost>();
  backup->most = policy_of({{1, kPlain, {0, 0, 0b0111, ~0u}}, {7, 0, {1, 0, 0, 0}}});
  const auto standby = XenGuest::build_standby((*primary)->info(), backup->options());
  REQUIRE_FALSE(standby);
  CHECK(standby.error().code() == Code::refused);
  const std::string& why = standby.error().message();
  const std::string line =
      "cpuid = [ \"0x1:ecx=xxxxxxxxxxxxxxxxxxxxxxxxxxxx0xxx\", "
      "\"0x7,0x0:ebx=0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" ]";
  CHECK_MESSAGE(why.find(line) != std::string::npos, why);
  CHECK(backup->domains.empty());
}

TEST_CASE("a trial without memory for it says how much is missing") {
  const auto host = host_with_guest();
  auto primary = XenGuest::attach(kName, host->options());
  auto standby = XenGuest::build_standby((*primary)->info(), host->options());
  REQUIRE(standby);
  const auto state = state_of(**primary);
  host->free_bytes = 1 << 20;
  test::NowForTrial moment(state);
  const Status trial = (*standby)->trial_run(moment);
  CHECK(trial.code() == Code::exhausted);
  CHECK(trial.message().find("1 MiB free") != std::string::npos);
}

// --- HVM ----------------------------------------------------------------------------------------

TEST_CASE("an HVM guest's device model stands still for its state, and reports what it writes") {
  for (const Kind kind : {Kind::hvm, Kind::hvm_bare}) {
    const auto host = host_with(kind);
    auto guest = XenGuest::attach(kName, host->options());
    REQUIRE_MESSAGE(guest, guest.error().to_string());
    const bool bare = kind == Kind::hvm_bare;
    CHECK((*guest)->info().cooperative == !bare);
    CHECK((*guest)->interfaces().size() == (bare ? 2 : 1));
    REQUIRE((*guest)->start_tracking().ok());
    CHECK(host->models[1].logs);
    REQUIRE((*guest)->pause().ok());
    CHECK(host->domains[1].info.shutdown);
    CHECK_FALSE(host->models[1].runs);
    PageSet pages;
    REQUIRE((*guest)->take_written(pages).ok());
    CHECK(pages.contains(PageNo{130}));  // The keyboard's ring.
    REQUIRE((*guest)->save_state().ok());
    REQUIRE((*guest)->resume().ok());
    CHECK(host->domains[1].runs());
    CHECK(host->models[1].runs);
    (*guest)->stop_tracking();
    CHECK_FALSE(host->models[1].logs);
    guest->reset();
    CHECK(host->models[1].runs);
  }
}

TEST_CASE("a guest that waits for a device model which does not answer is not captured") {
  const auto host = host_with(Kind::hvm_bare);
  auto guest = XenGuest::attach(kName, host->options());
  REQUIRE(guest);
  host->models[1].runs = false;
  const Status paused = (*guest)->pause();
  CHECK(paused.code() == Code::timeout);
  CHECK(paused.message().find("device model") != std::string::npos);
  CHECK(host->domains[1].runs());
}

TEST_CASE("an HVM standby has a device model that waits, and that continues the guest") {
  for (const Kind kind : {Kind::hvm, Kind::hvm_bare}) {
    const auto first = host_with(kind);
    const auto second = std::make_shared<FakeHost>();
    auto primary = XenGuest::attach(kName, first->options());
    REQUIRE(primary);
    auto standby = XenGuest::build_standby((*primary)->info(), second->options());
    REQUIRE_MESSAGE(standby, standby.error().to_string());
    const DomId id = (*standby)->domain();
    CHECK((*standby)->accepts((*primary)->info()).ok());
    CHECK(second->models[id].waits);
    CHECK(second->models.size() == 2);  // The other one is to be thrown away.
    CHECK(second->joined.size() == (kind == Kind::hvm_bare ? 2 : 1));
    const auto state = state_of(**primary);
    copy_memory((*primary)->info(), (*standby)->info());
    CHECK((*standby)->probe_state(state).ok());
    CHECK((*standby)->probe_state(state).ok());
    test::NowForTrial moment(state);
    CHECK((*standby)->trial_run(moment).ok());
    CHECK(second->domains.size() == 1);
    CHECK(second->models.size() == 1);
    CHECK(second->models[id].waits);
    REQUIRE((*standby)->load_state(state).ok());
    REQUIRE((*standby)->activate().ok());
    CHECK(second->domains[id].runs());
    CHECK(second->models[id].runs);
    CHECK(second->models[id].state == first->models[1].state);
    CHECK(second->store["/local/domain/" + std::to_string(id) + "/image/device-model-pid"] ==
          std::to_string(100 + id));
    CHECK((*standby)->start_tracking().ok());
    CHECK(second->models[id].logs);
    standby->reset();
    CHECK(second->domains[id].runs());
    CHECK(second->models[id].runs);
  }
}

TEST_CASE("what of a device model cannot be remade is refused with the rest") {
  const auto host = host_with(Kind::hvm);
  host->arguments.insert(host->arguments.end(), {"-vga", "std", "-usb", "-device", "usb-tablet",
                                                 "-drive", "file=/disk,if=ide", "-vnc", "none"});
  host->store["/local/domain/1/device/pci/0/backend"] = "x";
  const auto guest = XenGuest::attach(kName, host->options());
  REQUIRE_FALSE(guest);
  for (const char* reason : {"-vga std", "-usb", "usb-tablet", "-drive", "PCI"})
    CHECK_MESSAGE(guest.error().message().find(reason) != std::string::npos, reason);
  CHECK(guest.error().message().find("-vnc") == std::string::npos);
}

TEST_CASE("a state without its device model's is refused, and so is one too many") {
  const auto hvm = host_with(Kind::hvm), pvh = host_with(Kind::pvh);
  for (const bool with : {true, false}) {
    auto primary = XenGuest::attach(kName, (with ? hvm : pvh)->options());
    REQUIRE(primary);
    auto other = XenGuest::attach(kName, (with ? pvh : hvm)->options());
    REQUIRE(other);
    const auto state = state_of(**primary);
    const auto backup = std::make_shared<FakeHost>();
    auto standby = XenGuest::build_standby((*other)->info(), backup->options());
    REQUIRE(standby);
    CHECK((*standby)->probe_state(state).code() == Code::corrupt);
  }
}

// --- each call fails --------------------------------------------------------------------------

TEST_CASE("each call fails once, at every position: the guest is left running") {
  Kind kind{};
  SUBCASE("PVH") { kind = Kind::pvh; }
  SUBCASE("HVM") { kind = Kind::hvm; }
  SUBCASE("HVM without drivers for Xen") { kind = Kind::hvm_bare; }
  int positions = 0;
  for (;; ++positions) {
    const auto host = host_with(kind);
    host->fail_call(positions);
    const Status status = protect_once(*host);
    if (!host->failed()) {
      CHECK_MESSAGE(status.ok(), status.to_string());
      break;
    }
    CAPTURE(positions);
    CAPTURE(status.to_string());
    CHECK(host->domains[1].runs());
    if (kind != Kind::pvh) CHECK(host->models[1].runs);
    if (!status.ok()) CHECK(status.message().find("injected") != std::string::npos);
  }
  MESSAGE(positions, " calls failed in turn");
  CHECK(positions > 60);
}

TEST_CASE("each call fails once on the backup: it runs when that was said, and never else") {
  Kind kind{};
  SUBCASE("PVH") { kind = Kind::pvh; }
  SUBCASE("HVM") { kind = Kind::hvm; }
  const auto first = host_with(kind);
  auto primary = XenGuest::attach(kName, first->options());
  REQUIRE(primary);
  const auto state = state_of(**primary);
  const GuestInfo info = (*primary)->info();
  int positions = 0;
  for (;; ++positions) {
    const auto host = std::make_shared<FakeHost>();
    host->fail_call(positions);
    const Status status = [&]() -> Status {
      FT_ASSIGN(const auto standby, XenGuest::build_standby(info, host->options()));
      FT_TRY(standby->probe_state(state));
      FT_TRY(standby->load_state(state));
      return standby->activate();
    }();
    CAPTURE(positions);
    CAPTURE(status.to_string());
    std::size_t running = 0, ever = 0;
    for (const auto& [id, domain] : host->domains) {
      running += domain.runs() ? 1 : 0;
      ever += domain.ran ? 1 : 0;
    }
    CHECK(running == (status.ok() ? 1 : 0));
    CHECK(ever == running);
    CHECK(host->domains.size() == running);
    CHECK(host->models.size() == (kind == Kind::pvh ? 0 : running));
    if (!status.ok()) CHECK(status.message().find("injected") != std::string::npos);
    if (!host->failed()) break;
  }
  MESSAGE(positions, " calls failed in turn");
  CHECK(positions > 100);
}

}  // namespace
}  // namespace libft::xen
