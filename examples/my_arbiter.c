/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An arbiter in C: who may own the guest is kept in one file that both hosts see, changed under a
 * lock. A database that has compare-and-swap takes the file's place: the record is a line of text,
 * and the same record is the same text.
 *
 *   my_arbiter FOLDER      protects a guest in memory, loses its host, and shows the records
 */
#include <fcntl.h>
#include <libft.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

typedef struct arbiter {
  char path[256];
  int users; /* Both sessions of this program share it. */
} arbiter;

/* The record as it is, under the lock that `fd` holds; 0 when there is none. */
static size_t read_record(int fd, char* into, size_t capacity) {
  const ssize_t got = pread(fd, into, capacity - 1, 0);
  into[got > 0 ? got : 0] = 0;
  return got > 0 ? (size_t)got : 0;
}

/* Every failure is FT_E_IO: to libft that is "unknown", and it asks again. A write that was begun
 * may have happened; only a record that was read is certain. */
static int32_t change(arbiter* it, ft_op* op, const char* from, const char* to) {
  char record[1024];
  const int fd = open(it->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || flock(fd, LOCK_EX) != 0) return FT_E_IO;
  read_record(fd, record, sizeof record);
  int32_t status = FT_OK;
  if (strcmp(record, from) != 0) {
    /* Never made again when it vanished: nobody knows who runs the guest then. */
    status = record[0] == 0 ? FT_E_NOT_FOUND : ft_op_answer(op, FT_ANSWER_LOST, record);
  } else if (ftruncate(fd, 0) == 0 && pwrite(fd, to, strlen(to), 0) == (ssize_t)strlen(to) &&
             fsync(fd) == 0) {
    printf("record: %s\n", to);
    status = ft_op_answer(op, FT_ANSWER_WON, to);
  } else {
    status = FT_E_IO;
  }
  close(fd); /* And unlocks. */
  return status;
}

static int32_t create(void* user, ft_op* op, const char* guest, const char* record) {
  (void)guest; /* This arbiter knows one guest; others keep a record for each. */
  return change(user, op, "", record);
}
static int32_t swap(void* user, ft_op* op, const char* guest, const char* from, const char* to) {
  (void)guest;
  return change(user, op, from, to);
}
static int32_t read_it(void* user, ft_op* op, const char* guest) {
  char record[1024];
  (void)guest;
  const int fd = open(((arbiter*)user)->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FT_E_IO;
  if (flock(fd, LOCK_SH) != 0) return close(fd), FT_E_IO;
  const size_t bytes = read_record(fd, record, sizeof record);
  close(fd);
  return bytes == 0 ? ft_op_answer(op, FT_ANSWER_MISSING, NULL)
                    : ft_op_answer(op, FT_ANSWER_FOUND, record);
}
static void drop(void* user) { --((arbiter*)user)->users; }

static ft_session* make(arbiter* shared, const char* folder, const char* host, const char* guest,
                        const char* peer) {
  char listen[256], dial[256] = "";
  ft_options* options = NULL;
  ft_session* session = NULL;
  snprintf(listen, sizeof listen, "unix:%s/%s.sock", folder, host);
  if (peer != NULL) snprintf(dial, sizeof dial, "unix:%s/%s.sock", folder, peer);
  ft_options_new(&options, NULL);
  ft_options_set(options, "name", "example", NULL);
  ft_options_set(options, "host", host, NULL);
  ft_options_set(options, "guest", guest, NULL);
  ft_options_set(options, "listen", listen, NULL);
  ft_options_set(options, "peer", dial, NULL);
  ft_session_new(options, &session, NULL);
  ft_options_free(options);

  /* A file system may hang, and this program's loop must not: so libft may call it on a thread of
   * its own, which may wait. Everything above is safe there. */
  const ft_arbiter_port port = {.struct_size = sizeof port,
                                .flags = FT_PORT_ANY_THREAD,
                                .user = shared,
                                .free = drop,
                                .description = "a locked file",
                                .create = create,
                                .swap = swap,
                                .read = read_it};
  ++shared->users;
  if (session == NULL || ft_session_set_arbiter(session, &port, NULL) != FT_OK) {
    fprintf(stderr, "%s\n", ft_last_error());
    exit(1);
  }
  return session;
}

static int32_t role_of(ft_session* session, int* is_protected) {
  ft_state state = {.struct_size = sizeof state};
  ft_session_state(session, &state, NULL);
  if (is_protected != NULL) *is_protected = state.is_protected && state.generation > 1;
  return state.role;
}

int main(int argc, char** argv) {
  arbiter shared = {.users = 0};
  int is_protected = 0;
  if (argc != 2) return 2;
  snprintf(shared.path, sizeof shared.path, "%s/record", argv[1]);
  ft_session* a = make(&shared, argv[1], "a", "memory:mib=4,pages=5", NULL);
  ft_session* b = make(&shared, argv[1], "b", "", "a");
  if (ft_session_protect(a, NULL, NULL) != FT_OK || ft_session_stand_by(b, NULL, NULL) != FT_OK) {
    fprintf(stderr, "%s\n", ft_last_error());
    return 1;
  }
  while (!is_protected) {
    ft_session_process(a, NULL);
    ft_session_process(b, NULL);
    role_of(a, &is_protected);
    poll(NULL, 0, 5);
  }
  ft_session_free(a); /* Its host dies; the backup hears no heartbeat any more. */
  const int32_t ran = ft_session_run(b, FT_UNTIL_PRIMARY, 20000, NULL);
  printf("the backup %s\n",
         role_of(b, NULL) == FT_ROLE_PRIMARY ? "took over" : "did not take over");
  ft_session_free(b);
  return ran == FT_OK && shared.users == 0 ? 0 : 1;
}
