// SPDX-License-Identifier: LGPL-2.1-or-later
// Two releases in one pair: the handshake of one side is made what another release would have said,
// and what the other side answers must still protect, hand over and take over.
#include <doctest/doctest.h>

#include <cstring>

#include "libft/session.h"
#include "unit/session/host.h"
#include "wire/frame.h"
#include "wire/records.h"

using namespace libft;
using namespace libft::test;

namespace {

using Payload = std::vector<std::byte>;
constexpr wire::RecordType kFeatures = 0x8002, kUnknown = 0x7abc;
constexpr std::uint64_t kFirstFeatures = wire::feature::delta_pages | wire::feature::delta_state;

struct Record {
  wire::RecordType type = 0;
  Payload bytes;
};

std::vector<Record> records_of(std::span<const std::byte> payload) {
  std::vector<Record> records;
  while (payload.size() >= wire::kRecordHeaderBytes) {
    Record record;
    std::uint32_t length = 0;
    std::memcpy(&record.type, payload.data(), sizeof record.type);
    std::memcpy(&length, payload.data() + 4, sizeof length);
    const auto bytes = payload.subspan(wire::kRecordHeaderBytes, length);
    record.bytes.assign(bytes.begin(), bytes.end());
    records.push_back(std::move(record));
    payload = payload.subspan(wire::kRecordHeaderBytes + length);
  }
  return records;
}

Payload payload_of(const std::vector<Record>& records) {
  Payload payload;
  for (const Record& record : records) {
    base::ByteAppender to(payload);
    wire::write_record_header(to, record.type, static_cast<std::uint32_t>(record.bytes.size()));
    payload.insert(payload.end(), record.bytes.begin(), record.bytes.end());
  }
  return payload;
}

void with_features(std::vector<Record>& records, std::uint64_t mask, std::uint64_t more) {
  for (Record& record : records) {
    if (record.type != kFeatures) continue;
    std::uint64_t features = 0;
    std::memcpy(&features, record.bytes.data(), sizeof features);
    features = (features & mask) | more;
    std::memcpy(record.bytes.data(), &features, sizeof features);
  }
}

// The first release: no later feature, and no record that may be left out.
void older(std::vector<Record>& records) {
  with_features(records, kFirstFeatures, 0);
  std::erase_if(records, [](const Record& r) { return r.type == 0x0007; });
}

// One to come: features and a record that nobody knows yet.
void newer(std::vector<Record>& records) {
  with_features(records, ~0ull, 0xfull << 40);
  records.push_back({kUnknown, Payload(100, std::byte{7})});
}

using Rewrite = void (*)(std::vector<Record>&);

// The first frame of a direction, rewritten once it is whole; what follows is as it was.
class Handshake {
 public:
  explicit Handshake(Rewrite rewrite) : rewrite_(rewrite) {}

  Payload pass(std::span<const std::byte> bytes) {
    if (done_) return {bytes.begin(), bytes.end()};
    seen_.insert(seen_.end(), bytes.begin(), bytes.end());
    if (seen_.size() < wire::kHeaderBytes) return {};
    wire::FrameReader reader;
    for (std::span<const std::byte> rest(seen_); !rest.empty();) {
      const auto space = reader.space();
      const auto count = std::min(space.size(), rest.size());
      std::memcpy(space.data(), rest.data(), count);
      reader.stored(count);
      rest = rest.subspan(count);
    }
    const auto frame = reader.next();
    REQUIRE(frame);
    if (!*frame) return {};
    done_ = true;
    auto records = records_of((*frame)->payload);
    rewrite_(records);
    const Payload payload = payload_of(records);
    Payload out(wire::kHeaderBytes);
    wire::FrameHeader header = (*frame)->header;
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    wire::write_header(out, header, payload);
    out.insert(out.end(), payload.begin(), payload.end());
    const auto rest = std::span(seen_).subspan(wire::kHeaderBytes + (*frame)->payload.size());
    out.insert(out.end(), rest.begin(), rest.end());
    return out;
  }

 private:
  const Rewrite rewrite_;
  bool done_ = false;
  Payload seen_;
};

class Translated final : public Transport {
 public:
  Translated(std::unique_ptr<Transport> inner, Rewrite said, Rewrite heard)
      : inner_(std::move(inner)), out_(said), in_(heard) {}

  Status send(std::span<const std::span<const std::byte>> pieces) override {
    for (const auto piece : pieces) {
      const Payload bytes = out_.pass(piece);
      const std::span<const std::byte> all(bytes);
      if (!all.empty()) FT_TRY(inner_->send({&all, 1}));
    }
    return {};
  }
  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    while (ready_.empty()) {
      FT_ASSIGN(const std::size_t got, inner_->receive(buffer));
      ready_ = in_.pass(buffer.first(got));
    }
    const std::size_t count = std::min(buffer.size(), ready_.size());
    std::memcpy(buffer.data(), ready_.data(), count);
    ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  void close() override { inner_->close(); }
  std::string description() const override { return inner_->description(); }
  bool authenticated() const override { return inner_->authenticated(); }

 private:
  std::unique_ptr<Transport> inner_;
  Handshake out_, in_;
  Payload ready_;
};

void as_it_is(std::vector<Record>&) {}

// The backup's handshake, and the primary's, as another release says them.
struct Releases {
  const char* what;
  Rewrite backup, primary;
};
constexpr Releases kPairs[] = {{"an older backup", older, as_it_is},
                               {"an older primary", as_it_is, older},
                               {"a newer backup", newer, as_it_is},
                               {"a newer primary", as_it_is, newer}};

void stand_by(Host& backup, const Host& primary, const Releases& releases) {
  auto parts = backup.parts(primary.address);
  parts.dial = [address = primary.address, releases](bool) -> Result<std::unique_ptr<Transport>> {
    FT_ASSIGN(auto connection, transport::open(address, {}));
    return std::make_unique<Translated>(std::move(connection), releases.backup, releases.primary);
  };
  auto made = Session::stand_by(std::move(parts), backup.options);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  backup.session = std::move(*made);
  backup.listen();
}

}  // namespace

TEST_CASE("two releases of libft protect a guest together, hand it over and take it over") {
  for (const Releases& releases : kPairs) {
    CAPTURE(releases.what);
    const auto folder = temporary_folder();
    Host a("a", folder), b("b", folder), c("c", folder);
    a.protect();
    stand_by(b, a, releases);
    REQUIRE(a.reaches("protecting"));
    REQUIRE(b.reaches("in_sync"));
    for (int i = 0; i < 20; ++i) a.guest->step(40);
    const auto same = a.session->verify(std::chrono::seconds(20));
    CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
    REQUIRE(a.session->switch_over());
    REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
    a.die();

    stand_by(c, b, releases);  // Now the primary of before is of today's release.
    REQUIRE(b.reaches("protecting"));
    REQUIRE(c.reaches("in_sync"));
    b.guest->step(100);
    b.die();
    REQUIRE(c.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
    CHECK(c.guest->running());
    std::filesystem::remove_all(folder);
  }
}

TEST_CASE("what another release demands in vain is refused") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  const auto mandatory = [](std::vector<Record>& records) {
    records.push_back({wire::RecordType{kUnknown | wire::kMandatory}, {}});
  };
  stand_by(b, a, {"a release that must be understood", mandatory, as_it_is});
  REQUIRE(b.eventually([](const SessionStatus& s) { return !s.detail.empty(); }));
  const std::string why = b.session->status().detail;
  CHECK_MESSAGE(why.find("unsupported") != std::string::npos, why);
  CHECK_FALSE(a.session->status().is_protected);
  std::filesystem::remove_all(folder);
}
