// SPDX-License-Identifier: LGPL-2.1-or-later
// A toy toolstack on nothing but libft.h: a guest that counts, a gate that holds what it says, an
// arbiter, a detector and connections, each of which can answer at once, later, or on libft's own
// threads, and can be told to fail. Every struct that it gives counts its `free`.
#pragma once

#include <libft.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace toy {

enum class Answering { at_once, later, any_thread, any_thread_later };
enum class Line { descriptors, port };

using Clock = std::chrono::steady_clock;

// What the hosts of one test share: the arbiter's record, what left the gates, the operations that
// are answered later, and the call that is to fail.
struct World {
  Answering answering = Answering::at_once;
  Line line = Line::descriptors;
  std::recursive_mutex mutex;  // Everything; with any_thread libft's threads come here too.

  std::map<std::string, int> heartbeat_sockets;  // Of the hosts that have one, not a detector.
  std::map<std::string, std::string> records;
  std::vector<std::uint64_t> seen;  // By the world outside, in order.
  std::deque<std::pair<ft_op*, std::int32_t>> later;
  int fail_at = -1;  // The nth call into any port fails.
  std::atomic<int> calls = 0;
  int given = 0;  // Structs with a `free` that libft was given ...
  int freed = 0;  // ... and how often a `free` was called.
  int freed_twice = 0;

  std::uint32_t flags() const {
    return answering >= Answering::any_thread ? FT_PORT_ANY_THREAD : 0;
  }
  std::int32_t answer(ft_op* op, std::int32_t status = FT_OK);
  void answer_later();  // Ends what is pending.
  bool fails() { return calls++ == fail_at; }
};

// What stands behind a struct's `user`: counts its `free`.
struct User {
  User(World& w, void* of) : world(w), object(of) { ++world.given; }
  World& world;
  void* object;
  std::function<void()> on_free;
  int frees = 0;
};
User* make_user(World& world, void* of);
void free_user(void* user);  // What every struct's `free` is.

struct Guest {
  static constexpr std::uint64_t kPages = 64;
  explicit Guest(World& w)
      : world(w), memory(static_cast<std::uint64_t*>(std::aligned_alloc(4096, kPages * 4096))) {
    std::memset(memory, 0, kPages * 4096);
  }
  ~Guest() { std::free(memory); }
  Guest(const Guest&) = delete;

  std::uint64_t* page(std::uint64_t number) { return memory + number * 512; }
  bool consistent();  // Its memory is what the counter says.

  World& world;
  std::uint64_t* memory;
  std::array<bool, kPages> written{};
  bool running = false, ended = false;
  std::uint64_t counter = 0;
  std::uint64_t saved = 0;  // The registers, as they were when it stood still.
};

struct Gate {
  explicit Gate(World& w) : world(w) {}
  World& world;
  bool open = false;
  std::deque<std::pair<std::uint64_t, std::uint64_t>> held;  // Epoch (0: not sealed) and value.
  void let_out(std::uint64_t through);
};

struct Pipe {  // One direction of a connection in memory.
  std::deque<unsigned char> bytes;
  ft_op* receiver = nullptr;
  std::uint64_t capacity = 0;
  bool closed = false;
  void deliver(World& world);
};

// One host: a session and its parts.
class Host {
 public:
  // `held`: what an earlier session of that host left.
  Host(World& world, std::string name, const std::string& held = "");
  ~Host();
  Host(const Host&) = delete;

  void protect();
  void stand_by(Host& primary);
  void die();                         // The session ends without a word.
  void take_up(const Host& earlier);  // Its guest is to be that of a session that was held.

  void process();
  void step();  // The guest runs for a moment: one number is said and noted.
  ft_state state();
  bool is(const char* state_name) { return std::strcmp(state().state, state_name) == 0; }

  World& world;
  std::string name;
  ft_session* session = nullptr;
  std::shared_ptr<Guest> guest;
  std::shared_ptr<Gate> gate;
  std::vector<std::string> events;
  std::string log;
  Host* primary = nullptr;  // Whom it dials.
  Host* watched = nullptr;  // By the detector.
  std::uint64_t token = 0;
  Clock::time_point beat{};  // The newest of this host.
  bool suspects = false;
  bool takes_up = false;  // The next guest that it is asked for is the one that it has.
  int done = 0;           // Wishes that ended.
  std::int32_t last_status = 0;
  std::string last_text;
  std::vector<std::unique_ptr<ft_completion>> completions;

  const ft_completion* completion();
  void set_common();
  void make_guest(bool running);
  std::int32_t set_guest(bool running);
  void watch();
};

// Drives `hosts` until `condition`, at most `limit`.
bool drive(World& world, std::vector<Host*> hosts, const std::function<bool()>& condition,
           std::chrono::milliseconds limit = std::chrono::seconds(20));

ft_guest_port guest_port(World& world, const std::shared_ptr<Guest>& guest);
ft_guest_info guest_info(Guest& guest, ft_memory_region& region);
ft_gate_port gate_port(World& world, const std::shared_ptr<Gate>& gate);
ft_transport_port transport_port(World& world, std::shared_ptr<Pipe> out, std::shared_ptr<Pipe> in);
ft_arbiter_port arbiter_port(World& world);
ft_detector_port detector_port(World& world, Host& host);
ft_dial_port dial_port(World& world, Host& host);
ft_standby_port standby_port(World& world, Host& host);
ft_fence_port fence_port(World& world);
ft_log_sink log_sink(World& world, Host& host);
ft_event_sink event_sink(World& world, Host& host);

}  // namespace toy
