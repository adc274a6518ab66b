/* SPDX-License-Identifier: MIT */
/* Interposed: what lists folders, which libc opens by calls of its own. */
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>

#include "shim.h"

EXPORT DIR *opendir(const char *path)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(opendir)(real_path_at(AT_FDCWD, path, buffer));
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
	return NEXT(scandir)(real_path_at(AT_FDCWD, path, buffer), list, filter, order);
}

#ifdef GLOB_ALTDIRFUNC

static void *glob_open(const char *path)
{
	return opendir(path);
}

static struct dirent *glob_read(void *dir)
{
	return readdir(dir);
}

static void glob_close(void *dir)
{
	closedir(dir);
}

/* libc's own functions for this are not ours. */
EXPORT int glob(const char *pattern, int flags, int (*on_error)(const char *, int), glob_t *found)
{
	if (!config() || flags & GLOB_ALTDIRFUNC)
		return NEXT(glob)(pattern, flags, on_error, found);
	found->gl_opendir = glob_open;
	found->gl_readdir = glob_read;
	found->gl_closedir = glob_close;
	found->gl_stat = stat;
	found->gl_lstat = lstat;
	int result = NEXT(glob)(pattern, flags | GLOB_ALTDIRFUNC, on_error, found);
	found->gl_flags &= ~GLOB_ALTDIRFUNC;
	return result;
}

/* glob64_t is glob_t on 64-bit machines. */
EXPORT int glob64(const char *pattern, int flags, int (*on_error)(const char *, int), glob64_t *found)
{
	return glob(pattern, flags, on_error, (glob_t *)found);
}

#endif

#ifdef __GLIBC__

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
	return NEXT(scandir64)(real_path_at(AT_FDCWD, path, buffer), list, filter, order);
}

#endif
