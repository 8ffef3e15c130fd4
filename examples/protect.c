/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The smallest complete program: one replica of a guest, with libft's own parts.
 *
 *   protect primary name=web guest=memory:mib=64 listen=tcp:127.0.0.1:7070 arbiter=file:/srv/ft
 *   protect backup  name=web peer=tcp:127.0.0.1:7070 listen=tcp:127.0.0.1:7080 arbiter=file:/srv/ft
 *   protect options
 *
 * Every other argument is an option by name. It says what happens until the guest ended, was taken
 * over by the other host, or the program is killed: then the backup takes over. */
#include <libft.h>
#include <stdio.h>
#include <string.h>

static void on_event(void* user, const ft_event* event) {
  (void)user;
  if (strcmp(event->name, "epoch") == 0) return; /* One for each checkpoint. */
  printf("%s%s%s\n", event->name, event->text[0] != 0 ? ": " : "", event->text);
  fflush(stdout);
}

static void on_started(void* user, int32_t status, const char* text, const ft_error* error) {
  (void)text;
  *(int32_t*)user = status;
  if (status == FT_OK) puts("started");
  fflush(stdout);
  if (status < 0)
    fprintf(stderr, "%s: %s\nremedy: %s\n", error->phase, error->cause, error->remedy);
}

static void list_options(void) {
  ft_option option = {.struct_size = sizeof option};
  for (uint32_t i = 0; ft_option_describe(i, &option, NULL) == FT_OK; ++i)
    printf("%-22s %s%s%s (%s)\n", option.name, option.help, option.unit[0] != 0 ? ", in " : "",
           option.unit, option.initial);
}

static int complain(const char* what) {
  fprintf(stderr, "%s: %s\n", what, ft_last_error());
  return 1;
}

/* Each argument NAME=VALUE. */
static int take_options(ft_options* options, int count, char** arguments) {
  for (int i = 0; i < count; ++i) {
    char* equals = strchr(arguments[i], '=');
    if (equals == NULL) return complain(arguments[i]);
    *equals = 0;
    if (ft_options_set(options, arguments[i], equals + 1, NULL) != FT_OK)
      return complain(arguments[i]);
  }
  return 0;
}

int main(int argc, char** argv) {
  const int primary = argc > 1 && strcmp(argv[1], "primary") == 0;
  if (argc > 1 && strcmp(argv[1], "options") == 0) return list_options(), 0;
  if (argc < 2 || (!primary && strcmp(argv[1], "backup") != 0)) {
    fprintf(stderr, "protect primary|backup NAME=VALUE..., protect options\n");
    return 2;
  }

  ft_options* options = NULL;
  ft_session* session = NULL;
  if (ft_options_new(&options, NULL) != FT_OK) return complain("options");
  if (take_options(options, argc - 2, argv + 2) != 0) return 1;
  if (ft_session_new(options, &session, NULL) != FT_OK) return complain("session");
  ft_options_free(options); /* The session has its own copy. */

  const ft_event_sink events = {.struct_size = sizeof events, .event = on_event};
  ft_session_set_events(session, &events, NULL);

  int32_t started = FT_PENDING;
  const ft_completion done = {.struct_size = sizeof done, .user = &started, .done = on_started};
  const int32_t asked = primary ? ft_session_protect(session, &done, NULL)
                                : ft_session_stand_by(session, &done, NULL);
  if (asked != FT_OK) return complain(argv[1]);

  /* Blocks until this replica has nothing to do any more. */
  const int32_t ran = ft_session_run(session, FT_UNTIL_ENDED, -1, NULL);
  ft_state state = {.struct_size = sizeof state};
  ft_session_state(session, &state, NULL);
  printf("the end: %s: %s\n", state.state, state.detail);
  ft_session_free(session);
  return ran == FT_OK && started == FT_OK ? 0 : 1;
}
