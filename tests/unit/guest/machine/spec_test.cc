// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/machine/spec.h"

#include <doctest/doctest.h>

#include "unit/guest/machine/guest_image.h"

using namespace libft;
using namespace libft::machine;

namespace {

const std::string kImage = std::string(LIBFT_MACHINE_GUESTS) + "/bank.bin";

Status read(const std::string& spec) {
  MachineOptions options;
  std::string disk;
  return read_spec(spec, options, disk);
}

}  // namespace

TEST_CASE("a machine is what its description says, and a backup accepts what that says of it") {
  MachineOptions options, backup;
  std::string disk;
  REQUIRE(read_spec(kImage + ",mib=16,harts=2", options, disk).ok());
  CHECK(options.memory_bytes == 16u << 20);
  CHECK(options.harts == 2);
  CHECK(options.kernel == test::read_bytes(kImage));
  CHECK(disk.empty());
  const std::string text = compatibility_of(options, disk);
  REQUIRE(read_compatibility(text, backup, disk).ok());
  CHECK(compatibility_of(backup, disk) == text);
}

TEST_CASE("what cannot be read of a description is named") {
  CHECK(read("/nowhere/image").message().find("/nowhere/image") != std::string::npos);
  for (const std::string wrong : {"mib=x", "mib=0", "harts=0", "harts=99", "speed=9"}) {
    const Status status = read(kImage + "," + wrong);
    CHECK_MESSAGE(!status.ok(), wrong);
    CHECK_FALSE(status.message().empty());
  }
  MachineOptions options;
  std::string disk;
  CHECK_FALSE(read_compatibility("{", options, disk).ok());
  CHECK_FALSE(read_compatibility("{}", options, disk).ok());
}
