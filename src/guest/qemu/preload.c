/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libft-preload.so: lets the kernel tell libft which pages of guest memory QEMU writes.
 *
 * Write tracking by userfaultfd must be asked for inside the process that owns the mapping. This
 * object is put in front of QEMU's C library with LD_PRELOAD; it watches QEMU map its
 * "memory-backend-memfd" and registers that mapping for asynchronous write protection (Linux 6.7):
 * nothing ever waits for a fault handler, the kernel only takes a note. libft then reads the notes
 * from outside (PAGEMAP_SCAN on /proc/PID/pagemap).
 *
 * It must never harm QEMU: whatever fails here is ignored, errno is kept, nothing is printed. Where
 * the kernel lacks the feature, libft finds the mapping unregistered and takes another tracker. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uapi.h"

typedef void* (*mmap_function)(void*, size_t, int, int, int, off64_t);

static const char kBackend[] = "/memfd:memory-backend-memfd";

static int is_guest_memory(int fd) {
  char link[32];
  char name[sizeof kBackend];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name);
  return length >= (ssize_t)sizeof kBackend - 1 && memcmp(name, kBackend, sizeof kBackend - 1) == 0;
}

/* One descriptor for each mapping, open as long as QEMU lives: closing it ends the tracking.
 * User mode only is enough, and is what an unprivileged process may have: with asynchronous
 * protection writes by the kernel are noted too, because nobody has to answer the fault. */
static void track(void* start, size_t length) {
  long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | FT_UFFD_USER_MODE_ONLY);
  if (fd < 0) return;
  struct ft_uffdio_api api = {FT_UFFD_API,
                              FT_UFFD_FEATURE_WP_ASYNC | FT_UFFD_FEATURE_WP_UNPOPULATED |
                                  FT_UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
                              0};
  struct ft_uffdio_register range = {(uintptr_t)start, length, FT_UFFD_REGISTER_MODE_WP, 0};
  if (ioctl((int)fd, FT_UFFDIO_API, &api) != 0 || ioctl((int)fd, FT_UFFDIO_REGISTER, &range) != 0)
    close((int)fd);
}

static void* map(const char* symbol, void* address, size_t length, int protection, int flags,
                 int fd, off64_t offset) {
  mmap_function next;
  *(void**)&next = dlsym(RTLD_NEXT, symbol); /* as POSIX shows it: ISO C has no such cast */
  void* mapped = next ? next(address, length, protection, flags, fd, offset)
                      : (void*)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  if (mapped == MAP_FAILED || fd < 0 || !(flags & MAP_SHARED) || !(protection & PROT_WRITE))
    return mapped;
  int saved = errno;
  if (is_guest_memory(fd)) track(mapped, length);
  errno = saved;
  return mapped;
}

/* Sanitizers and some allocators map memory before dlsym works: anonymous mappings go straight to
 * the kernel. 64-bit hosts only, where mmap and mmap64 are one. */
void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (fd < 0) return (void*)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  return map("mmap", address, length, protection, flags, fd, offset);
}

void* mmap64(void* address, size_t length, int protection, int flags, int fd, off64_t offset) {
  if (fd < 0) return (void*)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
  return map("mmap64", address, length, protection, flags, fd, offset);
}
