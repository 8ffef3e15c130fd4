/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "module.h"

#include <errno.h>
#include <libxlutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tell_values(const XLU_Config *config, const char *name, ft_xlcfg_found *found,
                       void *user) {
  const char *text;
  XLU_ConfigList *list;
  int entries;
  const int as_string = xlu_cfg_get_string(config, name, &text, 1);
  if (as_string == ESRCH) return 0;
  if (as_string == 0) {
    found(user, name, text);
    return 0;
  }
  const int as_list = xlu_cfg_get_list(config, name, &list, &entries, 1);
  if (as_list != 0) return as_list;
  for (int i = 0; i < entries; ++i) {
    text = xlu_cfg_get_listitem(list, i);
    if (text == NULL) return EINVAL; /* A list in a list. */
    found(user, name, text);
  }
  return 0;
}

__attribute__((visibility("default"))) int ft_xlcfg_read(
    const char *file, const char *text, int bytes, const char *const *names, size_t count,
    ft_xlcfg_found *found, void *user, char *problem, size_t problem_bytes) {
  char *said = NULL;
  size_t said_bytes = 0;
  FILE *report = open_memstream(&said, &said_bytes);
  if (report == NULL) return errno;
  XLU_Config *config = xlu_cfg_init(report, file);
  int failed = config == NULL ? ENOMEM : xlu_cfg_readdata(config, text, bytes);
  const char *at = "";
  for (size_t i = 0; failed == 0 && i < count; ++i) {
    failed = tell_values(config, names[i], found, user);
    at = names[i];
  }
  if (config != NULL) xlu_cfg_destroy(config);
  fclose(report);
  if (failed != 0) {
    if (said_bytes > 0)
      snprintf(problem, problem_bytes, "%s", said);
    else
      snprintf(problem, problem_bytes, "%s: %s", at, strerror(failed));
  }
  free(said);
  return failed;
}
