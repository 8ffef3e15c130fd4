// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outcome.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>

#include "handle.h"

namespace libft::capi {
namespace {

constexpr std::string_view kRemedyMark = "; remedy: ";  // As tools put both into one message.

constexpr std::size_t kMarkBytes = 4096;

thread_local std::string last_error;

template <std::size_t N>
void copy_text(char (&into)[N], std::string_view text) {
  const std::size_t length = std::min(text.size(), N - 1);
  std::copy_n(text.data(), length, into);
  into[length] = 0;
}

// What the code alone says about what to do.
const char* advice(std::int32_t code) {
  switch (code) {
    case FT_E_HANDLE:
      return "pass the handle that libft returned, of the kind that the header says";
    case FT_E_FORKED: return "use libft in the process that made the handle";
    case FT_E_FENCED: return "stop this replica: another one owns the guest";
    case FT_E_BUSY: return "try again later";
    case FT_E_INTERNAL: return "please report it with the log";
    default: return "";
  }
}

}  // namespace

std::int32_t status_of(Code code) {
  switch (code) {
    case Code::ok: return FT_OK;
    case Code::invalid: return FT_E_INVALID;
    case Code::unsupported: return FT_E_UNSUPPORTED;
    case Code::not_found: return FT_E_NOT_FOUND;
    case Code::busy: return FT_E_BUSY;
    case Code::timeout: return FT_E_TIMEOUT;
    case Code::io: return FT_E_IO;
    case Code::peer_lost: return FT_E_PEER_LOST;
    case Code::corrupt: return FT_E_CORRUPT;
    case Code::refused: return FT_E_REFUSED;
    case Code::fenced: return FT_E_FENCED;
    case Code::guest_gone: return FT_E_GUEST_GONE;
    case Code::exhausted: return FT_E_EXHAUSTED;
    case Code::cancelled: return FT_E_CANCELLED;
    case Code::internal: return FT_E_INTERNAL;
  }
  return FT_E_INTERNAL;
}

Outcome::Outcome(const Status& status) : code(status_of(status.code())), cause(status.message()) {
  const auto mark = cause.find(kRemedyMark);
  if (mark == std::string::npos) return;
  remedy = cause.substr(mark + kRemedyMark.size());
  cause.resize(mark);
}

Status to_status(std::int32_t code, const std::string& cause, const std::string& remedy) {
  if (code == FT_OK) return {};
  const std::string text = (cause.empty() ? std::string(ft_status_name(code)) : cause) +
                           (remedy.empty() ? "" : std::string(kRemedyMark) + remedy);
  for (int c = static_cast<int>(Code::invalid); c <= static_cast<int>(Code::internal); ++c)
    if (status_of(static_cast<Code>(c)) == code) return Status(static_cast<Code>(c), text);
  return Status(Code::internal, "the port answered " + std::to_string(code) +
                                    ", which is no status of its kind: " + text);
}

ft_error to_error(const Outcome& outcome, const char* phase) {
  ft_error error{};
  error.struct_size = sizeof error;
  error.code = outcome.code;
  copy_text(error.phase, phase);
  copy_text(error.cause, outcome.cause);
  copy_text(error.remedy, outcome.remedy.empty() ? advice(outcome.code) : outcome.remedy);
  return error;
}

std::int32_t report(const Outcome& outcome, const char* phase, ft_error* error) {
  if (outcome.ok()) return outcome.code;
  const ft_error full = to_error(outcome, phase);
  last_error = std::string(full.phase) + ": " + full.cause;
  if (full.remedy[0] != 0) last_error += std::string(kRemedyMark) + full.remedy;
  if (error != nullptr && error->struct_size >= sizeof error->struct_size) {
    const std::uint32_t size = error->struct_size;
    std::memcpy(error, &full, std::min<std::size_t>(size, sizeof full));
    error->struct_size = size;
  }
  return outcome.code;
}

OwnProcess::OwnProcess() {
  void* const page =
      ::mmap(nullptr, kMarkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw std::bad_alloc();
  if (::madvise(page, kMarkBytes, MADV_WIPEONFORK) != 0) {
    ::munmap(page, kMarkBytes);
    throw std::bad_alloc();
  }
  mark_ = static_cast<volatile std::uint32_t*>(page);
  *mark_ = 1;
}

OwnProcess::~OwnProcess() { ::munmap(const_cast<std::uint32_t*>(mark_), kMarkBytes); }

Outcome Handle::check(Kind kind) const {
  if (kind_ != static_cast<std::uint64_t>(kind))
    return {FT_E_HANDLE, "the handle is of another kind, or no handle of libft's"};
  if (!process_.here()) return {FT_E_FORKED, "the handle belongs to the process that made it"};
  return {};
}

Outcome check_handle(const Handle* handle, Kind kind) {
  if (handle == nullptr) return {FT_E_HANDLE, "the handle is null"};
  return handle->check(kind);
}

}  // namespace libft::capi

extern "C" {

const char* ft_version(void) { return LIBFT_VERSION; }

const char* ft_last_error(void) { return libft::capi::last_error.c_str(); }

const char* ft_status_name(std::int32_t status) {
  using libft::Code;
  switch (status) {
    case FT_PENDING: return "pending";
    case FT_E_HANDLE: return "handle";
    case FT_E_STATE: return "state";
    case FT_E_FORKED: return "forked";
    default: break;
  }
  for (int c = 0; c <= static_cast<int>(Code::internal); ++c) {
    const auto code = static_cast<Code>(c);
    if (libft::capi::status_of(code) == status) return libft::to_string(code).data();
  }
  return "unknown";
}
}
