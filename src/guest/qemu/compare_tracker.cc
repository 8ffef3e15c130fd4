// SPDX-License-Identifier: LGPL-2.1-or-later
// Works on any kernel: keeps a copy of the memory as last seen and compares. Costs as much memory
// as the guest has, and memory bandwidth inside each pause.
#include <sys/mman.h>

#include <cstring>

#include "guest/qemu/tracker.h"
#include "os/fd.h"

namespace libft::qemu {
namespace {

constexpr std::size_t kPageBytes = 4096;

class Image {
 public:
  static Result<Image> make(std::size_t bytes) {
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return failure(os::errno_status("reserve the comparison's image"));
    return Image(static_cast<std::byte*>(memory), bytes);
  }
  Image(Image&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  Image& operator=(Image&&) = delete;
  ~Image() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }
  std::byte* data() const { return data_; }

 private:
  Image(std::byte* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_;
  std::size_t bytes_;
};

class CompareTracker final : public Tracker {
 public:
  CompareTracker(std::vector<TrackedMemory> memory, std::vector<Image> images)
      : memory_(std::move(memory)), images_(std::move(images)) {}

  std::string_view name() const override { return "compare"; }

  // A page that changes while it is looked at differs from the image next time, whatever the caller
  // copied in between.
  bool needs_pause() const override { return false; }
  bool stays() const override { return false; }  // The image that it compares with is here.

  Status start() override {
    PageSet ignored;
    return take_written(ignored);
  }
  void stop() override {}

  Status take_written(PageSet& written) override {
    found_.clear();
    for (std::size_t i = 0; i < memory_.size(); ++i) compare(memory_[i], images_[i].data());
    written.merge(found_);
    return {};
  }

 private:
  void compare(const TrackedMemory& memory, std::byte* image) {
    const std::byte* live = memory.bytes.data();
    for (std::size_t at = 0; at < memory.bytes.size(); at += kPageBytes) {
      if (std::memcmp(live + at, image + at, kPageBytes) == 0) continue;
      std::memcpy(image + at, live + at, kPageBytes);
      found_.add(PageNo{memory.first.value + at / kPageBytes});
    }
  }

  std::vector<TrackedMemory> memory_;
  std::vector<Image> images_;
  PageSet found_;
};

}  // namespace

Result<std::unique_ptr<Tracker>> open_compare_tracker(pid_t, std::vector<TrackedMemory> memory) {
  std::vector<Image> images;
  for (const TrackedMemory& piece : memory) {
    FT_ASSIGN(Image image, Image::make(piece.bytes.size()));
    images.push_back(std::move(image));
  }
  return std::make_unique<CompareTracker>(std::move(memory), std::move(images));
}

}  // namespace libft::qemu
