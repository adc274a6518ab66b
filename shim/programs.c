/* SPDX-License-Identifier: MIT */
/*
 * Interposed: what executes a program. One that the library cannot be loaded into, or that makes its system calls without
 * libc, sees the real machine: that is said on stderr, once in a run for each file. Whatever is wrong with the file is
 * left for the kernel to find. A child by vfork shares its parent's memory and stack: nothing is kept here, or allocated.
 */
#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>

#include "shim.h"

extern char **environ;

#define HEAD_BYTES 1024 /* of linked programs: headers, the loader's name and most notes */
#define NOTE_BYTES 512
#define LOADER_BYTES 64

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#else
#define OUR_MACHINE EM_AARCH64
#endif

#ifdef __GLIBC__
#define OUR_LIBC "glibc"
#define OTHER_LIBC "uses musl and the shim glibc"
#else
#define OUR_LIBC "musl"
#define OTHER_LIBC "uses glibc and the shim musl"
#endif

static bool uses_our_libc(const char *loader)
{
	return (strstr(loader, "/ld-musl-") == NULL) == (strcmp(OUR_LIBC, "glibc") == 0);
}

/* `size` bytes of the file at `offset`, from its head when they are there. Returns how many there are. */
static size_t part(int fd, const char *head, size_t length, uint64_t offset, char *into, size_t size)
{
	if (offset <= length && size <= length - offset) {
		memcpy(into, head + offset, size);
		return size;
	}
	long n = syscall(SYS_pread64, fd, into, size, offset);
	return n < 0 ? 0 : (size_t)n;
}

static const char *about_elf(int fd, const char *head, size_t length)
{
	char note[NOTE_BYTES], loader[LOADER_BYTES + 1] = "";
	Elf64_Ehdr elf;
	Elf64_Phdr segment;
	memcpy(&elf, head, sizeof(elf));
	if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_ident[EI_DATA] != ELFDATA2LSB || elf.e_machine != OUR_MACHINE)
		return "is for another kind of processor than the shim";
	bool go = false;
	for (int i = 0; i < elf.e_phnum; i++) {
		uint64_t at = elf.e_phoff + (uint64_t)i * elf.e_phentsize;
		if (part(fd, head, length, at, (char *)&segment, sizeof(segment)) < sizeof(segment))
			return NULL;
		size_t size = segment.p_filesz;
		if (segment.p_type == PT_INTERP) {
			size = size < LOADER_BYTES ? size : LOADER_BYTES;
			loader[part(fd, head, length, segment.p_offset, loader, size)] = 0;
		} else if (segment.p_type == PT_NOTE) {
			size = part(fd, head, length, segment.p_offset, note, size < NOTE_BYTES ? size : NOTE_BYTES);
			go = go || memmem(note, size, "\0Go\0", 4);
		}
	}
	if (!*loader)
		return "is statically linked, so no library of ours can be loaded into it";
	if (go)
		return "is written in Go, which makes its system calls without libc";
	return uses_our_libc(loader) ? NULL : OTHER_LIBC;
}

static bool gains_rights(const struct stat *st)
{
	return (st->st_mode & S_ISUID && st->st_uid != getuid()) || (st->st_mode & S_ISGID && st->st_gid != getgid());
}

/* Cuts the interpreter's path out of "#! path argument". */
static const char *interpreter_of(char *head, size_t length)
{
	head[length - 1] = 0;
	char *path = head + 2 + strspn(head + 2, " \t");
	path[strcspn(path, " \t\n")] = 0;
	return path;
}

/*
 * Why the shim cannot work in the program, as the end of a sentence that its name begins; NULL: it can. Where there is
 * one, `st` tells of it: of the script, not of what interprets it.
 */
static const char *out_of_reach(int dirfd, const char *path, struct stat *st)
{
	char head[HEAD_BYTES];
	const char *why = NULL;
	for (int depth = 0; depth < 5; depth++) {
		struct stat file;
		int fd = (int)syscall(SYS_openat, dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			return NULL;
		bool program = syscall(SYS_fstat, fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_mode & 0111;
		long n = program ? syscall(SYS_pread64, fd, head, sizeof(head), 0UL) : 0;
		bool script = n > 2 && head[0] == '#' && head[1] == '!';
		if (program && depth == 0)
			*st = file;
		if (program && gains_rights(&file) && !script)
			why = "runs with the rights of another user, so the system loads no library of ours into it";
		else if (n >= (long)sizeof(Elf64_Ehdr) && memcmp(head, ELFMAG, SELFMAG) == 0)
			why = about_elf(fd, head, (size_t)n);
		syscall(SYS_close, fd);
		if (!script)
			break;
		path = interpreter_of(head, (size_t)n);
		dirfd = AT_FDCWD;
	}
	return why;
}

/* A file in the server's folder remembers. */
static bool first_time(const struct stat *st)
{
	char mark[PATH_MAX];
	snprintf(mark, sizeof(mark), "%s/../told-%lx-%lx", config()->root, (long)st->st_dev, (long)st->st_ino);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd >= 0)
		syscall(SYS_close, fd);
	return fd >= 0;
}

/* Not where it would block, or raise SIGPIPE. */
static void say(const char *program, const char *why)
{
	char text[OUR_PATH_MAX];
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	struct timespec now = { 0, 0 };
	int n = snprintf(text, sizeof(text), "uiommufd: %s %s: it sees the real machine\n", program, why);
	if (n < (int)sizeof(text) && syscall(SYS_ppoll, &out, 1, &now, NULL, 0) == 1 && out.revents == POLLOUT)
		syscall(SYS_write, STDERR_FILENO, text, n);
}

/* Is there such a program? Tells of one that is out of reach. */
static bool look_at(int dirfd, const char *path)
{
	struct stat st = { 0 };
	int kept = errno;
	const char *why = config() ? out_of_reach(dirfd, path, &st) : NULL;
	if (why && first_time(&st))
		say(path, why);
	errno = kept;
	return st.st_ino != 0;
}

static void look(const char *path)
{
	look_at(AT_FDCWD, path);
}

/* As execvp finds it. */
static void look_in_path(const char *name)
{
	char path[OUR_PATH_MAX];
	const char *folders = getenv("PATH");
	if (!config() || strchr(name, '/')) {
		look(name);
		return;
	}
	for (const char *at = folders ? folders : "/bin:/usr/bin"; at; at = *at ? at + 1 : NULL) {
		int length = (int)strcspn(at, ":");
		int n = snprintf(path, sizeof(path), "%.*s%s%s", length, at, length ? "/" : "", name);
		if (n < (int)sizeof(path) && look_at(AT_FDCWD, path))
			return;
		at += length;
	}
}

EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
	look(path);
	return NEXT(execve)(path, argv, env);
}

EXPORT int execv(const char *path, char *const argv[])
{
	look(path);
	return NEXT(execve)(path, argv, environ);
}

EXPORT int execvpe(const char *name, char *const argv[], char *const env[])
{
	look_in_path(name);
	return NEXT(execvpe)(name, argv, env);
}

EXPORT int execvp(const char *name, char *const argv[])
{
	look_in_path(name);
	return NEXT(execvpe)(name, argv, environ);
}

/* Declares `argv` with the arguments from `first` on, whose NULL is the last. The environment of execle is after that. */
#define ARGUMENTS(argv, first, rest)                  \
	int count_ = 1;                               \
	va_start(rest, first);                        \
	while (va_arg(rest, char *))                  \
		count_++;                             \
	va_end(rest);                                 \
	char *argv[count_ + 1];                       \
	argv[0] = (char *)first;                      \
	va_start(rest, first);                        \
	for (int i_ = 1; i_ <= count_; i_++)          \
		argv[i_] = va_arg(rest, char *)

EXPORT int execl(const char *path, const char *first, ...)
{
	va_list rest;
	ARGUMENTS(argv, first, rest);
	va_end(rest);
	return execv(path, argv);
}

EXPORT int execlp(const char *name, const char *first, ...)
{
	va_list rest;
	ARGUMENTS(argv, first, rest);
	va_end(rest);
	return execvp(name, argv);
}

EXPORT int execle(const char *path, const char *first, ...)
{
	va_list rest;
	ARGUMENTS(argv, first, rest);
	char **env = va_arg(rest, char **);
	va_end(rest);
	return execve(path, argv, env);
}

EXPORT int fexecve(int fd, char *const argv[], char *const env[])
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	look(path);
	return NEXT(fexecve)(fd, argv, env);
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
	look(path);
	return NEXT(posix_spawn)(pid, path, actions, attributes, argv, env);
}

EXPORT int posix_spawnp(pid_t *pid, const char *name, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
	look_in_path(name);
	return NEXT(posix_spawnp)(pid, name, actions, attributes, argv, env);
}

#ifdef __GLIBC__

int execveat(int, const char *, char *const[], char *const[], int);
EXPORT int execveat(int dirfd, const char *path, char *const argv[], char *const env[], int flags)
{
	if (*path)
		look_at(dirfd, path);
	return NEXT(execveat)(dirfd, path, argv, env, flags);
}

#endif
