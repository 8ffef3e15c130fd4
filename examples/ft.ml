(* SPDX-License-Identifier: LGPL-2.1-or-later *)
(* libft.h for OCaml, as far as protect.ml needs it; ft_stubs.c is the C below it. A port is a record
   of closures, which libft calls inside [process] only, on the thread that called that. *)

type op = nativeint and session = nativeint
type memory = (char, Bigarray.int8_unsigned_elt, Bigarray.c_layout) Bigarray.Array1.t
type token = (int64, Bigarray.int64_elt, Bigarray.c_layout) Bigarray.Array1.t
type act = op -> int (* An ft_status, or [pending] *)

(* The stubs call these by their place: keep the order. *)
type guest = { track : act; pause : act; resume : act; take : act; save : act; fetch : act;
               load : op -> string -> int; memory : memory }
type epoch = op -> int -> int -> int
type gate = { hold : act; seal : epoch; release : epoch; discard : act; let_out : act }
type transport = { send : op -> string -> int; receive : op -> int -> int -> int; cancel : act;
                   close : act }
type arbiter = { create : op -> string -> string -> int; swap : op -> string -> string -> int;
                 read : op -> string -> int }
type detector = { start : op -> int -> int -> int; token : token }
type 'a one = { f : 'a; unused : int } (* A port with one function. *)

external session : (string * string) list -> session = "ml_session"
external set_guest : session -> guest -> int = "ml_set_guest"
external set_gate : session -> gate -> int = "ml_set_gate"
external set_arbiter : session -> arbiter -> int = "ml_set_arbiter"
external set_detector : session -> detector -> int = "ml_set_detector"
type told = (op -> string -> string -> int) one
external set_fence : session -> told -> int = "ml_set_fence"
external set_standby : session -> (op -> string -> int) one -> int = "ml_set_standby"
external set_dial : session -> (op -> int -> int -> int) one -> int = "ml_set_dial"
external set_log : session -> told -> int = "ml_set_log"
external set_events : session -> told -> int = "ml_set_events"
external protect : session -> told -> int = "ml_protect"
external stand_by : session -> told -> int = "ml_stand_by"
external offer : session -> transport -> int = "ml_offer"
external process : session -> int = "ml_process"
external free : session -> int = "ml_free"
external state : session -> string = "ml_state"
external suspect : session -> token -> int = "ml_suspect"
external add_page : op -> int -> int = "ml_add_page"
external append : op -> string -> int = "ml_append"
external answer : op -> int -> string -> int = "ml_answer"
external finish : op -> int -> int = "ml_done"
external give_transport : op -> transport -> int = "ml_give_transport"
external give_replica : op -> guest -> gate -> int = "ml_give_replica"

let ok = 0 and pending = 1 and peer_lost = -7 and corrupt = -8 and cancelled = -13
let won = 1 and lost = 2 and found = 3 and missing = 4
let one f = { f; unused = 0 }
