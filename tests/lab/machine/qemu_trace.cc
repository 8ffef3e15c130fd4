// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu_trace.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

namespace libft::test {

namespace {

// The machine under test has none of these.
constexpr char kCpu[] =
    "rv64,f=false,d=false,h=false,v=false,pmp=false,sstc=false,zba=false,zbb=false,zbc=false,"
    "zbs=false,Zfh=false,Zfhmin=false,Zve32f=false,Zve64f=false,debug=false,pmu-num=0,marchid=0,"
    "mimpid=0";

}  // namespace

Result<std::unique_ptr<QemuTrace>> QemuTrace::start(const std::string& image) {
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return failure(Code::io, "pipe");
  os::ChildOptions options;
  options.argv = {"qemu-system-riscv64",
                  "-M",
                  "virt",
                  "-m",
                  "2G",
                  "-cpu",
                  kCpu,
                  "-bios",
                  image,
                  "-accel",
                  "tcg",
                  "-singlestep",
                  "-d",
                  "cpu,nochain",
                  "-D",
                  "/dev/stdout",
                  "-display",
                  "none",
                  "-serial",
                  "none",
                  "-monitor",
                  "none"};
  options.stdout_fd = pipe[1];
  auto child = os::Child::start(options);
  ::close(pipe[1]);
  std::FILE* const log = ::fdopen(pipe[0], "r");
  if (!child) return failure(std::move(child.error()));
  return std::unique_ptr<QemuTrace>(new QemuTrace(std::move(*child), log));
}

QemuTrace::~QemuTrace() { std::fclose(log_); }

bool QemuTrace::available() {
  return std::system("qemu-system-riscv64 --version > /dev/null 2>&1") == 0;
}

// " x4/tp    0000000000000000 x5/t0    ...": four to a line.
void QemuTrace::registers(const char* line, TracedState& state) {
  while ((line = std::strchr(line, 'x')) != nullptr) {
    char* end = nullptr;
    const unsigned long number = std::strtoul(line + 1, &end, 10);
    const char* value = std::strchr(end, ' ');
    if (number > 31 || value == nullptr) return;
    state.x[number] = std::strtoull(value, &end, 16);
    line = end;
  }
}

std::optional<TracedState> QemuTrace::next() {
  TracedState state;
  std::array<char, 256> line{};
  while (std::fgets(line.data(), line.size(), log_) != nullptr) {
    char name[16] = {};
    unsigned long long value = 0;
    if (std::strncmp(line.data(), " x", 2) == 0) {
      registers(line.data(), state);
      if (std::strncmp(line.data(), " x28", 4) == 0) return state;
    } else if (std::sscanf(line.data(), " %15s %llx", name, &value) == 2) {
      if (std::strcmp(name, "pc") == 0) state.pc = value;
      state.csr[name] = value;
    }
  }
  return std::nullopt;
}

}  // namespace libft::test
