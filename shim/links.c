/* SPDX-License-Identifier: MIT */
/* Interposed: what gives a path back, from which the server's folder is cut off. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "shim.h"

/* What the link at `path` should say when it leads to a handle of a device node; else NULL. */
static const char *node_behind(const char *path)
{
	struct token token;
	int node = handle_of(descriptor_named(path), &token) ? token_node(&token) : -1;
	return node >= 0 && node < (int)config()->node_count ? config()->nodes[node].path : NULL;
}

static ssize_t read_link(int dirfd, const char *path, char *into, size_t size)
{
	char buffer[OUR_PATH_MAX], whole[OUR_PATH_MAX];
	const char *text = whole;
	path = real_path_at(dirfd, path, buffer);
	ssize_t n = config() ? NEXT(readlinkat)(dirfd, path, whole, sizeof(whole)) : -1;
	/* Only links of /proc lead to our folder by its name, or to a handle. */
	if (n > 7 && memcmp(whole, "socket:", 7) == 0)
		text = node_behind(path);
	size_t length = n <= 0 || !text ? 0 : text == whole ? strip_root(whole, (size_t)n) : strlen(text);
	bool ours = length && !(text == whole && length == (size_t)n);
	/* Has the kernel look at what we were given. */
	ssize_t result = NEXT(readlinkat)(dirfd, path, into, ours && size ? 1 : size);
	if (!ours || result <= 0)
		return result;
	length = length < size ? length : size;
	memcpy(into, text, length);
	return (ssize_t)length;
}

EXPORT ssize_t readlink(const char *path, char *into, size_t size)
{
	return read_link(AT_FDCWD, path, into, size);
}

EXPORT ssize_t readlinkat(int dirfd, const char *path, char *into, size_t size)
{
	return read_link(dirfd, path, into, size);
}

static char *stripped(char *path)
{
	if (path)
		path[strip_root(path, strlen(path))] = 0;
	return path;
}

EXPORT char *realpath(const char *path, char *resolved)
{
	char buffer[OUR_PATH_MAX];
	return stripped(NEXT(realpath)(path ? real_path_at(AT_FDCWD, path, buffer) : NULL, resolved));
}

EXPORT int chdir(const char *path)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(chdir)(real_path_at(AT_FDCWD, path, buffer));
}

EXPORT char *getcwd(char *into, size_t size)
{
	char here[OUR_PATH_MAX];
	if (!config() || !NEXT(getcwd)(here, sizeof(here)))
		return NEXT(getcwd)(into, size);
	size_t before = strlen(here), length = strip_root(here, before);
	if (length == before)
		return NEXT(getcwd)(into, size);
	here[length] = 0;
	if (!into && size == 0)
		return strdup(here);
	if (size == 0) {
		errno = EINVAL;
		return NULL;
	}
	if (size <= length) {
		errno = ERANGE;
		return NULL;
	}
	if (!into && !(into = malloc(size)))
		return NULL;
	return memcpy(into, here, length + 1);
}

#ifdef __GLIBC__

ssize_t __readlink_chk(const char *, char *, size_t, size_t);
EXPORT ssize_t __readlink_chk(const char *path, char *into, size_t size, size_t room)
{
	return size > room ? NEXT(__readlink_chk)(path, into, size, room) : read_link(AT_FDCWD, path, into, size);
}

ssize_t __readlinkat_chk(int, const char *, char *, size_t, size_t);
EXPORT ssize_t __readlinkat_chk(int dirfd, const char *path, char *into, size_t size, size_t room)
{
	return size > room ? NEXT(__readlinkat_chk)(dirfd, path, into, size, room) : read_link(dirfd, path, into, size);
}

char *__realpath_chk(const char *, char *, size_t);
EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room)
{
	char buffer[OUR_PATH_MAX];
	return stripped(NEXT(__realpath_chk)(real_path_at(AT_FDCWD, path, buffer), resolved, room));
}

EXPORT char *canonicalize_file_name(const char *path)
{
	return realpath(path, NULL);
}

char *__getcwd_chk(char *, size_t, size_t);
EXPORT char *__getcwd_chk(char *into, size_t size, size_t room)
{
	return size > room ? NEXT(__getcwd_chk)(into, size, room) : getcwd(into, size);
}

EXPORT char *get_current_dir_name(void)
{
	char here[OUR_PATH_MAX];
	if (!config() || !NEXT(getcwd)(here, sizeof(here)))
		return NEXT(get_current_dir_name)();
	size_t before = strlen(here);
	return strip_root(here, before) == before ? NEXT(get_current_dir_name)() : getcwd(NULL, 0);
}

#endif
