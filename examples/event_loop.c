/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libft inside a loop that belongs to somebody else: two sessions and a timer of the program's own
 * in one poll(). A session is one descriptor to wait for and one function to call; the same goes
 * for GLib (g_unix_fd_add), libxl (osevent hooks) and libvirt (virEventAddHandle).
 *
 *   event_loop FOLDER      protects a guest in memory, moves it to its backup, and says so
 */
#include <libft.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int wishes_done = 0, ticks = 0;

static void on_done(void* user, int32_t status, const char* text, const ft_error* error) {
  printf("%s: %s %s\n", (const char*)user, ft_status_name(status),
         status < 0 ? error->cause : text);
  if (status != FT_OK) exit(1);
  ++wishes_done;
}

/* A wish's struct may live on the stack: it is copied. `user` is ours until `free`, which a static
 * text does not need. */
static ft_completion tell(const char* what) {
  ft_completion done = {.struct_size = sizeof done, .user = (void*)what, .done = on_done};
  return done;
}

static ft_session* make(const char* folder, const char* host, const char* guest, const char* peer) {
  char arbiter[256], listen[256], dial[256] = "";
  ft_options* options = NULL;
  ft_session* session = NULL;
  snprintf(arbiter, sizeof arbiter, "file:%s", folder);
  snprintf(listen, sizeof listen, "unix:%s/%s.sock", folder, host);
  if (peer != NULL) snprintf(dial, sizeof dial, "unix:%s/%s.sock", folder, peer);

  ft_options_new(&options, NULL);
  ft_settings settings = {.struct_size = sizeof settings};
  ft_options_get_settings(options, &settings, NULL); /* The defaults ... */
  settings.name = "example";                         /* ... and what is said otherwise. */
  settings.host = host;
  settings.guest = guest;
  settings.arbiter = arbiter;
  settings.listen = listen;
  settings.peer = dial;
  if (ft_options_set_settings(options, &settings, NULL) != FT_OK ||
      ft_session_new(options, &session, NULL) != FT_OK) {
    fprintf(stderr, "%s\n", ft_last_error());
    exit(1);
  }
  ft_options_free(options);
  return session;
}

static ft_state state_of(ft_session* session) {
  ft_state state = {.struct_size = sizeof state};
  ft_session_state(session, &state, NULL);
  return state;
}

/* One turn of the loop. */
static void turn(ft_session* a, ft_session* b, int timer) {
  struct pollfd waits[] = {{.fd = ft_session_poll_fd(a), .events = POLLIN},
                           {.fd = ft_session_poll_fd(b), .events = POLLIN},
                           {.fd = timer, .events = POLLIN}};
  uint64_t expired = 0;
  poll(waits, 3, -1);
  if (waits[0].revents != 0) ft_session_process(a, NULL); /* Never blocks. */
  if (waits[1].revents != 0) ft_session_process(b, NULL);
  if (waits[2].revents != 0 && read(timer, &expired, sizeof expired) > 0) ++ticks;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  const struct itimerspec every = {{0, 10000000}, {0, 10000000}};
  timerfd_settime(timer, 0, &every, NULL);

  ft_session* a = make(argv[1], "a", "memory:mib=8,pages=20", NULL);
  ft_session* b = make(argv[1], "b", "", "a");
  ft_completion done = tell("protect");
  if (ft_session_protect(a, &done, NULL) != FT_OK) return 1;
  while (wishes_done < 1) turn(a, b, timer);
  done = tell("stand by");
  if (ft_session_stand_by(b, &done, NULL) != FT_OK) return 1;
  while (!state_of(a).is_protected || strcmp(state_of(b).state, "in_sync") != 0) turn(a, b, timer);

  done = tell("verify");
  ft_session_verify(a, &done, NULL);
  while (wishes_done < 3) turn(a, b, timer);
  done = tell("switch over");
  ft_session_switch_over(a, &done, NULL);
  while (state_of(b).role != FT_ROLE_PRIMARY || state_of(a).role != FT_ROLE_FENCED)
    turn(a, b, timer);

  printf("the guest is on %s; the loop's own timer fired %s\n", state_of(b).self,
         ticks > 0 ? "too" : "never");
  ft_session_free(a);
  ft_session_free(b);
  close(timer);
  return ticks > 0 ? 0 : 1;
}
