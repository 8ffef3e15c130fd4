(* SPDX-License-Identifier: LGPL-2.1-or-later *)
(* A pair whose every part is OCaml's: guest, gate, connection, arbiter, detector, fence, sinks. It
   loses the primary's host, and looks whether the guest goes on. ft.ml and ft_stubs.c are what is below it;
   xapi's own threads would do as this loop does, or wait for the session's descriptor.

     protect *)

open Ft

let said = Hashtbl.create 16 (* Which parts were called. *)
let note part = Hashtbl.replace said part ()

(* A guest that counts in its memory. *)
let pages = 64
type toy = { bytes : memory; written : bool array; mutable runs : bool; mutable count : int;
             mutable saved : int }
let toy runs =
  let bytes = Bigarray.Array1.create Bigarray.char Bigarray.c_layout (pages * 4096) in
  Bigarray.Array1.fill bytes '\000';
  { bytes; written = Array.make pages false; runs; count = 0; saved = 0 }
let step t = if t.runs then begin
  t.count <- t.count + 1;
  t.bytes.{t.count mod pages * 4096} <- Char.chr (t.count land 255);
  t.written.(t.count mod pages) <- true end
let guest t =
  let clear _ = Array.fill t.written 0 pages false; ok in
  { track = clear; memory = t.bytes;
    pause = (fun _ -> t.runs <- false; ok); resume = (fun _ -> t.runs <- true; ok);
    take = (fun op -> Array.iteri (fun p w -> if w then ignore (add_page op p)) t.written; clear op);
    save = (fun _ -> t.saved <- t.count; ok);
    fetch = (fun op -> append op (string_of_int t.saved));
    load = (fun _ text ->
      match int_of_string_opt text with Some n -> t.count <- n; ok | None -> corrupt) }

(* This guest sends nothing, so its gate holds nothing. *)
let gate =
  let nothing _ = ok and epoch _ _ _ = note "gate"; ok in
  { hold = nothing; seal = epoch; release = epoch; discard = nothing; let_out = nothing }

(* A connection: two queues of bytes; who receives waits as an operation. *)
type queue = { bytes : Buffer.t; mutable receiver : (op * int) option; mutable closed : bool }
let queue () = { bytes = Buffer.create 65536; receiver = None; closed = false }
let deliver q = match q.receiver with
  | Some (op, capacity) when Buffer.length q.bytes > 0 || q.closed ->
    let all = Buffer.contents q.bytes in
    let count = min capacity (String.length all) in
    q.receiver <- None; Buffer.clear q.bytes;
    Buffer.add_string q.bytes (String.sub all count (String.length all - count));
    ignore (append op (String.sub all 0 count));
    ignore (finish op (if count > 0 then ok else peer_lost))
  | _ -> ()
let transport inward outward =
  { send = (fun _ text ->
      if outward.closed then peer_lost
      else (note "transport"; Buffer.add_string outward.bytes text; deliver outward; ok));
    receive = (fun op capacity _ -> inward.receiver <- Some (op, capacity); deliver inward; pending);
    cancel = (fun op -> inward.receiver <- None; finish op cancelled);
    close = (fun _ -> List.iter (fun q -> q.closed <- true; deliver q) [inward; outward]; ok) }

(* The record that decides. *)
let record = ref ""
let arbiter =
  { create = (fun op _ text ->
      note "arbiter";
      if !record = "" then (record := text; answer op won text) else answer op lost !record);
    swap = (fun op from text ->
      if !record = from then (record := text; answer op won text) else answer op lost !record);
    read = (fun op _ -> if !record = "" then answer op missing "" else answer op found !record) }
let detector () =
  { start = (fun _ _ _ -> note "detector"; ok);
    token = Bigarray.Array1.create Bigarray.int64 Bigarray.c_layout 1 }

let tell part _ name text =
  note part;
  if part <> "log" && name <> "epoch" then Printf.printf "%s: %s %s\n%!" part name text;
  ok
let host detector name =
  let it = session ["name", "toy"; "host", name] in
  ignore (set_arbiter it arbiter); ignore (set_detector it detector);
  ignore (set_fence it (one (tell "fence"))); ignore (set_log it (one (tell "log")));
  ignore (set_events it (one (tell "event")));
  it

let rec until sessions guest condition = if not (condition ()) then begin
  step guest; List.iter (fun s -> ignore (process s)) sessions;
  Unix.sleepf 0.001; Gc.minor (); (* Whatever libft holds has a root. *)
  until sessions guest condition end

let () =
  let mine = toy true and other = ref None and watched = detector () in
  let a = host (detector ()) "a" and b = host watched "b" in
  let make op _ =
    let standby = toy false in
    note "standby"; other := Some standby; give_replica op (guest standby) gate in
  let dial op _ _ =
    let there = queue () and back = queue () in
    note "dial"; ignore (offer a (transport there back));
    give_transport op (transport back there) in
  ignore (set_guest a (guest mine)); ignore (set_gate a gate);
  ignore (protect a (one (tell "protect")));
  until [a] mine (fun () -> Hashtbl.mem said "protect");
  ignore (set_standby b (one make)); ignore (set_dial b (one dial));
  ignore (stand_by b (one (tell "stand by")));
  until [a; b] mine (fun () -> state a = "protecting" && state b = "in_sync");
  ignore (free a); ignore (suspect b watched.token); (* As if its host had died. *)
  let standby = Option.get !other in
  until [b] standby (fun () -> standby.runs);
  let from = standby.count in
  until [b] standby (fun () -> standby.count > from + 100);
  ignore (free b);
  let parts = ["gate"; "transport"; "arbiter"; "detector"; "fence"; "standby"; "dial"; "log";
               "event"] in
  let silent = List.filter (fun part -> not (Hashtbl.mem said part)) parts in
  List.iter (Printf.printf "never called: %s\n") silent;
  print_endline "the guest went on counting on the backup";
  exit (if silent = [] && from > 0 then 0 else 1)
