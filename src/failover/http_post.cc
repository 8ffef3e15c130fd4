// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/http_post.h"

#include <curl/curl.h>
#include <fmt/format.h>

namespace libft::failover {
namespace {

constexpr std::size_t kAnswerBytesMax = 1 << 20;

std::size_t collect(char* data, std::size_t size, std::size_t count, void* into) {
  auto& body = *static_cast<std::string*>(into);
  if (body.size() + size * count > kAnswerBytesMax) return 0;  // Fails the transfer.
  body.append(data, size * count);
  return size * count;
}

long milliseconds(Nanos n) { return std::max<long>(1, static_cast<long>(n / Millis{1})); }

bool nothing_sent(CURLcode code) {
  return code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT ||
         code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION ||
         code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE ||
         code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT;
}

class CurlPost final : public HttpPost {
 public:
  explicit CurlPost(CURL* curl) : curl_(curl, curl_easy_cleanup) {}

  Result<Answer> post(const std::string& url, const std::string& body,
                      const std::vector<std::string>& headers, Nanos connect, Nanos total) override;

 private:
  std::unique_ptr<CURL, void (*)(CURL*)> curl_;
};

void set_fixed_options(CURL* curl, const HttpFiles& files) {
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");  // Else http_proxy of the environment counts.
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
  if (!files.ca.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, files.ca.c_str());
  if (!files.cert.empty()) curl_easy_setopt(curl, CURLOPT_SSLCERT, files.cert.c_str());
  if (!files.key.empty()) curl_easy_setopt(curl, CURLOPT_SSLKEY, files.key.c_str());
}

Result<HttpPost::Answer> CurlPost::post(const std::string& url, const std::string& body,
                                        const std::vector<std::string>& headers, Nanos connect,
                                        Nanos total) {
  CURL* curl = curl_.get();
  Answer answer;
  curl_slist* raw = nullptr;
  for (const auto& header : headers) raw = curl_slist_append(raw, header.c_str());
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> list(raw, curl_slist_free_all);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list.get());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(std::min(connect, total)));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, milliseconds(total));
  const CURLcode code = curl_easy_perform(curl);
  if (code == CURLE_OK) {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
    return answer;
  }
  const Code meaning = nothing_sent(code)                 ? Code::peer_lost
                       : code == CURLE_OPERATION_TIMEDOUT ? Code::timeout
                                                          : Code::io;
  return failure(meaning, fmt::format("{}: {}", url, curl_easy_strerror(code)));
}

}  // namespace

Result<std::unique_ptr<HttpPost>> HttpPost::open(const HttpFiles& files) {
  CURL* curl = curl_easy_init();
  if (!curl) return failure(Code::exhausted, "libcurl cannot be initialised: out of memory?");
  set_fixed_options(curl, files);
  return std::make_unique<CurlPost>(curl);
}

}  // namespace libft::failover
