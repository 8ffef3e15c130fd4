// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/toolstack.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "guest/xen/shape.h"
#include "os/file.h"

namespace libft::xen {
namespace {

// libxl.h's registry of userdata: "libxl-json" is libxl's own, "xl" the text that xl was given.
constexpr const char *kJson = "libxl-json", *kFile = "xl";
constexpr std::size_t kBytesMax = 128u << 10;
constexpr std::chrono::seconds kPatience{20};

Status check_entry(const std::string& name, const std::string& text) {
  if (name != kJson && name != kFile)
    return Status(Code::corrupt, "no toolstack has this: " + name);
  if (text.empty() || text.size() > kBytesMax || text.find('\0') != std::string::npos)
    return Status(Code::corrupt, name + " is empty, too long, or no text");
  if (name == kJson && !nlohmann::json::parse(text, nullptr, false).is_object())
    return Status(Code::corrupt, name + " is no JSON");
  return {};
}

// A file that only its readers know, at its beginning.
Result<os::ScopedFd> nameless_file(std::string_view text) {
  os::ScopedFd file(::memfd_create("libft-userdata", MFD_CLOEXEC));
  if (!file.valid()) return failure(os::errno_status("memfd_create"));
  FT_TRY(os::write_all(file.get(), text));
  return file;
}

std::string path_of(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

}  // namespace

Status check(const Userdata& userdata) {
  for (const auto& [name, text] : userdata) FT_TRY(check_entry(name, text));
  return {};
}

Result<std::string> XlHelper::ask(DomId domain, const std::string& name) const {
  FT_ASSIGN(const os::ScopedFd answer, nameless_file({}));
  os::ChildOptions options;
  options.argv = {program_, "get", std::to_string(domain), name};
  options.stdout_fd = answer.get();
  FT_ASSIGN(auto child, os::Child::start(options));
  FT_ASSIGN(const auto end, child.wait(kPatience));
  if (!end.clean()) return failure(Code::not_found, os::to_string(end));
  return os::read_file(path_of(answer.get()), kBytesMax);
}

Userdata XlHelper::read(DomId domain) {
  Userdata found;
  if (program_.empty()) return found;
  for (const char* name : {kJson, kFile}) {
    auto text = ask(domain, name);
    if (text && check_entry(name, *text).ok()) found.emplace(name, std::move(*text));
  }
  return found;
}

void XlHelper::write(DomId domain, const Userdata& userdata) {
  if (program_.empty() || userdata.empty()) return;
  os::ChildOptions options;
  options.argv = {program_, "put", std::to_string(domain)};
  std::vector<os::ScopedFd> files;
  for (const auto& [name, text] : userdata) {
    auto file = nameless_file(text);
    if (!file) return;
    const int there = 3 + static_cast<int>(files.size());
    options.fds.push_back({file->get(), there});
    options.argv.push_back(name + "=" + path_of(there));
    files.push_back(std::move(*file));
  }
  options.stderr_fd = STDERR_FILENO;
  if (auto child = os::Child::start(options)) writer_.emplace(std::move(*child));
}

bool XlHelper::done(Nanos patience) {
  if (!writer_) return false;
  const auto end = writer_->wait(patience);
  return end && end->clean();
}

void XlHelper::forget(DomId domain, const Uuid& uuid) {
  writer_.reset();
  // The file, and the one that becomes it.
  const std::string kinds[] = {fmt::format("userdata-d.{}.{}.", domain, to_string(uuid)),
                               fmt::format("userdata-n.{}.{}.", domain, to_string(uuid))};
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(kinds[0]) || name.starts_with(kinds[1]))
      std::filesystem::remove(entry.path(), error);
  }
}

}  // namespace libft::xen
