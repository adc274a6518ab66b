/* What the test programs share: the commands of the toy device (machine.ts), and checks that say what they saw. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ECHO 0x4001
#define INCREMENT 0x4002
#define OPEN_QUEUE 0x4003
#define SLOW 0x4004
#define KEEP_EVENT 0x4005
#define SIGNAL_EVENT 0x4006
#define DROP_EVENT 0x4007
#define KIND_OF 0x4008
#define PUSH 0x4009
#define BREAK 0x400a
#define LIVE_QUEUES 0x400b
#define OPEN_THEN_FAIL 0x400c
#define PINNABLE 0x400d
#define WATCH_EVENT 0x4010
#define SIGNALS 0x4011
#define FORGET 0x4012

#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: %s (errno %d %s)\n", __FILE__, __LINE__, #condition, \
				errno, strerror(errno));                                          \
			_exit(1);                                                                 \
		}                                                                                 \
	} while (0)

#define FAILS(error, call) CHECK((errno = 0, (call) == -1) && errno == (error))

static inline int toy(void)
{
	int fd = open("/dev/toy/a", O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

static inline void works(int fd)
{
	CHECK(ioctl(fd, ECHO, 1234L) == 1234);
}

static inline int poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	CHECK(poll(&p, 1, 0) >= 0);
	return p.revents;
}

static inline void child_passes(pid_t child)
{
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct scenario {
	const char *name;
	void (*run)(char **arguments);
};

static inline int run_scenario(const struct scenario *scenarios, int argc, char **argv)
{
	for (; argc > 1 && scenarios->name; scenarios++)
		if (strcmp(scenarios->name, argv[1]) == 0) {
			scenarios->run(argv);
			return 0;
		}
	fprintf(stderr, "no such scenario\n");
	return 2;
}
