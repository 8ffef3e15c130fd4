// SPDX-License-Identifier: LGPL-2.1-or-later
// One HTTP POST at a time over a connection that is kept, by libcurl: with deadlines, without
// redirects, proxies, signals or anything else that the environment could bring in.
// One thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "libft/status.h"
#include "libft/types.h"

namespace libft::failover {

struct HttpFiles {
  std::string ca, cert, key;
};

class HttpPost {
 public:
  static Result<std::unique_ptr<HttpPost>> open(const HttpFiles& files);
  virtual ~HttpPost() = default;

  struct Answer {
    long status = 0;
    std::string body;
  };
  // Code::peer_lost when certainly nothing was sent; any other failure leaves that open.
  virtual Result<Answer> post(const std::string& url, const std::string& body,
                              const std::vector<std::string>& headers, Nanos connect,
                              Nanos total) = 0;
};

}  // namespace libft::failover
