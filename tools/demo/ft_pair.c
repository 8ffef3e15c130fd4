/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One replica of a real guest, driven through the C ABI alone: what `ftctl demo --through capi` runs
 * instead of ftctl on both hosts. A small toolstack in one file: options by name, libft's own QEMU
 * driver and gate, one poll loop for the session and for a control socket that answers as ftctl's
 * does (docs/ftctl.md), and the guest that a killed predecessor left behind.
 *
 *   ft-pair protect|standby control=SOCKET epochs_log=FILE state_dir=DIR NAME=VALUE... */
#include <errno.h>
#include <libft.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { EXIT_FENCED = 5, EVENTS_MAX = 4096, LINE_MAX_BYTES = 65536 };

struct pair {
  ft_session *session;
  FILE *epochs;
  char *events[EVENTS_MAX]; /* As lines of the control socket's answer; the oldest are forgotten. */
  size_t events_ever;
  char memory[512]; /* The file that a successor reads. */
  int32_t started;
  ft_error why;
};

static void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static int complain(const char *what) {
  say("%s: %s", what, ft_last_error());
  return 1;
}

/* --- what libft tells ------------------------------------------------------------------------- */

/* As a JSON string, which an event's text may not be. */
static void append_quoted(char *into, size_t capacity, const char *text) {
  size_t at = strlen(into);
  if (at + 2 < capacity) into[at++] = '"';
  for (; *text != 0 && at + 8 < capacity; ++text) {
    const unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') into[at++] = '\\';
    if (c < 0x20)
      at += (size_t)snprintf(into + at, capacity - at, "\\u%04x", c);
    else
      into[at++] = (char)c;
  }
  into[at++] = '"';
  into[at] = 0;
}

static void on_event(void *user, const ft_event *event) {
  struct pair *pair = user;
  char line[2048];
  if (event->json[0] != 0) { /* One for each checkpoint. */
    if (pair->epochs != NULL) fprintf(pair->epochs, "%s\n", event->json);
    return;
  }
  say("%s: %s", event->name, event->text);
  snprintf(line, sizeof line, "{\"ok\":true,\"event\":{\"at_s\":%.9f,\"event\":",
           (double)event->at_ns / 1e9);
  append_quoted(line, sizeof line - 64, event->name);
  strcat(line, ",\"text\":");
  append_quoted(line, sizeof line - 8, event->text);
  strcat(line, "}}\n");
  char **slot = &pair->events[pair->events_ever++ % EVENTS_MAX];
  free(*slot);
  *slot = strdup(line);
}

static void on_log(void *user, int32_t level, const char *area, const char *text) {
  (void)user;
  if (level >= FT_LOG_INFO) say("[%s] %s", area, text);
}

static void on_started(void *user, int32_t status, const char *text, const ft_error *error) {
  struct pair *pair = user;
  (void)text;
  pair->started = status;
  pair->why = *error;
}

/* --- a successor's memory --------------------------------------------------------------------- */

/* Which guest this program holds and as whom, for the one that is started after it was killed. */
static void remember(struct pair *pair) {
  ft_guest_place place = {.struct_size = sizeof place};
  ft_state state = {.struct_size = sizeof state};
  char next[600];
  if (ft_session_guest_place(pair->session, &place, NULL) != FT_OK ||
      ft_session_state(pair->session, &state, NULL) != FT_OK || state.role != FT_ROLE_PRIMARY)
    return;
  snprintf(next, sizeof next, "%s.new", pair->memory);
  FILE *file = fopen(next, "we");
  if (file == NULL) return;
  fprintf(file, "%d %s %s\n", (int)place.pid, place.qmp, state.self);
  fclose(file);
  rename(next, pair->memory);
}

struct earlier {
  int pid;
  char qmp[112], self[112];
};

/* 1: a predecessor's guest is there, and lives. */
static int recall(const struct pair *pair, struct earlier *earlier) {
  FILE *file = fopen(pair->memory, "re");
  if (file == NULL) return 0;
  const int found = fscanf(file, "%d %111s %111s", &earlier->pid, earlier->qmp, earlier->self);
  fclose(file);
  return found == 3 && kill(earlier->pid, 0) == 0;
}

/* The other host owns the guest: what is left of it here must not run on. */
static void end_guest(int pid) {
  const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return;
  struct pollfd end = {.fd = fd, .events = POLLIN};
  syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
  poll(&end, 1, 10000);
  close(fd);
}

/* --- the control socket ----------------------------------------------------------------------- */

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  unlink(path);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 16) != 0) {
    say("listen at %s: %s", path, strerror(errno));
    exit(1);
  }
  return fd;
}

static void answer_status(struct pair *pair, FILE *client) {
  static char json[LINE_MAX_BYTES];
  uint64_t length = 0;
  if (ft_session_json(pair->session, json, sizeof json, &length, NULL) == FT_OK)
    fprintf(client, "{\"ok\":true,\"guests\":[%s]}\n", json);
  else
    fprintf(client, "{\"ok\":false,\"error\":\"no status\"}\n");
}

static void answer_events(struct pair *pair, FILE *client) {
  const size_t first = pair->events_ever > EVENTS_MAX ? pair->events_ever - EVENTS_MAX : 0;
  for (size_t i = first; i < pair->events_ever; ++i) fputs(pair->events[i % EVENTS_MAX], client);
  fputs("{\"ok\":true,\"end\":true}\n", client);
}

/* One request, one answer: who asks does so at once. */
static void serve(struct pair *pair, int listener) {
  char request[1024] = "";
  const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  const struct timeval patience = {.tv_sec = 1};
  if (fd < 0) return;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  FILE *client = fdopen(fd, "r+");
  if (client != NULL && fgets(request, sizeof request, client) != NULL) {
    fseek(client, 0, SEEK_CUR); /* Between reading and writing, as C wants it. */
    if (strstr(request, "\"status\"") != NULL)
      answer_status(pair, client);
    else if (strstr(request, "\"events\"") != NULL)
      answer_events(pair, client);
    else
      fputs("{\"ok\":false,\"error\":\"ft-pair knows status and events\"}\n", client);
  }
  if (client != NULL) fclose(client);
}

/* --- the replica ------------------------------------------------------------------------------ */

static int over(ft_session *session, ft_state *state) {
  state->struct_size = sizeof *state;
  ft_session_state(session, state, NULL);
  return state->role == FT_ROLE_FENCED || state->role == FT_ROLE_ENDED ||
         state->role == FT_ROLE_FAILED || state->role == FT_ROLE_STOPPED;
}

/* Until this replica has nothing to do any more, or is told to end. */
static int drive(struct pair *pair, int listener, int signals) {
  ft_state state;
  int32_t role = FT_ROLE_NONE;
  while (!over(pair->session, &state) && pair->started >= 0) {
    struct pollfd waits[] = {{.fd = ft_session_poll_fd(pair->session), .events = POLLIN},
                             {.fd = listener, .events = POLLIN},
                             {.fd = signals, .events = POLLIN}};
    poll(waits, 3, 100);
    if (waits[0].revents != 0) ft_session_process(pair->session, NULL);
    if (waits[1].revents != 0) serve(pair, listener);
    if (waits[2].revents != 0) return 0;
    if (state.role != role && state.role == FT_ROLE_PRIMARY) remember(pair);
    role = state.role;
  }
  ft_session_process(pair->session, NULL);
  say("the end: %s: %s", state.state, pair->started < 0 ? pair->why.cause : state.detail);
  if (pair->started == FT_E_FENCED || state.role == FT_ROLE_FENCED) return EXIT_FENCED;
  return pair->started == FT_OK && state.role == FT_ROLE_ENDED ? 0 : 1;
}

/* Those of libft's by name, and the three of this program. */
static const char *take_options(ft_options *options, struct pair *pair, int count, char **given) {
  const char *control = NULL;
  for (int i = 0; i < count; ++i) {
    char *value = strchr(given[i], '=');
    if (value == NULL) return NULL;
    *value++ = 0;
    if (strcmp(given[i], "control") == 0)
      control = value;
    else if (strcmp(given[i], "epochs_log") == 0)
      pair->epochs = fopen(value, "ae");
    else if (ft_options_set(options, given[i], value, NULL) != FT_OK)
      return NULL;
    if (strcmp(given[i], "state_dir") == 0)
      snprintf(pair->memory, sizeof pair->memory, "%s/ft-pair", value);
  }
  return control;
}

int main(int argc, char **argv) {
  static struct pair pair;
  struct earlier earlier = {0};
  ft_options *options = NULL;
  const int primary = argc > 1 && strcmp(argv[1], "protect") == 0;
  if (argc < 2 || (!primary && strcmp(argv[1], "standby") != 0)) return 2;

  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  signal(SIGPIPE, SIG_IGN); /* The host's, as every signal. */

  ft_options_new(&options, NULL);
  const char *control = take_options(options, &pair, argc - 2, argv + 2);
  if (control == NULL) return complain("options");
  if (pair.epochs != NULL) setvbuf(pair.epochs, NULL, _IOLBF, 0);
  if (primary && recall(&pair, &earlier)) {
    char guest[256];
    snprintf(guest, sizeof guest, "qemu:pid=%d,qmp=%s", earlier.pid, earlier.qmp);
    ft_options_set(options, "guest", guest, NULL);
    ft_options_set(options, "earlier", earlier.self, NULL);
    ft_options_set(options, "resume", "1", NULL);
    say("taking up process %d, which a predecessor left", earlier.pid);
  }
  if (ft_session_new(options, &pair.session, NULL) != FT_OK) return complain("session");
  ft_options_free(options);

  const ft_event_sink events = {.struct_size = sizeof events, .user = &pair, .event = on_event};
  const ft_log_sink log = {.struct_size = sizeof log, .write = on_log};
  const ft_completion done = {.struct_size = sizeof done, .user = &pair, .done = on_started};
  pair.started = FT_PENDING;
  ft_session_set_events(pair.session, &events, NULL);
  ft_session_set_log(pair.session, &log, NULL);
  const int32_t asked = primary ? ft_session_protect(pair.session, &done, NULL)
                                : ft_session_stand_by(pair.session, &done, NULL);
  if (asked != FT_OK) return complain(argv[1]);

  const int code = drive(&pair, listen_at(control), signalfd(-1, &ends, SFD_CLOEXEC));
  ft_session_free(pair.session);
  if (code == EXIT_FENCED && earlier.pid > 0) end_guest(earlier.pid);
  if (pair.epochs != NULL) fclose(pair.epochs);
  return code;
}
