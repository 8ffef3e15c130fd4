// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/etcd_client.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "failover/http_post.h"
#include "os/file.h"

namespace libft::failover {
namespace {

using Json = nlohmann::json;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kPasswordBytesMax = 4096;

std::string to_base64(std::string_view text) {
  std::string coded(4 * ((text.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(coded.data()),
                                     reinterpret_cast<const unsigned char*>(text.data()),
                                     static_cast<int>(text.size()));
  coded.resize(static_cast<std::size_t>(length));
  return coded;
}

std::optional<std::string> from_base64(std::string_view coded) {
  std::string text(3 * (coded.size() / 4) + 1, '\0');
  const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(coded.data()),
                                     static_cast<int>(coded.size()));
  if (length < 0 || coded.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;  // OpenSSL counts it as bytes.
  while (padding < 2 && padding < coded.size() && coded[coded.size() - 1 - padding] == '=')
    ++padding;
  text.resize(static_cast<std::size_t>(length) - padding);
  return text;
}

// In the gateway's JSON 64-bit numbers are strings, and what is zero, false or empty is left out.
Result<std::optional<EtcdClient::Value>> first_value(const Json& range) {
  const auto bad = [] { return failure(Code::corrupt, "etcd: an answer that is none of a range"); };
  if (!range.is_object()) return bad();
  const auto kvs = range.find("kvs");
  if (kvs == range.end() || kvs->is_null()) return std::nullopt;
  if (!kvs->is_array() || kvs->size() != 1 || !kvs->front().is_object()) return bad();
  const Json& kv = kvs->front();
  const auto coded = kv.find("value"), revision = kv.find("mod_revision");
  if (revision == kv.end() || !revision->is_string()) return bad();
  EtcdClient::Value value;
  value.revision = std::strtoll(revision->get_ref<const std::string&>().c_str(), nullptr, 10);
  if (coded != kv.end()) {
    const auto text =
        coded->is_string() ? from_base64(coded->get_ref<const std::string&>()) : std::nullopt;
    if (!text) return bad();
    value.text = *text;
  }
  return value;
}

Json compare_of(const EtcdClient::Transaction& transaction) {
  Json compare = {{"key", to_base64(transaction.key)}, {"result", "EQUAL"}};
  switch (transaction.condition) {
    case EtcdClient::Condition::absent:
      compare["target"] = "CREATE";
      compare["create_revision"] = "0";
      break;
    case EtcdClient::Condition::equals:
      compare["target"] = "VALUE";
      compare["value"] = to_base64(transaction.expected.text);
      break;
    case EtcdClient::Condition::unchanged:
      compare["target"] = "MOD";
      compare["mod_revision"] = std::to_string(transaction.expected.revision);
      break;
  }
  return compare;
}

// etcd says {"error": "...", "code": n}; a proxy in between says anything.
std::string reason_in(const HttpPost::Answer& answer) {
  const Json json = Json::parse(answer.body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_string())
    return json["error"].get<std::string>();
  return fmt::format("HTTP status {}", answer.status);
}

class JsonClient final : public EtcdClient {
 public:
  JsonClient(EtcdOptions options, std::unique_ptr<HttpPost> http)
      : options_(std::move(options)), http_(std::move(http)) {}

  Result<Outcome> transact(const Transaction& transaction) override;
  Result<std::optional<Value>> get(const std::string& key) override;

 private:
  struct Reply {
    Json json;
    bool repeated = false;  // A server before this one may have done it, too.
  };
  Result<Reply> call(const std::string& path, const Json& request);
  Result<Json> call_one(const std::string& endpoint, const std::string& path,
                        const std::string& body, Nanos left);
  Result<HttpPost::Answer> send(const std::string& url, const std::string& body,
                                SteadyClock::time_point end);
  Status log_in(const std::string& endpoint, SteadyClock::time_point end);

  const EtcdOptions options_;
  const std::unique_ptr<HttpPost> http_;
  std::string token_;
};

Result<HttpPost::Answer> JsonClient::send(const std::string& url, const std::string& body,
                                          SteadyClock::time_point end) {
  const Nanos left = end - SteadyClock::now();
  if (left <= Nanos{0}) return failure(Code::timeout, url + ": no answer in time");
  std::vector<std::string> headers{"Content-Type: application/json", "Expect:"};
  if (!token_.empty()) headers.push_back("Authorization: " + token_);
  return http_->post(url, body, headers, options_.connect, left);
}

Status JsonClient::log_in(const std::string& endpoint, SteadyClock::time_point end) {
  token_.clear();
  FT_ASSIGN(std::string password, os::read_file(options_.password_file, kPasswordBytesMax));
  while (!password.empty() && (password.back() == '\n' || password.back() == '\r'))
    password.pop_back();
  const Json request = {{"name", options_.user}, {"password", password}};
  const std::string body = request.dump(-1, ' ', false, Json::error_handler_t::replace);
  FT_ASSIGN(const auto answer, send(endpoint + "/v3/auth/authenticate", body, end));
  const Json json = Json::parse(answer.body, nullptr, false);
  if (answer.status != 200 || !json.is_object() || !json.contains("token") ||
      !json["token"].is_string())
    return Status(Code::refused,
                  fmt::format("{}: log in as {}: {}", endpoint, options_.user, reason_in(answer)));
  token_ = json["token"].get<std::string>();
  return {};
}

Result<Json> JsonClient::call_one(const std::string& endpoint, const std::string& path,
                                  const std::string& body, Nanos left) {
  const auto end = SteadyClock::now() + left;
  const bool with_user = !options_.user.empty();
  // Tokens end; the server then says 401 and has done nothing.
  for (int tries = 0; tries < 2; ++tries) {
    if (with_user && token_.empty()) FT_TRY(log_in(endpoint, end));
    FT_ASSIGN(const auto answer, send(endpoint + path, body, end));
    if (answer.status == 401 && with_user && tries == 0) {
      token_.clear();
      continue;
    }
    Json json = Json::parse(answer.body, nullptr, false);
    if (answer.status == 200 && json.is_object()) return json;
    // 4xx: this server understood and refuses, as the others will. 5xx: it may have happened.
    const bool refused = answer.status >= 400 && answer.status < 500;
    return failure(refused ? Code::refused : Code::io,
                   fmt::format("{}{}: {}{}", endpoint, path, reason_in(answer),
                               answer.status == 404 ? " (etcd 3.4 or newer is needed)" : ""));
  }
  return failure(Code::refused, endpoint + ": refuses a new token");
}

Result<JsonClient::Reply> JsonClient::call(const std::string& path, const Json& request) {
  const std::string body = request.dump();
  const auto end = SteadyClock::now() + options_.total;
  Status last(Code::invalid, "etcd: no endpoint");
  bool perhaps_done = false;
  for (std::size_t i = 0; i < options_.endpoints.size(); ++i) {
    // What is left is shared, so that one server that hangs leaves time for the next.
    const Nanos share = (end - SteadyClock::now()) / (options_.endpoints.size() - i);
    auto json = call_one(options_.endpoints[i], path, body, share);
    if (json) return Reply{std::move(*json), perhaps_done};
    last = json.error();
    if (last.code() == Code::refused) break;
    perhaps_done |= last.code() != Code::peer_lost;
  }
  return failure(last.within("etcd"));
}

Result<EtcdClient::Outcome> JsonClient::transact(const Transaction& transaction) {
  const std::string key = to_base64(transaction.key);
  const Json put = {{"request_put", {{"key", key}, {"value", to_base64(transaction.value)}}}};
  const Json range = {{"request_range", {{"key", key}}}};
  const Json request = {{"compare", Json::array({compare_of(transaction)})},
                        {"success", Json::array({put})},
                        {"failure", Json::array({range})}};
  FT_ASSIGN(const Reply reply, call("/v3/kv/txn", request));
  Outcome outcome;
  outcome.repeated = reply.repeated;
  outcome.stored = reply.json.contains("succeeded") && reply.json["succeeded"] == true;
  if (outcome.stored) return outcome;
  const auto responses = reply.json.find("responses");
  if (responses == reply.json.end() || !responses->is_array() || responses->empty() ||
      !responses->front().is_object() || !responses->front().contains("response_range"))
    return failure(Code::corrupt, "etcd: an answer that is none of a transaction");
  FT_ASSIGN(outcome.found, first_value(responses->front()["response_range"]));
  return outcome;
}

Result<std::optional<EtcdClient::Value>> JsonClient::get(const std::string& key) {
  FT_ASSIGN(const Reply reply, call("/v3/kv/range", Json{{"key", to_base64(key)}}));
  return first_value(reply.json);
}

Status check_endpoint(const std::string& endpoint) {
  const bool scheme = endpoint.starts_with("http://") || endpoint.starts_with("https://");
  const auto host = endpoint.find("//");
  if (scheme && endpoint.size() > host + 2 &&
      endpoint.find_first_of("/?#@ ", host + 2) == std::string::npos)
    return {};
  return Status(Code::invalid, fmt::format("etcd endpoint \"{}\": write http://HOST:PORT or "
                                           "https://HOST:PORT",
                                           endpoint));
}

}  // namespace

Result<std::unique_ptr<EtcdClient>> EtcdClient::open(EtcdOptions options) {
  if (options.endpoints.empty())
    return failure(Code::invalid, "etcd: name at least one endpoint: etcd:http://HOST:2379");
  for (const auto& endpoint : options.endpoints) FT_TRY(check_endpoint(endpoint));
  if (options.user.empty() != options.password_file.empty())
    return failure(Code::invalid, "etcd: a user needs a password file, and the other way round");
  FT_ASSIGN(auto http, HttpPost::open({options.ca_file, options.cert_file, options.key_file}));
  return std::make_unique<JsonClient>(std::move(options), std::move(http));
}

}  // namespace libft::failover
