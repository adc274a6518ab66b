/* SPDX-License-Identifier: MIT */
/*
 * Interposed: what opens a file. Our files are ordinary ones in the server's folder, so a call needs its path replaced. A
 * device node is laid out as a Unix socket: opening it fails with ENXIO, which nothing else in that folder does, so that
 * ordinary opens cost nothing more and every way to name the node works.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "shim.h"

static int open_node(int dirfd, const char *path, int flags)
{
	struct token token;
	struct stat st;
	int node = -1;
	if (syscall(SYS_newfstatat, dirfd, path, &st, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) == 0)
		node = node_of(&st);
	/* What leads to an open handle opens its node anew. */
	if (node < 0 && handle_of(descriptor_named(path), &token))
		node = token_node(&token);
	if (node < 0) {
		errno = ENXIO;
		return -1;
	}
	struct request request = { .op = OP_OPEN, .word = (uint32_t)node, .a = (uint32_t)flags };
	return (int)returned(call_server(&request, -1));
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
	char buffer[OUR_PATH_MAX];
	int kept = errno, status = open_status(path, flags);
	if (status >= 0)
		return status;
	path = real_path_at(dirfd, path, buffer);
	int fd = NEXT(openat)(dirfd, path, flags, mode);
	if (fd >= 0 || errno != ENXIO || !config())
		return fd;
	errno = kept;
	return open_node(dirfd, path, flags);
}

/* The third argument of open is there only with the flags that use it. */
#define OPEN_MODE(flags, last)                                             \
	({                                                                 \
		mode_t mode_ = 0;                                          \
		if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
			va_list rest_;                                     \
			va_start(rest_, last);                             \
			mode_ = va_arg(rest_, mode_t);                     \
			va_end(rest_);                                     \
		}                                                          \
		mode_;                                                     \
	})

EXPORT int open(const char *path, int flags, ...)
{
	return open_at(AT_FDCWD, path, flags, OPEN_MODE(flags, flags));
}

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	return open_at(dirfd, path, flags, OPEN_MODE(flags, flags));
}

EXPORT int creat(const char *path, mode_t mode)
{
	return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* ---- Streams ---- */

static int flags_of(const char *mode)
{
	int flags = *mode == 'r' ? O_RDONLY : O_WRONLY | O_CREAT | (*mode == 'a' ? O_APPEND : O_TRUNC);
	if (strchr(mode, '+'))
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	return flags | (strchr(mode, 'x') ? O_EXCL : 0) | (strchr(mode, 'e') ? O_CLOEXEC : 0);
}

/* Does the path lead to a file of ours that lives, and is shown as a regular one? */
static bool is_live_file(const char *path)
{
	struct stat st;
	int kept = errno, node = -1;
	if (syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0) == 0)
		node = node_of(&st);
	errno = kept;
	return node >= 0 && S_ISREG(config()->nodes[node].mode);
}

static bool only_reads(const char *mode)
{
	return *mode == 'r' && !strchr(mode, '+');
}

/*
 * A stream on a device node serves for its descriptor, and for the streams of C++, which read and write it themselves;
 * fread and fwrite of libc make system calls that we do not see.
 */
EXPORT FILE *fopen(const char *path, const char *mode)
{
	char buffer[OUR_PATH_MAX];
	int fd = open_status(path, flags_of(mode));
	bool live = false;
	if (fd < 0) {
		int kept = errno;
		const char *real = real_path_at(AT_FDCWD, path, buffer);
		FILE *stream = NEXT(fopen)(real, mode);
		if (stream || errno != ENXIO || !config())
			return stream;
		live = is_live_file(real);
		errno = kept;
		fd = open_at(AT_FDCWD, path, flags_of(mode), 0);
	}
	if (fd >= 0 && live && only_reads(mode))
		fd = snapshot(fd);
	else if (fd >= 0 && live)
		return stream_on(fd, mode);
	return fd < 0 ? NULL : fdopen(fd, mode);
}

/* libc has nothing like fdopen for a stream that is there: it opens what it is told by name. */
EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
	char buffer[OUR_PATH_MAX], link[32];
	const char *real = path ? real_path_at(AT_FDCWD, path, buffer) : NULL;
	int fd = real && config() && only_reads(mode) && is_live_file(real) ? open_at(AT_FDCWD, path, O_RDONLY, 0) : -1;
	if (fd >= 0 && (fd = snapshot(fd)) >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		real = link;
	}
	FILE *result = NEXT(freopen)(real, mode, stream);
	int kept = errno;
	if (fd >= 0)
		syscall(SYS_close, fd);
	errno = kept;
	return result;
}

/* ---- The other names that glibc has for the same ---- */

#ifdef __GLIBC__

EXPORT int open64(const char *path, int flags, ...)
{
	return open_at(AT_FDCWD, path, flags, OPEN_MODE(flags, flags));
}

EXPORT int openat64(int dirfd, const char *path, int flags, ...)
{
	return open_at(dirfd, path, flags, OPEN_MODE(flags, flags));
}

EXPORT int __open_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
	return open_at(dirfd, path, flags, 0);
}

EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
	return open_at(dirfd, path, flags, 0);
}

EXPORT int creat64(const char *path, mode_t mode)
{
	return creat(path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
	return freopen(path, mode, stream);
}

#endif
