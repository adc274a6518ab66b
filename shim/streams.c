/* SPDX-License-Identifier: MIT */
/*
 * Streams on files of ours that live: those of sysfs. The system calls that libc makes for a stream are not seen. One
 * that is opened to read gets what is there then; one to write, functions that call ours; and what a shell's echo has put
 * in the buffer of its standard output goes out by our write when the stream is flushed.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <stdio_ext.h>

#include "shim.h"

int snapshot(int fd)
{
	char part[4096];
	int copy = memfd_create("snapshot", MFD_CLOEXEC);
	ssize_t n = 0;
	while (copy >= 0 && (n = read(fd, part, sizeof(part))) > 0)
		if (syscall(SYS_write, copy, part, n) != n)
			break;
	int kept = errno;
	close(fd);
	if (copy >= 0 && (n != 0 || syscall(SYS_lseek, copy, 0UL, SEEK_SET) != 0)) {
		syscall(SYS_close, copy);
		copy = -1;
	}
	errno = kept;
	return copy;
}

static ssize_t read_cookie(void *cookie, char *into, size_t size)
{
	return read((int)(intptr_t)cookie, into, size);
}

static ssize_t write_cookie(void *cookie, const char *from, size_t size)
{
	ssize_t n = write((int)(intptr_t)cookie, from, size);
	return n < 0 ? 0 : n; /* what tells a stream of an error */
}

static int close_cookie(void *cookie)
{
	return close((int)(intptr_t)cookie);
}

FILE *stream_on(int fd, const char *mode)
{
	cookie_io_functions_t calls = { .read = read_cookie, .write = write_cookie, .close = close_cookie };
	FILE *stream = fopencookie((void *)(intptr_t)fd, mode, calls);
	if (!stream)
		close(fd);
	return stream;
}

#ifdef __GLIBC__

/* What is refused is not kept: libc would hand it to the socket behind the handle, which takes anything. */
static int flush_handle(FILE *stream)
{
	struct token token;
	size_t pending = stream && stream->_mode <= 0 ? __fpending(stream) : 0; /* bytes, not wide characters */
	int fd = pending ? fileno_unlocked(stream) : -1;
	if (fd < 0 || !handle_of(fd, &token))
		return 0;
	ssize_t n = write(fd, stream->_IO_write_base, pending);
	int kept = errno;
	__fpurge(stream);
	errno = kept;
	if (n == (ssize_t)pending)
		return 0;
	stream->_flags |= _IO_ERR_SEEN; /* shells ask ferror */
	return EOF;
}

EXPORT int fflush(FILE *stream)
{
	int failed = flush_handle(stream), kept = errno;
	int result = NEXT(fflush)(stream);
	if (!failed)
		return result;
	errno = kept;
	return EOF;
}

/*
 * A shell redirects its standard output so. A buffer that goes out by lines would go past us: it is to wait for fflush,
 * which shells call after each command of theirs. setvbuf leaves the end of the room for single characters as it was.
 */
EXPORT int dup2(int from, int to)
{
	static bool by_flush;
	struct token token;
	int result = NEXT(dup2)(from, to);
	if (to != STDOUT_FILENO || result < 0)
		return result;
	bool live = handle_of(to, &token);
	if (live && __flbf(stdout)) {
		by_flush = true;
		setvbuf(stdout, NULL, _IOFBF, 0);
		stdout->_IO_write_end = stdout->_IO_write_base ? stdout->_IO_buf_end : NULL;
	} else if (!live && by_flush) {
		by_flush = false;
		setvbuf(stdout, NULL, _IOLBF, 0);
		stdout->_IO_write_end = stdout->_IO_write_base;
	}
	return result;
}

EXPORT int fclose(FILE *stream)
{
	int failed = flush_handle(stream), kept = errno;
	int result = NEXT(fclose)(stream);
	if (!failed)
		return result;
	errno = kept;
	return EOF;
}

#endif
