/* SPDX-License-Identifier: MIT */
/*
 * Which paths are ours. The server lays our files out under one folder at their paths, with relative links, so that
 * once the front of a path is replaced the kernel does the rest: links, "..", directories, descriptors of directories.
 */
#include <fcntl.h>
#include <sys/uio.h>

#include "shim.h"

#define PAGE 4096UL /* the smallest there is: a piece that does not cross it is all there or not at all */

bool copy_in(void *into, const void *from, size_t size)
{
	struct iovec local = { into, size }, remote = { (void *)from, size };
	int kept = errno;
	long n = syscall(SYS_process_vm_readv, getpid(), &local, 1UL, &remote, 1UL, 0UL);
	int error = errno;
	errno = kept;
	if (n >= 0)
		return (size_t)n == size;
	if (error == EFAULT)
		return false;
	memcpy(into, from, size); /* a sandbox refuses the call: trust the pointer, as libc would */
	return true;
}

/* Length of the string, which may be at any address; -1 when unreadable or too long. */
static ssize_t copy_string(char *into, const char *from, size_t size)
{
	for (size_t done = 0; done < size;) {
		size_t piece = PAGE - ((uintptr_t)(from + done) & (PAGE - 1));
		if (piece > size - done)
			piece = size - done;
		if (!copy_in(into + done, from + done, piece))
			return -1;
		char *end = memchr(into + done, 0, piece);
		if (end)
			return end - into;
		done += piece;
	}
	return -1;
}

static bool is_owned(const struct config *c, const char *path, size_t length)
{
	for (size_t i = 0; i < c->owned_count; i++)
		if (strncmp(c->owned[i], path, length) == 0 && c->owned[i][length] == 0)
			return true;
	return false;
}

static bool is_dots(const char *component, size_t length)
{
	return length == 2 && component[0] == '.' && component[1] == '.';
}

/* Does `rest`, read without following links, leave the folder that it starts in? */
static bool climbs_out(const char *rest)
{
	for (int depth = 0; *rest;) {
		size_t n = strcspn(rest, "/");
		if (is_dots(rest, n))
			depth--;
		else if (n > 1 || (n == 1 && *rest != '.'))
			depth++;
		if (depth < 0)
			return true;
		rest += n;
		rest += strspn(rest, "/");
	}
	return false;
}

static bool exists(const char *path)
{
	int kept = errno;
	bool there = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
	errno = kept;
	return there;
}

const char *real_path_of(const char *path, char *buffer)
{
	const struct config *c = config();
	if (!c || c->root_length >= OUR_PATH_MAX / 2)
		return path;
	char *seen = buffer + c->root_length; /* the path so far, without "." and "..": overwrites what has been read */
	size_t length = 0;
	bool left = false;
	ssize_t n = copy_string(seen, path, OUR_PATH_MAX - c->root_length);
	if (n <= 0 || seen[0] != '/')
		return path;
	memcpy(buffer, c->root, c->root_length);
	for (char *at = seen + strspn(seen, "/"); *at;) {
		size_t part = strcspn(at, "/");
		if (is_dots(at, part)) {
			while (length && seen[--length] != '/')
				;
		} else if (part > 1 || *at != '.') {
			seen[length++] = '/';
			memmove(seen + length, at, part);
			length += part;
		}
		at += part;
		if (is_owned(c, seen, length)) {
			memmove(seen + length, at, strlen(at) + 1);
			at = seen + length;
			/* "class/iommu/x/../.." may be ours through a link, or may lead to a path that is not. */
			if (!climbs_out(at) || exists(buffer))
				return buffer;
			left = true;
		}
		at += strspn(at, "/");
	}
	if (!left)
		return path;
	/* The kernel may not have the folder that the path went through. */
	strcpy(seen + length, length ? "" : "/");
	return seen;
}

size_t strip_root(char *path, size_t length)
{
	const struct config *c = config();
	if (!c || length < c->root_length || memcmp(path, c->root, c->root_length) != 0)
		return length;
	if (length == c->root_length) {
		path[0] = '/';
		return 1;
	}
	if (path[c->root_length] != '/')
		return length;
	memmove(path, path + c->root_length, length - c->root_length);
	return length - c->root_length;
}

int node_of(const struct stat *st)
{
	const struct config *c = config();
	if (!c || !S_ISSOCK(st->st_mode) || st->st_dev != c->device)
		return -1;
	for (size_t i = 0; i < c->node_count; i++)
		if (c->nodes[i].inode == st->st_ino)
			return (int)i;
	return -1;
}
