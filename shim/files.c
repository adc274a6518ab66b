/* SPDX-License-Identifier: MIT */
/*
 * Interposed: what names a file. Our files are ordinary ones in the server's folder, so a call needs its path replaced
 * and a path that comes back shortened. A device node is laid out as a Unix socket: opening it fails with ENXIO, which
 * nothing else in that folder does, so that ordinary opens cost nothing more and every way to name the node works.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "shim.h"

/* ---- open ---- */

static int open_node(int dirfd, const char *path, int flags)
{
	struct stat st;
	int node = -1;
	if (syscall(SYS_newfstatat, dirfd, path, &st, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) == 0)
		node = node_of(&st);
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
	path = real_path_of(path, buffer);
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

EXPORT FILE *fopen(const char *path, const char *mode)
{
	char buffer[OUR_PATH_MAX];
	int status = *mode == 'r' && !strchr(mode, '+') ? open_status(path, strchr(mode, 'e') ? O_CLOEXEC : 0) : -1;
	return status >= 0 ? fdopen(status, mode) : NEXT(fopen)(real_path_of(path, buffer), mode);
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(freopen)(path ? real_path_of(path, buffer) : NULL, mode, stream);
}

/* ---- stat ---- */

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
		if (!handle_of(fd, &token) || token.node > c->node_count)
			return;
		node = (int)token.node - 1;
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
	st->st_rdev = c->nodes[node].rdev;
}

/* Raw, since libc before 2.33 has no function of this name to ask for next. */
static int stat_at(int dirfd, const char *path, struct stat *st, int flags)
{
	char buffer[OUR_PATH_MAX];
	int result = (int)syscall(SYS_newfstatat, dirfd, real_path_of(path, buffer), st, flags);
	if (result == 0 && S_ISSOCK(st->st_mode))
		disguise(st, flags & AT_EMPTY_PATH ? dirfd : -1);
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
	int result = NEXT(statx)(dirfd, real_path_of(path, buffer), flags, mask, sx);
	if (result == 0 && S_ISSOCK(sx->stx_mode)) {
		struct stat st = {
			.st_mode = sx->stx_mode,
			.st_ino = sx->stx_ino,
			.st_dev = makedev(sx->stx_dev_major, sx->stx_dev_minor),
		};
		disguise(&st, flags & AT_EMPTY_PATH ? dirfd : -1);
		if (S_ISSOCK(st.st_mode))
			return result;
		sx->stx_mode = (uint16_t)st.st_mode;
		sx->stx_ino = st.st_ino;
		sx->stx_size = sx->stx_blocks = 0;
		sx->stx_dev_major = major(st.st_dev);
		sx->stx_dev_minor = minor(st.st_dev);
		sx->stx_rdev_major = major(st.st_rdev);
		sx->stx_rdev_minor = minor(st.st_rdev);
	}
	return result;
}
#endif

/* ---- Links and absolute paths ---- */

static ssize_t read_link(int dirfd, const char *path, char *into, size_t size)
{
	char buffer[OUR_PATH_MAX], whole[OUR_PATH_MAX];
	path = real_path_of(path, buffer);
	ssize_t n = NEXT(readlinkat)(dirfd, path, into, size);
	const struct config *c = config();
	if (!c || n <= 0 || into[0] != '/')
		return n;
	/* Only links of /proc lead to our folder by its name. The answer may have been cut short: ask with more room. */
	ssize_t all = NEXT(readlinkat)(dirfd, path, whole, sizeof(whole));
	if (all <= 0)
		return n;
	size_t length = strip_root(whole, (size_t)all);
	if (length == (size_t)all)
		return n;
	length = length < size ? length : size;
	memcpy(into, whole, length);
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
	return stripped(NEXT(realpath)(path ? real_path_of(path, buffer) : NULL, resolved));
}

EXPORT int chdir(const char *path)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(chdir)(real_path_of(path, buffer));
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

/* ---- Directories: libc opens them inside these ---- */

EXPORT DIR *opendir(const char *path)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(opendir)(real_path_of(path, buffer));
}

static void disguise_entry(DIR *dir, ino_t inode, unsigned char *type)
{
	struct stat st = { .st_ino = inode, .st_mode = S_IFSOCK };
	const struct config *c = config();
	struct stat at;
	if (*type != DT_SOCK || !c || syscall(SYS_fstat, dirfd(dir), &at) != 0)
		return;
	st.st_dev = at.st_dev;
	if (node_of(&st) >= 0)
		*type = DT_CHR;
}

EXPORT struct dirent *readdir(DIR *dir)
{
	struct dirent *entry = NEXT(readdir)(dir);
	if (entry)
		disguise_entry(dir, entry->d_ino, &entry->d_type);
	return entry;
}

typedef int (*filter_fn)(const struct dirent *);
typedef int (*order_fn)(const struct dirent **, const struct dirent **);

EXPORT int scandir(const char *path, struct dirent ***list, filter_fn filter, order_fn order)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(scandir)(real_path_of(path, buffer), list, filter, order);
}

/* ---- Nothing but a path ---- */

#define PATH_FIRST(result, name, parameters, ...)               \
	EXPORT result name parameters                           \
	{                                                       \
		char buffer[OUR_PATH_MAX];                      \
		return NEXT(name)(real_path_of(path, buffer), __VA_ARGS__); \
	}

PATH_FIRST(int, access, (const char *path, int mode), mode)
PATH_FIRST(ssize_t, getxattr, (const char *path, const char *name, void *value, size_t size), name, value, size)
PATH_FIRST(ssize_t, lgetxattr, (const char *path, const char *name, void *value, size_t size), name, value, size)
PATH_FIRST(ssize_t, listxattr, (const char *path, char *list, size_t size), list, size)
PATH_FIRST(ssize_t, llistxattr, (const char *path, char *list, size_t size), list, size)

EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(faccessat)(dirfd, real_path_of(path, buffer), mode, flags);
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

/* struct stat64 is struct stat on 64-bit machines. */
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
	return stripped(NEXT(__realpath_chk)(real_path_of(path, buffer), resolved, room));
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

EXPORT struct dirent64 *readdir64(DIR *dir)
{
	struct dirent64 *entry = NEXT(readdir64)(dir);
	if (entry)
		disguise_entry(dir, entry->d_ino, &entry->d_type);
	return entry;
}

typedef int (*filter64_fn)(const struct dirent64 *);
typedef int (*order64_fn)(const struct dirent64 **, const struct dirent64 **);

EXPORT int scandir64(const char *path, struct dirent64 ***list, filter64_fn filter, order64_fn order)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(scandir64)(real_path_of(path, buffer), list, filter, order);
}

PATH_FIRST(int, eaccess, (const char *path, int mode), mode)
PATH_FIRST(int, euidaccess, (const char *path, int mode), mode)

#endif
