// SPDX-License-Identifier: LGPL-2.1-or-later
// A Protection is what ftd was told to keep up for one guest on this host; the Store keeps it on
// disk, one file a guest, so that it outlives ftd and the host. Values; one thread at a time.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "libft/status.h"

namespace libft::ftd {

using Json = nlohmann::json;

// What ftd starts for the guest when nothing of it runs here.
enum class Start { primary, backup, nothing };
std::string_view to_string(Start start);

struct Protection {
  std::string name;
  Json section = Json::object();  // As a guest's section of ftctl's configuration.
  Start start = Start::nothing;
  std::string note;           // Why nothing is started, or what went wrong last.
  bool owner_paused = false;  // The guest's owner stopped it: it is not set running by a restart.
};

class Store {
 public:
  explicit Store(std::string folder) : folder_(std::move(folder)) {}

  // Makes the folder, mode 0700. `notes` receives what was wrong with files that are left out.
  Result<std::vector<Protection>> load(std::vector<std::string>& notes) const;
  Status save(const Protection& protection) const;
  void remove(const std::string& name) const;

  bool maintenance() const;
  Status set_maintenance(bool on) const;

 private:
  std::string file_of(const std::string& name) const;
  std::string folder_;
};

}  // namespace libft::ftd
