/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What ft.ml needs of libft.h: each port is an OCaml record of closures, whose fields this file
 * calls by their place. libft calls nothing but inside ft_session_process, on the thread that called
 * that, which holds the OCaml runtime: so every callback may enter OCaml as it is. Handles and
 * operations are nativeints. */
#define CAML_NAME_SPACE
#include <caml/alloc.h>
#include <caml/bigarray.h>
#include <caml/callback.h>
#include <caml/fail.h>
#include <caml/memory.h>
#include <libft.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE(type, v) ((type *)Nativeint_val(v))

/* A failed call is a Failure with libft's own words. */
static value check(int32_t status) {
  if (status < 0) caml_failwith(ft_last_error());
  return Val_int(status);
}

/* --- a record of closures is a port's `user` until its `free` ---------------------------------- */

static void *keep(value record) {
  value *root = malloc(sizeof *root);
  *root = record;
  caml_register_generational_global_root(root);
  return root;
}
static void release(void *user) {
  caml_remove_generational_global_root(user);
  free(user);
}

/* Calls the closure in a field of the record: what it raises is a defect of the port. */
static int32_t call(void *user, int field, int count, value arguments[]) {
  const value result = caml_callbackN_exn(Field(*(value *)user, field), count, arguments);
  return Is_exception_result(result) ? FT_E_INTERNAL : Int_val(result);
}

enum kind { OP, NUMBER, TEXT };
/* Makes OCaml's arguments one after the other, each rooted while the next is made. */
static int32_t enter(void *user, int field, int count, const enum kind *kinds, const void **given,
                     const uint64_t *lengths) {
  CAMLparam0();
  CAMLlocalN(arguments, 4);
  for (int i = 0; i < count; ++i) {
    if (kinds[i] == OP) arguments[i] = caml_copy_nativeint((intnat)given[i]);
    if (kinds[i] == NUMBER) arguments[i] = Val_long((intnat)given[i]);
    if (kinds[i] == TEXT) arguments[i] = caml_alloc_initialized_string(lengths[i], given[i]);
  }
  CAMLreturnT(int32_t, call(user, field, count, arguments));
}
static int32_t with_op(void *user, int field, ft_op *op) {
  return enter(user, field, 1, (enum kind[]){OP}, (const void *[]){op}, NULL);
}
static int32_t with_bytes(void *user, int field, ft_op *op, const void *bytes, uint64_t count) {
  return enter(user, field, 2, (enum kind[]){OP, TEXT}, (const void *[]){op, bytes},
               (uint64_t[]){0, count});
}
static int32_t with_numbers(void *user, int field, ft_op *op, uint64_t a, uint64_t b) {
  return enter(user, field, 3, (enum kind[]){OP, NUMBER, NUMBER},
               (const void *[]){op, (void *)a, (void *)b}, NULL);
}
static int32_t with_texts(void *user, int field, ft_op *op, const char *a, const char *b) {
  return enter(user, field, 3, (enum kind[]){OP, TEXT, TEXT}, (const void *[]){op, a, b},
               (uint64_t[]){0, strlen(a), strlen(b)});
}
#define PLAIN(name, field) \
  static int32_t name(void *user, ft_op *op) { return with_op(user, field, op); }

/* --- the ports, in the order of the records' fields -------------------------------------------- */

PLAIN(guest_track, 0)
PLAIN(guest_pause, 1)
PLAIN(guest_resume, 2)
PLAIN(guest_take, 3)
PLAIN(guest_save, 4)
PLAIN(guest_fetch, 5)
static int32_t guest_load(void *user, ft_op *op, const void *state, uint64_t bytes) {
  return with_bytes(user, 6, op, state, bytes);
}
static ft_guest_port guest_port(value record) {
  return (ft_guest_port){.struct_size = sizeof(ft_guest_port), .user = keep(record),
                         .free = release, .start_tracking = guest_track, .pause = guest_pause,
                         .resume = guest_resume, .take_written = guest_take,
                         .save_state = guest_save, .fetch_state = guest_fetch,
                         .load_state = guest_load};
}
/* The memory is a bigarray, which does not move; the record holds it as its last field. */
static ft_guest_info guest_info(value record, ft_memory_region *ram) {
  const value memory = Field(record, 7);
  *ram = (ft_memory_region){"ram", 0, caml_ba_byte_size(Caml_ba_array_val(memory)) / 4096,
                            Caml_ba_data_val(memory)};
  return (ft_guest_info){.struct_size = sizeof(ft_guest_info), .page_bytes = 4096, .vcpus = 1,
                         .driver = "ocaml", .description = "a toy in OCaml", .regions = ram,
                         .region_count = 1};
}

PLAIN(gate_hold, 0)
static int32_t gate_seal(void *user, ft_op *op, uint64_t generation, uint64_t epoch) {
  return with_numbers(user, 1, op, generation, epoch);
}
static int32_t gate_release(void *user, ft_op *op, uint64_t generation, uint64_t epoch) {
  return with_numbers(user, 2, op, generation, epoch);
}
PLAIN(gate_discard, 3)
PLAIN(gate_open, 4)
static ft_gate_port gate_port(value record) {
  return (ft_gate_port){.struct_size = sizeof(ft_gate_port), .user = keep(record), .free = release,
                        .epochs_held_max = 8, .hold = gate_hold, .seal = gate_seal,
                        .release = gate_release, .discard = gate_discard, .open = gate_open};
}

static int32_t transport_send(void *user, ft_op *op, const ft_bytes *pieces, uint64_t count) {
  int32_t status = FT_OK;
  for (uint64_t i = 0; i < count && status == FT_OK; ++i)
    status = with_bytes(user, 0, op, pieces[i].data, pieces[i].count);
  return status;
}
static int32_t transport_receive(void *user, ft_op *op, uint64_t capacity) {
  return with_numbers(user, 1, op, capacity, 0);
}
static void transport_cancel(void *user, ft_op *op) { with_op(user, 2, op); }
static void transport_close(void *user) { with_op(user, 3, NULL); }
static ft_transport_port transport_port(value record) {
  return (ft_transport_port){.struct_size = sizeof(ft_transport_port), .user = keep(record),
                             .free = release, .cancel = transport_cancel, .description = "OCaml",
                             .authenticated = 1, .send = transport_send,
                             .receive = transport_receive, .close = transport_close};
}

static int32_t arbiter_create(void *user, ft_op *op, const char *guest, const char *record) {
  return with_texts(user, 0, op, guest, record);
}
static int32_t arbiter_swap(void *user, ft_op *op, const char *guest, const char *from,
                            const char *to) {
  (void)guest;
  return with_texts(user, 1, op, from, to);
}
static int32_t arbiter_read(void *user, ft_op *op, const char *guest) {
  return with_bytes(user, 2, op, guest, strlen(guest));
}
static int32_t detector_start(void *user, ft_op *op, uint64_t token, uint16_t port, uint32_t dial) {
  (void)port;
  return with_numbers(user, 0, op, token & 0x3fffffff, dial) < 0
             ? FT_E_INTERNAL
             : (*(uint64_t *)Caml_ba_data_val(Field(*(value *)user, 1)) = token, FT_OK);
}
static int32_t fence_fence(void *user, ft_op *op, const char *guest, const char *loser) {
  return with_texts(user, 0, op, guest, loser);
}
static int32_t standby_make(void *user, ft_op *op, const ft_guest_info *like) {
  return with_bytes(user, 0, op, like->driver, strlen(like->driver));
}
static int32_t dial_dial(void *user, ft_op *op, uint32_t another_way) {
  return with_numbers(user, 0, op, another_way, 0);
}
static void log_write(void *user, int32_t level, const char *area, const char *text) {
  (void)level;
  with_texts(user, 0, NULL, area, text);
}
static void event_event(void *user, const ft_event *event) {
  with_texts(user, 0, NULL, event->name, event->text);
}
static void done_done(void *user, int32_t status, const char *text, const ft_error *error) {
  (void)text;
  with_texts(user, 0, NULL, ft_status_name(status), error->cause);
}

/* --- what OCaml calls -------------------------------------------------------------------------- */

value ml_session(value options) { /* (string * string) list */
  CAMLparam1(options);
  ft_options *made = NULL;
  ft_session *session = NULL;
  check(ft_options_new(&made, NULL));
  int32_t status = FT_OK;
  for (; status == FT_OK && options != Val_emptylist; options = Field(options, 1))
    status = ft_options_set(made, String_val(Field(Field(options, 0), 0)),
                            String_val(Field(Field(options, 0), 1)), NULL);
  if (status == FT_OK) status = ft_session_new(made, &session, NULL);
  ft_options_free(made);
  check(status);
  CAMLreturn(caml_copy_nativeint((intnat)session));
}
value ml_set_guest(value session, value record) {
  ft_memory_region ram;
  const ft_guest_info info = guest_info(record, &ram);
  const ft_guest_port port = guest_port(record);
  return check(ft_session_set_guest(HANDLE(ft_session, session), &info, &port, NULL));
}
#define SETTER(name, type, set, ...)                                                          \
  value name(value session, value record) {                                                   \
    const type port = {.struct_size = sizeof(type), .user = keep(record), .free = release,    \
                       __VA_ARGS__};                                                          \
    return check(set(HANDLE(ft_session, session), &port, NULL));                              \
  }
value ml_set_gate(value session, value record) {
  const ft_gate_port port = gate_port(record);
  return check(ft_session_set_gate(HANDLE(ft_session, session), &port, NULL));
}
SETTER(ml_set_arbiter, ft_arbiter_port, ft_session_set_arbiter, .description = "OCaml",
       .create = arbiter_create, .swap = arbiter_swap, .read = arbiter_read)
SETTER(ml_set_detector, ft_detector_port, ft_session_set_detector, .port = 1,
       .start = detector_start)
SETTER(ml_set_fence, ft_fence_port, ft_session_set_fence, .description = "OCaml",
       .fence = fence_fence)
SETTER(ml_set_standby, ft_standby_port, ft_session_set_standby, .make = standby_make)
SETTER(ml_set_dial, ft_dial_port, ft_session_set_dial, .dial = dial_dial)
SETTER(ml_set_log, ft_log_sink, ft_session_set_log, .write = log_write)
SETTER(ml_set_events, ft_event_sink, ft_session_set_events, .event = event_event)
SETTER(ml_protect, ft_completion, ft_session_protect, .done = done_done)
SETTER(ml_stand_by, ft_completion, ft_session_stand_by, .done = done_done)

value ml_offer(value session, value record) {
  const ft_transport_port port = transport_port(record);
  return check(ft_session_offer_transport(HANDLE(ft_session, session), &port, NULL));
}
value ml_process(value session) {
  CAMLparam1(session); /* OCaml runs in there. */
  CAMLreturn(check(ft_session_process(HANDLE(ft_session, session), NULL)));
}
value ml_free(value session) {
  CAMLparam1(session);
  CAMLreturn(check(ft_session_free(HANDLE(ft_session, session))));
}
value ml_state(value session) {
  ft_state state = {.struct_size = sizeof state};
  check(ft_session_state(HANDLE(ft_session, session), &state, NULL));
  return caml_copy_string(state.state);
}
value ml_suspect(value session, value token) {
  return check(ft_session_heartbeat(HANDLE(ft_session, session),
                                    *(uint64_t *)Caml_ba_data_val(token), FT_HEARTBEAT_SUSPECTED,
                                    1000000000, 0, "silent", NULL));
}
/* Of an operation. */
value ml_add_page(value op, value page) {
  return Val_int(ft_op_add_pages(HANDLE(ft_op, op), Long_val(page), 1));
}
value ml_append(value op, value text) {
  return Val_int(ft_op_append(HANDLE(ft_op, op), String_val(text), caml_string_length(text)));
}
value ml_answer(value op, value answer, value record) {
  return Val_int(ft_op_answer(HANDLE(ft_op, op), Int_val(answer), String_val(record)));
}
value ml_done(value op, value status) { return Val_int(ft_op_done(HANDLE(ft_op, op), Int_val(status))); }
value ml_give_transport(value op, value record) {
  const ft_transport_port port = transport_port(record);
  return Val_int(ft_op_give_transport(HANDLE(ft_op, op), &port));
}
value ml_give_replica(value op, value guest, value gate) {
  ft_memory_region ram;
  const ft_guest_info info = guest_info(guest, &ram);
  const ft_guest_port port = guest_port(guest);
  const ft_gate_port held = gate_port(gate);
  return Val_int(ft_op_give_replica(HANDLE(ft_op, op), &info, &port, &held));
}
