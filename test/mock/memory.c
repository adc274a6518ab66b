/* Shared memory, MAP_FILE and the counts of pinned pages, as a program sees them on the mock machine. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                     \
	do {                                                                                 \
		if (!(condition)) {                                                          \
			printf("line %d: %s, errno %d\n", __LINE__, #condition, errno);      \
			exit(1);                                                             \
		}                                                                            \
	} while (0)

#define PAGE 4096UL
#define IOVA (1UL << 24)
#define COMMAND(nr) _IO(';', nr)

struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, fd; uint64_t start, length, iova; };
struct test { uint32_t size, op, id, reserved; union { uint32_t words[14]; uint64_t longs[7]; }; };

static int iommufd;
static uint32_t ioas, hwpt;

static int test(uint32_t op, uint32_t id, struct test *t)
{
	t->size = sizeof(*t);
	t->op = op;
	t->id = id;
	return ioctl(iommufd, COMMAND(0xa0), t);
}

static void set_up(void)
{
	struct alloc a = { .size = sizeof(a) };
	struct test t = { 0 };
	iommufd = open("/dev/iommu", O_RDWR);
	CHECK(iommufd >= 0 && ioctl(iommufd, COMMAND(0x81), &a) == 0);
	ioas = a.id;
	CHECK(test(2, ioas, &t) == 0);
	hwpt = t.words[1];
}

static int map_file(int fd, uint64_t length, uint64_t iova)
{
	struct map m = { sizeof(m), 7, ioas, (uint32_t)fd, 0, length, iova };
	return ioctl(iommufd, COMMAND(0x8f), &m);
}

static int map_memory(const void *at, uint64_t length, uint64_t iova)
{
	struct map m = { sizeof(m), 7, ioas, 0, (uintptr_t)at, length, iova };
	return ioctl(iommufd, COMMAND(0x85), &m);
}

/* MD_CHECK_MAP: does `iova` lead to the frames that `at` has? */
static int leads_to(uint64_t iova, const void *at)
{
	struct test t = { .longs = { iova, PAGE, (uintptr_t)at } };
	return test(3, hwpt, &t) == 0;
}

static long status(const char *path, const char *field)
{
	char line[256];
	long value = -1;
	FILE *f = fopen(path, "r");
	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, field, strlen(field)) == 0)
			sscanf(line + strlen(field), ": %ld kB", &value);
	fclose(f);
	return value;
}

static void same_frames(int file, int more)
{
	int fd = memfd_create("file", more);
	size_t size = more ? 2UL << 20 : 4 * PAGE;
	CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	char *one = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (more && one == MAP_FAILED)
		return; /* no huge pages are configured */
	char *two = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(one != MAP_FAILED && two != MAP_FAILED);
	CHECK(file ? map_file(fd, 2 * PAGE, IOVA) == 0 : map_memory(one, 2 * PAGE, IOVA) == 0);
	close(fd);
	CHECK(leads_to(IOVA, one) && leads_to(IOVA + PAGE, two + PAGE) && !leads_to(IOVA, two + PAGE));
}

static void counts(void)
{
	char parent[64];
	snprintf(parent, sizeof(parent), "/proc/%d/status", getpid());
	int fd = memfd_create("file", 0);
	CHECK(ftruncate(fd, 8 * PAGE) == 0 && status("/proc/self/status", "VmPin") == 0);
	CHECK(map_file(fd, 3 * PAGE, IOVA) == 0);
	CHECK(status("/proc/self/status", "VmPin") == 12 && status(parent, "VmPin") == 12);
	if (fork() == 0) {
		CHECK(status(parent, "VmPin") == 12 && status("/proc/self/status", "VmPin") == 0);
		int raw = open(parent, O_RDONLY | O_CLOEXEC);
		char text[8192];
		ssize_t n = read(raw, text, sizeof(text) - 1);
		CHECK(raw >= 0 && n > 0 && fcntl(raw, F_GETFD) == FD_CLOEXEC && read(raw, text, 1) == 0);
		text[n] = 0;
		CHECK(strstr(text, "\nVmPin:\t      12 kB\n") && strstr(text, "\nnonvoluntary_ctxt_switches:"));
		exit(0);
	}
	int result;
	CHECK(wait(&result) > 0 && result == 0);
	close(iommufd);
	CHECK(status("/proc/self/status", "VmPin") == 0);
}

/* A child maps, and ends. What it shared goes on; what it had alone is RAM without contents. */
static void mapper_gone(void)
{
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct test create = { 0 };
	int result;
	char seen[8];
	if (fork() == 0) {
		strcpy(shared, "kept");
		strcpy(private, "lost");
		CHECK(map_memory(shared, PAGE, IOVA) == 0 && map_memory(private, PAGE, IOVA + PAGE) == 0);
		exit(0);
	}
	CHECK(wait(&result) > 0 && result == 0);
	CHECK(test(5, ioas, &create) == 0);
	uint32_t access = create.words[0];
	struct test read_shared = { .longs = { IOVA, 5, (uintptr_t)seen } };
	struct test read_private = { .longs = { IOVA + PAGE, 5, (uintptr_t)seen } };
	CHECK(test(8, access, &read_shared) == 0 && memcmp(seen, "kept", 5) == 0);
	CHECK(test(8, access, &read_private) == 0 && memcmp(seen, "\0\0\0\0", 5) == 0);
	CHECK(leads_to(IOVA, shared) && !leads_to(IOVA + PAGE, private));
}

static int access_memory(uint32_t access, uint64_t iova, void *at, uint64_t length, int write)
{
	struct test t = { .longs = { iova, length, (uintptr_t)at, (uint64_t)write } };
	return test(8, access, &t);
}

/* A file that is cut short under its mapping: devices find memory there still, though not what was in it. */
static void cut(void)
{
	int fd = memfd_create("file", 0);
	struct test create = { 0 };
	char seen[8] = "before";
	CHECK(ftruncate(fd, 8 * PAGE) == 0 && map_file(fd, 8 * PAGE, IOVA) == 0 && test(5, ioas, &create) == 0);
	uint32_t access = create.words[0];
	CHECK(access_memory(access, IOVA + 5 * PAGE - 4, seen, 7, 1) == 0);
	CHECK(pread(fd, seen, 7, 5 * PAGE - 4) == 7 && memcmp(seen, "before", 7) == 0);
	CHECK(ftruncate(fd, 5 * PAGE) == 0);
	CHECK(access_memory(access, IOVA + 5 * PAGE - 4, seen, 7, 0) == 0 && memcmp(seen, "befo\0\0\0", 7) == 0);
	CHECK(ftruncate(fd, 0) == 0);
	for (int page = 7; page >= 0; page--)
		CHECK(access_memory(access, IOVA + (uint64_t)page * PAGE, seen, 7, 0) == 0 && memcmp(seen, "\0\0\0\0\0\0", 7) == 0);
	CHECK(access_memory(access, IOVA, "after", 6, 1) == 0);
	CHECK(access_memory(access, IOVA, seen, 6, 0) == 0 && strcmp(seen, "after") == 0);
	/* Sealed against what we would need to map it, a file is reached another way. */
	int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
	CHECK(ftruncate(sealed, PAGE) == 0 && write(sealed, "sealed", 6) == 6);
	CHECK(fcntl(sealed, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
	struct map m = { sizeof(m), 5, ioas, (uint32_t)sealed, 0, PAGE, 2 * IOVA };
	CHECK(ioctl(iommufd, COMMAND(0x8f), &m) == 0);
	CHECK(access_memory(access, 2 * IOVA, seen, 6, 0) == 0 && memcmp(seen, "sealed", 6) == 0);
}

/* Without CAP_IPC_LOCK, RLIMIT_MEMLOCK holds. */
static void limit(void)
{
	struct { uint32_t version; int pid; } header = { 0x20080522, 0 };
	struct { uint32_t effective, permitted, inheritable; } sets[2] = { { 0 } };
	struct rlimit four = { 4 * PAGE, 4 * PAGE };
	char *at = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(syscall(SYS_capget, &header, sets) == 0);
	sets[0].effective &= ~(1U << 14);
	CHECK(syscall(SYS_capset, &header, sets) == 0 && setrlimit(RLIMIT_MEMLOCK, &four) == 0);
	CHECK(map_memory(at, 3 * PAGE, IOVA) == 0);
	CHECK(map_memory(at, 2 * PAGE, IOVA + 8 * PAGE) == -1 && errno == ENOMEM);
	CHECK(map_memory(at, PAGE, IOVA + 8 * PAGE) == 0);
	CHECK(status("/proc/self/status", "VmPin") == 16);
}

int main(int count, char **arguments)
{
	const char *scenario = count > 1 ? arguments[1] : "";
	set_up();
	if (strcmp(scenario, "address") == 0)
		same_frames(0, 0);
	else if (strcmp(scenario, "file") == 0)
		same_frames(1, 0);
	else if (strcmp(scenario, "hugetlb") == 0)
		same_frames(1, MFD_HUGETLB);
	else if (strcmp(scenario, "counts") == 0)
		counts();
	else if (strcmp(scenario, "mapper-gone") == 0)
		mapper_gone();
	else if (strcmp(scenario, "cut") == 0)
		cut();
	else if (strcmp(scenario, "limit") == 0)
		limit();
	else
		return 2;
	return 0;
}
