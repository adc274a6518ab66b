/* SPDX-License-Identifier: MIT */
/* Interposed: what takes a descriptor. For a handle the call goes to the server, for anything else to the next library. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "shim.h"

#define MOST_BYTES 0x7ffff000UL /* what one read or write moves at most in Linux */
#define AT_POSITION 1

/* ---- ioctl ---- */

#ifdef __GLIBC__
typedef unsigned long command_t;
#else
typedef int command_t;
#endif

/* Those that Linux answers for any file, before the file is asked. A socket answers them alike. */
static bool answered_by_vfs(uint32_t command)
{
	return command == FIOCLEX || command == FIONCLEX || command == FIONBIO || command == FIOASYNC;
}

EXPORT int ioctl(int fd, command_t command, ...)
{
	va_list rest;
	va_start(rest, command);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	struct request request = { .op = OP_IOCTL, .word = (uint32_t)command, .a = (uintptr_t)argument };
	if (answered_by_vfs((uint32_t)command) || !handle_of(fd, &request.token))
		return NEXT(ioctl)(fd, command, argument);
	return (int)returned(call_server(&request, fd));
}

/* ---- fcntl ---- */

/* A handle's socket is always open for both. */
EXPORT int fcntl(int fd, int command, ...)
{
	va_list rest;
	va_start(rest, command);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	struct token token;
	int result = NEXT(fcntl)(fd, command, argument);
	if (command == F_GETFL && result >= 0 && handle_of(fd, &token))
		result = (result & ~O_ACCMODE) | token_access(&token);
	return result;
}

/* ---- lseek ---- */

EXPORT off_t lseek(int fd, off_t offset, int whence)
{
	struct request request = { .op = OP_SEEK, .word = (uint32_t)whence, .a = (uint64_t)offset };
	int kept = errno;
	off_t result = NEXT(lseek)(fd, offset, whence);
	if (result >= 0 || errno != ESPIPE || !handle_of(fd, &request.token))
		return result;
	errno = kept;
	return (off_t)returned(call_server(&request, fd));
}

/* ---- mmap ---- */

static bool map_of_handle(int fd, int flags, struct request *request)
{
	return !(flags & MAP_ANONYMOUS) && handle_of(fd, &request->token);
}

int64_t map_pages(const struct reply *ask, const struct request *request)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)config()->server, (int)ask->value);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	uint64_t protection = ask->flags ? PROT_NONE : request->word;
	uint64_t mask = lock_registers();
	int64_t result = -ENOMEM;
	if (!(request->c & MAP_FIXED) || isolate_registers(request->d, request->a)) {
		long at = syscall(SYS_mmap, request->d, request->a, protection, request->c, fd, 0UL);
		result = at == -1 ? -errno : at;
	}
	if (result >= 0)
		cut_registers((uintptr_t)result, request->a);
	if (result >= 0 && ask->flags && !add_registers((uintptr_t)result, request->a, (int)request->word, &ask->token)) {
		syscall(SYS_munmap, result, request->a);
		result = -ENOMEM;
	}
	unlock_registers(mask);
	syscall(SYS_close, fd);
	return result;
}

/* What is mapped over registers takes their place. */
static void *map_fixed(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
	uint64_t mask = lock_registers();
	void *result = MAP_FAILED;
	if (!isolate_registers((uintptr_t)at, length))
		errno = ENOMEM;
	else if ((result = NEXT(mmap)(at, length, protection, flags, fd, offset)) != MAP_FAILED)
		cut_registers((uintptr_t)at, length);
	unlock_registers(mask);
	return result;
}

static void *map_handle(struct request *request, void *at, int fd, size_t length, int protection, int flags, off_t offset)
{
	request->op = OP_MMAP;
	request->word = (uint32_t)protection;
	request->a = length;
	request->b = (uint64_t)offset;
	request->c = (uint32_t)flags;
	request->d = (uintptr_t)at;
	return (void *)(intptr_t)returned(call_server(request, fd));
}

EXPORT void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
	struct request request = { 0 };
	if (map_of_handle(fd, flags, &request))
		return map_handle(&request, at, fd, length, protection, flags, offset);
	if (flags & MAP_FIXED && catches_faults())
		return map_fixed(at, length, protection, flags, fd, offset);
	return NEXT(mmap)(at, length, protection, flags, fd, offset);
}

/* ---- read and write ---- */

/* The checks that Linux makes before it asks the file. */
static int64_t transfer(struct request *request, uint32_t op, int fd, const void *at, size_t count, const off_t *position)
{
	if ((ssize_t)count < 0 || (position && *position < 0))
		return -EINVAL;
	request->op = op;
	request->word = position ? AT_POSITION : 0;
	request->a = (uintptr_t)at;
	request->b = count < MOST_BYTES ? count : MOST_BYTES;
	request->c = position ? (uint64_t)*position : 0;
	return call_server(request, fd);
}

static int64_t transfer_vector(struct request *request, uint32_t op, int fd, const struct iovec *vector, int count,
			       const off_t *position)
{
	off_t at = position ? *position : 0;
	int64_t total = 0;
	if (count < 0 || count > IOV_MAX)
		return -EINVAL;
	for (int i = 0; i < count; i++) {
		struct iovec piece;
		if (!copy_in(&piece, &vector[i], sizeof(piece)))
			return total ? total : -EFAULT;
		if (piece.iov_len == 0)
			continue;
		int64_t n = transfer(request, op, fd, piece.iov_base, piece.iov_len, position ? &at : NULL);
		if (n < 0)
			return total ? total : n;
		total += n;
		at += n;
		if ((size_t)n < piece.iov_len)
			break;
	}
	return total;
}

EXPORT ssize_t read(int fd, void *into, size_t count)
{
	struct request request = { 0 };
	if (!handle_of(fd, &request.token))
		return NEXT(read)(fd, into, count);
	return (ssize_t)returned(transfer(&request, OP_READ, fd, into, count, NULL));
}

EXPORT ssize_t write(int fd, const void *from, size_t count)
{
	struct request request = { 0 };
	if (!handle_of(fd, &request.token))
		return NEXT(write)(fd, from, count);
	return (ssize_t)returned(transfer(&request, OP_WRITE, fd, from, count, NULL));
}

EXPORT ssize_t readv(int fd, const struct iovec *vector, int count)
{
	struct request request = { 0 };
	if (!handle_of(fd, &request.token))
		return NEXT(readv)(fd, vector, count);
	return (ssize_t)returned(transfer_vector(&request, OP_READ, fd, vector, count, NULL));
}

EXPORT ssize_t writev(int fd, const struct iovec *vector, int count)
{
	struct request request = { 0 };
	if (!handle_of(fd, &request.token))
		return NEXT(writev)(fd, vector, count);
	return (ssize_t)returned(transfer_vector(&request, OP_WRITE, fd, vector, count, NULL));
}

/* Those with a position come under two names with the same types on 64-bit machines. */
#define POSITIONED(pread_, pwrite_, preadv_, pwritev_)                                                       \
	EXPORT ssize_t pread_(int fd, void *into, size_t count, off_t position)                              \
	{                                                                                                    \
		struct request request = { 0 };                                                              \
		if (!handle_of(fd, &request.token))                                                          \
			return NEXT(pread_)(fd, into, count, position);                                      \
		return (ssize_t)returned(transfer(&request, OP_READ, fd, into, count, &position));           \
	}                                                                                                    \
	EXPORT ssize_t pwrite_(int fd, const void *from, size_t count, off_t position)                       \
	{                                                                                                    \
		struct request request = { 0 };                                                              \
		if (!handle_of(fd, &request.token))                                                          \
			return NEXT(pwrite_)(fd, from, count, position);                                     \
		return (ssize_t)returned(transfer(&request, OP_WRITE, fd, from, count, &position));          \
	}                                                                                                    \
	EXPORT ssize_t preadv_(int fd, const struct iovec *vector, int count, off_t position)                \
	{                                                                                                    \
		struct request request = { 0 };                                                              \
		if (!handle_of(fd, &request.token))                                                          \
			return NEXT(preadv_)(fd, vector, count, position);                                   \
		return (ssize_t)returned(transfer_vector(&request, OP_READ, fd, vector, count, &position));  \
	}                                                                                                    \
	EXPORT ssize_t pwritev_(int fd, const struct iovec *vector, int count, off_t position)               \
	{                                                                                                    \
		struct request request = { 0 };                                                              \
		if (!handle_of(fd, &request.token))                                                          \
			return NEXT(pwritev_)(fd, vector, count, position);                                  \
		return (ssize_t)returned(transfer_vector(&request, OP_WRITE, fd, vector, count, &position)); \
	}

POSITIONED(pread, pwrite, preadv, pwritev)

#ifdef __GLIBC__

POSITIONED(pread64, pwrite64, preadv64, pwritev64)

EXPORT off64_t lseek64(int fd, off64_t offset, int whence)
{
	return lseek(fd, offset, whence);
}

EXPORT int fcntl64(int fd, int command, ...)
{
	va_list rest;
	va_start(rest, command);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	return fcntl(fd, command, argument);
}

/* Of the flags, which are hints, a file that is not on a disk knows none. At -1 they are readv and writev. */
#define FLAGGED(preadv2_, pwritev2_)                                                              \
	EXPORT ssize_t preadv2_(int fd, const struct iovec *vector, int count, off_t position, int flags)  \
	{                                                                                         \
		struct token token;                                                               \
		if (!handle_of(fd, &token))                                                       \
			return NEXT(preadv2_)(fd, vector, count, position, flags);                \
		if (flags)                                                                        \
			return (ssize_t)returned(-EOPNOTSUPP);                                    \
		return position == -1 ? readv(fd, vector, count) : preadv(fd, vector, count, position); \
	}                                                                                         \
	EXPORT ssize_t pwritev2_(int fd, const struct iovec *vector, int count, off_t position, int flags) \
	{                                                                                         \
		struct token token;                                                               \
		if (!handle_of(fd, &token))                                                       \
			return NEXT(pwritev2_)(fd, vector, count, position, flags);               \
		if (flags)                                                                        \
			return (ssize_t)returned(-EOPNOTSUPP);                                    \
		return position == -1 ? writev(fd, vector, count) : pwritev(fd, vector, count, position); \
	}

FLAGGED(preadv2, pwritev2)
FLAGGED(preadv64v2, pwritev64v2)

EXPORT void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset)
{
	return mmap(at, length, protection, flags, fd, offset);
}

/* What _FORTIFY_SOURCE calls; `room` is the size of the buffer. The next library ends a program that overruns it. */
ssize_t __read_chk(int, void *, size_t, size_t);
EXPORT ssize_t __read_chk(int fd, void *into, size_t count, size_t room)
{
	return count > room ? NEXT(__read_chk)(fd, into, count, room) : read(fd, into, count);
}

ssize_t __pread_chk(int, void *, size_t, off_t, size_t);
EXPORT ssize_t __pread_chk(int fd, void *into, size_t count, off_t position, size_t room)
{
	return count > room ? NEXT(__pread_chk)(fd, into, count, position, room) : pread(fd, into, count, position);
}

ssize_t __pread64_chk(int, void *, size_t, off_t, size_t);
EXPORT ssize_t __pread64_chk(int fd, void *into, size_t count, off_t position, size_t room)
{
	return count > room ? NEXT(__pread64_chk)(fd, into, count, position, room) : pread64(fd, into, count, position);
}

#endif
