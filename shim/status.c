/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/status: the kernel does not know what the server has pinned for a process. For a process with such pages the
 * shim gives a copy with VmPin and VmLck raised, made when the file is opened; for all others the file itself.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shim.h"

#define STATUS_BYTES 8192 /* more than the kernel ever writes, with room for longer numbers */

/* Pages of process `pid`, from the table that src/server/account-table.ts writes: lines "PID pinned locked". */
static bool account_of(long pid, unsigned long *pinned, unsigned long *locked)
{
	char path[PATH_MAX], line[32];
	struct stat st;
	snprintf(path, sizeof(path), "%s/../accounts", config()->root);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	long at = syscall(SYS_fstat, fd, &st) == 0 && st.st_size > 0 ?
			  syscall(SYS_mmap, 0UL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0UL) : -1;
	syscall(SYS_close, fd);
	if (at == -1)
		return false;
	snprintf(line, sizeof(line), "\n%ld ", pid);
	const char *text = (const char *)at, *found = memmem(text, (size_t)st.st_size, line, strlen(line));
	if (found) {
		char *next;
		*pinned = strtoul(found + strlen(line), &next, 10);
		*locked = strtoul(next, NULL, 10);
	}
	munmap((void *)at, (size_t)st.st_size);
	return found != NULL;
}

/* The field's value in `text`, or NULL. `name` starts with a new line. */
static char *value_of(char *text, const char *name)
{
	char *at = strstr(text, name);
	return at ? at + strlen(name) : NULL;
}

/* Adds pages to a field that counts kB, as wide as the kernel writes it. `text` has room. */
static void raise(char *text, const char *name, unsigned long pages)
{
	char *from = value_of(text, name), *end, value[32];
	if (!from || pages == 0)
		return;
	unsigned long kib = strtoul(from, &end, 10) + pages * 4;
	size_t length = (size_t)snprintf(value, sizeof(value), "%8lu", kib);
	memmove(from + length, end, strlen(end) + 1);
	memcpy(from, value, length);
}

static bool is_status(const char *path)
{
	static const char front[] = "/proc/", back[] = "/status";
	char copy[64];
	size_t length = 0;
	if (!copy_in(copy, path, sizeof(front) - 1) || memcmp(copy, front, sizeof(front) - 1) != 0)
		return false;
	do {
		if (length == sizeof(copy) || !copy_in(&copy[length], &path[length], 1))
			return false;
	} while (copy[length++]);
	length--;
	return length > sizeof(back) - 1 && strcmp(copy + length - (sizeof(back) - 1), back) == 0;
}

/* Puts `text` in place of the file behind `fd`. False leaves the file. */
static bool replace(int fd, const char *text, int flags)
{
	size_t length = strlen(text);
	int copy = memfd_create("status", MFD_CLOEXEC);
	if (copy < 0)
		return false;
	bool done = syscall(SYS_pwrite64, copy, text, length, 0L) == (long)length &&
		    syscall(SYS_dup3, copy, fd, flags & O_CLOEXEC) == fd;
	syscall(SYS_close, copy);
	return done;
}

int open_status(const char *path, int flags)
{
	char text[STATUS_BYTES];
	unsigned long pinned, locked;
	if (!config() || (flags & O_ACCMODE) != O_RDONLY || !is_status(path))
		return -1;
	int kept = errno, fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags);
	if (fd < 0) {
		errno = kept;
		return -1;
	}
	long length = syscall(SYS_pread64, fd, text, sizeof(text) - 64, 0L);
	text[length < 0 ? 0 : length] = 0;
	const char *process = value_of(text, "\nTgid:\t");
	long pid = process ? strtol(process, NULL, 10) : 0;
	/* A call, even one that names no handle, has the server look for what was closed: the table is right after it. */
	struct request nothing = { .op = OP_READ };
	if (pid > 0 && account_of(pid, &pinned, &locked) && call_server(&nothing, -1) < 0 && account_of(pid, &pinned, &locked)) {
		raise(text, "\nVmLck:\t", locked);
		raise(text, "\nVmPin:\t", pinned);
		replace(fd, text, flags);
	}
	errno = kept;
	return fd;
}
