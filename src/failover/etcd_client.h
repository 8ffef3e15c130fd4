// SPDX-License-Identifier: LGPL-2.1-or-later
// What the etcd arbiter needs of etcd's v3 JSON gateway (etcd 3.4 and newer): one transaction, one
// read. Every call ends within EtcdOptions::total, whatever the servers do.
// Requests and answers: etcd documentation, "gRPC gateway", and rpc.proto for the fields.
// One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libft/status.h"
#include "libft/types.h"

namespace libft::failover {

struct EtcdOptions {
  std::vector<std::string> endpoints;  // "http://10.0.0.9:2379"; tried in this order.
  Nanos connect = Millis{300};         // For a server that is not there: then the next is asked.
  Nanos total = Millis{1000};          // For one request, all servers together.
  std::string ca_file, cert_file, key_file;  // For https; empty: the system's, none, none.
  std::string user, password_file;           // The file is read again at each log-in.
};

class EtcdClient {
 public:
  static Result<std::unique_ptr<EtcdClient>> open(EtcdOptions options);
  virtual ~EtcdClient() = default;

  struct Value {
    std::string text;
    std::int64_t revision = 0;  // Of its last change.
  };

  enum class Condition { absent, equals, unchanged };
  struct Transaction {
    std::string key;
    Condition condition = Condition::absent;
    Value expected;     // equals: its text; unchanged: its revision.
    std::string value;  // Stored under `key` when the condition holds.
  };
  struct Outcome {
    bool stored = false;
    std::optional<Value> found;  // When not stored: what is there instead.
    bool repeated = false;       // An earlier server may have done it already and not answered.
  };

  // A failure says nothing about whether it happened.
  virtual Result<Outcome> transact(const Transaction& transaction) = 0;

  // Linearizable: never a stale value.
  virtual Result<std::optional<Value>> get(const std::string& key) = 0;
};

}  // namespace libft::failover
