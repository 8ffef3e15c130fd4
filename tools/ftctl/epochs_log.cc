// SPDX-License-Identifier: LGPL-2.1-or-later
#include "epochs_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "report.h"

namespace libft::ftctl {

namespace {

std::string cause(const std::string& path) {
  return fmt::format("epochs log {}: {}", path, std::strerror(errno));
}

}  // namespace

Result<EpochsLog> EpochsLog::open(const std::string& path) {
  EpochsLog log;
  if (path.empty()) return log;
  log.path_ = path;
  log.file_.reset(std::fopen(path.c_str(), "ae"));
  if (log.file_) return log;
  return failure(
      with_remedy(Code::io, cause(path), "name a file in a folder that exists and may be written"));
}

Status EpochsLog::write(const std::string& record) {
  if (!file_) return {};
  if (std::fprintf(file_.get(), "%s\n", record.c_str()) >= 0 && std::fflush(file_.get()) == 0)
    return {};
  Status failed = with_remedy(Code::io, cause(path_) + "; no more records are written",
                              "free space there, or name another file with --epochs-log");
  file_.reset();
  return failed;
}

}  // namespace libft::ftctl
