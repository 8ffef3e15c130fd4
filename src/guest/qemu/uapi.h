/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libft needs of Linux's userfaultfd.h and fs.h (PAGEMAP_SCAN), which the headers of Debian 12
 * (Linux 6.1) do not have yet. The numbers are the kernel's ABI: Documentation/admin-guide/mm/
 * pagemap.rst and userfaultfd.rst. C and C++; values only, any thread. */
#ifndef LIBFT_GUEST_QEMU_UAPI_H
#define LIBFT_GUEST_QEMU_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* userfaultfd(2) */
#define FT_UFFD_USER_MODE_ONLY 1
#define FT_UFFD_API 0xAAULL
#define FT_UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1ULL << 12)
#define FT_UFFD_FEATURE_WP_UNPOPULATED (1ULL << 13)
#define FT_UFFD_FEATURE_WP_ASYNC (1ULL << 15) /* Linux 6.7 */
#define FT_UFFD_REGISTER_MODE_WP (1ULL << 1)

struct ft_uffdio_api {
  __u64 api;
  __u64 features;
  __u64 ioctls;
};

struct ft_uffdio_register {
  __u64 start;
  __u64 len;
  __u64 mode;
  __u64 ioctls;
};

#define FT_UFFDIO_API _IOWR(0xAA, 0x3F, struct ft_uffdio_api)
#define FT_UFFDIO_REGISTER _IOWR(0xAA, 0x00, struct ft_uffdio_register)

/* ioctl(PAGEMAP_SCAN) on /proc/PID/pagemap, Linux 6.7 */
#define FT_PAGE_IS_WRITTEN (1ULL << 1)
#define FT_PM_SCAN_WP_MATCHING (1ULL << 0)
#define FT_PM_SCAN_CHECK_WPASYNC (1ULL << 1)

struct ft_page_region {
  __u64 start;
  __u64 end;
  __u64 categories;
};

struct ft_pm_scan_arg {
  __u64 size;
  __u64 flags;
  __u64 start;
  __u64 end;
  __u64 walk_end;
  __u64 vec;
  __u64 vec_len;
  __u64 max_pages;
  __u64 category_inverted;
  __u64 category_mask;
  __u64 category_anyof_mask;
  __u64 return_mask;
};

#define FT_PAGEMAP_SCAN _IOWR('f', 16, struct ft_pm_scan_arg)

#endif
