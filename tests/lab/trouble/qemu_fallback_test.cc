// SPDX-License-Identifier: LGPL-2.1-or-later
// The second way to device state, an ordinary migration without the shared memory: for a QEMU built
// without xen-save-devices-state, and, as here, for a guest with memory outside the shared one.
#include "lab/qemu/tiny_guest.h"

using namespace libft;

namespace {

constexpr std::size_t kVideoBytes = 1u << 20;

qemu::QemuDescription with_video_memory(const test::Folder& folder) {
  auto description = test::tiny_description(folder);
  description.extra.insert(description.extra.end(), {"-device", "VGA,vgamem_mb=1"});
  return description;
}

struct Video {
  Video() {
    auto started = qemu::QemuGuest::start(with_video_memory(folder), test::tiny_options(folder));
    REQUIRE_MESSAGE(started, started.error().to_string());
    guest = std::move(*started);
    REQUIRE(test::counts_on(*guest));
  }
  ~Video() { guest->destroy(); }
  test::Folder folder;
  std::unique_ptr<qemu::QemuGuest> guest;
};

// One pause: what was written, copied to `backup`, and the state that belongs to it.
std::vector<std::byte> checkpoint(Guest& primary, Guest& backup) {
  const auto from = primary.info().memory[0].bytes;
  const auto to = backup.info().memory[0].bytes;
  PageSet written;
  std::vector<std::byte> state;
  REQUIRE(primary.pause().ok());
  REQUIRE(primary.take_written(written).ok());
  for (const PageRun& run : written.runs())
    std::memcpy(to.data() + run.first.value * 4096, from.data() + run.first.value * 4096,
                run.count * 4096);
  const Status saved = primary.save_state();
  REQUIRE_MESSAGE(saved.ok(), saved.to_string());
  REQUIRE(primary.resume().ok());
  REQUIRE(primary.fetch_state(state).ok());
  return state;
}

}  // namespace

TEST_CASE("a guest with memory of its own outside goes on from a migration stream" *
          doctest::skip(!test::qemu_is_there())) {
  Video video;
  CHECK(video.guest->info().compatibility.find("\"state\":\"migration\"") != std::string::npos);
  const test::Folder folder;
  auto backup = test::tiny_standby(video.guest->info(), folder);
  REQUIRE(video.guest->start_tracking().ok());
  const auto all = video.guest->info().memory[0].bytes;
  std::memcpy(backup->info().memory[0].bytes.data(), all.data(), all.size());
  std::vector<std::byte> state;
  // As often as a session would: each leaves QEMU ready for the next, and running.
  for (int epoch = 0; epoch < 10; ++epoch) {
    state = checkpoint(*video.guest, *backup);
    // The video memory travels; the 64 MiB that both sides map must not.
    CHECK(state.size() < 4 * kVideoBytes);
    REQUIRE(test::counts_on(*video.guest));
  }
  const std::uint32_t count = test::word_at(*backup, test::kCountAt);
  CHECK(test::word_at(*video.guest, test::kCountAt) > count);

  const Status probe = backup->probe_state(state);
  CHECK_MESSAGE(probe.ok(), probe.to_string());
  CHECK(test::word_at(*backup, test::kCountAt) == count);  // The trial left it alone.
  video.guest->destroy();
  const Status loaded = backup->load_state(state);
  REQUIRE_MESSAGE(loaded.ok(), loaded.to_string());
  CHECK(test::word_at(*backup, test::kCountAt) == count);
  REQUIRE(backup->activate().ok());
  CHECK(test::counts_on(*backup));
  backup->destroy();
}

TEST_CASE("a state that is cut off is refused, and the guest goes on" *
          doctest::skip(!test::qemu_is_there())) {
  Video video;
  const test::Folder folder;
  auto backup = test::tiny_standby(video.guest->info(), folder);
  REQUIRE(video.guest->start_tracking().ok());
  const auto all = video.guest->info().memory[0].bytes;
  std::memcpy(backup->info().memory[0].bytes.data(), all.data(), all.size());
  auto state = checkpoint(*video.guest, *backup);
  state.resize(state.size() / 2);
  CHECK_FALSE(backup->probe_state(state).ok());
  CHECK(test::counts_on(*video.guest));
  backup->destroy();
}
