/* Ways to name a file: absolute, relative, by links, by descriptors, by patterns; and what names it back. */
#include <dirent.h>
#include <glob.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "client.h"

static void absolute(char **argv)
{
	(void)argv;
	char text[PATH_MAX], *allocated;
	ssize_t n = readlink("/sys/bus/toy/devices/0000:01:00.0", text, sizeof(text));
	CHECK(n > 0 && (text[n] = 0, strcmp(text, "../../../devices/toy0") == 0));
	CHECK(strcmp(realpath("/sys/bus/toy/devices/0000:01:00.0/bus", text), "/sys/bus/toy") == 0);
	CHECK(strcmp(allocated = realpath("/sys/bus/toy/devices/0000:01:00.0", NULL), "/sys/devices/toy0") == 0);
	CHECK(!realpath("/sys/bus/toy/none", text) && errno == ENOENT);
	CHECK(chdir("/sys/bus/toy/devices/0000:01:00.0") == 0);
	CHECK(strcmp(getcwd(text, sizeof(text)), "/sys/devices/toy0") == 0);
	CHECK(strcmp(getcwd(NULL, 0), "/sys/devices/toy0") == 0);
	CHECK(!getcwd(text, 5) && errno == ERANGE);
	CHECK(strcmp(realpath("bus", text), "/sys/bus/toy") == 0);
	CHECK((n = readlink("/proc/self/cwd", text, sizeof(text))) > 0);
	CHECK((text[n] = 0, strcmp(text, "/sys/devices/toy0") == 0));
	CHECK(readlink("/proc/self/cwd", text, 4) == 4 && memcmp(text, "/sys", 4) == 0);
	FILE *file = fopen("/sys/devices/toy0/vendor", "r");
	CHECK(file && fgets(text, sizeof(text), file) && strcmp(text, "0x8086\n") == 0);
	struct dirent **list;
	CHECK(scandir("/sys/devices/toy0", &list, NULL, alphasort) == 5);
	CHECK(strcmp(list[4]->d_name, "vendor") == 0);
	/* Through a link and back up: physically ours, though not by its letters. */
	CHECK(access("/sys/bus/toy/devices/0000:01:00.0/../toy0/vendor", R_OK) == 0);
	/* Out of what is ours, into what is not. */
	CHECK(access("/sys/bus/toy/../../kernel", F_OK) == 0);
	CHECK(access("/dev/toy/../null", F_OK) == 0);
	CHECK(chdir("/") == 0 && strcmp(getcwd(text, sizeof(text)), "/") == 0);
}

static void relative(char **argv)
{
	(void)argv;
	char text[PATH_MAX];
	struct stat st;
	int dev = open("/dev", O_RDONLY | O_DIRECTORY), ours = open("/dev/toy", O_RDONLY | O_DIRECTORY);
	works(openat(dev, "toy/a", O_RDWR));
	CHECK(fstatat(dev, "toy/b", &st, 0) == 0 && S_ISCHR(st.st_mode));
	CHECK(faccessat(dev, "toy/b", R_OK, 0) == 0 && faccessat(ours, "b", R_OK, AT_EACCESS) == 0);
	FAILS(ENOENT, faccessat(ours, "none", F_OK, 0));
	FAILS(ENOENT, faccessat(dev, "toy/none", F_OK, 0));
	CHECK(readlinkat(open("/sys", O_PATH), "bus/toy/devices/0000:01:00.0", text, sizeof(text)) > 0);
	CHECK(chdir("/") == 0);
	works(open("dev/toy/a", O_RDWR));
	CHECK(chdir("dev") == 0 && strcmp(getcwd(text, sizeof(text)), "/dev") == 0);
	works(open("./toy/../toy/a", O_RDWR));
	CHECK(access("null", W_OK) == 0 && access("toy/../null", W_OK) == 0);
	/* Out of our folder: what is above it is the real machine's. */
	CHECK(fstatat(ours, "../null", &st, 0) == 0 && major(st.st_rdev) == 1);
	CHECK(chdir("toy") == 0 && access("../null", W_OK) == 0 && chdir("..") == 0);
	CHECK(strcmp(getcwd(text, sizeof(text)), "/dev") == 0 && access("null", W_OK) == 0);
	CHECK(chdir("/sys/devices/toy0") == 0 && access("../../kernel", F_OK) == 0 && access("../../bus/toy", F_OK) == 0);
	CHECK(access("bus/devices", F_OK) == 0);
	FAILS(ENOENT, access("../none", F_OK));
	/* Not through a folder that is no folder. */
	FAILS(ENOTDIR, openat(toy(), "toy/a", O_RDONLY));
	FAILS(EBADF, openat(555, "toy/a", O_RDONLY));
}

static void patterns(char **argv)
{
	(void)argv;
	glob_t found;
	CHECK(glob("/sys/bus/toy/devices/*/vendor", 0, NULL, &found) == 0 && found.gl_pathc == 1);
	CHECK(strcmp(found.gl_pathv[0], "/sys/bus/toy/devices/0000:01:00.0/vendor") == 0);
	CHECK(glob("/dev/toy/[ab]", GLOB_APPEND, NULL, &found) == 0 && found.gl_pathc == 3);
	globfree(&found);
	CHECK(glob("/dev/toy/c*", 0, NULL, &found) == GLOB_NOMATCH);
	CHECK(glob("/etc/passw?", 0, NULL, &found) == 0 && found.gl_pathc == 1 && !(found.gl_flags & GLOB_ALTDIRFUNC));
	globfree(&found);
}

static void streams(char **argv)
{
	(void)argv;
	FILE *node = fopen("/dev/toy/a", "r+e");
	CHECK(node && (fcntl(fileno(node), F_GETFD) & FD_CLOEXEC));
	works(fileno(node));
	CHECK(fclose(node) == 0);
	CHECK((node = fopen("/dev/toy/a", "r")) && fcntl(fileno(node), F_GETFL) == O_RDONLY && fclose(node) == 0);
	CHECK(!fopen("/dev/toy/a", "w") && errno == EBUSY); /* the toy is never truncated */
	CHECK(!fopen("/dev/toy/none", "r") && errno == ENOENT);
}

static void by_descriptor(char **argv)
{
	(void)argv;
	char link[64], text[64] = { 0 };
	struct stat st, at;
	int fd = toy(), queue = ioctl(fd, OPEN_QUEUE, 0L);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	CHECK(readlink(link, text, sizeof(text)) == 10 && strcmp(text, "/dev/toy/a") == 0);
	CHECK(readlink(link, text, 4) == 4);
	CHECK(stat(link, &st) == 0 && fstat(fd, &at) == 0 && st.st_rdev == at.st_rdev && st.st_ino == at.st_ino);
	int again = open(link, O_RDONLY); /* another file of the same node */
	works(again);
	CHECK(fcntl(again, F_GETFL) == O_RDONLY);
	snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)getpid(), again);
	CHECK(readlink(link, text, sizeof(text)) == 10);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", queue);
	FAILS(ENXIO, open(link, O_RDWR));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", open("/sys/devices/toy0/vendor", O_RDONLY));
	ssize_t n = readlink(link, text, sizeof(text));
	CHECK(n > 0 && memcmp(text, "/sys/devices/toy0/vendor", (size_t)n) == 0);
}

static void file_systems(char **argv)
{
	(void)argv;
	struct statfs st;
	CHECK(statfs("/sys/devices/toy0/vendor", &st) == 0 && st.f_type == SYSFS_MAGIC);
	CHECK(fstatfs(open("/sys/bus/toy", O_RDONLY), &st) == 0 && st.f_type == SYSFS_MAGIC);
	CHECK(statfs("/dev/toy", &st) == 0 && st.f_type != SYSFS_MAGIC);
	CHECK(statfs("/proc", &st) == 0 && st.f_type == PROC_SUPER_MAGIC);
	FAILS(ENOENT, statfs("/sys/bus/toy/none", &st));
}

/* By libc's syscall(). */
static void numbers(char **argv)
{
	(void)argv;
	struct stat st;
	struct statx sx;
	char text[64] = { 0 };
	int dev = (int)syscall(SYS_openat, AT_FDCWD, "/dev", O_RDONLY | O_DIRECTORY);
	int fd = (int)syscall(SYS_openat, dev, "toy/a", O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0 && syscall(SYS_ioctl, fd, ECHO, 7L) == 7);
	struct open_how how = { .flags = O_RDONLY };
	CHECK((fd = (int)syscall(SYS_openat2, dev, "toy/a", &how, sizeof(how))) >= 0);
	works(fd);
	CHECK(syscall(SYS_fcntl, fd, F_GETFL) == O_RDONLY);
	FAILS(ENOENT, syscall(SYS_openat2, dev, "toy/none", &how, sizeof(how)));
	FAILS(EINVAL, syscall(SYS_openat2, dev, "toy/a", &how, 7L));
	FAILS(EFAULT, syscall(SYS_openat2, dev, 8L, &how, sizeof(how)));
	CHECK(syscall(SYS_newfstatat, AT_FDCWD, "/dev/toy/b", &st, 0) == 0 && minor(st.st_rdev) == 300);
	CHECK(syscall(SYS_fstat, fd, &st) == 0 && S_ISCHR(st.st_mode));
	CHECK(syscall(SYS_statx, AT_FDCWD, "/dev/toy/b", 0, STATX_BASIC_STATS, &sx) == 0 && sx.stx_rdev_minor == 300);
	CHECK(syscall(SYS_faccessat, dev, "toy/b", R_OK) == 0 && syscall(SYS_faccessat2, dev, "toy/b", R_OK, AT_EACCESS) == 0);
	CHECK(syscall(SYS_readlinkat, AT_FDCWD, "/sys/devices/toy0/bus", text, sizeof(text)) > 0);
	fd = toy();
	CHECK(syscall(SYS_write, fd, "abcd", 4L) == 4 && syscall(SYS_pread64, fd, text, 2L, 2L) == 2 && text[0] == 'c');
	FAILS(ENODEV, syscall(SYS_mmap, 0L, 4096L, PROT_READ, MAP_SHARED, fd, 0L));
	long page = syscall(SYS_mmap, 0L, 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
	CHECK(page != -1 && syscall(SYS_munmap, page, 4096L) == 0);
	CHECK(syscall(SYS_getppid) == getppid());
	FAILS(ENOSYS, syscall(100000L));
}

int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{ "absolute", absolute }, { "relative", relative }, { "patterns", patterns }, { "streams", streams },
		{ "by-descriptor", by_descriptor }, { "file-systems", file_systems }, { "numbers", numbers }, { NULL, NULL },
	};
	return run_scenario(scenarios, argc, argv);
}
