/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A transport in C: the connection to the primary is a child process that libft talks to by pipes.
 * On two hosts that is
 *
 *   my_transport FOLDER ssh hosta socat - UNIX-CONNECT:/run/libft/web.sock
 *
 * and here, with a primary of its own in the same program, without ssh:
 *
 *   my_transport FOLDER socat - UNIX-CONNECT:FOLDER/a.sock
 *
 * Whoever has two descriptors only can leave the struct out: ft_op_give_fds(op, in, out, ...). */

#include <errno.h>
#include <fcntl.h>
#include <libft.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

typedef struct pipes {
  pid_t child;
  int to, from;
} pipes;

static char** command;
static int opened = 0, freed = 0;

/* The port says FT_PORT_ANY_THREAD, so these may block: one thread of libft's sends while another
 * receives. */
static int32_t send_all(void* user, ft_op* op, const ft_bytes* pieces, uint64_t count) {
  (void)op;
  for (uint64_t i = 0; i < count; ++i) {
    const char* at = pieces[i].data;
    for (uint64_t left = pieces[i].count; left > 0;) {
      const ssize_t sent = write(((pipes*)user)->to, at, left);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0)
        return ft_op_explain(op, strerror(errno), "look at the command's output"), FT_E_IO;
      at += sent;
      left -= (uint64_t)sent;
    }
  }
  return FT_OK;
}

static int32_t receive_some(void* user, ft_op* op, uint64_t capacity) {
  char buffer[65536];
  ssize_t got = 0;
  do {
    got = read(((pipes*)user)->from, buffer, capacity < sizeof buffer ? capacity : sizeof buffer);
  } while (got < 0 && errno == EINTR);
  return got <= 0 ? FT_E_PEER_LOST : ft_op_append(op, buffer, (uint64_t)got);
}

/* Makes both return: without the child the pipes have no other end. */
static void hang_up(void* user) { kill(((pipes*)user)->child, SIGKILL); }

static void drop(void* user) {
  pipes* it = user;
  close(it->to);
  close(it->from);
  waitpid(it->child, NULL, 0); /* By its number: SIGCHLD is the program's own business. */
  free(it);
  ++freed;
}

static int32_t dial(void* user, ft_op* op, uint32_t another_way) {
  int in[2], out[2];
  posix_spawn_file_actions_t files;
  pipes* it = calloc(1, sizeof *it);
  (void)user, (void)another_way;
  if (it == NULL || pipe2(in, O_CLOEXEC) != 0) return free(it), FT_E_EXHAUSTED;
  if (pipe2(out, O_CLOEXEC) != 0) return close(in[0]), close(in[1]), free(it), FT_E_EXHAUSTED;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, in[0], 0);
  posix_spawn_file_actions_adddup2(&files, out[1], 1);
  const int failed = posix_spawnp(&it->child, command[0], &files, NULL, command, environ);
  posix_spawn_file_actions_destroy(&files);
  close(in[0]);
  close(out[1]);
  it->to = in[1];
  it->from = out[0];
  if (failed != 0) {
    ft_op_explain(op, strerror(failed), "install the command");
    return close(it->to), close(it->from), free(it), FT_E_NOT_FOUND;
  }
  const ft_transport_port port = {.struct_size = sizeof port,
                                  .flags = FT_PORT_ANY_THREAD,
                                  .user = it,
                                  .free = drop,
                                  .description = "a child's pipes",
                                  .authenticated = 1, /* ssh did that. */
                                  .send = send_all,
                                  .receive = receive_some,
                                  .close = hang_up};
  ++opened;
  return ft_op_give_transport(op, &port);
}

static ft_session* make(const char* folder, const char* host, const char* guest,
                        const char* listen) {
  char arbiter[256];
  ft_options* options = NULL;
  ft_session* session = NULL;
  snprintf(arbiter, sizeof arbiter, "file:%s", folder);
  ft_options_new(&options, NULL);
  ft_options_set(options, "name", "example", NULL);
  ft_options_set(options, "host", host, NULL);
  ft_options_set(options, "guest", guest, NULL);
  ft_options_set(options, "listen", listen, NULL);
  ft_options_set(options, "arbiter", arbiter, NULL);
  ft_session_new(options, &session, NULL);
  ft_options_free(options);
  return session;
}

int main(int argc, char** argv) {
  char listen[256];
  if (argc < 3) return 2;
  command = argv + 2;
  signal(SIGPIPE, SIG_IGN); /* The host's business, and this host writes to pipes. */
  snprintf(listen, sizeof listen, "unix:%s/a.sock", argv[1]);
  ft_session* a = make(argv[1], "a", "memory:mib=4,pages=5", listen);
  ft_session* b = make(argv[1], "b", "", "");
  const ft_dial_port dialling = {.struct_size = sizeof dialling, .dial = dial};
  if (ft_session_protect(a, NULL, NULL) || ft_session_set_dial(b, &dialling, NULL) ||
      ft_session_stand_by(b, NULL, NULL))
    return fprintf(stderr, "%s\n", ft_last_error()), 1;
  const int32_t ran = ft_session_run(b, FT_UNTIL_IN_SYNC, 20000, NULL);
  ft_state state = {.struct_size = sizeof state};
  ft_session_state(b, &state, NULL);
  printf("by a child's pipes the backup is %s: %s\n", state.state, state.detail);
  ft_session_free(b);
  ft_session_free(a);
  return ran == FT_OK && opened > 0 && opened == freed ? 0 : 1;
}
