/* Opening, closing, copying descriptors; stat; read and write; wild arguments. */
#include <dirent.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include "client.h"

static void simple(char **argv)
{
	(void)argv;
	int lowest = dup(0);
	close(lowest);
	int fd = open("/dev/toy/a", O_RDWR);
	CHECK(fd == lowest);
	works(fd);
	CHECK(open("/dev/toy/b", O_RDWR) == lowest + 1);
	errno = 77;
	CHECK(ioctl(fd, ECHO, 5L) == 5 && errno == 77);
	CHECK(ioctl(fd, FIOCLEX) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && ioctl(fd, FIONCLEX) == 0 && fcntl(fd, F_GETFD) == 0);
	FAILS(ENOTTY, ioctl(fd, 0x1234, 0L));
	FAILS(EBUSY, open("/dev/toy/a", O_RDWR | O_TRUNC));
	FAILS(ENOENT, open("/dev/toy/none", O_RDWR));
	FAILS(ENOTDIR, open("/dev/toy/a", O_RDWR | O_DIRECTORY));
	FAILS(EEXIST, open("/dev/toy/a", O_RDWR | O_CREAT | O_EXCL, 0600));
	CHECK(close(fd) == 0);
	FAILS(EBADF, ioctl(fd, ECHO, 5L));
}

static void ways_to_open(char **argv)
{
	(void)argv;
	int dir = open("/dev/toy", O_RDONLY | O_DIRECTORY), fd;
	CHECK(dir >= 0);
	works(openat(dir, "a", O_RDWR));
	works(openat(AT_FDCWD, "//dev/./toy//a", O_RDWR));
	works(open("/sys/bus/../../dev/toy/a", O_RDWR));
	CHECK(chdir("/dev/toy") == 0);
	works(open("a", O_RDWR));
	works(open("./../toy/b", O_RDWR));
	fd = open("a", O_PATH);
	CHECK(fd >= 0);
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	works(open(link, O_RDWR));
	CHECK((fcntl(open("a", O_RDWR | O_CLOEXEC), F_GETFD) & FD_CLOEXEC) != 0);
	CHECK((fcntl(open("a", O_RDWR), F_GETFD) & FD_CLOEXEC) == 0);
	CHECK((fcntl(open("a", O_RDWR | O_NONBLOCK), F_GETFL) & O_NONBLOCK) != 0);
}

static void copies(char **argv)
{
	(void)argv;
	int fd = toy(), other = dup(fd), third = dup2(fd, 77), fourth = fcntl(fd, F_DUPFD_CLOEXEC, 90);
	CHECK(close(fd) == 0);
	works(other);
	CHECK(close(other) == 0);
	works(third);
	CHECK(close(third) == 0);
	works(fourth);
	CHECK(dup2(0, fourth) == fourth);
	FAILS(ENOTTY, ioctl(fourth, ECHO, 1L));
}

static void stats(char **argv)
{
	(void)argv;
	struct stat by_path, by_fd, at;
	struct statx sx;
	int fd = toy(), path_fd = open("/dev/toy/b", O_PATH), queue = ioctl(fd, OPEN_QUEUE, 0L);
	CHECK(stat("/dev/toy/a", &by_path) == 0);
	CHECK(S_ISCHR(by_path.st_mode) && (by_path.st_mode & 07777) == 0660);
	CHECK(major(by_path.st_rdev) == 240 && minor(by_path.st_rdev) == 7);
	CHECK(fstat(fd, &by_fd) == 0);
	CHECK(by_fd.st_mode == by_path.st_mode && by_fd.st_rdev == by_path.st_rdev);
	CHECK(by_fd.st_ino == by_path.st_ino && by_fd.st_dev == by_path.st_dev);
	CHECK(fstatat(fd, "", &at, AT_EMPTY_PATH) == 0 && at.st_rdev == by_path.st_rdev);
	CHECK(lstat("/dev/toy/b", &at) == 0 && S_ISCHR(at.st_mode) && minor(at.st_rdev) == 300);
	CHECK(fstat(path_fd, &at) == 0 && S_ISCHR(at.st_mode) && minor(at.st_rdev) == 300);
	CHECK(statx(AT_FDCWD, "/dev/toy/a", 0, STATX_BASIC_STATS, &sx) == 0);
	CHECK(S_ISCHR(sx.stx_mode) && sx.stx_rdev_major == 240 && sx.stx_rdev_minor == 7 && sx.stx_ino == by_path.st_ino);
	CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) == 0);
	CHECK(S_ISCHR(sx.stx_mode) && sx.stx_rdev_major == 240 && sx.stx_rdev_minor == 7);
	CHECK(fstat(queue, &at) == 0 && (at.st_mode & S_IFMT) == 0 && (at.st_mode & 0777) == 0600);
	CHECK(access("/dev/toy/a", R_OK | W_OK) == 0);
	FAILS(ENOENT, access("/dev/toy/none", F_OK));
	DIR *dir = opendir("/dev/toy");
	int nodes = 0;
	for (struct dirent *entry; (entry = readdir(dir));)
		nodes += entry->d_type == DT_CHR;
	CHECK(nodes == 2);
}

static void read_write(char **argv)
{
	(void)argv;
	int fd = toy();
	char text[64] = { 0 };
	CHECK(write(fd, "abcdefgh", 8) == 8);
	CHECK(pwrite(fd, "XY", 2, 3) == 2);
	CHECK(read(fd, text, 8) == 8 && memcmp(text, "abcXYfgh", 8) == 0);
	CHECK(pread(fd, text, 4, 60) == 4 && pread(fd, text, 8, 60) == 4 && pread(fd, text, 8, 64) == 0);
	FAILS(ESPIPE, pread(fd, text, 1, 65));
	FAILS(EINVAL, pread(fd, text, 1, -1));
	FAILS(EINVAL, read(fd, text, (size_t)-1));
	FAILS(ESPIPE, lseek(fd, 0, SEEK_SET));
	char a[3], b[5];
	struct iovec v[3] = { { a, 3 }, { NULL, 0 }, { b, 5 } };
	CHECK(preadv(fd, v, 3, 0) == 8 && memcmp(a, "abc", 3) == 0 && memcmp(b, "XYfgh", 5) == 0);
	v[0].iov_base = "123";
	v[2].iov_base = "45678";
	CHECK(pwritev(fd, v, 3, 10) == 8 && pread(fd, text, 8, 10) == 8 && memcmp(text, "12345678", 8) == 0);
	CHECK(writev(fd, v, 1) == 3 && readv(fd, v + 1, 1) == 0);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == ENODEV);
	CHECK(mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, fd, 0) != MAP_FAILED);
}

/* The same by the other names that the functions have, and through vectors with flags. */
static void large_file_names(char **argv)
{
	(void)argv;
	int fd = toy();
	char text[8] = { 0 };
	struct iovec v = { text, 4 };
	CHECK(pwrite64(fd, "abcd", 4, 8) == 4 && pread64(fd, text, 4, 8) == 4 && memcmp(text, "abcd", 4) == 0);
	CHECK(preadv64(fd, &v, 1, 9) == 4 && text[0] == 'b');
	CHECK(pwritev64(fd, &v, 1, 0) == 4 && read(fd, text, 1) == 1 && text[0] == 'b');
	CHECK(preadv2(fd, &v, 1, 8, 0) == 4 && text[0] == 'a');
	CHECK(preadv2(fd, &v, 1, -1, 0) == 4 && text[0] == 'b');
	CHECK(pwritev2(fd, &v, 1, 20, 0) == 4 && pread(fd, text, 1, 20) == 1 && text[0] == 'b');
	FAILS(EOPNOTSUPP, preadv2(fd, &v, 1, 0, RWF_HIPRI));
	FAILS(EINVAL, preadv64(fd, &v, 1, -2));
	int real = open("/etc/passwd", O_RDONLY);
	CHECK(pread64(real, text, 4, 0) == 4 && memcmp(text, "root", 4) == 0 && preadv2(real, &v, 1, 0, 0) == 4);
}

static void *mapped(int fd, int protection, int flags, size_t length, off_t offset)
{
	return mmap(NULL, length, protection, flags, fd, offset);
}

#define NO_MAP(error, ...) CHECK((errno = 0, mapped(__VA_ARGS__)) == MAP_FAILED && errno == (error))

static void modes(char **argv)
{
	(void)argv;
	char byte = 'x';
	int reader = open("/dev/toy/a", O_RDONLY), writer = open("/dev/toy/a", O_WRONLY), both = toy(), neither = open("/dev/toy/a", 3);
	int queue = ioctl(both, OPEN_QUEUE, (long)O_NONBLOCK);
	CHECK(read(reader, &byte, 1) == 1 && pwrite(writer, &byte, 1, 3) == 1);
	FAILS(EBADF, write(reader, &byte, 1));
	FAILS(EBADF, pread(writer, &byte, 1, 0));
	FAILS(EBADF, read(neither, &byte, 1));
	FAILS(EBADF, write(neither, &byte, 1));
	works(neither);
	CHECK(fcntl(reader, F_GETFL) == O_RDONLY && fcntl(writer, F_GETFL) == O_WRONLY);
	CHECK(fcntl(dup(both), F_GETFL) == O_RDWR && fcntl(queue, F_GETFL) == (O_RDWR | O_NONBLOCK));
	CHECK(fcntl(reader, F_SETFL, O_NONBLOCK | O_RDWR) == 0 && fcntl(reader, F_GETFL) == (O_RDONLY | O_NONBLOCK));
	/* The toy itself answers ENODEV, after all that does not depend on it. */
	NO_MAP(EACCES, reader, PROT_READ | PROT_WRITE, MAP_SHARED, 4096, 0);
	NO_MAP(ENODEV, reader, PROT_READ | PROT_WRITE, MAP_PRIVATE, 4096, 0);
	NO_MAP(ENODEV, reader, PROT_READ, MAP_SHARED, 4096, 0);
	NO_MAP(EACCES, writer, PROT_WRITE, MAP_SHARED, 4096, 0);
	NO_MAP(EACCES, writer, PROT_READ, MAP_PRIVATE, 4096, 0);
	NO_MAP(EINVAL, both, PROT_READ, MAP_SHARED, 0, 0);
	NO_MAP(EINVAL, both, PROT_READ, MAP_SHARED, 4096, 100);
	NO_MAP(EINVAL, both, PROT_READ, 0, 4096, 0);
}

/* Hides from the compiler what the pointer is. */
static void *wild(uintptr_t address)
{
	__asm__ volatile("" : "+r"(address));
	return (void *)address;
}

static void wild_pointers(char **argv)
{
	(void)argv;
	struct stat st;
	char text[16];
	int fd = toy();
	FAILS(EFAULT, open(wild(1), O_RDONLY));
	FAILS(EFAULT, open(wild(~0UL), O_RDONLY));
	FAILS(EFAULT, stat(wild(8), &st));
	FAILS(EFAULT, stat("/dev/toy/a", wild(8)));
	FAILS(EFAULT, access(wild(0), F_OK));
	FAILS(EFAULT, readlink("/sys/bus/toy/devices/0000:01:00.0", wild(16), 100));
	FAILS(EFAULT, read(fd, wild(16), 4));
	FAILS(EFAULT, write(fd, wild(1UL << 63), 4));
	FAILS(EFAULT, readv(fd, wild(1), 1));
	FAILS(EINVAL, readv(fd, wild(1), -1));
	FAILS(EFAULT, ioctl(fd, INCREMENT, wild(1)));
	FAILS(EFAULT, ioctl(fd, INCREMENT, wild(~0UL)));
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
	CHECK(ioctl(fd, INCREMENT, pages + 4092) == 0 && pages[4092] == 1);
	FAILS(EFAULT, ioctl(fd, INCREMENT, pages + 4093));
	FAILS(EFAULT, ioctl(fd, INCREMENT, pages + 4096));
	strcpy(pages + 4096 - 11, "/dev/toy/a");
	works(open(pages + 4096 - 11, O_RDWR));
	memset(pages, 'a', 4096);
	FAILS(EFAULT, open(pages + 4000, O_RDONLY));
	CHECK(mprotect(pages, 4096, PROT_READ) == 0);
	FAILS(EFAULT, ioctl(fd, INCREMENT, pages));
	CHECK(pages[0] == 'a');
	FAILS(EBADF, ioctl(-1, ECHO, 1L));
	FAILS(EBADF, ioctl(1 << 30, ECHO, 1L));
	FAILS(EFAULT, fstat(fd, wild(8)));
	CHECK(pread(fd, text, 0, 0) == 0);
}

static void pinnable(char **argv)
{
	(void)argv;
	int fd = toy();
	char *pages = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(mprotect(pages + 4096, 4096, PROT_READ) == 0 && mprotect(pages + 3 * 4096, 4096, PROT_NONE) == 0);
	uint64_t whole[] = { (uintptr_t)pages, 3 * 4096, 0 }, written[] = { (uintptr_t)pages, 3 * 4096, 1 };
	uint64_t first[] = { (uintptr_t)pages, 4096, 1 }, none[] = { (uintptr_t)pages, 4 * 4096, 0 };
	uint64_t nothing[] = { 4096, 4096, 0 };
	CHECK(ioctl(fd, PINNABLE, whole) == 1);
	CHECK(ioctl(fd, PINNABLE, written) == 0);
	CHECK(ioctl(fd, PINNABLE, first) == 1);
	CHECK(ioctl(fd, PINNABLE, none) == 0);
	CHECK(ioctl(fd, PINNABLE, nothing) == 0);
	CHECK(munmap(pages + 2 * 4096, 4096) == 0);
	CHECK(ioctl(fd, PINNABLE, whole) == 0);
}

static void handlers(char **argv)
{
	(void)argv;
	int fd = toy(), queue = ioctl(fd, OPEN_QUEUE, 0L), cloexec = ioctl(fd, OPEN_QUEUE, (long)O_CLOEXEC);
	CHECK(queue > fd && cloexec > queue);
	CHECK((fcntl(queue, F_GETFD) & FD_CLOEXEC) == 0 && (fcntl(cloexec, F_GETFD) & FD_CLOEXEC) != 0);
	CHECK(ioctl(fd, KIND_OF, (long)fd) == 0);
	CHECK(ioctl(fd, KIND_OF, (long)dup(queue)) == 1);
	FAILS(EPERM, ioctl(fd, KIND_OF, 0L)); /* the toy answers -1: not ours */
	FAILS(EPERM, ioctl(fd, KIND_OF, 555L));
	FAILS(EPERM, ioctl(fd, KIND_OF, -1L));
	CHECK(ioctl(fd, LIVE_QUEUES, 0L) == 2);
	close(cloexec);
	CHECK(ioctl(fd, LIVE_QUEUES, 0L) == 1); /* a close is over before the next call */
	FAILS(ENOSPC, ioctl(fd, OPEN_THEN_FAIL, 0L));
	CHECK(ioctl(fd, LIVE_QUEUES, 0L) == 1);
	int next = dup(0);
	CHECK(next == cloexec);
	close(next);
	struct rlimit limit = { (rlim_t)next, (rlim_t)next };
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	FAILS(EMFILE, ioctl(fd, OPEN_QUEUE, 0L));
	FAILS(EMFILE, open("/dev/toy/a", O_RDWR));
	FAILS(EIO, ioctl(fd, BREAK, 0L));
	works(fd);
}

int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{ "simple", simple }, { "ways-to-open", ways_to_open }, { "copies", copies }, { "stats", stats },
		{ "large", large_file_names }, { "modes", modes }, { "read-write", read_write }, { "wild", wild_pointers }, { "pinnable", pinnable },
		{ "handlers", handlers }, { NULL, NULL },
	};
	return run_scenario(scenarios, argc, argv);
}
