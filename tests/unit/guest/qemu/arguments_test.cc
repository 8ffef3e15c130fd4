// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/arguments.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "guest/qemu/inspect.h"
#include "guest/qemu/option.h"

using namespace libft;
using namespace libft::qemu;

namespace {

bool has(const Arguments& arguments, const std::string& name, const std::string& value) {
  for (std::size_t i = 0; i + 1 < arguments.size(); ++i)
    if (arguments[i] == name && arguments[i + 1] == value) return true;
  return false;
}

StandbyArguments on_host(HostPaths paths) {
  StandbyArguments here;
  here.paths = std::move(paths);
  return here;
}

const HostPaths kPaths{"/run/ft/qmp", {{"/run/ft/guest", "/run/ft/gate"}}};

}  // namespace

TEST_CASE("options: commas, switches, the last one counts") {
  Option option("file,path=a,,b,ro,path=c");
  CHECK(option.kind() == "file");
  CHECK(option.get("ro") == "on");
  CHECK(option.get("path") == "c");
  CHECK(Option("x,path=a,,b").get("path") == "a,b");
  CHECK(Option("x,path=a,,b").text() == "x,path=a,,b");
  CHECK(is_option("--netdev", "netdev"));
  CHECK_FALSE(is_option("netdev", "netdev"));
}

TEST_CASE("sizes as QEMU reads them") {
  CHECK(memory_size("128").value_or(0) == 128ull << 20);
  CHECK(memory_size("1G").value_or(0) == 1ull << 30);
  CHECK(memory_size("4096B").value_or(0) == 4096);
  for (const char* bad : {"", "M", "0", "12X", "1GG", "99999999T"}) CHECK_FALSE(memory_size(bad));
}

TEST_CASE("a description: unknown keys are refused by name") {
  const auto good = description_from_json(
      R"({"memory":"256M","vcpus":2,"kernel":"k","nics":[{"mac":"52:54:00:00:00:01"}]})");
  REQUIRE(good);
  CHECK(good->memory_bytes == 256ull << 20);
  CHECK(good->nics.size() == 1);
  const auto bad = description_from_json(R"({"memroy":"256M"})");
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message().find("memroy") != std::string::npos);
  for (const char* text : {"", "[]", "{", R"({"vcpus":0})", R"({"memory":[]})", R"({"nics":{}})"})
    CHECK_FALSE(description_from_json(text));
}

TEST_CASE("a description becomes a command line with shared memory and gated NICs") {
  QemuDescription description;
  description.accel = "tcg";
  description.nics = {{}};
  const auto arguments = arguments_for(description, kPaths);
  REQUIRE(arguments);
  CHECK(has(*arguments, "-object", "memory-backend-memfd,id=ram,size=134217728,share=on"));
  CHECK(has(*arguments, "-netdev",
            "dgram,id=net0,local.type=unix,local.path=/run/ft/guest,remote.type=unix,"
            "remote.path=/run/ft/gate"));
  CHECK_FALSE(arguments_for(description, {"/run/ft/qmp", {}}));
}

TEST_CASE("wrapping adds what is missing and turns the netdevs") {
  const auto wrapped =
      wrap_arguments({"qemu-system-x86_64", "-nodefaults", "-m", "1G", "-netdev",
                      "tap,id=n0,ifname=tap0", "-device", "virtio-net-pci,netdev=n0"},
                     kPaths);
  REQUIRE(wrapped);
  CHECK(has(*wrapped, "-object", "memory-backend-memfd,id=libft-ram,size=1073741824,share=on"));
  CHECK(has(*wrapped, "-netdev",
            "dgram,id=n0,local.type=unix,local.path=/run/ft/guest,remote.type=unix,"
            "remote.path=/run/ft/gate"));
  CHECK(has(*wrapped, "-global", "migration.send-configuration=off"));
  CHECK(std::count(wrapped->begin(), wrapped->end(), "-no-shutdown") == 1);
  const auto again = wrap_arguments(*wrapped, kPaths);
  REQUIRE(again);
  CHECK(std::count(again->begin(), again->end(), "-object") == 1);
}

TEST_CASE("wrapping refuses everything that cannot be turned, at once") {
  const auto refused = wrap_arguments(
      {"qemu-system-x86_64", "-nic", "user", "-object", "memory-backend-ram,id=m,size=1G"}, kPaths);
  REQUIRE_FALSE(refused);
  for (const char* part : {"-nic user", "memory-backend-ram", "-vga none", "gates for 1"})
    CHECK_MESSAGE(refused.error().message().find(part) != std::string::npos, part);
}

TEST_CASE("wrapping refuses a disk that can be seen to be writable") {
  const auto wrapped = [](const char* option, const char* value) {
    return wrap_arguments({"qemu-system-x86_64", "-nodefaults", option, value},
                          {"/run/vm/qmp", {}});
  };
  for (const char* value : {"file=d,if=virtio", "file=d,readonly=off", "driver=null-co"}) {
    CAPTURE(value);
    const auto refused = wrapped("-drive", value);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message().find("add readonly=on") != std::string::npos);
  }
  for (const char* value : {"file=d,readonly=on", "file=d,read-only=yes", "file=d,readonly",
                            "if=none,id=cd0", "file=d,media=cdrom"})
    CHECK_MESSAGE(wrapped("-drive", value), value);
  CHECK_FALSE(wrapped("-hda", "d"));
  CHECK_FALSE(wrapped("--pflash", "d"));
  CHECK(wrapped("-cdrom", "d"));
}

TEST_CASE("the standby's command line keeps the guest's devices and none of the host's paths") {
  QemuDescription description;
  description.accel = "tcg";
  description.nics = {{}};
  description.kernel = "/boot/k";
  description.serial = "/var/log/guest";
  description.extra = {"-chardev", "stdio,id=c0", "-mon", "chardev=c0", "-S"};
  const Arguments shape = shape_of(*arguments_for(description, kPaths));
  for (const std::string& word : shape) CHECK(word.find("/run/ft") == std::string::npos);
  CHECK(has(shape, "-serial", "null"));
  CHECK(has(shape, "-chardev", "null,id=c0"));
  CHECK(netdevs_of(shape) == std::vector<std::string>{"net0"});
  CHECK(files_of(shape) == std::vector<std::string>{"/boot/k"});
  StandbyArguments here;
  here.paths = {"/run/b/qmp", {{"/run/b/guest", "/run/b/gate"}}};
  here.replacements["/boot/k"] = "/boot/copy";
  const auto standby = standby_arguments(shape, here);
  REQUIRE(standby);
  CHECK(has(*standby, "-kernel", "/boot/copy"));
  CHECK(has(*standby, "-incoming", "defer"));
  CHECK(std::count(standby->begin(), standby->end(), "-S") == 1);
  const auto probe = probe_arguments(*standby, {"/proc/7/fd/12"}, {"/run/p/qmp", {{"/a", "/b"}}});
  REQUIRE(probe);
  CHECK(has(*probe, "-object",
            "memory-backend-file,id=ram,size=134217728,share=off,mem-path=/proc/7/fd/12"));
}

TEST_CASE("a standby that shares memory is known by the same shape as one that has its own") {
  const auto running = arguments_for(*description_from_json(R"({"accel":"tcg"})"), {"/q", {}});
  REQUIRE(running);
  const Arguments shape = shape_of(*running);
  StandbyArguments here = on_host({"/run/b/qmp", {}});
  const auto alone = standby_arguments(shape, here);
  here.memory_paths = {"/proc/7/fd/12"};
  const auto sharing = standby_arguments(shape, here);
  REQUIRE(alone);
  REQUIRE(sharing);
  CHECK(has(*sharing, "-object",
            "memory-backend-file,id=ram,size=134217728,share=on,mem-path=/proc/7/fd/12"));
  CHECK(shape_of(*sharing) == shape_of(*alone));
  const Arguments two{"q", "-object", "memory-backend-memfd,id=a", "-object",
                      "memory-backend-memfd,id=b"};
  here.memory_paths = {"/a"};
  CHECK_FALSE(standby_arguments(two, here));
}

TEST_CASE("the guest agent's port: here by its socket, on the standby by another, else by none") {
  const auto description = description_from_json(R"({"accel":"tcg","guest_agent":true})");
  REQUIRE(description);
  CHECK_FALSE(description_from_json(R"({"guest_agent":"yes"})"));
  const auto running = arguments_for(*description, {"/run/ft/qmp", {}});
  REQUIRE(running);
  CHECK(has(*running, "-device", "virtserialport,chardev=libft-agent,name=org.qemu.guest_agent.0"));
  CHECK(agent_socket_of(*running) == "/run/ft/qmp.agent");
  CHECK(agent_socket_of(*arguments_for({}, {"/run/ft/qmp", {}})).empty());

  const Arguments shape = shape_of(*running);
  CHECK(agent_socket_of(shape).empty());
  const auto standby = standby_arguments(shape, on_host({"/run/b/qmp", {}, "/run/b/agent"}));
  REQUIRE(standby);
  CHECK(agent_socket_of(*standby) == "/run/b/agent");
  CHECK(shape_of(*standby) == shape_of(*standby_arguments(shape, on_host({"/q", {}}))));
  const auto probe = probe_arguments(*standby, {"/proc/7/fd/12"}, {"/run/p/qmp", {}});
  REQUIRE(probe);
  CHECK(agent_socket_of(*probe).empty());
}

TEST_CASE("wrapping keeps a port for the guest's agent, however it was written") {
  for (const char* socket : {"socket,path=/run/vm/ga,server=on,wait=off,id=ga",
                             "socket,id=ga,path=/run/vm/ga,server,nowait"}) {
    CAPTURE(socket);
    const auto wrapped =
        wrap_arguments({"qemu-system-x86_64", "-nodefaults", "-chardev", "stdio,id=c0", "-chardev",
                        socket, "-device", "virtio-serial", "-device",
                        "virtserialport,chardev=ga,name=org.qemu.guest_agent.0"},
                       {"/run/ft/qmp", {}});
    REQUIRE(wrapped);
    CHECK(agent_socket_of(*wrapped) == "/run/vm/ga");
    const auto standby = standby_arguments(shape_of(*wrapped), on_host({"/run/b/qmp", {}}));
    REQUIRE(standby);
    CHECK(agent_socket_of(*standby) == "/run/b/qmp.agent");
    CHECK(has(*standby, "-chardev", "null,id=c0"));
  }
  const Arguments client{"q", "-chardev", "socket,id=ga,path=/x", "-device",
                         "virtserialport,chardev=ga,name=org.qemu.guest_agent.0"};
  CHECK(agent_socket_of(client).empty());
}

TEST_CASE("memory outside the shared one is found by name") {
  const auto blocks = parse_ram_blocks(
      "              Block Name    PSize              Offset               Used              "
      "Total\n"
      "                     ram    4 KiB  0x0000000000000000 0x0000000008000000 "
      "0x0000000008000000\n"
      "                vga.vram    4 KiB  0x0000000008080000 0x0000000001000000 "
      "0x0000000001000000\n"
      "    /rom@etc/acpi/tables    4 KiB  0x00000000080c0000 0x0000000000020000 "
      "0x0000000000200000\n"
      "                 pc.bios    4 KiB  0x0000000008000000 0x0000000000040000 "
      "0x0000000000040000\n");
  REQUIRE(blocks.size() == 4);
  CHECK(blocks[2].bytes == 0x200000);
  const auto uncovered = uncovered_blocks(blocks, {"ram"});
  REQUIRE(uncovered.size() == 1);
  CHECK(uncovered[0].name == "vga.vram");
}

TEST_CASE("back ends without a gate are named") {
  const auto found = ungated_nics(
      "virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n"
      " \\ n0: index=0,type=user,net=10.0.2.0,restrict=off\r\n"
      "n1: index=0,type=dgram,\r\n");
  CHECK(found == std::vector<std::string>{"n0 (user)"});
}

TEST_CASE("a guest's Ethernet addresses are among its devices") {
  const auto devices = parse_devices(
      "bus: main-system-bus\n"
      "  dev: virtio-net-pci, id \"\"\n"
      "    addr = 02.0\n"
      "    mac = \"52:54:00:12:34:ff\"\n"
      "    netdev = \"net0\"\n"
      "  dev: e1000, id \"\"\n"
      "    mac = \"52:54:00:12:34:57\"\n"
      "  dev: broken, id \"\"\n"
      "    mac = \"52:54:00:12\"\n"
      "  dev: PIIX3, id \"\"\n");
  using Address = std::array<std::uint8_t, 6>;
  CHECK(addresses_of(devices) == std::vector<Address>{{0x52, 0x54, 0, 0x12, 0x34, 0xff},
                                                      {0x52, 0x54, 0, 0x12, 0x34, 0x57}});
}

TEST_CASE("a shape survives its JSON; damage and differences are named") {
  Shape shape;
  shape.qemu = "7.2.22";
  shape.machine = "pc-i440fx-7.2";
  shape.memory = {1 << 20};
  shape.blocks = {{"ram", 1 << 20}};
  shape.devices = {"virtio-net-pci, id \"\""};
  shape.files = {{"/boot/k", "00"}};
  shape.arguments = {"qemu-system-x86_64"};
  const std::string json = to_json(shape);
  const auto back = shape_from_json(json);
  REQUIRE(back);
  CHECK(to_json(*back) == json);
  CHECK(differences(shape, *back).empty());
  for (std::size_t cut = 0; cut < json.size(); ++cut)
    CHECK_FALSE(shape_from_json(json.substr(0, cut)));
  CHECK_FALSE(shape_from_json(R"({"qemu":1})"));
  Shape other = shape;
  other.qemu = "8.0.0";
  other.devices.clear();
  other.files["/boot/k"] = "01";
  CHECK(differences(shape, other).size() == 3);
}
