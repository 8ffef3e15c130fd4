// SPDX-License-Identifier: LGPL-2.1-or-later
// Findings are what `ftctl doctor` tells of a host: what is fine, what is worth knowing, and what
// is missing, with the way to get it. Values; one thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace libft::ftctl {

enum class Mark { fine, note, missing };

struct Finding {
  Mark mark = Mark::fine;
  std::string topic, text, remedy;
};

class Findings {
 public:
  void fine(std::string topic, std::string text) {
    all_.push_back({Mark::fine, std::move(topic), std::move(text), {}});
  }
  void note(std::string topic, std::string text, std::string remedy = {}) {
    all_.push_back({Mark::note, std::move(topic), std::move(text), std::move(remedy)});
  }
  void missing(std::string topic, std::string text, std::string remedy) {
    all_.push_back({Mark::missing, std::move(topic), std::move(text), std::move(remedy)});
  }
  const std::vector<Finding>& all() const { return all_; }

 private:
  std::vector<Finding> all_;
};

}  // namespace libft::ftctl
