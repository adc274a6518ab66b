/* SPDX-License-Identifier: MIT */
/*
 * Which paths are ours. The server lays our files out under one folder at their paths, with relative links, so that
 * once the front of a path is replaced the kernel does the rest: links, "..", directories, descriptors of directories.
 */
#include <fcntl.h>
#include <stdio.h>

#include "shim.h"

#define PAGE 4096UL /* the smallest there is: a piece that does not cross it is all there or not at all */

/*
 * Can the page of `at` be read? The kernel copies a signal mask before it looks at what to do with it: EINVAL for an
 * unknown "how" tells that it could. 70 ns; process_vm_readv on ourselves, which sandboxes refuse besides, takes 1400.
 */
static bool readable(const void *at)
{
	int kept = errno;
	if ((uintptr_t)at < PAGE)
		return false; /* NULL would mean: no mask */
	bool faults = syscall(SYS_rt_sigprocmask, -1, (uintptr_t)at & ~7UL, NULL, 8UL) != 0 && errno == EFAULT;
	errno = kept;
	return !faults;
}

static size_t rest_of_page(const void *at, size_t most)
{
	size_t rest = PAGE - ((uintptr_t)at & (PAGE - 1));
	return rest < most ? rest : most;
}

bool copy_in(void *into, const void *from, size_t size)
{
	for (size_t done = 0, piece; done < size; done += piece) {
		const char *at = (const char *)from + done;
		piece = rest_of_page(at, size - done);
		if (!readable(at))
			return false;
		memcpy((char *)into + done, at, piece);
	}
	return true;
}

/* Length of the string, which may be at any address; -1 when unreadable or too long. */
static ssize_t copy_string(char *into, const char *from, size_t size)
{
	for (size_t done = 0, piece; done < size; done += piece) {
		piece = rest_of_page(from + done, size - done);
		if (!readable(from + done))
			return -1;
		char *end = memccpy(into + done, from + done, 0, piece);
		if (end)
			return end - into - 1;
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

/* The file /proc/thread-self/fail-nth under its other names. Those of other threads are not ours to answer for. */
static void rename_thread_file(char *path, size_t length)
{
	static const char file[] = "/fail-nth", name[] = "/proc/thread-self/fail-nth";
	size_t front = sizeof(file) - 1;
	char other[64];
	if (length < front || memcmp(path + length - front, file, front) != 0)
		return;
	int thread = (int)syscall(SYS_gettid), process = (int)getpid();
	snprintf(other, sizeof(other), "/proc/self/task/%d%s", thread, file);
	bool same = strcmp(path, other) == 0;
	snprintf(other, sizeof(other), "/proc/%d/task/%d%s", process, thread, file);
	same = same || strcmp(path, other) == 0;
	snprintf(other, sizeof(other), "/proc/%d%s", process, file);
	same = same || (thread == process && (strcmp(path, other) == 0 || strcmp(path, "/proc/self/fail-nth") == 0));
	if (same)
		memcpy(path, name, sizeof(name));
}

/*
 * `buffer` holds, behind room for the root, an absolute path of `n` bytes. Returns `buffer` when it is ours, else what is
 * behind the room, without dots: a path that is not, though it may have gone through ours, which `*through` tells.
 */
static const char *find_ours(const struct config *c, char *buffer, size_t n, bool *through)
{
	char *seen = buffer + c->root_length; /* the path so far, without "." and "..": overwrites what has been read */
	size_t length = 0;
	*through = false;
	memcpy(buffer, c->root, c->root_length);
	rename_thread_file(seen, n);
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
			*through = true;
		}
		at += strspn(at, "/");
	}
	strcpy(seen + length, length ? "" : "/");
	return seen;
}

/* The absolute path of the folder that relative paths start from, as the kernel sees it; -1. */
static ssize_t folder_of(int dirfd, char *into, size_t size)
{
	char link[32];
	int kept = errno;
	long n;
	if (dirfd == AT_FDCWD) {
		n = syscall(SYS_getcwd, into, size) - 1; /* it counts the zero at the end */
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
		n = syscall(SYS_readlinkat, AT_FDCWD, link, into, size);
	}
	errno = kept;
	return n > 0 && (size_t)n < size && into[0] == '/' ? n : -1;
}

/* `buffer` holds `n` bytes of the path where find_ours wants it. From a folder of ours the kernel finds what is ours. */
static const char *find_relative(const struct config *c, int dirfd, const char *path, char *buffer, size_t n)
{
	char folder[OUR_PATH_MAX], *seen = buffer + c->root_length;
	ssize_t whole = folder_of(dirfd, folder, sizeof(folder));
	bool through;
	if (whole < 0)
		return path;
	size_t front = strip_root(folder, (size_t)whole);
	if (c->root_length + front + 1 + n >= OUR_PATH_MAX)
		return path;
	memmove(seen + front + 1, seen, n + 1);
	memcpy(seen, folder, front);
	seen[front] = '/';
	const char *found = find_ours(c, buffer, front + 1 + n, &through);
	bool inside = front < (size_t)whole, ours = found == buffer;
	return inside == ours && !through ? path : found;
}

const char *real_path_at(int dirfd, const char *path, char *buffer)
{
	const struct config *c = config();
	bool through;
	if (!c || c->root_length >= OUR_PATH_MAX / 2)
		return path;
	char *seen = buffer + c->root_length;
	ssize_t n = copy_string(seen, path, OUR_PATH_MAX - c->root_length);
	if (n <= 0)
		return path;
	if (seen[0] != '/')
		return find_relative(c, dirfd, path, buffer, (size_t)n);
	/* The kernel may not have the folder of ours that a path went through. */
	const char *found = find_ours(c, buffer, (size_t)n, &through);
	return found == buffer || through ? found : path;
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
