/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What xl-ft asks of the module that is linked with libxlutil: to read xl.cfg's syntax. In C, since it
 * is found by dlopen(). One thread. */
#ifndef FT_XLCFG_MODULE_H
#define FT_XLCFG_MODULE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One value of `name`; of a list, each in turn. */
typedef void ft_xlcfg_found(void *user, const char *name, const char *value);

/* Reads `text`, which is named `file` in what is complained of, and tells what each of the `count`
 * names has. libxlutil cannot list names, so that others are passed over. Returns 0, or an errno
 * value with the complaint in `problem`. */
typedef int ft_xlcfg_read_fn(const char *file, const char *text, int bytes,
                             const char *const *names, size_t count, ft_xlcfg_found *found,
                             void *user, char *problem, size_t problem_bytes);

#ifdef __cplusplus
}
#endif
#endif
