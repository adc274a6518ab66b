/* SPDX-License-Identifier: MIT */
/*
 * Interposed: syscall(2), by which some programs and libraries (libuv, systemd) make calls that they do not trust libc to
 * have. Those that can name what is ours go through the functions that we interpose for them.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "shim.h"

#undef syscall

syscall_fn *raw_syscall(void)
{
	static syscall_fn *next;
	if (!next)
		next = (syscall_fn *)dlsym(RTLD_NEXT, "syscall");
	return next;
}

/* Others' constructors may come before ours; a signal handler should not be the first to look for it. */
__attribute__((constructor)) static void find_early(void)
{
	raw_syscall();
}

#ifdef SYS_openat2
/* struct open_how of linux/openat2.h: what is known of it since its first version. */
struct how {
	uint64_t flags, mode, resolve;
};

static long open_at_2(long dirfd, const char *path, const void *at, size_t size)
{
	char buffer[OUR_PATH_MAX];
	struct how how;
	int kept = errno;
	long fd = raw_syscall()(SYS_openat2, dirfd, real_path_at((int)dirfd, path, buffer), at, size);
	if (fd >= 0 || errno != ENXIO || !config() || !copy_in(&how, at, sizeof(how)))
		return fd;
	errno = kept;
	return openat((int)dirfd, path, (int)how.flags, (mode_t)how.mode);
}
#endif

#define PATH(n) ((const char *)a[n])
#define INT(n) ((int)a[n])
#define AT(n) ((void *)a[n])
#define SIZE(n) ((size_t)a[n])
#define VECTOR(n) ((const struct iovec *)a[n])

EXPORT long syscall(long number, ...)
{
	long a[6];
	va_list rest;
	va_start(rest, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(rest, long);
	va_end(rest);
	switch (number) {
	case SYS_openat:
		return openat(INT(0), PATH(1), INT(2), (mode_t)a[3]);
#ifdef SYS_openat2
	case SYS_openat2:
		return open_at_2(a[0], PATH(1), AT(2), SIZE(3));
#endif
	case SYS_newfstatat:
		return fstatat(INT(0), PATH(1), AT(2), INT(3));
	case SYS_fstat:
		return fstat(INT(0), AT(1));
	case SYS_statx:
		return statx(INT(0), PATH(1), INT(2), (unsigned)a[3], AT(4));
	case SYS_readlinkat:
		return readlinkat(INT(0), PATH(1), AT(2), SIZE(3));
	case SYS_faccessat: /* without flags */
		return faccessat(INT(0), PATH(1), INT(2), 0);
#ifdef SYS_faccessat2
	case SYS_faccessat2:
		return faccessat(INT(0), PATH(1), INT(2), INT(3));
#endif
#ifdef SYS_open
	case SYS_open:
		return openat(AT_FDCWD, PATH(0), INT(1), (mode_t)a[2]);
	case SYS_stat:
		return stat(PATH(0), AT(1));
	case SYS_lstat:
		return lstat(PATH(0), AT(1));
	case SYS_readlink:
		return readlink(PATH(0), AT(1), SIZE(2));
	case SYS_access:
		return access(PATH(0), INT(1));
#endif
	case SYS_ioctl:
		return ioctl(INT(0), (unsigned long)a[1], AT(2));
	case SYS_fcntl:
		return fcntl(INT(0), INT(1), AT(2));
	case SYS_mmap:
		return (long)mmap(AT(0), SIZE(1), INT(2), INT(3), INT(4), a[5]);
	case SYS_munmap:
		return munmap(AT(0), SIZE(1));
	case SYS_mprotect:
		return mprotect(AT(0), SIZE(1), INT(2));
	case SYS_lseek:
		return lseek(INT(0), a[1], INT(2));
	case SYS_read:
		return read(INT(0), AT(1), SIZE(2));
	case SYS_write:
		return write(INT(0), AT(1), SIZE(2));
	case SYS_readv:
		return readv(INT(0), VECTOR(1), INT(2));
	case SYS_writev:
		return writev(INT(0), VECTOR(1), INT(2));
	case SYS_pread64:
		return pread(INT(0), AT(1), SIZE(2), a[3]);
	case SYS_pwrite64:
		return pwrite(INT(0), AT(1), SIZE(2), a[3]);
	case SYS_preadv: /* the position is in one register on 64-bit machines */
		return preadv(INT(0), VECTOR(1), INT(2), a[3]);
	case SYS_pwritev:
		return pwritev(INT(0), VECTOR(1), INT(2), a[3]);
	default:
		return raw_syscall()(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
}
