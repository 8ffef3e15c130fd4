// SPDX-License-Identifier: LGPL-2.1-or-later
// How often a backup dials a primary that takes it, and at once gives it up again.
#include "session/connector.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "os/real_clock.h"
#include "wire/message.h"

using namespace libft;
using namespace libft::session;

namespace {

GuestId the_guest() { return *GuestId::from_name("g"); }

// A primary's end that says welcome, and nothing more.
class Brief final : public Transport {
 public:
  Brief() : welcome_(wire::encode(wire::Welcome{}, the_guest(), Generation{1})) {}

  Status send(std::span<const std::span<const std::byte>>) override { return {}; }
  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    if (welcome_.empty()) return failure(Code::peer_lost, "given up");
    const std::size_t count = std::min(buffer.size(), welcome_.size());
    std::memcpy(buffer.data(), welcome_.data(), count);
    welcome_.erase(welcome_.begin(), welcome_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  void close() override {}
  std::string description() const override { return "brief"; }
  bool authenticated() const override { return true; }

 private:
  std::vector<std::byte> welcome_;
};

// The moments of so many dials, each answered so.
template <class Answer>
std::vector<Time> dials(std::size_t count, const Connector::Self& self, Answer answer) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Time> at;
  const auto dial = [&](bool) -> Result<std::unique_ptr<Transport>> {
    const std::scoped_lock lock(mutex);
    at.push_back(os::RealClock().now());
    changed.notify_all();
    return answer();
  };
  Connector connector(the_guest(), dial,
                      {.welcomed = [](auto&&...) { return Status(); },
                       .frame = [](OwnedFrame) {},
                       .lost = [](Status) {},
                       .not_welcome = [](Status) {}});
  connector.announce(self);
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return at.size() >= count; });
  return {at.begin(), at.begin() + static_cast<std::ptrdiff_t>(count)};
}

Nanos shortest(const std::vector<Time>& at) {
  std::vector<Nanos> between;
  for (std::size_t n = 1; n < at.size(); ++n) between.push_back(at[n] - at[n - 1]);
  return *std::min_element(between.begin(), between.end());
}

}  // namespace

TEST_CASE(
    "a primary that gives its backup up before it has an image is dialled less and less often") {
  const auto at = dials(5, {}, [] { return std::make_unique<Brief>(); });
  for (std::size_t n = 1; n < at.size(); ++n)
    CHECK(at[n] - at[n - 1] >= Millis{200} * (1 << n));  // 400, 800, 1600, 3200.
}

TEST_CASE("a backup that has an image dials as often as ever, however brief its connections") {
  Connector::Self self;
  self.image_of.id.fill(1);
  CHECK(shortest(dials(6, self, [] { return std::make_unique<Brief>(); })) < Millis{400});
}

TEST_CASE("a primary that is not there is dialled as often as ever") {
  const auto at = dials(6, {}, [] { return failure(Code::peer_lost, "nobody listens"); });
  CHECK(shortest(at) < Millis{400});
}
