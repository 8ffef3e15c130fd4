// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/machine/spec.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "unit/guest/machine/guest_image.h"
#include "unit/guest/machine/temporary_folder.h"

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

  // As peers say it that know no disks to be written, and as some said it that have none.
  const auto at = text.find("file=");
  REQUIRE(at != std::string::npos);
  CHECK(text.find("writable") == std::string::npos);
  MachineOptions of_other;
  REQUIRE(read_compatibility(text.substr(0, at) + "writable=0 file=", of_other, disk).ok());
  CHECK(compatibility_of(of_other, disk) == text);
}

TEST_CASE("each replica has a file of its own for a writable disk") {
  const std::string folder = test::temporary_folder();
  const std::string one = folder + "/one", other = folder + "/other";
  std::ofstream(one) << std::string(8192, 'x');
  MachineOptions options;
  std::string disk;
  REQUIRE(read_spec(kImage + ",rwdisk=" + one, options, disk).ok());
  REQUIRE(options.writable_disk);
  CHECK(options.writable_disk->bytes().size() == 8192);
  options.writable_disk->bytes()[5] = std::byte{'y'};
  CHECK(std::to_integer<char>(test::read_bytes(one)[5]) == 'y');
  CHECK(read(kImage + ",disk=" + kImage + ",rwdisk=" + one).code() == Code::invalid);

  // A backup on the same host must not have the same file; its own is made.
  const std::string text = compatibility_of(options, disk);
  MachineOptions backup;
  std::string name;
  const Status same = read_compatibility(text, backup, name);
  CHECK(same.code() == Code::refused);
  CHECK(same.message().find("--disk") != std::string::npos);
  REQUIRE(read_compatibility(text, backup, name, other).ok());
  CHECK(compatibility_of(backup, name) == text);
  CHECK(std::filesystem::file_size(other) == 8192);

  MachineOptions again;
  backup.writable_disk.reset();
  std::ofstream(other) << "short";
  CHECK(read_compatibility(text, again, name, other).code() == Code::refused);
  CHECK(read(kImage + ",rwdisk=" + other).code() == Code::invalid);  // No whole pages.
  std::filesystem::remove_all(folder);
}

TEST_CASE("what cannot be read of a description is named") {
  CHECK(read("/nowhere/image").message().find("/nowhere/image") != std::string::npos);
  for (const std::string wrong : {"mib=x", "mib=0", "harts=0", "harts=99", "smp=both", "speed=9"}) {
    const Status status = read(kImage + "," + wrong);
    CHECK_MESSAGE(!status.ok(), wrong);
    for (const char* key :
         {"mib", "harts", "smp", "quantum", "mac", "initrd", "disk", "rwdisk", "append"}) {
      CHECK_MESSAGE(status.message().find(fmt::format("[,{}=", key)) != std::string::npos, key);
    }
  }
  MachineOptions options;
  std::string disk;
  CHECK_FALSE(read_compatibility("{", options, disk).ok());
  CHECK_FALSE(read_compatibility("{}", options, disk).ok());
}
