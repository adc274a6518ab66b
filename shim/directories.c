/* SPDX-License-Identifier: MIT */
/*
 * Interposed: what lists folders, which libc opens by calls of its own. A folder of the real machine that something of
 * ours stands in, as /dev, is the real one; when a program has read it to the end, what is only ours comes after.
 */
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <stdatomic.h>

#include "shim.h"

/* Folders that programs have read to the end. With more of them at a time, some do not show what is ours. */
#define ENDED 16
static struct ended {
	DIR *_Atomic dir;
	size_t next; /* of the owned paths */
	struct dirent entry;
} ended[ENDED];

static struct ended *find_ended(DIR *dir)
{
	for (size_t i = 0; i < ENDED; i++)
		if (atomic_load(&ended[i].dir) == dir)
			return &ended[i];
	return NULL;
}

static struct ended *claim_ended(DIR *dir)
{
	for (size_t i = 0; i < ENDED; i++) {
		DIR *none = NULL;
		if (atomic_compare_exchange_strong(&ended[i].dir, &none, dir)) {
			ended[i].next = 0;
			return &ended[i];
		}
	}
	return NULL;
}

/* `dir` is read from its start, or no more. */
static void forget_end(DIR *dir)
{
	struct ended *e = config() && dir ? find_ended(dir) : NULL;
	if (e)
		atomic_store(&e->dir, NULL);
}

/* The name of `owned` in the folder, when that is where it is; else NULL. */
static const char *name_in(const char *folder, size_t length, const char *owned)
{
	const char *name = strrchr(owned, '/') + 1;
	return (size_t)(name - owned) == length + 1 && memcmp(owned, folder, length) == 0 ? name : NULL;
}

/* Fills the entry of `owned` if that is there, and not hidden behind one that the real folder has listed. */
static bool fill_entry(struct dirent *entry, int folder, const char *owned, const char *name)
{
	char buffer[OUR_PATH_MAX];
	struct stat st;
	const char *real = real_path_at(AT_FDCWD, owned, buffer);
	if (strlen(name) >= sizeof(entry->d_name) || syscall(SYS_newfstatat, folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    syscall(SYS_newfstatat, AT_FDCWD, real, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	entry->d_ino = st.st_ino;
	entry->d_reclen = sizeof(*entry);
	entry->d_type = node_of(&st) >= 0 ? DT_CHR : IFTODT(st.st_mode);
	strcpy(entry->d_name, name);
	return true;
}

/* What is ours in a folder that has been read to the end: one after the other, then NULL. */
static struct dirent *next_of_ours(DIR *dir)
{
	char link[32], folder[OUR_PATH_MAX];
	const struct config *c = config();
	int kept = errno;
	struct ended *e = c ? find_ended(dir) : NULL;
	if (!c || !(e || (e = claim_ended(dir))))
		return NULL;
	struct dirent *entry = NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd(dir));
	long length = syscall(SYS_readlinkat, AT_FDCWD, link, folder, sizeof(folder));
	while (length > 0 && !entry && e->next < c->owned_count) {
		const char *owned = c->owned[e->next++], *name = name_in(folder, (size_t)length, owned);
		if (name && fill_entry(&e->entry, dirfd(dir), owned, name))
			entry = &e->entry;
	}
	errno = kept;
	return entry;
}

EXPORT DIR *opendir(const char *path)
{
	char buffer[OUR_PATH_MAX];
	DIR *dir = NEXT(opendir)(real_path_at(AT_FDCWD, path, buffer));
	forget_end(dir);
	return dir;
}

EXPORT DIR *fdopendir(int fd)
{
	DIR *dir = NEXT(fdopendir)(fd);
	forget_end(dir);
	return dir;
}

EXPORT void rewinddir(DIR *dir)
{
	forget_end(dir);
	NEXT(rewinddir)(dir);
}

EXPORT int closedir(DIR *dir)
{
	forget_end(dir);
	return NEXT(closedir)(dir);
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
	int before = errno;
	errno = 0;
	struct dirent *entry = NEXT(readdir)(dir);
	bool failed = !entry && errno;
	if (!failed)
		errno = before;
	if (entry)
		disguise_entry(dir, entry->d_ino, &entry->d_type);
	return entry || failed ? entry : next_of_ours(dir);
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

/* struct dirent64 is struct dirent on 64-bit machines. */
EXPORT struct dirent64 *readdir64(DIR *dir)
{
	return (struct dirent64 *)readdir(dir);
}

typedef int (*filter64_fn)(const struct dirent64 *);
typedef int (*order64_fn)(const struct dirent64 **, const struct dirent64 **);

EXPORT int scandir64(const char *path, struct dirent64 ***list, filter64_fn filter, order64_fn order)
{
	char buffer[OUR_PATH_MAX];
	return NEXT(scandir64)(real_path_at(AT_FDCWD, path, buffer), list, filter, order);
}

#endif
