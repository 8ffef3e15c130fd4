/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clang-format off: one line a function, where there is one thing to say. */
/* A guest driver in C. The hypervisor is a toy: a guest that counts in its memory while
 * toy_run() runs it. What a real one does differently stands beside each function.
 *
 *   my_guest FOLDER        protects a toy guest, loses its host, and looks whether it goes on
 */
#include <libft.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { PAGES = 256, PAGE = 4096 };

typedef struct toy {
  unsigned char *memory, written[PAGES]; /* A real one: log-dirty mode, or userfaultfd. */
  uint64_t counter, saved;
  int running;
} toy;

static toy *toy_new(int running) {
  toy *it = calloc(1, sizeof *it);
  it->memory = calloc(PAGES, PAGE);
  return it->running = running, it;
}
static void toy_free(void *user) { free(((toy *)user)->memory), free(user); }
static void toy_run(toy *it) {
  if (it == NULL || !it->running) return;
  const uint64_t page = ++it->counter % PAGES;
  memcpy(it->memory + page * PAGE, &it->counter, sizeof it->counter);
  it->written[page] = 1;
}

/* Each of these may return FT_PENDING instead, and end with ft_op_done(op, ...). */
static int32_t nothing(void *user, ft_op *op) { return (void)user, (void)op, FT_OK; }
#define TOY toy *it = ((void)op, user)
static int32_t toy_pause(void *user, ft_op *op) { TOY; return it->running = 0, FT_OK; }
static int32_t toy_resume(void *user, ft_op *op) { TOY; return it->running = 1, FT_OK; }
static int32_t toy_track(void *user, ft_op *op) { TOY; return memset(it->written, 0, PAGES), 0; }
static int32_t toy_take(void *user, ft_op *op) {
  TOY;
  for (uint64_t page = 0; page < PAGES; ++page)
    if (it->written[page] && ft_op_add_pages(op, page, 1) != FT_OK) return FT_E_INTERNAL;
  return toy_track(user, op);
}
/* A real one: the state of CPUs and devices, as it is while the guest stands still. */
static int32_t toy_save(void *user, ft_op *op) { TOY; return it->saved = it->counter, FT_OK; }
static int32_t toy_fetch(void *user, ft_op *op) { TOY; return ft_op_append(op, &it->saved, 8); }
static int32_t toy_load(void *user, ft_op *op, const void *state, uint64_t bytes) {
  TOY;
  if (bytes != 8) return ft_op_explain(op, "the state is not a toy's", ""), FT_E_CORRUPT;
  return memcpy(&it->counter, state, bytes), FT_OK;
}

static ft_guest_port port_of(toy *it) {
  return (ft_guest_port){.struct_size = sizeof(ft_guest_port), .user = it, .free = toy_free,
                         .start_tracking = toy_track, .pause = toy_pause, .resume = toy_resume,
                         .take_written = toy_take, .save_state = toy_save, .fetch_state = toy_fetch,
                         .load_state = toy_load};
}
static ft_guest_info info_of(toy *it, ft_memory_region *ram) {
  *ram = (ft_memory_region){"ram", 0, PAGES, it->memory};
  return (ft_guest_info){.struct_size = sizeof(ft_guest_info), .page_bytes = PAGE, .vcpus = 1,
                         .driver = "toy", .description = "a toy", .regions = ram,
                         .region_count = 1};
}

/* This guest sends nothing, so its gate holds nothing. */
static int32_t no_epoch(void *user, ft_op *op, uint64_t generation, uint64_t epoch) {
  return (void)user, (void)op, (void)generation, (void)epoch, FT_OK;
}
static const ft_gate_port kGate = {.struct_size = sizeof(ft_gate_port), .epochs_held_max = 8,
                                   .hold = nothing, .seal = no_epoch, .release = no_epoch,
                                   .discard = nothing, .open = nothing};

/* On the backup: the standby, and the way to the primary. */
static toy *standby;
static ft_session *primary, *backup;
static int32_t make_standby(void *user, ft_op *op, const ft_guest_info *like) {
  (void)user;
  if (strcmp(like->driver, "toy") != 0) return FT_E_UNSUPPORTED;
  standby = toy_new(0);
  ft_memory_region ram;
  const ft_guest_info info = info_of(standby, &ram);
  const ft_guest_port port = port_of(standby);
  return ft_op_give_replica(op, &info, &port, &kGate);
}
static int32_t dial(void *user, ft_op *op, uint32_t another_way) {
  int ends[2];
  (void)user, (void)another_way;
  if (primary == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return FT_E_PEER_LOST;
  ft_session_offer_fds(primary, ends[0], -1, "primary's end", FT_TRUST_PROVEN, NULL);
  return ft_op_give_fds(op, ends[1], -1, "backup's end", FT_TRUST_PROVEN);
}

static const ft_dial_port kDial = {.struct_size = sizeof kDial, .dial = dial};
static const ft_standby_port kStandby = {.struct_size = sizeof kStandby, .make = make_standby};
static ft_session *session_for(const char *folder) {
  char arbiter[256];
  ft_options *options = NULL;
  ft_session *session = NULL;
  snprintf(arbiter, sizeof arbiter, "file:%s", folder);
  ft_options_new(&options, NULL);
  ft_options_set(options, "name", "toy", NULL);
  ft_options_set(options, "arbiter", arbiter, NULL);
  ft_session_new(options, &session, NULL);
  ft_options_free(options);
  return session;
}
static int is(ft_session *session, const char *name) {
  ft_state state = {.struct_size = sizeof state};
  return ft_session_state(session, &state, NULL) == FT_OK && strcmp(state.state, name) == 0;
}
static void turn(toy *guest) {
  toy_run(guest);
  if (primary != NULL) ft_session_process(primary, NULL);
  ft_session_process(backup, NULL);
  poll(NULL, 0, 1); /* The toy has no timer. */
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  toy *guest = toy_new(1);
  ft_memory_region ram;
  const ft_guest_info info = info_of(guest, &ram);
  const ft_guest_port port = port_of(guest);
  primary = session_for(argv[1]);
  backup = session_for(argv[1]);
  if (ft_session_set_guest(primary, &info, &port, NULL) ||
      ft_session_set_gate(primary, &kGate, NULL) || ft_session_protect(primary, NULL, NULL) ||
      ft_session_run(primary, FT_UNTIL_WISHES, 10000, NULL) ||
      ft_session_set_dial(backup, &kDial, NULL) ||
      ft_session_set_standby(backup, &kStandby, NULL) || ft_session_stand_by(backup, NULL, NULL))
    return fprintf(stderr, "%s\n", ft_last_error()), 1;
  while (!is(primary, "protecting") || !is(backup, "in_sync")) turn(guest);

  ft_session_free(primary); /* As if its host had died: `guest` is freed with it. */
  primary = NULL;
  ft_session_fail_over(backup, NULL, NULL); /* Else a detector would suspect it. */
  while (!standby->running) turn(standby);
  const uint64_t from = standby->counter;
  for (int i = 0; i < 100; ++i) turn(standby);
  const int fine = from > 0 && standby->counter > from;
  puts(fine ? "the guest went on counting on the backup" : "the guest did not go on");
  return ft_session_free(backup), fine ? 0 : 1;
}
