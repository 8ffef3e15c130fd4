// SPDX-License-Identifier: LGPL-2.1-or-later
// A Shape as JSON, and what makes two of them differ. The JSON comes from a peer: nothing in it is
// trusted to be there or of the right kind.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "guest/qemu/inspect.h"

namespace libft::qemu {
namespace {

constexpr std::size_t kEntriesMax = 4096;

bool take(const Json& json, const char* key, std::string& into) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return false;
  into = found->get<std::string>();
  return true;
}

bool take(const Json& json, const char* key, std::vector<std::string>& into) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array() || found->size() > kEntriesMax) return false;
  for (const Json& entry : *found) {
    if (!entry.is_string()) return false;
    into.push_back(entry.get<std::string>());
  }
  return true;
}

bool take_numbers(const Json& json, Shape& shape) {
  const auto memory = json.find("memory");
  const auto blocks = json.find("blocks");
  const auto vcpus = json.find("vcpus");
  if (memory == json.end() || !memory->is_array() || memory->size() > kEntriesMax) return false;
  if (blocks == json.end() || !blocks->is_object() || blocks->size() > kEntriesMax) return false;
  if (vcpus == json.end() || !vcpus->is_number_unsigned()) return false;
  for (const Json& bytes : *memory) {
    if (!bytes.is_number_unsigned()) return false;
    shape.memory.push_back(bytes.get<std::uint64_t>());
  }
  for (const auto& [name, bytes] : blocks->items()) {
    if (!bytes.is_number_unsigned()) return false;
    shape.blocks[name] = bytes.get<std::uint64_t>();
  }
  shape.vcpus = vcpus->get<std::uint32_t>();
  return true;
}

bool take_files(const Json& json, Shape& shape) {
  const auto files = json.find("files");
  if (files == json.end() || !files->is_object() || files->size() > kEntriesMax) return false;
  for (const auto& [path, sum] : files->items()) {
    if (!sum.is_string()) return false;
    shape.files[path] = sum.get<std::string>();
  }
  return true;
}

void compare(std::vector<std::string>& found, std::string_view what, const std::string& theirs,
             const std::string& ours) {
  if (theirs != ours)
    found.push_back(fmt::format("{}: the primary has {}, this host {}", what,
                                theirs.empty() ? "none" : theirs, ours.empty() ? "none" : ours));
}

void compare_devices(std::vector<std::string>& found, const Shape& theirs, const Shape& ours) {
  std::multiset<std::string> extra(ours.devices.begin(), ours.devices.end());
  for (const std::string& device : theirs.devices) {
    const auto same = extra.find(device);
    if (same != extra.end())
      extra.erase(same);
    else
      found.push_back("device missing here: " + device);
  }
  for (const std::string& device : extra) found.push_back("device only here: " + device);
}

void compare_blocks(std::vector<std::string>& found, const Shape& theirs, const Shape& ours) {
  std::set<std::string> names;
  for (const auto& [name, bytes] : theirs.blocks) names.insert(name);
  for (const auto& [name, bytes] : ours.blocks) names.insert(name);
  const auto size = [](const Shape& shape, const std::string& name) {
    const auto block = shape.blocks.find(name);
    return block == shape.blocks.end() ? std::string() : fmt::format("{} bytes", block->second);
  };
  for (const std::string& name : names)
    compare(found, "memory block " + name, size(theirs, name), size(ours, name));
}

// By content, whatever they are called.
void compare_files(std::vector<std::string>& found, const Shape& theirs, const Shape& ours) {
  const auto sums = [](const Shape& shape) {
    std::multiset<std::string> all;
    for (const auto& [path, sum] : shape.files) all.insert(sum);
    return all;
  };
  if (sums(theirs) == sums(ours)) return;
  for (const auto& [path, sum] : theirs.files) {
    const auto here = ours.files.find(path);
    if (here == ours.files.end() || here->second != sum)
      found.push_back(
          fmt::format("file {} has other content here, or is missing: copy it from the "
                      "primary, or name its replacement",
                      path));
  }
}

}  // namespace

std::string to_json(const Shape& shape) {
  const Json json{{"qemu", shape.qemu},
                  {"machine", shape.machine},
                  {"accelerator", shape.accelerator},
                  {"processor", shape.processor},
                  {"state", to_string(shape.way)},
                  {"memory", shape.memory},
                  {"blocks", shape.blocks},
                  {"devices", shape.devices},
                  {"files", shape.files},
                  {"arguments", shape.arguments},
                  {"vcpus", shape.vcpus}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Shape> shape_from_json(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  Shape shape;
  std::string way;
  if (!json.is_object() || !take(json, "qemu", shape.qemu) ||
      !take(json, "machine", shape.machine) || !take(json, "accelerator", shape.accelerator) ||
      !take(json, "processor", shape.processor) || !take(json, "state", way) ||
      !take(json, "devices", shape.devices) || !take(json, "arguments", shape.arguments) ||
      !take_numbers(json, shape) || !take_files(json, shape))
    return failure(Code::corrupt, "this is no description of a QEMU guest");
  if (way != "devices-only" && way != "migration")
    return failure(Code::unsupported, "unknown way to save device state: " + way.substr(0, 40));
  shape.way = way == "migration" ? StateWay::migration : StateWay::devices_only;
  return shape;
}

std::vector<std::string> differences(const Shape& theirs, const Shape& ours) {
  std::vector<std::string> found;
  compare(
      found,
      "QEMU (equal builds only, since ROMs do not travel: install the same package on both hosts)",
      theirs.qemu, ours.qemu);
  compare(found, "machine type", theirs.machine, ours.machine);
  compare(found, "accelerator", theirs.accelerator, ours.accelerator);
  compare(found, "processor", theirs.processor, ours.processor);
  compare(found, "vCPUs", std::to_string(theirs.vcpus), std::to_string(ours.vcpus));
  compare(found, "memory", fmt::format("{} bytes", fmt::join(theirs.memory, " + ")),
          fmt::format("{} bytes", fmt::join(ours.memory, " + ")));
  compare_blocks(found, theirs, ours);
  compare_devices(found, theirs, ours);
  compare_files(found, theirs, ours);
  return found;
}

}  // namespace libft::qemu
