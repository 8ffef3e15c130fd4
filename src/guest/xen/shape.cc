// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/shape.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/hex.h"

namespace libft::xen {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kVifsMax = 64, kNodesMax = 1024, kPolicyBytesMax = 1u << 20;
constexpr std::uint32_t kVcpusMax = 512;
constexpr std::uint64_t kPagesMax = std::uint64_t{1} << 36;

// Reads fields out of JSON that a peer sent; after the first wrong one `wrong` names it.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json) {}

  std::string text(const char* key, std::size_t max = 4096) {
    const Json* const found = find(key, [](const Json& j) { return j.is_string(); });
    if (found == nullptr) return {};
    auto value = found->get<std::string>();
    if (value.size() > max || value.find('\0') != std::string::npos) wrong_ = key;
    return value;
  }
  std::uint64_t number(const char* key, std::uint64_t min, std::uint64_t max) {
    const Json* const found = find(key, [](const Json& j) { return j.is_number_unsigned(); });
    const std::uint64_t value = found == nullptr ? min : found->get<std::uint64_t>();
    if (value < min || value > max) wrong_ = key;
    return value;
  }
  bool flag(const char* key) {
    const Json* const found = find(key, [](const Json& j) { return j.is_boolean(); });
    return found != nullptr && found->get<bool>();
  }
  std::vector<std::uint8_t> bytes(const char* key) {
    const std::string digits = text(key, 2 * kPolicyBytesMax);
    std::vector<std::uint8_t> value(digits.size() / 2);
    if (!base::from_hex(digits, value)) wrong_ = key;
    return value;
  }
  const Json& array(const char* key, std::size_t max) {
    static const Json kNone = Json::array();
    const Json* const found = find(key, [](const Json& j) { return j.is_array(); });
    if (found == nullptr) return kNone;
    if (found->size() > max) wrong_ = key;
    return found->size() > max ? kNone : *found;
  }
  const std::string& wrong() const { return wrong_; }

 private:
  template <class Is>
  const Json* find(const char* key, Is is) {
    const auto found = json_.find(key);
    if (found != json_.end() && is(*found)) return &*found;
    if (wrong_.empty()) wrong_ = key;
    return nullptr;
  }
  const Json& json_;
  std::string wrong_;
};

// A key becomes a part of a path in xenstore.
bool is_path(const std::string& path) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/_@";
  return !path.empty() && path.size() < 1024 && path.front() != '/' && path.back() != '/' &&
         path.find("//") == std::string::npos &&
         path.find_first_not_of(kAllowed) == std::string::npos;
}

Result<Vif> vif_from(const Json& json) {
  if (!json.is_object()) return failure(Code::corrupt, "a vif is no object");
  Fields fields(json);
  Vif vif;
  vif.index = static_cast<unsigned>(fields.number("index", 0, 4096));
  vif.emulated = fields.flag("emulated");
  const auto backend = json.find("backend");
  if (backend == json.end() || !backend->is_object() || backend->size() > 64)
    return failure(Code::corrupt, "a vif without its backend");
  for (const auto& [key, value] : backend->items()) {
    if (!value.is_string() || !is_path(key) || key.find('/') != std::string::npos)
      return failure(Code::corrupt, "a vif's backend");
    vif.backend[key] = value.get<std::string>();
  }
  if (!fields.wrong().empty()) return failure(Code::corrupt, "a vif's " + fields.wrong());
  return vif;
}

Result<StoreNode> node_from(const Json& json) {
  if (!json.is_object()) return failure(Code::corrupt, "a node is no object");
  Fields fields(json);
  StoreNode node{fields.text("path"), fields.text("value"), fields.flag("guests")};
  if (!fields.wrong().empty() || !is_path(node.path))
    return failure(Code::corrupt, "a node of xenstore");
  return node;
}

Json json_of(const std::optional<DeviceModelShape>& model) {
  if (!model) return nullptr;
  Json options = Json::array(), nics = Json::array();
  for (const DeviceOption& option : model->options)
    options.push_back({{"name", option.name}, {"value", option.value}});
  for (const EmulatedNic& nic : model->nics)
    nics.push_back({{"index", nic.index}, {"model", nic.model}, {"mac", nic.mac}});
  return {{"version", model->version}, {"options", std::move(options)}, {"nics", std::move(nics)}};
}

Result<Userdata> userdata_from(const Json& json) {
  if (!json.is_object() || json.size() > 16)
    return failure(Code::corrupt, "what its toolstack keeps of it");
  Userdata userdata;
  for (const auto& [name, text] : json.items()) {
    if (!text.is_string()) return failure(Code::corrupt, "what its toolstack keeps of it");
    userdata.emplace(name, text.get<std::string>());
  }
  FT_TRY(check(userdata));
  return userdata;
}

Result<DeviceModelShape> model_from(const Json& json) {
  if (!json.is_object()) return failure(Code::corrupt, "its device model is no object");
  Fields fields(json);
  DeviceModelShape model;
  model.version = fields.text("version", 256);
  for (const Json& entry : fields.array("options", kNodesMax)) {
    if (!entry.is_object()) return failure(Code::corrupt, "an option of its device model");
    Fields option(entry);
    model.options.push_back({option.text("name", 64), option.text("value")});
    if (!option.wrong().empty()) return failure(Code::corrupt, "an option of its device model");
  }
  for (const Json& entry : fields.array("nics", kVifsMax)) {
    if (!entry.is_object()) return failure(Code::corrupt, "an interface of its device model");
    Fields nic(entry);
    model.nics.push_back({static_cast<unsigned>(nic.number("index", 0, 4096)),
                          nic.text("model", 64), nic.text("mac", 32)});
    if (!nic.wrong().empty()) return failure(Code::corrupt, "an interface of its device model");
  }
  if (!fields.wrong().empty()) return failure(Code::corrupt, "its device model");
  FT_TRY(check(model));
  return model;
}

Status take_lists(Fields& fields, Shape& shape) {
  for (const Json& json : fields.array("vifs", kVifsMax)) {
    FT_ASSIGN(Vif vif, vif_from(json));
    shape.vifs.push_back(std::move(vif));
  }
  for (const Json& json : fields.array("nodes", kNodesMax)) {
    FT_ASSIGN(StoreNode node, node_from(json));
    shape.nodes.push_back(std::move(node));
  }
  return {};
}

}  // namespace

std::string Vif::value(const std::string& key) const {
  const auto found = backend.find(key);
  return found == backend.end() ? std::string() : found->second;
}

std::optional<Connection> Vif::connection() const {
  const std::string script = value("script"), name = script.substr(script.rfind('/') + 1);
  if (name == "vif-bridge") return Connection::bridge;
  if (name == "vif-openvswitch") return Connection::open_vswitch;
  return std::nullopt;
}

std::string to_json(const Shape& shape) {
  Json vifs = Json::array(), nodes = Json::array();
  for (const Vif& vif : shape.vifs)
    vifs.push_back({{"index", vif.index}, {"emulated", vif.emulated}, {"backend", vif.backend}});
  for (const StoreNode& node : shape.nodes)
    nodes.push_back({{"path", node.path}, {"value", node.value}, {"guests", node.guests}});
  const Json json = {{"xen", shape.xen},
                     {"name", shape.name},
                     {"type", shape.type},
                     {"uuid", base::to_hex(shape.uuid)},
                     {"cooperative", shape.cooperative},
                     {"emulation", shape.emulation},
                     {"misc", shape.misc},
                     {"vcpus", shape.vcpus},
                     {"max_pages", shape.max_pages},
                     {"paging_pool_bytes", shape.paging_pool_bytes},
                     {"cpuid", base::to_hex(shape.policy.leaves)},
                     {"msrs", base::to_hex(shape.policy.msrs)},
                     {"vifs", std::move(vifs)},
                     {"nodes", std::move(nodes)},
                     {"keyboard", shape.keyboard},
                     {"toolstack", shape.toolstack},
                     {"device_model", json_of(shape.device_model)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Shape> shape_from_json(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return failure(Code::corrupt, "the domain's description is no JSON");
  Fields fields(json);
  Shape shape;
  shape.xen = fields.text("xen", 64);
  shape.name = fields.text("name", 255);
  shape.type = fields.text("type", 16);
  const auto uuid = fields.bytes("uuid");
  shape.cooperative = fields.flag("cooperative");
  shape.emulation = static_cast<std::uint32_t>(fields.number("emulation", 0, ~std::uint32_t{0}));
  shape.misc = static_cast<std::uint32_t>(fields.number("misc", 0, ~std::uint32_t{0}));
  shape.vcpus = static_cast<std::uint32_t>(fields.number("vcpus", 1, kVcpusMax));
  shape.max_pages = fields.number("max_pages", 1, kPagesMax);
  shape.paging_pool_bytes = fields.number("paging_pool_bytes", 0, std::uint64_t{1} << 40);
  shape.policy.leaves = fields.bytes("cpuid");
  shape.policy.msrs = fields.bytes("msrs");
  shape.keyboard = fields.flag("keyboard");
  FT_TRY(take_lists(fields, shape).within("the domain's description"));
  if (const auto model = json.find("device_model"); model != json.end() && !model->is_null()) {
    FT_ASSIGN(shape.device_model, model_from(*model));
  }
  if (const auto toolstack = json.find("toolstack"); toolstack != json.end()) {
    FT_ASSIGN(shape.toolstack, userdata_from(*toolstack));
  }
  if (!fields.wrong().empty())
    return failure(Code::corrupt, "the domain's description: " + fields.wrong());
  if (uuid.size() != shape.uuid.size() || shape.name.empty() ||
      shape.name.find('/') != std::string::npos)
    return failure(Code::corrupt, "the domain's description: its name or UUID");
  std::copy(uuid.begin(), uuid.end(), shape.uuid.begin());
  return shape;
}

StopWay Shape::stop_way() const {
  if (cooperative) return StopWay::asked;
  return device_model ? StopWay::suspended : StopWay::paused;
}

std::string to_string(const Uuid& uuid) {
  const std::string hex = base::to_hex(uuid);
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                     hex.substr(16, 4), hex.substr(20));
}

unsigned minor_of(const std::string& version) {
  unsigned major = 0, minor = 0;
  return std::sscanf(version.c_str(), "%u.%u", &major, &minor) == 2 && major == 4 ? minor : 0;
}

}  // namespace libft::xen
