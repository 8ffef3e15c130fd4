// SPDX-License-Identifier: LGPL-2.1-or-later
// The demo as a program of its own, for working on it: `ftdemo --ftctl BUILD/tools/ftctl/ftctl`.
#include "demo/demo.h"

int main(int argc, char** argv) { return demo_main(argc, argv); }
