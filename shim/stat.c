/* SPDX-License-Identifier: MIT */
/* Interposed: what tells about a file. Device nodes and handles, which are sockets, are shown as what they stand for. */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "shim.h"

/* A socket that stands for a device node, or one that is a handle, shown as what it stands for. */
static void disguise(struct stat *st, int fd)
{
	const struct config *c = config();
	struct token token;
	int node;
	if (!c || !S_ISSOCK(st->st_mode))
		return;
	node = node_of(st);
	if (node < 0) {
		if (!handle_of(fd, &token) || token_node(&token) >= (int)c->node_count)
			return;
		node = token_node(&token);
	}
	st->st_size = 0;
	st->st_blocks = 0;
	if (node < 0) {
		st->st_mode = S_IRUSR | S_IWUSR; /* an anonymous inode has no type */
		return;
	}
	st->st_dev = c->device;
	st->st_ino = c->nodes[node].inode;
	st->st_mode = c->nodes[node].mode;
	st->st_size = c->nodes[node].size;
	st->st_rdev = c->nodes[node].rdev;
}

/* Raw, since libc before 2.33 has no function of this name to ask for next. */
static int stat_at(int dirfd, const char *path, struct stat *st, int flags)
{
	char buffer[OUR_PATH_MAX];
	int result = (int)syscall(SYS_newfstatat, dirfd, real_path_at(dirfd, path, buffer), st, flags);
	if (result == 0 && S_ISSOCK(st->st_mode))
		disguise(st, *path ? descriptor_named(path) : dirfd);
	return result;
}

static int stat_fd(int fd, struct stat *st)
{
	int result = (int)syscall(SYS_fstat, fd, st);
	if (result == 0 && S_ISSOCK(st->st_mode))
		disguise(st, fd);
	return result;
}

EXPORT int stat(const char *path, struct stat *st)
{
	return stat_at(AT_FDCWD, path, st, 0);
}

EXPORT int lstat(const char *path, struct stat *st)
{
	return stat_at(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

EXPORT int fstat(int fd, struct stat *st)
{
	return stat_fd(fd, st);
}

EXPORT int fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	return stat_at(dirfd, path, st, flags);
}

#ifdef STATX_TYPE
EXPORT int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *sx)
{
	char buffer[OUR_PATH_MAX];
	int result = NEXT(statx)(dirfd, real_path_at(dirfd, path, buffer), flags, mask, sx);
	if (result == 0 && S_ISSOCK(sx->stx_mode)) {
		struct stat st = {
			.st_mode = sx->stx_mode,
			.st_ino = sx->stx_ino,
			.st_dev = makedev(sx->stx_dev_major, sx->stx_dev_minor),
		};
		disguise(&st, *path ? descriptor_named(path) : dirfd);
		if (S_ISSOCK(st.st_mode))
			return result;
		sx->stx_mode = (uint16_t)st.st_mode;
		sx->stx_ino = st.st_ino;
		sx->stx_size = (uint64_t)st.st_size;
		sx->stx_blocks = 0;
		sx->stx_dev_major = major(st.st_dev);
		sx->stx_dev_minor = minor(st.st_dev);
		sx->stx_rdev_major = major(st.st_rdev);
		sx->stx_rdev_minor = minor(st.st_rdev);
	}
	return result;
}
#endif

/* ---- File systems ---- */

/* Is it a file of ours under /sys? A program may look whether that is what it takes it for, as libudev does. */
static bool is_sysfs(int fd)
{
	static const char front[] = "/sys/";
	const struct config *c = config();
	char link[32], path[OUR_PATH_MAX];
	struct stat st;
	if (!c || syscall(SYS_fstat, fd, &st) != 0 || st.st_dev != c->device)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	long n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof(path));
	size_t length = n > 0 ? strip_root(path, (size_t)n) : 0;
	return length < (size_t)n && length >= sizeof(front) - 1 && memcmp(path, front, sizeof(front) - 1) == 0;
}

EXPORT int fstatfs(int fd, struct statfs *st)
{
	int result = (int)syscall(SYS_fstatfs, fd, st);
	int kept = errno;
	if (result == 0 && is_sysfs(fd))
		st->f_type = SYSFS_MAGIC;
	errno = kept;
	return result;
}

EXPORT int statfs(const char *path, struct statfs *st)
{
	char buffer[OUR_PATH_MAX];
	const char *real = real_path_at(AT_FDCWD, path, buffer);
	int result = (int)syscall(SYS_statfs, real, st), kept = errno;
	int fd = result == 0 && config() ? (int)syscall(SYS_openat, AT_FDCWD, real, O_PATH | O_CLOEXEC) : -1;
	if (fd >= 0 && is_sysfs(fd))
		st->f_type = SYSFS_MAGIC;
	if (fd >= 0)
		syscall(SYS_close, fd);
	errno = kept;
	return result;
}

/* ---- Nothing but a path ---- */

#define PATH_FIRST(result, name, parameters, ...)               \
	EXPORT result name parameters                           \
	{                                                       \
		char buffer[OUR_PATH_MAX];                      \
		return NEXT(name)(real_path_at(AT_FDCWD, path, buffer), __VA_ARGS__); \
	}

PATH_FIRST(int, access, (const char *path, int mode), mode)
PATH_FIRST(ssize_t, getxattr, (const char *path, const char *name, void *value, size_t size), name, value, size)
PATH_FIRST(ssize_t, lgetxattr, (const char *path, const char *name, void *value, size_t size), name, value, size)
PATH_FIRST(ssize_t, listxattr, (const char *path, char *list, size_t size), list, size)
PATH_FIRST(ssize_t, llistxattr, (const char *path, char *list, size_t size), list, size)

EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(faccessat)(dirfd, real_path_at(dirfd, path, buffer), mode, flags);
}

/* ---- The other names that glibc has for the same ---- */

#ifdef __GLIBC__

/* struct statfs64 is struct statfs, and stat64 is stat, on 64-bit machines. */
EXPORT int statfs64(const char *path, struct statfs64 *st)
{
	return statfs(path, (struct statfs *)st);
}

EXPORT int fstatfs64(int fd, struct statfs64 *st)
{
	return fstatfs(fd, (struct statfs *)st);
}

EXPORT int stat64(const char *path, struct stat64 *st)
{
	return stat_at(AT_FDCWD, path, (struct stat *)st, 0);
}

EXPORT int lstat64(const char *path, struct stat64 *st)
{
	return stat_at(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

EXPORT int fstat64(int fd, struct stat64 *st)
{
	return stat_fd(fd, (struct stat *)st);
}

EXPORT int fstatat64(int dirfd, const char *path, struct stat64 *st, int flags)
{
	return stat_at(dirfd, path, (struct stat *)st, flags);
}

/* What programs compiled before glibc 2.33 call. There is one version of the struct on 64-bit machines. */
#define OLD_STAT(name, parameters, call)  \
	EXPORT int name parameters;       \
	EXPORT int name parameters        \
	{                                 \
		(void)version;            \
		return call;              \
	}

OLD_STAT(__xstat, (int version, const char *path, struct stat *st), stat_at(AT_FDCWD, path, st, 0))
OLD_STAT(__xstat64, (int version, const char *path, struct stat *st), stat_at(AT_FDCWD, path, st, 0))
OLD_STAT(__lxstat, (int version, const char *path, struct stat *st), stat_at(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW))
OLD_STAT(__lxstat64, (int version, const char *path, struct stat *st), stat_at(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW))
OLD_STAT(__fxstat, (int version, int fd, struct stat *st), stat_fd(fd, st))
OLD_STAT(__fxstat64, (int version, int fd, struct stat *st), stat_fd(fd, st))
OLD_STAT(__fxstatat, (int version, int fd, const char *path, struct stat *st, int flags), stat_at(fd, path, st, flags))
OLD_STAT(__fxstatat64, (int version, int fd, const char *path, struct stat *st, int flags), stat_at(fd, path, st, flags))

PATH_FIRST(int, eaccess, (const char *path, int mode), mode)
PATH_FIRST(int, euidaccess, (const char *path, int mode), mode)

#endif
