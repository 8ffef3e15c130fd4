// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl demo`: protects a real guest on two hosts made of network namespaces, makes one fail under
// a live client, and shows what the client saw. ftctl calls it, first of all in main(): it may move
// into a user namespace, which only a process with one thread can.
#pragma once

// argv[0] is the command's name ("demo"). Returns the exit code: 0 when nothing was lost or
// contradicted and the connection survived, 1 when not or when it could not run, 2 for a usage
// error.
int demo_main(int argc, char** argv);
