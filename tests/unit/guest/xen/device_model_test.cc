// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/device_model.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace libft::xen {
namespace {

// As libxl 4.17 writes it for an HVM guest with one interface and direct boot.
const std::vector<std::string> kArguments{
    "-xen-domid",
    "7",
    "-no-shutdown",
    "-chardev",
    "socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-7,server=on,wait=off",
    "-mon",
    "chardev=libxl-cmd,mode=control",
    "-nodefaults",
    "-name",
    "web",
    "-vnc",
    "none",
    "-kernel",
    "/guest/vmlinuz",
    "-append",
    "quiet panic=-1",
    "-smp",
    "2,maxcpus=2",
    "-device",
    "e1000,id=nic0,netdev=net0,mac=00:16:3e:00:00:01",
    "-netdev",
    "type=tap,id=net0,ifname=vif7.0-emu,br=xenbr0,script=no,downscript=no",
    "-incoming",
    "fd:9",
    "-machine",
    "xenfv,suppress-vmdesc=on",
    "-m",
    "192"};

bool has(const std::vector<std::string>& words, const std::string& name, const std::string& value) {
  const auto at = std::find(words.begin(), words.end(), name);
  return at != words.end() && at + 1 != words.end() && *(at + 1) == value;
}

TEST_CASE("a command line is taken apart, and put together for another domain") {
  std::vector<std::string> missing;
  const DeviceModelShape shape = read_arguments(kArguments, missing);
  CHECK(missing.empty());
  CHECK(check(shape).ok());
  CHECK(shape.nics == std::vector<EmulatedNic>{{0, "e1000", "00:16:3e:00:00:01"}});
  const auto words = waiting_arguments(shape, 3, "web");
  CHECK(has(words, "-xen-domid", "3"));
  CHECK(has(words, "-append", "quiet panic=-1"));
  CHECK(has(words, "-machine", "xenfv,suppress-vmdesc=on"));
  CHECK(has(words, "-device", "e1000,id=nic0,netdev=net0,mac=00:16:3e:00:00:01"));
  CHECK(has(words, "-netdev", "type=tap,id=net0,ifname=vif3.0-emu,script=no,downscript=no"));
  CHECK(has(words, "-incoming", "defer"));
  CHECK(std::count(words.begin(), words.end(), "-nodefaults") == 1);
}

TEST_CASE("the device model of a promoted domain is the same shape again") {
  std::vector<std::string> missing;
  const DeviceModelShape shape = read_arguments(kArguments, missing);
  CHECK(read_arguments(waiting_arguments(shape, 3, "web"), missing) == shape);
  CHECK(missing.empty());
}

TEST_CASE("each thing that cannot be remade is named") {
  const auto reasons = [](std::vector<std::string> arguments) {
    std::vector<std::string> missing;
    (void)read_arguments(arguments, missing);
    return missing;
  };
  CHECK(reasons({"-vga", "std"}).size() == 1);
  CHECK(reasons({"-vga", "none", "-serial", "pty"}).empty());
  CHECK(reasons({"-serial", "file:/tmp/x"}).size() == 1);
  CHECK(reasons({"-usb", "-device", "usb-tablet"}).size() == 2);
  CHECK(reasons({"-drive", "file=a", "-m", "192"}).size() == 1);
  CHECK(reasons({"-device", "e1000,id=nic0,netdev=net1"}).size() == 1);
  CHECK(reasons({"-netdev", "type=user,id=net0"}).size() == 1);
  CHECK(reasons({"-machine", "q35"}).size() == 1);
  CHECK(reasons({"-m"}).empty());  // Cut short: nothing is read past the end.
}

TEST_CASE("a peer's words become no command line unless libft could have read them here") {
  const auto verdict = [](DeviceModelShape shape) { return check(shape).code(); };
  CHECK(verdict({"", {{"-m", "192"}}, {}}) == Code::ok);
  CHECK(verdict({"", {{"-m", "192"}, {"-daemonize", ""}}, {}}) == Code::refused);
  CHECK(verdict({"", {{"-serial", "file:/etc/passwd"}}, {}}) == Code::refused);
  CHECK(verdict({"", {{"-no-shutdown", "x"}}, {}}) == Code::refused);
  CHECK(verdict({"", {{"-machine", "pc,firmware=/x"}}, {}}) == Code::refused);
  CHECK(verdict({"", {}, {{0, "e1000", "00:16:3e:00:00:01,romfile=x"}}}) == Code::refused);
  CHECK(verdict({"", {}, {{0, "vfio-pci", "00:16:3e:00:00:01"}}}) == Code::refused);
  CHECK(verdict({"", std::vector<DeviceOption>(65, {"-m", "1"}), {}}) == Code::refused);
}

}  // namespace
}  // namespace libft::xen
