// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/tls.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

#include "transport/close_after.h"

namespace libft::transport {
namespace {

constexpr std::string_view kIdentity = "libft";
constexpr const char* kSuite = "TLS_AES_128_GCM_SHA256";
constexpr std::array<unsigned char, 2> kSuiteId{0x13, 0x01};
constexpr std::size_t kRecord = 16384;          // The most that one TLS record carries.
constexpr std::size_t kPortion = 16 * kRecord;  // Encrypted before it is handed on.
constexpr unsigned char kTlsHandshake = 22;     // First byte of everything that begins TLS.

template <auto function>
struct Free {
  template <class T>
  void operator()(T* object) const {
    function(object);
  }
};
using ContextPtr = std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Free<SSL_free>>;

std::string newest_error() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason != nullptr ? reason : "unknown error";
}

// The shared key in the form in which OpenSSL takes it: a session that might have been before.
SSL_SESSION* session_of(SSL* ssl, const Key& key) {
  SSL_SESSION* session = SSL_SESSION_new();
  const SSL_CIPHER* suite = SSL_CIPHER_find(ssl, kSuiteId.data());
  if (session != nullptr && suite != nullptr &&
      SSL_SESSION_set1_master_key(session, key.bytes.data(), key.bytes.size()) == 1 &&
      SSL_SESSION_set_cipher(session, suite) == 1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
    return session;
  SSL_SESSION_free(session);
  return nullptr;
}

int offer_key(SSL* ssl, const EVP_MD*, const unsigned char** identity, std::size_t* identity_bytes,
              SSL_SESSION** session) {
  *session = session_of(ssl, *static_cast<const Key*>(SSL_get_app_data(ssl)));
  *identity = reinterpret_cast<const unsigned char*>(kIdentity.data());
  *identity_bytes = kIdentity.size();
  return *session != nullptr ? 1 : 0;
}

int find_key(SSL* ssl, const unsigned char* identity, std::size_t bytes, SSL_SESSION** session) {
  *session = nullptr;  // Unknown to us: the handshake then fails, as there is no certificate.
  if (std::string_view(reinterpret_cast<const char*>(identity), bytes) != kIdentity) return 1;
  *session = session_of(ssl, *static_cast<const Key*>(SSL_get_app_data(ssl)));
  return *session != nullptr ? 1 : 0;
}

// A key exchange without (EC)DHE stays forbidden, which is OpenSSL's default. Tickets would be a
// second way in, and nobody resumes.
ContextPtr make_context(TlsRole role) {
  ContextPtr context(
      SSL_CTX_new(role == TlsRole::client ? TLS_client_method() : TLS_server_method()));
  if (context == nullptr || SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context.get(), kSuite) != 1)
    return nullptr;
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  if (role == TlsRole::client) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);  // No certificate will pass.
    SSL_CTX_set_psk_use_session_callback(context.get(), offer_key);
  } else {
    SSL_CTX_set_psk_find_session_callback(context.get(), find_key);
  }
  return context;
}

Status wrong_key() {
  return Status(Code::refused,
                "TLS handshake: the peer does not know the shared key: copy the "
                "same key file to both hosts");
}

// What failed, in words that tell what to do. Alerts are what the peer says: 1000 plus its number.
Status handshake_status() {
  switch (ERR_GET_REASON(ERR_peek_error())) {
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return wrong_key();
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_UNEXPECTED_MESSAGE:
      return Status(Code::corrupt,
                    "TLS handshake: what came is not TLS: the peer is not libft, or "
                    "it was given no key (--key-file)");
    default: return Status(Code::refused, "TLS handshake: " + newest_error());
  }
}

// SSL over two memory buffers: nothing here waits, so one lock is enough while one thread sends and
// another receives. What must wait, the inner transport, is called without that lock.
class TlsStream final : public TlsTransport {
 public:
  TlsStream(std::unique_ptr<Transport> inner, TlsRole role, const Key& key,
            const TlsOptions& options)
      : inner_(std::move(inner)), role_(role), key_(key), options_(options), arrived_(64 * 1024) {}

  ~TlsStream() override {
    close();
    OPENSSL_cleanse(key_.bytes.data(), key_.bytes.size());
  }

  Status set_up() {
    ERR_clear_error();
    context_ = make_context(role_);
    if (context_ != nullptr) ssl_.reset(SSL_new(context_.get()));
    from_peer_ = BIO_new(BIO_s_mem());
    to_peer_ = BIO_new(BIO_s_mem());
    if (ssl_ == nullptr || from_peer_ == nullptr || to_peer_ == nullptr) {
      BIO_free(from_peer_);
      BIO_free(to_peer_);
      return Status(Code::exhausted, "set up TLS: " + newest_error());
    }
    BIO_set_mem_eof_return(from_peer_, -1);  // Empty means "not yet", not the end.
    SSL_set_bio(ssl_.get(), from_peer_, to_peer_);
    SSL_set_app_data(ssl_.get(), &key_);
    role_ == TlsRole::client ? SSL_set_connect_state(ssl_.get()) : SSL_set_accept_state(ssl_.get());
    return {};
  }

  Status handshake() override {
    if (ready_) return {};
    std::lock_guard lock(handshake_mutex_);
    if (ready_) return {};
    if (failed_) return *failed_;
    Status done = closed_ ? closed_here("TLS handshake") : shake_hands();
    if (done.ok()) {
      ready_ = true;
    } else {
      failed_ = done;
      inner_->close();
    }
    return done;
  }

  Status send(std::span<const std::span<const std::byte>> pieces) override {
    FT_TRY(handshake());
    std::lock_guard lock(send_mutex_);
    for (std::span<const std::byte> piece : pieces) FT_TRY(send_piece(piece));
    FT_TRY(encrypt_gathered());
    return send_encrypted();
  }

  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    FT_TRY(handshake());
    for (;;) {
      FT_ASSIGN(const std::size_t got, decrypt(buffer));
      if (got > 0) return got;
      FT_ASSIGN(const std::size_t arrived, inner_->receive(arrived_));
      std::lock_guard lock(ssl_mutex_);
      FT_TRY(take_in(std::span(arrived_).first(arrived)));
    }
  }

  void close() override {
    closed_ = true;
    inner_->close();
  }

  std::string description() const override { return inner_->description() + ", TLS 1.3"; }
  bool authenticated() const override { return ready_; }

 private:
  static Status closed_here(std::string_view doing) {
    return Status(Code::cancelled, fmt::format("{}: the connection was closed here", doing));
  }

  // --- handshake: one thread, under handshake_mutex_ ----------------------------------------

  Status shake_hands() {
    CloseAfter deadline(*inner_, options_.handshake_timeout);
    Status done = exchange_messages();
    if (done.ok() && SSL_session_reused(ssl_.get()) != 1) return wrong_key();
    if (done.ok() || closed_) return done;
    if (deadline.fired())
      return Status(Code::timeout, fmt::format("TLS handshake: the peer did not finish it within "
                                               "{} ms",
                                               options_.handshake_timeout / Millis{1}));
    if (done.code() == Code::peer_lost)
      return Status(Code::peer_lost,
                    "TLS handshake: the peer closed the connection; if it goes on "
                    "doing so, it was started without a key: give both hosts the "
                    "same --key-file");
    return done;
  }

  Status exchange_messages() {
    bool speaks_tls = role_ == TlsRole::client;
    for (;;) {
      ERR_clear_error();
      const int result = SSL_do_handshake(ssl_.get());
      const int error = SSL_get_error(ssl_.get(), result);
      const Status status =
          result == 1 || error == SSL_ERROR_WANT_READ ? Status() : handshake_status();
      move_encrypted();
      // An alert helps only somebody who speaks TLS; others get a plain end of the connection.
      Status sent = speaks_tls ? send_encrypted() : Status();
      FT_TRY(status);
      FT_TRY(std::move(sent));
      if (result == 1) return {};
      FT_ASSIGN(const std::size_t arrived, inner_->receive(arrived_));
      speaks_tls = speaks_tls || arrived_[0] == std::byte{kTlsHandshake};
      FT_TRY(take_in(std::span(arrived_).first(arrived)));
    }
  }

  // --- sending: under send_mutex_ -----------------------------------------------------------

  // Headers and small pieces share a record; large pieces are encrypted where they lie.
  Status send_piece(std::span<const std::byte> piece) {
    while (!piece.empty()) {
      if (gathered_.empty() && piece.size() >= kRecord) {
        FT_TRY(encrypt(piece.first(kRecord)));
        piece = piece.subspan(kRecord);
        continue;
      }
      const std::size_t count = std::min(piece.size(), kRecord - gathered_.size());
      gathered_.insert(gathered_.end(), piece.begin(), piece.begin() + static_cast<long>(count));
      piece = piece.subspan(count);
      if (gathered_.size() == kRecord) FT_TRY(encrypt_gathered());
    }
    return {};
  }

  Status encrypt_gathered() {
    if (gathered_.empty()) return {};
    FT_TRY(encrypt(gathered_));
    gathered_.clear();
    return {};
  }

  Status encrypt(std::span<const std::byte> plain) {
    {
      std::lock_guard lock(ssl_mutex_);
      ERR_clear_error();
      if (sent_under_key_ >= options_.rekey_bytes) {
        SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
        sent_under_key_ = 0;
      }
      if (SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size())) <= 0)
        return Status(Code::peer_lost, "send: TLS: " + newest_error());
      sent_under_key_ += plain.size();
      move_encrypted();
    }
    return encrypted_.size() >= kPortion ? send_encrypted() : Status();
  }

  void move_encrypted() {
    const std::size_t pending = BIO_ctrl_pending(to_peer_);
    if (pending == 0) return;
    const std::size_t before = encrypted_.size();
    encrypted_.resize(before + pending);
    const int got = BIO_read(to_peer_, encrypted_.data() + before, static_cast<int>(pending));
    encrypted_.resize(before + static_cast<std::size_t>(std::max(got, 0)));
  }

  Status send_encrypted() {
    if (encrypted_.empty()) return {};
    const std::span<const std::byte> pieces[] = {encrypted_};
    Status sent = inner_->send(pieces);
    encrypted_.clear();
    return sent;
  }

  // --- receiving ----------------------------------------------------------------------------

  Status take_in(std::span<const std::byte> bytes) {
    if (BIO_write(from_peer_, bytes.data(), static_cast<int>(bytes.size())) ==
        static_cast<int>(bytes.size()))
      return {};
    return Status(Code::exhausted, "receive: no memory for TLS");
  }

  // As much as is there; 0 when more must arrive first.
  Result<std::size_t> decrypt(std::span<std::byte> buffer) {
    std::lock_guard lock(ssl_mutex_);
    std::size_t done = 0;
    while (done < buffer.size()) {
      ERR_clear_error();
      std::size_t got = 0;
      if (SSL_read_ex(ssl_.get(), buffer.data() + done, buffer.size() - done, &got) != 1) break;
      done += got;
    }
    if (done > 0) return done;  // An error, if it was one, comes again with the next call.
    const int error = SSL_get_error(ssl_.get(), 0);
    if (error == SSL_ERROR_WANT_READ) return std::size_t{0};
    if (error == SSL_ERROR_ZERO_RETURN)
      return failure(Code::peer_lost, "receive: the peer closed the connection");
    return failure(Code::corrupt, "receive: TLS: " + newest_error());
  }

  const std::unique_ptr<Transport> inner_;
  const TlsRole role_;
  Key key_;
  const TlsOptions options_;
  ContextPtr context_;
  SslPtr ssl_;
  BIO* from_peer_ = nullptr;  // Both belong to ssl_.
  BIO* to_peer_ = nullptr;

  std::mutex handshake_mutex_;
  std::optional<Status> failed_;  // Under handshake_mutex_.
  std::atomic<bool> ready_{false};
  std::atomic<bool> closed_{false};

  std::mutex send_mutex_;            // Before ssl_mutex_. Held while inner_ sends: keeps the order.
  std::vector<std::byte> gathered_;  // Plain bytes that do not fill a record yet.
  std::vector<std::byte> encrypted_;  // Not handed on yet.
  std::uint64_t sent_under_key_ = 0;

  std::mutex ssl_mutex_;
  std::vector<std::byte> arrived_;  // The receiving thread's alone.
};

}  // namespace

Result<std::unique_ptr<TlsTransport>> wrap_tls(std::unique_ptr<Transport> inner, TlsRole role,
                                               const Key& key, const TlsOptions& options) {
  auto stream = std::make_unique<TlsStream>(std::move(inner), role, key, options);
  FT_TRY(stream->set_up());
  return stream;
}

}  // namespace libft::transport
