/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compiles the header alone, as C11 and as C++, without a warning; calls every function of it with
 * nothing, with a handle of another kind, and in a child process; and prints how each one answers. */
#include <libft.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int wrong = 0;

static void expect(const char *call, int32_t got, int32_t wanted) {
  if (got == wanted && (got >= 0 || ft_last_error()[0] != 0)) return;
  printf("%s: %s (%d) instead of %s: %s\n", call, ft_status_name(got), (int)got,
         ft_status_name(wanted), ft_last_error());
  wrong = 1;
}
#define EXPECT(wanted, call) expect(#call, (int32_t)(call), wanted)

/* Every function that takes a handle, with one that is none. `op` and `session` may be null. */
static void call_all(ft_options *options, ft_session *session, ft_op *op, int32_t wanted) {
  ft_error error;
  ft_settings settings;
  ft_state state;
  ft_statistics statistics;
  char text[64];
  uint64_t length;
  memset(&error, 0, sizeof error);
  memset(&settings, 0, sizeof settings);
  memset(&state, 0, sizeof state);
  memset(&statistics, 0, sizeof statistics);
  error.struct_size = sizeof error;
  settings.struct_size = sizeof settings;
  state.struct_size = sizeof state;
  statistics.struct_size = sizeof statistics;

  EXPECT(wanted, ft_options_set(options, "name", "x", &error));
  EXPECT(wanted, ft_options_get(options, "name", text, sizeof text, &length, &error));
  EXPECT(wanted, ft_options_set_settings(options, &settings, &error));
  EXPECT(wanted, ft_options_get_settings(options, &settings, &error));
  EXPECT(wanted, ft_options_qemu_arguments(options, 2u << 20, 1, text, sizeof text, &length, &error));
  EXPECT(wanted, ft_session_new(options, &session, &error) == FT_OK ? FT_OK : error.code);
  EXPECT(wanted, ft_op_done(op, FT_OK));
  EXPECT(wanted, ft_op_explain(op, "cause", "remedy"));
  EXPECT(wanted, ft_op_is_cancelled(op));
  EXPECT(wanted, ft_op_add_pages(op, 0, 1));
  EXPECT(wanted, ft_op_add_page_runs(op, NULL, 0));
  EXPECT(wanted, ft_op_append(op, text, 1));
  EXPECT(wanted, ft_op_answer(op, FT_ANSWER_WON, "{}"));
}

static void call_session(ft_session *session, int32_t wanted) {
  ft_error error;
  ft_state state;
  ft_statistics statistics;
  ft_guest_place place;
  const char *const command[] = {"qemu-system-x86_64", NULL};
  char text[64];
  uint64_t length;
  memset(&error, 0, sizeof error);
  memset(&state, 0, sizeof state);
  memset(&statistics, 0, sizeof statistics);
  memset(&place, 0, sizeof place);
  error.struct_size = sizeof error;
  state.struct_size = sizeof state;
  statistics.struct_size = sizeof statistics;
  place.struct_size = sizeof place;

  EXPECT(wanted, ft_session_set_guest(session, NULL, NULL, &error));
  EXPECT(wanted, ft_session_set_gate(session, NULL, &error));
  EXPECT(wanted, ft_session_set_standby(session, NULL, &error));
  EXPECT(wanted, ft_session_set_command(session, command, &error));
  EXPECT(wanted, ft_session_set_qmp(session, NULL, &error));
  EXPECT(wanted, ft_session_set_dial(session, NULL, &error));
  EXPECT(wanted, ft_session_set_arbiter(session, NULL, &error));
  EXPECT(wanted, ft_session_set_detector(session, NULL, &error));
  EXPECT(wanted, ft_session_set_heartbeat_fds(session, NULL, 0, &error));
  EXPECT(wanted, ft_session_set_fence(session, NULL, &error));
  EXPECT(wanted, ft_session_set_log(session, NULL, &error));
  EXPECT(wanted, ft_session_set_events(session, NULL, &error));
  EXPECT(wanted, ft_session_may_start(session, NULL, &error));
  EXPECT(wanted, ft_session_protect(session, NULL, &error));
  EXPECT(wanted, ft_session_stand_by(session, NULL, &error));
  EXPECT(wanted, ft_session_switch_over(session, NULL, &error));
  EXPECT(wanted, ft_session_fail_over(session, NULL, &error));
  EXPECT(wanted, ft_session_unprotect(session, NULL, &error));
  EXPECT(wanted, ft_session_reprotect(session, NULL, &error));
  EXPECT(wanted, ft_session_change_strategy(session, "replay", NULL, &error));
  EXPECT(wanted, ft_session_verify(session, NULL, &error));
  EXPECT(wanted, ft_session_test_failover(session, NULL, &error));
  EXPECT(wanted, ft_session_hold(session, 1000000, NULL, &error));
  EXPECT(wanted, ft_session_let_go(session, &error));
  EXPECT(wanted, ft_session_stop(session, NULL, &error));
  EXPECT(wanted, ft_session_offer_fds(session, -1, -1, "x", FT_TRUST_PROVEN, &error));
  EXPECT(wanted, ft_session_offer_transport(session, NULL, &error));
  EXPECT(wanted, ft_session_guest_event(session, FT_GUEST_ENDED, "x", &error));
  EXPECT(wanted, ft_session_qmp_event(session, "{}", &error));
  EXPECT(wanted, ft_session_guest_place(session, &place, &error));
  EXPECT(wanted, ft_session_guest_clock_lag(session, 0, &error));
  EXPECT(wanted, ft_session_output_waiting(session, &error));
  EXPECT(wanted, ft_session_may_release(session));
  EXPECT(wanted, ft_session_heartbeat(session, 1, FT_HEARTBEAT_ALIVE, 0, 0, "x", &error));
  EXPECT(wanted, ft_session_poll_fd(session));
  EXPECT(wanted, ft_session_process(session, &error));
  EXPECT(wanted, ft_session_run(session, FT_UNTIL_ENDED, 0, &error));
  EXPECT(wanted, ft_session_interrupt(session));
  EXPECT(wanted, ft_session_state(session, &state, &error));
  EXPECT(wanted, ft_session_statistics(session, &statistics, &error));
  EXPECT(wanted, ft_session_json(session, text, sizeof text, &length, &error));
}

static void in_a_child(ft_options *options, ft_session *session) {
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    char text[8];
    EXPECT(FT_E_FORKED, ft_options_set(options, "name", "x", NULL));
    EXPECT(FT_E_FORKED, ft_options_get(options, "name", text, sizeof text, NULL, NULL));
    EXPECT(FT_E_FORKED, ft_options_free(options));
    call_session(session, FT_E_FORKED);
    EXPECT(FT_E_FORKED, ft_session_free(session));
    fflush(stdout);
    _exit(wrong);
  }
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) wrong = 1;
}

int main(void) {
  ft_error error;
  ft_options *options = NULL;
  ft_session *session = NULL;
  ft_option about;
  ft_guest_place place;
  const char *const nothing = NULL;
  const int32_t no_fds[3] = {-1, -1, -1};
  uint32_t i;
  memset(&place, 0, sizeof place);
  memset(&error, 0, sizeof error);
  error.struct_size = sizeof error;
  memset(&about, 0, sizeof about);
  about.struct_size = sizeof about;

  call_all(NULL, NULL, NULL, FT_E_HANDLE);
  call_session(NULL, FT_E_HANDLE);
  EXPECT(FT_E_HANDLE, ft_op_give_transport(NULL, NULL));
  EXPECT(FT_E_HANDLE, ft_op_give_fds(NULL, -1, -1, "x", FT_TRUST_PROVEN));
  EXPECT(FT_E_HANDLE, ft_op_give_replica(NULL, NULL, NULL, NULL));
  EXPECT(FT_OK, ft_options_free(NULL));
  EXPECT(FT_OK, ft_session_free(NULL));
  EXPECT(FT_E_INVALID, ft_options_new(NULL, &error));

  EXPECT(FT_OK, ft_options_new(&options, &error));
  EXPECT(FT_E_INVALID, ft_session_new(options, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_new(options, &session, &error)); /* It has no name. */
  EXPECT(FT_E_INVALID, ft_options_qemu_arguments(options, 2u << 20, 1, NULL, 0, NULL, &error));
  EXPECT(FT_OK, ft_options_set(options, "name", "x", &error));
  EXPECT(FT_OK, ft_session_new(options, &session, &error));
  EXPECT(FT_E_INVALID, ft_options_qemu_arguments(options, 1, 1, NULL, 0, NULL, &error));
  EXPECT(FT_E_INVALID, ft_options_qemu_arguments(options, 2u << 20, 99, NULL, 0, NULL, &error));
  EXPECT(FT_E_EXHAUSTED, ft_options_qemu_arguments(options, 2u << 20, 1, NULL, 0, NULL, &error));

  call_all((ft_options *)(void *)session, NULL, (ft_op *)(void *)session, FT_E_HANDLE);
  call_session((ft_session *)(void *)options, FT_E_HANDLE);
  EXPECT(FT_E_HANDLE, ft_options_free((ft_options *)(void *)session));
  EXPECT(FT_E_HANDLE, ft_session_free((ft_session *)(void *)options));
  in_a_child(options, session);

  /* Out of place: nothing was started, and nothing was given. */
  EXPECT(FT_E_INVALID, ft_session_set_guest(session, NULL, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_set_gate(session, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_set_command(session, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_set_command(session, &nothing, &error));
  EXPECT(FT_E_INVALID, ft_session_set_qmp(session, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_set_heartbeat_fds(session, NULL, 1, &error));
  EXPECT(FT_E_INVALID, ft_session_set_heartbeat_fds(session, no_fds, 0, &error));
  EXPECT(FT_E_INVALID, ft_session_set_heartbeat_fds(session, no_fds, 1, &error));
  EXPECT(FT_E_INVALID, ft_session_set_heartbeat_fds(session, no_fds, 3, &error));
  EXPECT(FT_E_INVALID, ft_session_may_start(session, NULL, &error)); /* There is no arbiter. */
  EXPECT(FT_E_INVALID, ft_session_protect(session, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_stand_by(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_switch_over(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_fail_over(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_unprotect(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_reprotect(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_change_strategy(session, "replay", NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_change_strategy(session, "prayer", NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_change_strategy(session, NULL, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_verify(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_test_failover(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_hold(session, 1000000, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_hold(session, 0, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_hold(session, UINT64_MAX, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_let_go(session, &error));
  EXPECT(FT_E_STATE, ft_session_stop(session, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_guest_event(session, FT_GUEST_ENDED, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_guest_event(session, 99, NULL, &error));
  EXPECT(FT_E_STATE, ft_session_output_waiting(session, &error));
  EXPECT(FT_E_STATE, ft_session_qmp_event(session, "{}", &error));
  EXPECT(FT_E_INVALID, ft_session_qmp_event(session, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_guest_place(session, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_guest_place(session, &place, &error)); /* No struct_size. */
  place.struct_size = sizeof place;
  EXPECT(FT_E_NOT_FOUND, ft_session_guest_place(session, &place, &error));
  EXPECT(FT_E_STATE, ft_session_heartbeat(session, 1, FT_HEARTBEAT_ALIVE, 0, 0, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_heartbeat(session, 1, 99, 0, 0, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_state(session, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_statistics(session, NULL, &error));
  EXPECT(FT_E_EXHAUSTED, ft_session_json(session, NULL, 0, NULL, &error));
  EXPECT(FT_E_INVALID, ft_session_run(session, 1u << 30, 0, &error));
  EXPECT(FT_E_TIMEOUT, ft_session_run(session, FT_UNTIL_PRIMARY, 1, &error));
  EXPECT(FT_OK, ft_session_run(session, FT_UNTIL_WISHES, 0, &error));
  EXPECT(FT_OK, ft_session_interrupt(session));
  EXPECT(FT_E_CANCELLED, ft_session_run(session, FT_UNTIL_ENDED, -1, &error));
  EXPECT(FT_OK, ft_session_process(session, &error));
  EXPECT(FT_OK, ft_session_guest_clock_lag(session, 5, &error));
  EXPECT(1, ft_session_may_release(session));

  /* Options: introspection, and each wrong value. */
  for (i = 0; i < ft_option_count(); ++i) {
    EXPECT(FT_OK, ft_option_describe(i, &about, &error));
    EXPECT(FT_OK, ft_options_set(options, about.name, NULL, &error));
    EXPECT(FT_OK, ft_options_set(options, about.name, about.initial, &error));
    if (about.type != FT_OPTION_TEXT)
      EXPECT(FT_E_INVALID, ft_options_set(options, about.name, "x", &error));
  }
  EXPECT(FT_E_NOT_FOUND, ft_option_describe(i, &about, &error));
  EXPECT(FT_E_INVALID, ft_option_describe(0, NULL, &error));
  EXPECT(FT_E_NOT_FOUND, ft_options_set(options, "no such option", "x", &error));
  EXPECT(FT_E_INVALID, ft_options_set(options, NULL, "x", &error));
  EXPECT(FT_E_INVALID, ft_options_get(options, NULL, NULL, 0, NULL, &error));
  EXPECT(FT_E_EXHAUSTED, ft_options_get(options, "interval_us", NULL, 0, NULL, &error));
  EXPECT(FT_E_INVALID, ft_options_set_settings(options, NULL, &error));
  EXPECT(FT_E_INVALID, ft_options_get_settings(options, NULL, &error));

  if (error.code >= 0 || error.phase[0] == 0 || error.cause[0] == 0) wrong = 1;
  if (ft_version()[0] == 0 || strcmp(ft_status_name(12345), "unknown") != 0) wrong = 1;
  EXPECT(FT_OK, ft_session_free(session));
  EXPECT(FT_OK, ft_options_free(options));
  if (!wrong) puts("every function answered as the header says");
  return wrong;
}
