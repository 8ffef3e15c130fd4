// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/guest_image.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "os/child.h"

namespace libft::lab {
namespace {

std::string first_line_of(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

std::vector<std::string> GuestImage::qemu_arguments(const std::string& address_and_prefix,
                                                    const std::string& observer_address) const {
  return {"-kernel",
          kernel,
          "-initrd",
          initrd,
          "-append",
          fmt::format("{} libft.ip={} libft.observer={}", command_line, address_and_prefix,
                      observer_address)};
}

Result<std::string> run_image_script(const std::string& script, const std::string& folder,
                                     Nanos patience) {
  const os::ScopedFd printed(::memfd_create("ft-lab-guest", MFD_CLOEXEC));
  const os::ScopedFd complaints(::memfd_create("ft-lab-guest", MFD_CLOEXEC));
  os::ChildOptions options;
  options.argv = {"bash", script, folder};
  options.stdout_fd = printed.get();
  options.stderr_fd = complaints.get();
  FT_ASSIGN(auto child, os::Child::start(options));
  FT_ASSIGN(const auto end, child.wait(patience));
  const auto text = [](const os::ScopedFd& fd) {
    return content_of(fmt::format("/proc/self/fd/{}", fd.get()));
  };
  if (!end.clean()) {
    return failure(Code::unsupported,
                   fmt::format("{}: {}: {}", script, os::to_string(end), text(complaints)));
  }
  return first_line_of(text(printed));
}

Result<GuestImage> make_guest(const std::string& script, const std::string& folder,
                              Nanos patience) {
  FT_ASSIGN(const std::string made, run_image_script(script, folder, patience));
  return GuestImage{made + "/vmlinuz", made + "/initrd.img",
                    first_line_of(content_of(made + "/cmdline"))};
}

}  // namespace libft::lab
