/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stopwatch DOMID SECONDS: how long a domain stands still, as Xen itself has it, whoever stops it.
 * Runs in dom0, so that two ways to checkpoint a guest are measured by the same eyes. A line a
 * stop: when it began, how long the guest had taken to suspend itself since it was asked, and how
 * long it stood still; all in milliseconds, to about two: to look more often would hold the guest
 * up. 0 for the handshake: nobody asked it.
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xenctrl.h>
#include <xenstore.h>

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static bool stands_still(xc_interface* xen, uint32_t domain) {
  xc_domaininfo_t info;
  if (xc_domain_getinfolist(xen, domain, 1, &info) != 1 || info.domain != domain) {
    fprintf(stderr, "stopwatch: domain %u is gone\n", domain);
    exit(1);
  }
  return (info.flags & (XEN_DOMINF_shutdown | XEN_DOMINF_paused)) != 0;
}

/* Whether somebody has written the order to suspend since the last call. */
static bool was_asked(struct xs_handle* store, const char* order) {
  struct pollfd readable = {.fd = xs_fileno(store), .events = POLLIN};
  bool asked = false;
  while (poll(&readable, 1, 0) > 0) {
    char** event = xs_check_watch(store);
    if (event == NULL) break;
    free(event);
    unsigned size = 0;
    char* value = xs_read(store, XBT_NULL, order, &size);
    asked |= value != NULL && strcmp(value, "suspend") == 0;
    free(value);
  }
  return asked;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fputs("usage: stopwatch DOMID SECONDS\n", stderr);
    return 2;
  }
  const uint32_t domain = (uint32_t)atoi(argv[1]);
  xc_interface* xen = xc_interface_open(NULL, NULL, 0);
  struct xs_handle* store = xs_open(0);
  char order[64];
  snprintf(order, sizeof order, "/local/domain/%u/control/shutdown", domain);
  if (xen == NULL || store == NULL || !xs_watch(store, order, "order")) {
    fputs("stopwatch: Xen does not answer; it must run in dom0, as root\n", stderr);
    return 1;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  const struct timespec rest = {.tv_nsec = 2000000};
  const double end = now_ms() + atof(argv[2]) * 1e3;
  double asked = 0, stopped = 0;
  while (now_ms() < end) {
    if (was_asked(store, order)) asked = now_ms();
    const bool still = stands_still(xen, domain);
    if (still && stopped == 0) stopped = now_ms();
    if (!still && stopped != 0) {
      printf("%.1f %.1f %.1f\n", stopped, asked != 0 ? stopped - asked : 0, now_ms() - stopped);
      stopped = asked = 0;
    }
    nanosleep(&rest, NULL);
  }
  return 0;
}
