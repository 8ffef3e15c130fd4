// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/state.h"

#include <doctest/doctest.h>

#include <random>

#include "guest/xen/shape.h"

namespace libft::xen {
namespace {

DomainState sample() {
  DomainState state;
  state.uuid = {1, 2, 3, 4};
  state.vcpus = 2;
  state.context.assign(300, std::byte{9});
  state.params = {{1, 0xfeff8}, {17, 0xfeffb}};
  state.tsc = {1, 2'000'000, 3, 123'456'789};
  return state;
}

Shape sample_shape() {
  Shape shape;
  shape.xen = "4.17.7";
  shape.name = "web";
  shape.type = "pvh";
  shape.uuid = {5, 6};
  shape.emulation = 1;
  shape.vcpus = 2;
  shape.max_pages = 1000;
  shape.paging_pool_bytes = 4u << 20;
  shape.policy.leaves = {1, 2, 3};
  shape.vifs = {{0, {{"mac", "00:16:3e:00:00:01"}, {"bridge", "xenbr0"}}}};
  shape.nodes = {{"memory/target", "131072", false}, {"control/feature-suspend", "1", true}};
  return shape;
}

TEST_CASE("a domain's state comes back as it was") {
  std::vector<std::byte> bytes{std::byte{1}};
  encode(sample(), bytes);
  const auto back = decode(bytes);
  REQUIRE(back);
  CHECK(*back == sample());
}

TEST_CASE("a device model's state comes back as it was, once") {
  DomainState state = sample();
  state.devices.assign(500, std::byte{3});
  std::vector<std::byte> bytes;
  encode(state, bytes);
  const auto back = decode(bytes);
  REQUIRE(back);
  CHECK(*back == state);
  const std::vector<std::byte> record(bytes.end() - 508, bytes.end());
  bytes.insert(bytes.end(), record.begin(), record.end());
  bytes[6] = std::byte{6};
  CHECK(decode(bytes).error().code() == Code::corrupt);
}

TEST_CASE("a state that was cut anywhere is refused") {
  DomainState state = sample();
  SUBCASE("of a PVH domain") {}
  SUBCASE("of an HVM domain") { state.devices.assign(500, std::byte{3}); }
  std::vector<std::byte> bytes;
  encode(state, bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK_FALSE(decode(std::span(bytes).first(size)));
  bytes.push_back(std::byte{0});
  CHECK_FALSE(decode(bytes));
}

TEST_CASE("a record of an unknown type is skipped where it says so, and named where not") {
  std::vector<std::byte> bytes;
  encode(sample(), bytes);
  bytes[6] = std::byte{5};  // One record more.
  const std::byte skipped[] = {std::byte{99}, {}, std::byte{1}, {}, {}, {}, {}, {}};
  bytes.insert(bytes.end(), std::begin(skipped), std::end(skipped));
  CHECK(decode(bytes));
  bytes[bytes.size() - 6] = std::byte{0};
  const auto refused = decode(bytes);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == Code::unsupported);
  CHECK(refused.error().message().find("record type 99") != std::string::npos);
}

TEST_CASE("any bytes are decoded or refused, never more") {
  std::mt19937 random(7);
  std::vector<std::byte> good;
  encode(sample(), good);
  std::size_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> bytes = good;
    for (unsigned i = 0; i <= random() % 4; ++i)
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    const auto decoded = decode(bytes);
    accepted += decoded ? 1 : 0;
    if (!decoded) CHECK_FALSE(decoded.error().message().empty());
  }
  CHECK(accepted > 0);  // A changed context or parameter is still a state.
}

TEST_CASE("a shape comes back as it was, and is refused when anything of it is missing") {
  const std::string json = to_json(sample_shape());
  const auto back = shape_from_json(json);
  REQUIRE(back);
  CHECK(*back == sample_shape());
  for (const char* key :
       {"\"xen\"", "\"name\"", "\"uuid\"", "\"vcpus\"", "\"max_pages\"", "\"cpuid\"", "\"vifs\"",
        "\"nodes\"", "\"cooperative\"", "\"keyboard\"", "\"emulated\""}) {
    std::string without = json;
    without.replace(without.find(key), 2, "\"_");
    CHECK_FALSE(shape_from_json(without));
  }
  CHECK_FALSE(shape_from_json("{"));
  CHECK_FALSE(shape_from_json("[]"));
}

TEST_CASE("a shape carries its device model, and a peer's is looked at") {
  Shape shape = sample_shape();
  shape.keyboard = true;
  shape.device_model = {"7.2.22 (Debian)",
                        {{"-no-shutdown", ""}, {"-m", "192"}, {"-machine", "xenfv"}},
                        {{0, "e1000", "00:16:3e:00:00:01"}}};
  const auto back = shape_from_json(to_json(shape));
  REQUIRE(back);
  CHECK(*back == shape);
  CHECK(back->stop_way() == StopWay::asked);
  shape.cooperative = false;
  CHECK(shape.stop_way() == StopWay::suspended);
  shape.device_model->options.push_back({"-chroot", "/"});
  CHECK_FALSE(shape_from_json(to_json(shape)));
  shape.device_model.reset();
  CHECK(shape.stop_way() == StopWay::paused);
}

TEST_CASE("a peer's paths stay below the domain's folder") {
  for (const char* path : {"../0/name", "/local", "a//b", "a/../b", "", "a/"}) {
    Shape shape = sample_shape();
    shape.nodes = {{path, "x", false}};
    CHECK_FALSE(shape_from_json(to_json(shape)));
  }
  Shape shape = sample_shape();
  shape.name = "a/b";
  CHECK_FALSE(shape_from_json(to_json(shape)));
}

}  // namespace
}  // namespace libft::xen
