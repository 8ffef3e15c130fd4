/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libft.h: fault tolerance for virtual machines, for toolstacks in C and whatever calls C.
 *
 * A session protects one guest through every role that a replica can have. The toolstack gives it
 * parts: a guest, an output gate, an arbiter, connections. Each is either one of libft's own, named
 * by an option, or a *port*: a struct of functions that the toolstack implements.
 *
 *   primary:  ft_session_new, set the parts, ft_session_protect, ft_session_offer_...
 *   backup:   ft_session_new, set the parts, ft_session_stand_by; after a take-over it is a primary
 *   both:     poll ft_session_poll_fd for POLLIN, then call ft_session_process; or ft_session_run
 *
 * CALLS.     A function returns FT_OK (0) or a negative status. The reason is in *error, when the
 *            caller gave one (its struct_size set), and in ft_last_error() of the calling thread.
 *            Nothing here throws, exits, prints, or touches a signal, SIGPIPE and SIGCHLD included.
 *            Only ft_session_run and ft_session_free wait, and say for what; protect and stand_by
 *            open what the options name (files, addresses) before they return.
 * THREADS.   Two kinds of functions. Those of one session that say "driver" (process, run, free) are
 *            called by one thread at a time: a second one gets FT_E_BUSY. All others may be called
 *            from any thread, also inside callbacks. ft_options belong to one thread at a time.
 * CALLBACKS. Every function that you give to libft is called inside process, run or free, on the
 *            thread that called those, one at a time; `free` of a struct that is refused is called
 *            before the refusing function returns. libft's own threads block all signals and never
 *            call out, except into a port that says FT_PORT_ANY_THREAD, which is faster: then its
 *            functions are called on the thread that each port names.
 * OPERATIONS. A port's function returns FT_OK, a negative status, or FT_PENDING: then the operation
 *            goes on, and you end it by exactly one ft_op_done, from any thread, also when it was
 *            cancelled meanwhile (the answer is FT_E_CANCELLED then, and nothing happens). Whatever
 *            pointers the function was given stay valid until it returned or, after FT_PENDING,
 *            until that ft_op_done. Results are given by ft_op_... before ft_op_done or the return.
 *            While an operation of the guest or the gate is pending (prepare_pause excepted) the
 *            session waits for it, and does nothing else; the peer suspects a session that waited
 *            for `stuck_after`.
 * LIFETIME.  What a function is given is copied; strings and structs may go when it returns. Memory
 *            that ft_guest_info describes is not copied: it stays until the guest's `free`. `free`
 *            of every struct is called exactly once, when libft needs it no more, also when the
 *            function that took the struct failed, unless its struct_size was too small to have
 *            one. After ft_session_free returned nothing of that session is called any more.
 *            Pointers in callbacks' arguments end with the call.
 * LOCKS.     Hold no lock that a callback takes while you call the driver's functions. libft holds
 *            none of its own while it calls you, but for a log sink on any thread.
 * REENTRANCY. Inside a callback the driver's functions of the same session give FT_E_STATE.
 * FORK.      A child of fork owns none of it: every function gives FT_E_FORKED there and does
 *            nothing; exec closes all descriptors. libft itself starts processes for `exec:` fences
 *            and for QEMU guests that it is to start or to stand by for. It watches them by
 *            descriptors of its own, not by SIGCHLD; one that outlives its session is the host's
 *            child, and its end the host's to collect.
 * MISUSE.    A null or foreign handle gives FT_E_HANDLE, a call out of place FT_E_STATE. A handle
 *            that was freed is not recognised: that is undefined, as with free().
 * STRUCTS.   struct_size first, set to sizeof by the caller: that is how old and new binaries meet.
 *            Fields are only ever appended, and zero in an appended one changes nothing.
 */
#ifndef LIBFT_H
#define LIBFT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FT_API __attribute__((visibility("default")))
#else
#define FT_API
#endif

FT_API const char *ft_version(void); /* "0.1.0" */

/* --- status ----------------------------------------------------------------------------------- */

enum ft_status {
  FT_OK = 0,
  FT_PENDING = 1,         /* From a port's function: ft_op_done follows. */
  FT_E_INVALID = -1,      /* The request itself is wrong: correct it and ask again. */
  FT_E_UNSUPPORTED = -2,  /* This host, guest or peer cannot do it. */
  FT_E_NOT_FOUND = -3,    /* The thing named does not exist. */
  FT_E_BUSY = -4,         /* Somebody else holds it now: try later. */
  FT_E_TIMEOUT = -5,      /* No answer in time. What was asked may have happened or not. */
  FT_E_IO = -6,           /* A system call failed. */
  FT_E_PEER_LOST = -7,    /* The connection to the peer is gone. */
  FT_E_CORRUPT = -8,      /* Bytes that are not what the format says. */
  FT_E_REFUSED = -9,      /* The peer or the arbiter said no: do not retry as it is. */
  FT_E_FENCED = -10,      /* Another replica owns the guest: stop, never retry. */
  FT_E_GUEST_GONE = -11,  /* The guest ended or its process died. */
  FT_E_EXHAUSTED = -12,   /* A limit was reached: memory, queue, disk. */
  FT_E_CANCELLED = -13,   /* The operation was cancelled. */
  FT_E_INTERNAL = -14,    /* A defect in libft: please report it. */
  FT_E_HANDLE = -15,      /* Misuse: no handle, or one of another kind. */
  FT_E_STATE = -16,       /* Misuse: not now; the message says when. */
  FT_E_FORKED = -17       /* Misuse: a child process uses its parent's handle. */
};

typedef struct ft_error {
  uint32_t struct_size;
  int32_t code;     /* An ft_status. */
  char phase[48];   /* What was being done: "protect", "options", "guest.pause". */
  char cause[512];  /* One line for people. */
  char remedy[256]; /* What to do about it; empty where nothing is known. */
} ft_error;

/* "peer_lost"; "unknown" for what is no status. Static. */
FT_API const char *ft_status_name(int32_t status);
/* Of the newest call that failed on this thread: cause and remedy. Empty when there was none. Valid
 * until the next failure on this thread. Where threads are not yours (Go, Java), use ft_error. */
FT_API const char *ft_last_error(void);

/* --- options ---------------------------------------------------------------------------------- */

typedef struct ft_options ft_options;

/* Everything that can be set, as one struct: what ft_options_get_settings fills. The same by name:
 * the field's name. ft_option_describe tells unit, default and meaning of each. */
typedef struct ft_settings {
  uint32_t struct_size;
  uint32_t insecure; /* Numbers of 32 bits: 0 or 1, unless ft_option_describe says otherwise. */
  const char *name;
  const char *host;
  const char *guest;
  const char *arbiter;
  const char *fence;
  const char *listen;
  const char *peer;
  const char *heartbeat;
  const char *key_file;
  const char *earlier;
  uint32_t adaptive;
  uint32_t automatic_failover;
  uint32_t redeliver_input;
  uint32_t inflight_max;
  uint32_t sync_rounds_max;
  uint32_t heartbeat_missed_max;
  uint64_t interval_us;
  uint64_t floor_us;
  uint64_t idle_us;
  uint64_t staging_bytes;
  uint64_t reference_bytes_max;
  uint64_t sync_pages_left;
  uint64_t head_start_us;
  uint64_t arbiter_timeout_us;
  uint64_t heartbeat_interval_us;
  uint64_t stuck_after_us;
  const char *tap;
  const char *state_dir;
  uint64_t held_bytes_max; /* 0: the default. */
  uint32_t resume;
  uint32_t reserved;
  const char *strategy;
  uint64_t follow_max_us; /* These: 0: the default. */
  uint64_t hash_interval_us;
  uint64_t log_bytes_max;
  const char *check;
  const char *disk;
  uint64_t rebase_interval_us; /* 0: the default. */
  uint32_t locate_difference;  /* 0: no, as of every flag. */
  uint32_t reserved2;
  uint64_t follow_delay_us;
  uint64_t delay_bytes_max; /* 0: the default. */
  uint32_t anew;
  uint32_t reserved3;
  const char *held;
} ft_settings;

enum ft_option_type { FT_OPTION_TEXT = 0, FT_OPTION_FLAG = 1, FT_OPTION_NUMBER = 2 };

typedef struct ft_option {
  uint32_t struct_size;
  int32_t type;          /* ft_option_type */
  const char *name;      /* These are static. */
  const char *unit;      /* "us", "bytes", "pages", "epochs", ...; empty for text and flags. */
  const char *initial;   /* The default, as text. */
  const char *help;
  uint64_t min, max;     /* Of numbers. */
} ft_option;

FT_API uint32_t ft_option_count(void);
FT_API int32_t ft_option_describe(uint32_t index, ft_option *into, ft_error *error);

FT_API int32_t ft_options_new(ft_options **options, ft_error *error);
FT_API int32_t ft_options_free(ft_options *options);
/* `value` as text: "25000", "1". Null: the default again. */
FT_API int32_t ft_options_set(ft_options *options, const char *name, const char *value,
                              ft_error *error);
/* Stores the value as text with its final zero, if it fits into `capacity` bytes; FT_E_EXHAUSTED
 * else. *length, when given, is its length without the zero in both cases. */
FT_API int32_t ft_options_get(const ft_options *options, const char *name, char *into,
                              uint64_t capacity, uint64_t *length, ft_error *error);
/* All at once, or nothing when one of them is wrong. */
FT_API int32_t ft_options_set_settings(ft_options *options, const ft_settings *settings,
                                       ft_error *error);
/* The texts stay valid until the options are changed or freed. */
FT_API int32_t ft_options_get_settings(const ft_options *options, ft_settings *settings,
                                       ft_error *error);

/* What a QEMU that you start by yourself must be given, so that the option guest
 * "qemu:pid=NUMBER,qmp=PATH" can attach to it: for people, a group of arguments a line, as `ftctl
 * qemu-args` prints them. By the options name and state_dir. Stored as ft_options_get does. */
FT_API int32_t ft_options_qemu_arguments(const ft_options *options, uint64_t memory_bytes,
                                         uint32_t nics, char *into, uint64_t capacity,
                                         uint64_t *length, ft_error *error);

/* --- ports ------------------------------------------------------------------------------------ */

typedef struct ft_op ft_op; /* One operation of a port that is under way. */

enum ft_port_flags {
  FT_PORT_ANY_THREAD = 1 /* Its functions may be called on libft's threads, as each port says. */
};

/* Ends an operation that returned FT_PENDING. `status`: FT_OK or negative. */
FT_API int32_t ft_op_done(ft_op *op, int32_t status);
/* Why it fails: texts for the ft_error or the event that tells of it. */
FT_API int32_t ft_op_explain(ft_op *op, const char *cause, const char *remedy);
/* 1 when nobody waits for the result any more, else 0; negative for misuse. */
FT_API int32_t ft_op_is_cancelled(ft_op *op);
/* Pages in a row. */
typedef struct ft_page_run {
  uint64_t first;
  uint64_t count;
} ft_page_run;

/* Results; each for the operations that ask for it, else FT_E_STATE. Several calls add up. Pages
 * in ascending order, many runs in one call, are the fastest. */
FT_API int32_t ft_op_add_pages(ft_op *op, uint64_t first, uint64_t count);
FT_API int32_t ft_op_add_page_runs(ft_op *op, const ft_page_run *runs, uint64_t count);
FT_API int32_t ft_op_append(ft_op *op, const void *bytes, uint64_t count);

/* A piece of guest memory, mapped into this process until the guest's `free`. */
typedef struct ft_memory_region {
  const char *name;    /* "ram" */
  uint64_t first_page; /* Number of its first page. */
  uint64_t pages;
  void *bytes; /* Null only in the description of a primary that a standby is made for. */
} ft_memory_region;

typedef struct ft_guest_info {
  uint32_t struct_size;
  uint32_t page_bytes;  /* A power of two; 4096. */
  uint32_t vcpus;
  uint32_t cooperative; /* 1: prepare_pause is asked before each pause. */
  const char *driver;      /* "toy": both hosts must have the same. */
  const char *description; /* One line for people. */
  const char *tracker;     /* How written pages are found. */
  const char *accelerator;
  const char *compatibility; /* What a backup must have in common; yours to read in `accepts`. */
  const ft_memory_region *regions; /* Sorted by first_page, not overlapping. */
  uint64_t region_count;
  uint32_t tracking_stays; /* 1: another session, also in another process, finds what is written
                              without start_tracking: see ft_session_hold. */
  uint32_t reserved;
} ft_guest_info;

/* A virtual machine. With FT_PORT_ANY_THREAD all functions are called on the session's thread, but
 * accepts and set-up, which may come from the one that connects. Required: start_tracking, pause,
 * resume, take_written, fetch_state, load_state. */
typedef struct ft_guest_port {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  /* Nobody waits for `op` any more: end it soon. Null: nothing. */
  void (*cancel)(void *user, ft_op *op);

  /* Begins to record which pages are written: everything written from now on is reported. */
  int32_t (*start_tracking)(void *user, ft_op *op);
  int32_t (*stop_tracking)(void *user, ft_op *op); /* Default: nothing. */
  /* Of cooperative guests: asks it to stand still, which may take a minute, while everything else
   * goes on. When it succeeded, pause returns at once. Default: at once. */
  int32_t (*prepare_pause)(void *user, ft_op *op);
  /* Stops all CPUs and quiets devices. When it fails the guest runs as before. */
  int32_t (*pause)(void *user, ft_op *op);
  int32_t (*resume)(void *user, ft_op *op);
  /* Reports, by ft_op_add_page_runs, what was written since the last time that it succeeded. */
  int32_t (*take_written)(void *user, ft_op *op);
  /* Notes the state of CPUs and devices of a guest that is paused... Default: nothing. */
  int32_t (*save_state)(void *user, ft_op *op);
  /* ... and hands it over by ft_op_append, perhaps when it runs again. */
  int32_t (*fetch_state)(void *user, ft_op *op);

  /* Whether a guest of that description can be continued here. Default: the driver, the
   * compatibility text and the memory map must be the same. */
  int32_t (*accepts)(void *user, ft_op *op, const ft_guest_info *primary);
  /* Loads it into a throw-away instance. Default: FT_OK. */
  int32_t (*probe_state)(void *user, ft_op *op, const void *state, uint64_t bytes);
  /* Runs a copy for a moment, unplugged. Default: FT_E_UNSUPPORTED. */
  int32_t (*trial_run)(void *user, ft_op *op, const void *state, uint64_t bytes);
  /* Loads it over the memory as it is: the guest is then paused, ready to run. */
  int32_t (*load_state)(void *user, ft_op *op, const void *state, uint64_t bytes);
  int32_t (*activate)(void *user, ft_op *op); /* Runs it after load_state. Default: resume. */
  int32_t (*destroy)(void *user, ft_op *op);  /* For good; idempotent. Default: pause. */
} ft_guest_port;

typedef struct ft_gate_statistics {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t packets_held, bytes_held, packets_released, packets_dropped, packets_discarded,
      packets_in;
} ft_gate_statistics;

/* Holds what the guest sends. It starts held. With FT_PORT_ANY_THREAD: the session's thread. All
 * but statistics are required. A gate that sends on a thread of its own asks ft_session_may_release
 * before each batch. */
typedef struct ft_gate_port {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  uint32_t epochs_held_max; /* Sealed epochs that it can tell apart; at least 1. */
  uint32_t reserved;
  uint64_t bytes_held_max;

  int32_t (*hold)(void *user, ft_op *op); /* From now on everything is held. */
  /* What is held and not sealed belongs to that epoch. The guest is paused. */
  int32_t (*seal)(void *user, ft_op *op, uint64_t generation, uint64_t epoch);
  int32_t (*release)(void *user, ft_op *op, uint64_t generation, uint64_t epoch); /* Up to it. */
  int32_t (*discard)(void *user, ft_op *op); /* Drops everything held and holds on. */
  int32_t (*open)(void *user, ft_op *op);    /* Lets everything out and holds no more. */
  void (*statistics)(void *user, ft_gate_statistics *into); /* Asked after other functions. */
} ft_gate_port;

/* A piece of what is sent. */
typedef struct ft_bytes {
  const void *data;
  uint64_t count;
} ft_bytes;

/* One connection to the peer: an ordered stream of bytes. With FT_PORT_ANY_THREAD one thread sends
 * while another receives, and close may come from a third. Required: send, receive. */
typedef struct ft_transport_port {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  const char *description; /* "ssh to hostb" */
  uint32_t authenticated;  /* 1: the peer proved who it is, or cannot be anybody else. */
  uint32_t reserved;

  int32_t (*send)(void *user, ft_op *op, const ft_bytes *pieces, uint64_t count); /* All of it. */
  /* Waits for bytes and hands 1 to `capacity` of them over by ft_op_append. The peer's orderly end
   * is FT_E_PEER_LOST. */
  int32_t (*receive)(void *user, ft_op *op, uint64_t capacity);
  void (*close)(void *user); /* Makes pending operations end. May come twice. Default: nothing. */
} ft_transport_port;

/* QMP through the toolstack's own connection to a QEMU that runs, for the option guest
 * "qemu:pid=NUMBER" without qmp: QEMU serves one client at a time on a monitor. With
 * FT_PORT_ANY_THREAD: the session's thread, and the one that starts. Required: execute. */
typedef struct ft_qmp_port {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  /* Sends one command, a JSON object in one line, after those that were given before. The reply as
   * QEMU gave it, {"return": ...} or {"error": ...}, is handed over by ft_op_append; several
   * commands may be under way, and each reply belongs to its operation. `fd`, unless -1, travels
   * with the command (SCM_RIGHTS; getfd, add-fd) and stays libft's. */
  int32_t (*execute)(void *user, ft_op *op, const char *command, int32_t fd);
} ft_qmp_port;

/* Makes connections to whoever may be the primary now, and on a backup the standby guest. */
typedef struct ft_dial_port {
  uint32_t struct_size;
  uint32_t flags; /* FT_PORT_ANY_THREAD: the connecting thread. */
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  /* Answers by ft_op_give_transport or ft_op_give_fds. `another_way`: what the last connection
   * took is silent while another way is not. */
  int32_t (*dial)(void *user, ft_op *op, uint32_t another_way);
} ft_dial_port;

typedef struct ft_standby_port {
  uint32_t struct_size;
  uint32_t flags; /* FT_PORT_ANY_THREAD: the connecting thread. */
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  /* Makes the warm, stopped replica of a guest like `primary` (whose regions have no bytes), and
   * answers by ft_op_give_replica. */
  int32_t (*make)(void *user, ft_op *op, const ft_guest_info *primary);
} ft_standby_port;

enum ft_trust {
  FT_TRUST_NONE = 0,  /* Anybody may be at the other end: wrapped in TLS by `key_file`, or refused. */
  FT_TRUST_PROVEN = 1 /* You know who is at the other end: a unix socket, ssh. */
};

/* Answers of dial and make. Whatever they are given is libft's from then on, also on failure. */
FT_API int32_t ft_op_give_transport(ft_op *op, const ft_transport_port *transport);
/* A connected socket, or a pair of pipes: `out` -1 when it is the same. */
FT_API int32_t ft_op_give_fds(ft_op *op, int32_t in, int32_t out, const char *description,
                              int32_t trust);
FT_API int32_t ft_op_give_replica(ft_op *op, const ft_guest_info *info, const ft_guest_port *guest,
                                  const ft_gate_port *gate);

/* Suspects that the peer is gone, and tells so by ft_session_heartbeat under the same token. One
 * watch at a time. With FT_PORT_ANY_THREAD: the session's thread. Required: start. */
typedef struct ft_detector_port {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  uint16_t port; /* What a primary tells its backup, for `start` there; not 0. */
  uint16_t reserved;
  uint32_t reserved2;
  /* Watches the peer that knows this token. `dial` 1: on a backup, towards the primary's port. */
  int32_t (*start)(void *user, ft_op *op, uint64_t token, uint16_t port, uint32_t dial);
  int32_t (*stop)(void *user, ft_op *op, uint64_t token); /* Default: nothing. */
  /* How often the session's thread got round so far, for the peer to see. Default: nothing. */
  void (*progress)(void *user, uint64_t token, uint64_t count);
} ft_detector_port;

enum ft_heartbeat_kind {
  FT_HEARTBEAT_ALIVE = 0,
  FT_HEARTBEAT_SUSPECTED = 1,
  FT_HEARTBEAT_PATH_DOWN = 2,
  FT_HEARTBEAT_PATH_UP = 3
};

enum ft_answer {
  FT_ANSWER_UNKNOWN = 0, /* No definite answer: it may have happened, or still happen. */
  FT_ANSWER_WON = 1,     /* The record is now what was asked for. */
  FT_ANSWER_LOST = 2,    /* It is something else: the record that is. */
  FT_ANSWER_FOUND = 3,   /* Of read. */
  FT_ANSWER_MISSING = 4  /* Of read: there is none. */
};

/* Keeps one record a guest and decides by compare-and-swap who may own it. Records are lines of
 * text; the same record is the same text. Each function answers by ft_op_answer; one that fails, or
 * does not answer in time, counts as unknown. With FT_PORT_ANY_THREAD: a thread of its own, one call
 * at a time. All are required. */
typedef struct ft_arbiter_port {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  const char *description;
  uint32_t manual; /* 1: a person decides; no automatic fail-over. */
  uint32_t reserved;
  int32_t (*create)(void *user, ft_op *op, const char *guest, const char *record); /* Won, lost. */
  int32_t (*swap)(void *user, ft_op *op, const char *guest, const char *from, const char *to);
  int32_t (*read)(void *user, ft_op *op, const char *guest); /* Found, missing. */
} ft_arbiter_port;

/* `record`: for won, lost and found. */
FT_API int32_t ft_op_answer(ft_op *op, int32_t answer, const char *record);

/* Makes sure that the loser is silent. With FT_PORT_ANY_THREAD: the session's thread, which waits. */
typedef struct ft_fence_port {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  void (*cancel)(void *user, ft_op *op);
  const char *description;
  int32_t (*fence)(void *user, ft_op *op, const char *guest, const char *loser); /* "host/32 hex" */
} ft_fence_port;

enum ft_log_level { FT_LOG_DEBUG = 0, FT_LOG_INFO = 1, FT_LOG_WARNING = 2, FT_LOG_ERROR = 3 };

/* With FT_PORT_ANY_THREAD: any, several at once, also while libft holds locks of its own: it calls
 * nothing of libft, and takes no lock under which you call libft. Else lines wait for process, some thousand at most;
 * a line says how many were dropped. */
typedef struct ft_log_sink {
  uint32_t struct_size;
  uint32_t flags;
  void *user;
  void (*free)(void *user);
  void (*write)(void *user, int32_t level, const char *area, const char *text);
} ft_log_sink;

typedef struct ft_event {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t at_ns;   /* CLOCK_BOOTTIME */
  const char *name; /* "protected", "suspected", "promoted", "fenced", "epoch", ... */
  const char *text; /* For people. */
  const char *json; /* Of "epoch": the epoch's record. Else empty. */
} ft_event;

typedef struct ft_event_sink {
  uint32_t struct_size;
  uint32_t flags; /* 0 */
  void *user;
  void (*free)(void *user);
  void (*event)(void *user, const ft_event *event);
} ft_event_sink;

/* How a wish ended. `done` is called once, `free` after it. */
typedef struct ft_completion {
  uint32_t struct_size;
  uint32_t flags; /* 0 */
  void *user;
  void (*free)(void *user);
  /* `text`: what verify and test_failover found, what change_strategy did, what may_start read, what
   * hold leaves; else empty. */
  void (*done)(void *user, int32_t status, const char *text, const ft_error *error);
} ft_completion;

/* --- sessions --------------------------------------------------------------------------------- */

typedef struct ft_session ft_session;

/* Copies the options. */
FT_API int32_t ft_session_new(const ft_options *options, ft_session **session, ft_error *error);

/* Parts; before protect or stand_by. Setting one again replaces it. Guests of libft's own, named by
 * the option `guest`, bring their gate; on a backup they are made without a standby port. They are
 * opened when the session has started: what is wrong with them is told by the completion. */
FT_API int32_t ft_session_set_guest(ft_session *session, const ft_guest_info *info,
                                    const ft_guest_port *guest, ft_error *error);
FT_API int32_t ft_session_set_gate(ft_session *session, const ft_gate_port *gate, ft_error *error);
FT_API int32_t ft_session_set_standby(ft_session *session, const ft_standby_port *standby,
                                      ft_error *error);
/* Instead of the option `guest`: the command line of a QEMU, as its owner would start it, ended by a
 * null; it is completed by what protection needs, and started with the terminal of this process. */
FT_API int32_t ft_session_set_command(ft_session *session, const char *const *arguments,
                                      ft_error *error);
FT_API int32_t ft_session_set_qmp(ft_session *session, const ft_qmp_port *qmp, ft_error *error);
FT_API int32_t ft_session_set_dial(ft_session *session, const ft_dial_port *dial, ft_error *error);
FT_API int32_t ft_session_set_arbiter(ft_session *session, const ft_arbiter_port *arbiter,
                                      ft_error *error);
FT_API int32_t ft_session_set_detector(ft_session *session, const ft_detector_port *detector,
                                       ft_error *error);
/* Instead of a detector and of the option heartbeat: datagram sockets (SOCK_DGRAM) that you opened,
 * one or two, each a path, over which libft's heartbeats travel. They are connected to the peer's;
 * on a primary bound is enough, and whoever proves the key is answered. They serve all connections
 * of the session, and are libft's, also on failure. */
FT_API int32_t ft_session_set_heartbeat_fds(ft_session *session, const int32_t *fds, uint32_t count,
                                            ft_error *error);
FT_API int32_t ft_session_set_fence(ft_session *session, const ft_fence_port *fence,
                                    ft_error *error);
FT_API int32_t ft_session_set_log(ft_session *session, const ft_log_sink *log, ft_error *error);
FT_API int32_t ft_session_set_events(ft_session *session, const ft_event_sink *events,
                                     ft_error *error);

/* Wishes. They return when the wish is accepted or refused; `done`, which may be null, tells how it
 * ended, and so do events. */

/* Before protect and stand_by, and as often as you like: asks the arbiter whether this guest may be
 * started on this host, or another one runs it; for whatever starts guests when a host comes up.
 * Done: FT_OK, it may; FT_E_FENCED, another host owns it; FT_E_REFUSED, its life here is over and a
 * backup holds its state; FT_E_NOT_FOUND, there is no record: it was never protected, or the
 * arbiter has lost it; FT_E_TIMEOUT, the arbiter does not say. `text`: the record, where there is
 * one. Meanwhile the session takes nothing else. */
FT_API int32_t ft_session_may_start(ft_session *session, const ft_completion *done,
                                    ft_error *error);
/* Protects a running guest: creates the arbiter's record. Done: the session is the primary, alone
 * until a backup is offered. When it fails the guest runs on as before; FT_E_FENCED, which only one
 * with `earlier` or `anew` gets: another replica owns the guest, and what is left of it here must not run on.
 * What is missing is refused at once, all of it. */
FT_API int32_t ft_session_protect(ft_session *session, const ft_completion *done, ft_error *error);
/* Becomes a backup. Done: it dials. */
FT_API int32_t ft_session_stand_by(ft_session *session, const ft_completion *done,
                                   ft_error *error);
/* Primary: moves the guest to the backup. Done: the move has begun. */
FT_API int32_t ft_session_switch_over(ft_session *session, const ft_completion *done,
                                      ft_error *error);
/* Backup: takes over now; the arbiter still decides, and one that waits for a person ("manual:")
 * takes this for the person's word. Done: the attempt has begun. */
FT_API int32_t ft_session_fail_over(ft_session *session, const ft_completion *done,
                                    ft_error *error);
/* Primary: runs on alone, output open. */
FT_API int32_t ft_session_unprotect(ft_session *session, const ft_completion *done,
                                    ft_error *error);
/* Primary: done as soon as a backup (the next one that dials, or is offered) can take over. */
FT_API int32_t ft_session_reprotect(ft_session *session, const ft_completion *done,
                                    ft_error *error);
/* Primary: goes over to another strategy, named as by the option, between two epochs and protected
 * all the while. Done: it is in effect, and the backup went with it; without a backup, the next one
 * is protected so. Refused while a first synchronisation or another change is under way. */
FT_API int32_t ft_session_change_strategy(ft_session *session, const char *strategy,
                                          const ft_completion *done, ft_error *error);
/* Primary: compares all memory of both replicas at one epoch. */
FT_API int32_t ft_session_verify(ft_session *session, const ft_completion *done, ft_error *error);
/* Backup: runs a copy of the newest epoch, unplugged, and discards it. */
FT_API int32_t ft_session_test_failover(ft_session *session, const ft_completion *done,
                                        ft_error *error);
/* Stands still for another session that takes its place, in another program and with a newer libft
 * perhaps: no fail-over, no copy of memory. The peer is asked to bear the silence for `at_most_us`, up
 * to 10 seconds; a primary takes one more epoch, lets its output out, and leaves its guest paused.
 * Done: it stands still, and does nothing at all before ft_session_let_go. `text` is for the option
 * `held` of the other session, which goes on with the same live guest behind the same gate. Where these
 * are ports, it is given them (a backup by what its standby port makes first), and a guest that stands
 * still for this alone is set running by its `resume`; the thread that starts calls it. With a QEMU of
 * libft's own this process becomes the other program by exec, without ft_session_free, and with the
 * descriptors that ft_guest_place names still open.
 * Refused, and all goes on as before: not in sync with a peer that knows holds; a strategy other than
 * checkpoint; a guest without tracking_stays, as are those of libft's own but QEMU's. */
FT_API int32_t ft_session_hold(ft_session *session, uint64_t at_most_us, const ft_completion *done,
                               ft_error *error);
/* Nobody takes its place: goes on, and what ft_session_hold told is void. */
FT_API int32_t ft_session_let_go(ft_session *session, ft_error *error);
/* Ends the session's threads. Its guest goes on as it is, with its output as the gate has it. */
FT_API int32_t ft_session_stop(ft_session *session, const ft_completion *done, ft_error *error);

/* Primary, now or later: a connection that a backup made. What it is given is libft's, also on
 * failure. */
FT_API int32_t ft_session_offer_fds(ft_session *session, int32_t in, int32_t out,
                                    const char *description, int32_t trust, ft_error *error);
FT_API int32_t ft_session_offer_transport(ft_session *session, const ft_transport_port *transport,
                                          ft_error *error);

/* What your parts have to tell, from any thread. */
enum ft_guest_event {
  FT_GUEST_ENDED = 0,        /* Shut down or destroyed on purpose. */
  FT_GUEST_CRASHED = 1,      /* Treated as its owner configured. */
  FT_GUEST_REBOOTED = 2,     /* Execution goes on, still protected. */
  FT_GUEST_PAUSED = 3,       /* By somebody else: stays so. */
  FT_GUEST_RESUMED = 4,
  FT_GUEST_PROCESS_DIED = 5, /* Without an orderly end. */
  FT_GUEST_RECONFIGURED = 6, /* What is protected no longer matches. */
  FT_GUEST_MIGRATING = 7
};
FT_API int32_t ft_session_guest_event(ft_session *session, int32_t kind, const char *detail,
                                      ft_error *error);
/* An event, as QEMU gave it on the connection of the QMP port: each before the replies that followed
 * it there, so that libft knows whose stop a STOP was. */
FT_API int32_t ft_session_qmp_event(ft_session *session, const char *event, ft_error *error);
/* How far the guest's clock is behind real time, as far as pausing it caused that. */
FT_API int32_t ft_session_guest_clock_lag(ft_session *session, uint64_t lag_ns, ft_error *error);
/* The gate's held output went from none to some since the last seal. */
FT_API int32_t ft_session_output_waiting(ft_session *session, ft_error *error);
/* 1: output that is released may leave; 0: not now, ask again later. */
FT_API int32_t ft_session_may_release(ft_session *session);
FT_API int32_t ft_session_heartbeat(ft_session *session, uint64_t token, int32_t kind,
                                    uint64_t silence_ns, uint32_t path, const char *detail,
                                    ft_error *error);

/* Readable (POLLIN, level-triggered) when process has something to do, timers included. Yours to
 * poll only; valid until ft_session_free. Negative: a status. */
FT_API int32_t ft_session_poll_fd(ft_session *session);
/* Driver. Calls what waits to be called. Never blocks. */
FT_API int32_t ft_session_process(ft_session *session, ft_error *error);

enum ft_until {
  FT_UNTIL_ENDED = 1,     /* Fenced, ended, failed, stopped. Always included. */
  FT_UNTIL_PROTECTED = 2, /* A primary with a backup that can take over. */
  FT_UNTIL_IN_SYNC = 4,   /* A backup that can take over. */
  FT_UNTIL_PRIMARY = 8,   /* It owns the guest. */
  FT_UNTIL_WISHES = 16    /* No wish of yours is under way. */
};
/* Driver. The blocking form: polls and processes until one of `until`, ft_session_interrupt (then
 * FT_E_CANCELLED) or the end of `timeout_ms` (FT_E_TIMEOUT; negative: none). */
FT_API int32_t ft_session_run(ft_session *session, uint32_t until, int32_t timeout_ms,
                              ft_error *error);
FT_API int32_t ft_session_interrupt(ft_session *session); /* Any thread. */

/* Driver. Ends the session, cancels what is pending, calls every `done` and `free` that is left. It
 * waits for nothing of yours but functions of FT_PORT_ANY_THREAD ports to return, and for libft's
 * own threads. */
FT_API int32_t ft_session_free(ft_session *session);

enum ft_role {
  FT_ROLE_NONE = 0, /* Not started. */
  FT_ROLE_BACKUP = 1,
  FT_ROLE_PRIMARY = 2,
  FT_ROLE_FENCED = 3,
  FT_ROLE_ENDED = 4,
  FT_ROLE_FAILED = 5,
  FT_ROLE_STARTING = 6,
  FT_ROLE_STOPPED = 7
};

typedef struct ft_state {
  uint32_t struct_size;
  int32_t role;
  uint32_t is_protected; /* 1: a primary with a backup that can take over now. */
  uint32_t reserved;
  uint64_t generation, epoch_captured, epoch_acknowledged, epoch_released;
  char state[32];    /* "protecting", "in_sync", ... */
  char self[112];    /* Incarnations: "host/32 hex digits". */
  char peer[112];
  char detail[256];  /* The last thing worth telling. */
  char strategy[16]; /* "checkpoint", "replay", ...: a backup has its primary's. */
} ft_state;

/* Three figures of the newest few thousand epochs, in milliseconds (pages for dirty_pages). */
typedef struct ft_percentiles {
  double p50, p99, max;
} ft_percentiles;

typedef struct ft_statistics {
  uint32_t struct_size;
  uint32_t sync_round;
  uint64_t epochs, sync_pages_sent, sync_pages_total, bytes_sent, bytes_received;
  uint64_t pages_sent, pages_zero, pages_delta, pages_raw;
  uint64_t heartbeat_suspicions, failovers, reprotects, corrupt_frames;
  uint64_t reference_bytes, staging_bytes;
  ft_percentiles handshake, pause, capture, seal, resume, replicate, acknowledge, release;
  ft_percentiles stopped, output_held, dirty_pages, interval;
  double guest_clock_lag_ms, detect_ms, arbitrate_ms, takeover_ms, load_ms;
  uint64_t packets_held, bytes_held, packets_released, packets_dropped, packets_discarded,
      packets_in;
  double follow_lag_ms; /* How far the execution on a backup is behind: replay. */
} ft_statistics;

/* Where a guest of libft's own is: what a toolstack keeps, to attach to it again after a restart. */
typedef struct ft_guest_place {
  uint32_t struct_size;
  int32_t pid;      /* Of a QEMU; 0: the guest is no process of its own. */
  char qmp[112];    /* Its monitor, libft's alone: "qemu:pid=PID,qmp=PATH" attaches again. */
  char domain[64];  /* Of Xen: "NUMBER/UUID". */
  int32_t fds[32];  /* Of a QEMU's gate, libft's own. For ft_session_hold: clear their FD_CLOEXEC. */
  uint32_t fd_count;
  uint32_t reserved;
} ft_guest_place;

/* FT_E_NOT_FOUND: there is none, or not yet. */
FT_API int32_t ft_session_guest_place(ft_session *session, ft_guest_place *into, ft_error *error);
FT_API int32_t ft_session_state(ft_session *session, ft_state *into, ft_error *error);
FT_API int32_t ft_session_statistics(ft_session *session, ft_statistics *into, ft_error *error);
/* All of both as one line of JSON; as ft_options_get stores it. */
FT_API int32_t ft_session_json(ft_session *session, char *into, uint64_t capacity,
                               uint64_t *length, ft_error *error);

#ifdef __cplusplus
}
#endif
#endif
