// SPDX-License-Identifier: LGPL-2.1-or-later
#include "toy.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace toy {
namespace {

using Guard = std::lock_guard<std::recursive_mutex>;
constexpr auto kSilence = std::chrono::milliseconds(400);

template <class T>
T& object_of(void* user) {
  return *static_cast<T*>(static_cast<User*>(user)->object);
}
World& world_of(void* user) { return static_cast<User*>(user)->world; }

// The head of every struct.
template <class Port>
Port head(World& world, void* object, std::function<void()> on_free = nullptr) {
  Port port{};
  port.struct_size = sizeof port;
  port.flags = 0;
  User* const user = make_user(world, object);
  user->on_free = std::move(on_free);
  port.user = user;
  port.free = free_user;
  return port;
}

void cancel(void* user, ft_op* op) {
  World& world = world_of(user);
  const Guard lock(world.mutex);
  // Its end is on its way, or comes with answer_later(): libft must bear both.
  (void)op;
}

}  // namespace

// Memory of a machine, which libft reads while the machine writes it, during the first
// synchronisation: what it got then is sent once more. No sanitizer sees a real machine's writes.
#if defined(__clang__) || defined(__GNUC__)
__attribute__((noinline, no_sanitize("thread")))
#endif
static void
write_as_a_machine(std::uint64_t* word, std::uint64_t value) {
  *word = value;
}

User* make_user(World& world, void* of) {
  const Guard lock(world.mutex);
  return new User(world, of);
}

void free_user(void* user) {
  auto* const known = static_cast<User*>(user);
  World& world = known->world;
  const Guard lock(world.mutex);
  ++world.freed;
  if (++known->frees > 1) ++world.freed_twice;
  if (known->on_free) known->on_free();
  delete known;  // A second `free` is caught by AddressSanitizer, and by the count.
}

std::int32_t World::answer(ft_op* op, std::int32_t status) {
  if (fails()) {
    ft_op_explain(op, "the test says so", "change the test");
    status = FT_E_IO;
  }
  if (answering == Answering::at_once || answering == Answering::any_thread) return status;
  later.emplace_back(op, status);
  return FT_PENDING;
}

void World::answer_later() {
  const Guard lock(mutex);
  auto now = std::move(later);
  later.clear();
  for (const auto& [op, status] : now) ft_op_done(op, status);
}

// --- the guest ----------------------------------------------------------------------------------

bool Guest::consistent() {
  if (page(0)[0] != counter) return false;
  for (std::uint64_t number = 1; number < kPages; ++number) {
    std::uint64_t newest = 0;
    for (std::uint64_t c = counter; c > 0 && newest == 0; --c)
      if (1 + c % (kPages - 1) == number) newest = c;
    if (page(number)[0] != newest) return false;
  }
  return true;
}

ft_guest_info guest_info(Guest& guest, ft_memory_region& region) {
  region = {"ram", 0, Guest::kPages, guest.memory};
  ft_guest_info info{};
  info.struct_size = sizeof info;
  info.page_bytes = 4096;
  info.vcpus = 1;
  info.driver = "toy";
  info.description = "a guest that counts";
  info.tracker = "itself";
  info.accelerator = "none";
  info.compatibility = "toy 1";
  info.regions = &region;
  info.region_count = 1;
  info.tracking_stays = 1;  // Guest::written.
  return info;
}

ft_guest_port guest_port(World& world, const std::shared_ptr<Guest>& guest) {
  // The struct keeps the guest alive until its `free`.
  auto port = head<ft_guest_port>(world, guest.get(), [guest] {});
  port.flags = world.flags();
  port.cancel = cancel;
  port.start_tracking = [](void* user, ft_op* op) {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    object_of<Guest>(user).written.fill(false);
    return w.answer(op);
  };
  port.stop_tracking = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    return world_of(user).answer(op);
  };
  port.pause = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    object_of<Guest>(user).running = false;
    return world_of(user).answer(op);
  };
  port.resume = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    auto& it = object_of<Guest>(user);
    it.running = !it.ended;
    return world_of(user).answer(op);
  };
  port.take_written = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    auto& it = object_of<Guest>(user);
    for (std::uint64_t page = 0; page < Guest::kPages; ++page)
      if (it.written[page]) ft_op_add_pages(op, page, 1);
    it.written.fill(false);
    return world_of(user).answer(op);
  };
  port.fetch_state = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    auto& it = object_of<Guest>(user);
    ft_op_append(op, &it.saved, sizeof it.saved);
    return world_of(user).answer(op);
  };
  port.save_state = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    auto& it = object_of<Guest>(user);
    it.saved = it.counter;  // The registers, as they are while it stands still.
    return world_of(user).answer(op);
  };
  port.load_state = [](void* user, ft_op* op, const void* state, std::uint64_t bytes) {
    const Guard lock(world_of(user).mutex);
    if (bytes != sizeof(std::uint64_t)) return world_of(user).answer(op, FT_E_CORRUPT);
    std::memcpy(&object_of<Guest>(user).counter, state, bytes);
    return world_of(user).answer(op);
  };
  port.trial_run = [](void* user, ft_op* op, const void*, std::uint64_t) {
    const Guard lock(world_of(user).mutex);
    return world_of(user).answer(op);
  };
  port.destroy = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    auto& it = object_of<Guest>(user);
    it.running = false;
    it.ended = true;
    return world_of(user).answer(op);
  };
  return port;
}

// --- the gate -----------------------------------------------------------------------------------

void Gate::let_out(std::uint64_t through) {
  while (!held.empty() && held.front().first != 0 && held.front().first <= through) {
    world.seen.push_back(held.front().second);
    held.pop_front();
  }
}

ft_gate_port gate_port(World& world, const std::shared_ptr<Gate>& gate) {
  auto port = head<ft_gate_port>(world, gate.get(), [gate] {});
  port.flags = world.flags();
  port.cancel = cancel;
  port.epochs_held_max = 8;
  port.bytes_held_max = 1 << 20;
  port.hold = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    object_of<Gate>(user).open = false;
    return world_of(user).answer(op);
  };
  port.seal = [](void* user, ft_op* op, std::uint64_t, std::uint64_t epoch) {
    const Guard lock(world_of(user).mutex);
    for (auto& [sealed, value] : object_of<Gate>(user).held)
      if (sealed == 0) sealed = epoch;
    return world_of(user).answer(op);
  };
  port.release = [](void* user, ft_op* op, std::uint64_t, std::uint64_t epoch) {
    const Guard lock(world_of(user).mutex);
    object_of<Gate>(user).let_out(epoch);
    return world_of(user).answer(op);
  };
  port.discard = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    object_of<Gate>(user).held.clear();
    object_of<Gate>(user).open = false;
    return world_of(user).answer(op);
  };
  port.open = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    auto& it = object_of<Gate>(user);
    it.open = true;
    for (auto& [sealed, value] : it.held)
      if (sealed == 0) sealed = 1;
    it.let_out(~0ull);
    return world_of(user).answer(op);
  };
  port.statistics = [](void* user, ft_gate_statistics* into) {
    const Guard lock(world_of(user).mutex);
    into->packets_held = object_of<Gate>(user).held.size();
    into->packets_released = world_of(user).seen.size();
  };
  return port;
}

// --- a connection in memory ---------------------------------------------------------------------

void Pipe::deliver(World& world) {
  if (receiver == nullptr || (bytes.empty() && !closed)) return;
  ft_op* const op = std::exchange(receiver, nullptr);
  const std::vector<unsigned char> some(
      bytes.begin(),
      bytes.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(capacity, bytes.size())));
  ft_op_append(op, some.data(), some.size());
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(some.size()));
  world.later.emplace_back(op, some.empty() ? FT_E_PEER_LOST : FT_OK);
}

struct Ends {
  std::shared_ptr<Pipe> out, in;
};

ft_transport_port transport_port(World& world, std::shared_ptr<Pipe> out,
                                 std::shared_ptr<Pipe> in) {
  auto* const ends = new Ends{std::move(out), std::move(in)};
  auto port = head<ft_transport_port>(world, ends, [ends] { delete ends; });
  port.cancel = [](void* user, ft_op* op) {
    const Guard lock(world_of(user).mutex);
    auto& inward = *object_of<Ends>(user).in;
    if (inward.receiver != op) return;
    inward.receiver = nullptr;
    ft_op_done(op, FT_E_CANCELLED);
  };
  port.description = "pipes of the test";
  port.authenticated = 1;
  port.send = [](void* user, ft_op* op, const ft_bytes* pieces, std::uint64_t count) {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    auto& outward = *object_of<Ends>(user).out;
    if (outward.closed) return w.answer(op, FT_E_PEER_LOST);
    for (const ft_bytes* piece = pieces; piece != pieces + count; ++piece) {
      const auto* data = static_cast<const unsigned char*>(piece->data);
      outward.bytes.insert(outward.bytes.end(), data, data + piece->count);
    }
    outward.deliver(w);
    return w.answer(op);
  };
  port.receive = [](void* user, ft_op* op, std::uint64_t capacity) -> std::int32_t {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    auto& inward = *object_of<Ends>(user).in;
    inward.receiver = op;
    inward.capacity = capacity;
    inward.deliver(w);
    return FT_PENDING;
  };
  port.close = [](void* user) {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    for (auto* pipe : {object_of<Ends>(user).out.get(), object_of<Ends>(user).in.get()}) {
      pipe->closed = true;
      pipe->deliver(w);
    }
  };
  return port;
}

// --- who decides, who suspects, who connects ----------------------------------------------------

ft_arbiter_port arbiter_port(World& world) {
  auto port = head<ft_arbiter_port>(world, &world);
  port.flags = world.flags();
  port.cancel = cancel;
  port.description = "the test";
  port.create = [](void* user, ft_op* op, const char* guest, const char* record) {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    const auto [at, created] = w.records.emplace(guest, record);
    ft_op_answer(op, created ? FT_ANSWER_WON : FT_ANSWER_LOST, at->second.c_str());
    return w.answer(op);
  };
  port.swap = [](void* user, ft_op* op, const char* guest, const char* from, const char* to) {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    const auto at = w.records.find(guest);
    if (at == w.records.end()) return w.answer(op, FT_E_NOT_FOUND);
    const bool won = at->second == from;
    if (won) at->second = to;
    ft_op_answer(op, won ? FT_ANSWER_WON : FT_ANSWER_LOST, at->second.c_str());
    return w.answer(op);
  };
  port.read = [](void* user, ft_op* op, const char* guest) {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    const auto at = w.records.find(guest);
    ft_op_answer(op, at == w.records.end() ? FT_ANSWER_MISSING : FT_ANSWER_FOUND,
                 at == w.records.end() ? nullptr : at->second.c_str());
    return w.answer(op);
  };
  return port;
}

ft_detector_port detector_port(World& world, Host& host) {
  auto port = head<ft_detector_port>(world, &host);
  port.cancel = cancel;
  port.port = 1;
  port.start = [](void* user, ft_op* op, std::uint64_t token, std::uint16_t, std::uint32_t dial) {
    const Guard lock(world_of(user).mutex);
    auto& self = object_of<Host>(user);
    self.token = token;
    self.suspects = false;
    self.beat = Clock::now();  // It may have waited long for its turn.
    self.watched = nullptr;  // A primary learns from whoever dials.
    if (dial != 0) {
      self.watched = self.primary;
      self.watched->watched = &self;
    }
    return world_of(user).answer(op);
  };
  port.stop = [](void* user, ft_op* op, std::uint64_t token) {
    const Guard lock(world_of(user).mutex);
    auto& self = object_of<Host>(user);
    if (self.token == token) self.watched = nullptr;
    return world_of(user).answer(op);
  };
  port.progress = [](void* user, std::uint64_t, std::uint64_t) {
    const Guard lock(world_of(user).mutex);
    object_of<Host>(user).beat = Clock::now();
  };
  return port;
}

ft_dial_port dial_port(World& world, Host& host) {
  auto port = head<ft_dial_port>(world, &host);
  port.cancel = cancel;
  port.dial = [](void* user, ft_op* op, std::uint32_t) -> std::int32_t {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    auto& self = object_of<Host>(user);
    if (self.primary == nullptr || self.primary->session == nullptr) return FT_E_PEER_LOST;
    ft_session* const to = self.primary->session;
    if (w.line == Line::descriptors) {
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return FT_E_IO;
      ft_session_offer_fds(to, ends[1], -1, "a socket pair", FT_TRUST_PROVEN, nullptr);
      ft_op_give_fds(op, ends[0], -1, "a socket pair", FT_TRUST_PROVEN);
      return w.answer(op);
    }
    const auto there = std::make_shared<Pipe>(), back = std::make_shared<Pipe>();
    const ft_transport_port far = transport_port(w, back, there),
                            near = transport_port(w, there, back);
    ft_session_offer_transport(to, &far, nullptr);
    ft_op_give_transport(op, &near);
    return w.answer(op);
  };
  return port;
}

ft_standby_port standby_port(World& world, Host& host) {
  auto port = head<ft_standby_port>(world, &host);
  port.cancel = cancel;
  port.make = [](void* user, ft_op* op, const ft_guest_info* primary) -> std::int32_t {
    World& w = world_of(user);
    const Guard lock(w.mutex);
    auto& self = object_of<Host>(user);
    if (std::strcmp(primary->driver, "toy") != 0 || primary->region_count != 1)
      return FT_E_UNSUPPORTED;
    self.make_guest(false);
    ft_memory_region region;
    const ft_guest_info info = guest_info(*self.guest, region);
    const ft_guest_port guest = guest_port(w, self.guest);
    const ft_gate_port gate = gate_port(w, self.gate);
    ft_op_give_replica(op, &info, &guest, &gate);
    return w.answer(op);
  };
  return port;
}

ft_fence_port fence_port(World& world) {
  auto port = head<ft_fence_port>(world, &world);
  port.flags = world.flags();
  port.cancel = cancel;
  port.description = "the test's";
  port.fence = [](void* user, ft_op* op, const char*, const char*) {
    const Guard lock(world_of(user).mutex);
    return world_of(user).answer(op);
  };
  return port;
}

ft_log_sink log_sink(World& world, Host& host) {
  auto sink = head<ft_log_sink>(world, &host);
  sink.flags = world.flags();
  sink.write = [](void* user, std::int32_t, const char* area, const char* text) {
    const Guard lock(world_of(user).mutex);
    object_of<Host>(user).log += std::string(area) + ": " + text + "\n";
  };
  return sink;
}

ft_event_sink event_sink(World& world, Host& host) {
  auto sink = head<ft_event_sink>(world, &host);
  sink.event = [](void* user, const ft_event* event) {
    object_of<Host>(user).events.emplace_back(event->name);
  };
  return sink;
}

// --- a host -------------------------------------------------------------------------------------

Host::Host(World& w, std::string host_name, const std::string& held)
    : world(w), name(std::move(host_name)) {
  ft_options* options = nullptr;
  ft_options_new(&options, nullptr);
  ft_options_set(options, "name", "toy", nullptr);
  ft_options_set(options, "host", name.c_str(), nullptr);
  ft_options_set(options, "staging_bytes", "65536", nullptr);
  ft_options_set(options, "heartbeat_missed_max", "40", nullptr);
  ft_options_set(options, "held", held.c_str(), nullptr);
  ft_session_new(options, &session, nullptr);
  ft_options_free(options);
}

Host::~Host() { die(); }

void Host::die() {
  if (session == nullptr) return;
  ft_session* const gone = std::exchange(session, nullptr);
  ft_session_free(gone);
  world.answer_later();  // What was cancelled is still ended.
  if (guest) guest->running = false;
}

void Host::take_up(const Host& earlier) {
  guest = earlier.guest;
  gate = earlier.gate;
  takes_up = true;
}

void Host::make_guest(bool running) {
  if (std::exchange(takes_up, false)) return;
  guest = std::make_shared<Guest>(world);
  guest->running = running;
  gate = std::make_shared<Gate>(world);
}

const ft_completion* Host::completion() {
  auto made = std::make_unique<ft_completion>(head<ft_completion>(world, this));
  made->done = [](void* user, std::int32_t status, const char* text, const ft_error* error) {
    auto& self = object_of<Host>(user);
    ++self.done;
    self.last_status = status;
    self.last_text = status < 0 ? std::string(error->phase) + ": " + error->cause : text;
  };
  completions.push_back(std::move(made));
  return completions.back().get();
}

void Host::set_common() {
  const ft_log_sink log_to = log_sink(world, *this);
  ft_session_set_log(session, &log_to, nullptr);
  const ft_event_sink events_to = event_sink(world, *this);
  ft_session_set_events(session, &events_to, nullptr);
  const ft_arbiter_port arbiter = arbiter_port(world);
  ft_session_set_arbiter(session, &arbiter, nullptr);
  if (const auto socket = world.heartbeat_sockets.find(name);
      socket != world.heartbeat_sockets.end()) {
    ft_session_set_heartbeat_fds(session, &socket->second, 1, nullptr);
  } else {
    const ft_detector_port detector = detector_port(world, *this);
    ft_session_set_detector(session, &detector, nullptr);
  }
  const ft_fence_port fence = fence_port(world);
  ft_session_set_fence(session, &fence, nullptr);
}

std::int32_t Host::set_guest(bool running) {
  make_guest(running);
  ft_memory_region region;
  const ft_guest_info info = guest_info(*guest, region);
  const ft_guest_port port = guest_port(world, guest);
  const std::int32_t status = ft_session_set_guest(session, &info, &port, nullptr);
  const ft_gate_port held = gate_port(world, gate);
  ft_session_set_gate(session, &held, nullptr);
  return status;
}

void Host::protect() {
  set_common();
  set_guest(true);
  ft_session_protect(session, completion(), nullptr);
}

void Host::stand_by(Host& of) {
  primary = &of;
  set_common();
  const ft_dial_port dial = dial_port(world, *this);
  ft_session_set_dial(session, &dial, nullptr);
  const ft_standby_port standby = standby_port(world, *this);
  ft_session_set_standby(session, &standby, nullptr);
  ft_session_stand_by(session, completion(), nullptr);
}

void Host::process() {
  if (session == nullptr) return;
  ft_session_process(session, nullptr);
  world.answer_later();
  watch();
}

// Silence of the other host's session is suspicious; its first beat is a sign of life.
void Host::watch() {
  const Guard lock(world.mutex);
  if (watched == nullptr) return;
  const bool silent = Clock::now() - watched->beat > kSilence;
  if (silent == suspects) return;
  suspects = silent;
  ft_session_heartbeat(session, token, silent ? FT_HEARTBEAT_SUSPECTED : FT_HEARTBEAT_ALIVE,
                       static_cast<std::uint64_t>(std::chrono::nanoseconds(kSilence).count()), 0,
                       "the test's heartbeats", nullptr);
}

void Host::step() {
  bool first = false;
  {
    const Guard lock(world.mutex);
    if (!guest || !guest->running) return;
    const std::uint64_t value = ++guest->counter;
    const std::uint64_t page = 1 + value % (Guest::kPages - 1);
    write_as_a_machine(guest->page(page), value);
    write_as_a_machine(guest->page(0), value);
    guest->written[page] = guest->written[0] = true;
    if (gate->open) {
      world.seen.push_back(value);
      return;
    }
    first = gate->held.empty() || gate->held.back().first != 0;
    gate->held.emplace_back(0, value);
  }
  if (first) ft_session_output_waiting(session, nullptr);
}

ft_state Host::state() {
  ft_state state{};
  state.struct_size = sizeof state;
  ft_session_state(session, &state, nullptr);
  return state;
}

bool drive(World& world, std::vector<Host*> hosts, const std::function<bool()>& condition,
           std::chrono::milliseconds limit) {
  const auto end = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::vector<pollfd> waits;
    for (Host* host : hosts)
      if (host->session != nullptr) waits.push_back({ft_session_poll_fd(host->session), POLLIN, 0});
    ::poll(waits.data(), waits.size(), 5);  // The guest's next step is due then.
    for (Host* host : hosts) {
      host->process();
      host->step();
    }
    world.answer_later();
  }
  return true;
}

}  // namespace toy
