/* Signals in calls, poll, and event fds. */
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>

#include "client.h"

static int shared_fd;
static volatile sig_atomic_t handled;

static void call_in_handler(int signal)
{
	(void)signal;
	int kept = errno;
	works(shared_fd);
	int fd = open("/dev/toy/b", O_RDWR);
	CHECK(fd >= 0 && ioctl(fd, ECHO, 3L) == 3 && close(fd) == 0);
	handled = handled + 1;
	errno = kept;
}

static void tick(int microseconds, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct itimerval every = { { 0, microseconds }, { 0, microseconds } };
	CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &every, NULL) == 0);
}

static void handler_calls(char **argv)
{
	(void)argv;
	shared_fd = toy();
	tick(500, call_in_handler);
	for (int i = 0; i < 3000; i++) {
		uint32_t word = (uint32_t)i;
		CHECK(ioctl(shared_fd, ECHO, (long)i) == i);
		CHECK(ioctl(shared_fd, INCREMENT, &word) == 0 && word == (uint32_t)i + 1);
	}
	CHECK(handled > 20);
	tick(0, call_in_handler);
}

static sigjmp_buf back;

static void jump_out(int signal)
{
	(void)signal;
	handled = handled + 1;
	siglongjmp(back, 1);
}

static void handler_jumps(char **argv)
{
	(void)argv;
	static volatile int i;
	shared_fd = toy();
	sigsetjmp(back, 1);
	tick(700, jump_out);
	for (; i < 5000; i++)
		CHECK(ioctl(shared_fd, ECHO, (long)i) == i);
	tick(0, jump_out);
	CHECK(handled > 20);
	works(shared_fd);
}

static void mask_is_kept(char **argv)
{
	(void)argv;
	sigset_t before, after;
	CHECK(sigprocmask(SIG_BLOCK, NULL, &before) == 0);
	sigaddset(&before, SIGUSR1);
	CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
	works(toy());
	CHECK(sigprocmask(SIG_BLOCK, NULL, &after) == 0);
	for (int i = 1; i < 64; i++)
		CHECK(sigismember(&before, i) == sigismember(&after, i));
}

static void *cancelled(void *fd)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	for (;;)
		works(*(int *)fd);
}

static void cancellation(char **argv)
{
	(void)argv;
	int fd = toy();
	for (int i = 0; i < 20; i++) {
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, cancelled, &fd) == 0);
		usleep((useconds_t)(1000 + i * 77));
		CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
		works(fd);
	}
}

static void poll_states(char **argv)
{
	(void)argv;
	int fd = toy(), queue = ioctl(fd, OPEN_QUEUE, 0L);
	uint64_t record;
	CHECK(poll_now(fd) == (POLLIN | POLLOUT));
	CHECK(poll_now(queue) == 0);
	CHECK(read(queue, &record, 8) == 0);
	CHECK(ioctl(fd, PUSH, 11L) == 1);
	CHECK(poll_now(queue) == POLLIN); /* at once */
	CHECK(ioctl(fd, PUSH, 22L) == 1);
	CHECK(read(queue, &record, 8) == 8 && record == 11);
	CHECK(poll_now(queue) == POLLIN);
	CHECK(read(queue, &record, 8) == 8 && record == 22);
	CHECK(poll_now(queue) == 0);
	CHECK(read(queue, &record, 8) == 0);
	/* More than the kernel would keep for one socket. */
	for (long i = 0; i < 1000; i++)
		CHECK(ioctl(fd, PUSH, i) == 1);
	for (uint64_t i = 0; i < 1000; i++) {
		CHECK(poll_now(queue) == POLLIN);
		CHECK(read(queue, &record, 8) == 8 && record == i);
	}
	CHECK(poll_now(queue) == 0);
	CHECK(poll_now(fd) == (POLLIN | POLLOUT));
}

/* Records that go without having been read. */
static void poll_forgotten(char **argv)
{
	(void)argv;
	int fd = toy(), queue = ioctl(fd, OPEN_QUEUE, 0L), other = ioctl(fd, OPEN_QUEUE, 0L), status;
	uint64_t record;
	for (long i = 1; i < 4; i++) {
		for (long n = 0; n < i * i; n++)
			CHECK(ioctl(fd, PUSH, n) == 2 && poll_now(queue) == POLLIN && poll_now(other) == POLLIN);
		CHECK(ioctl(fd, FORGET) == 0 && poll_now(queue) == 0 && poll_now(other) == 0);
	}
	CHECK(ioctl(fd, PUSH, 7L) == 2 && read(queue, &record, 8) == 8 && record == 7);
	CHECK(poll_now(queue) == 0 && poll_now(other) == POLLIN);
	pid_t child = fork();
	if (child == 0)
		_exit(ioctl(fd, FORGET) == 0 ? 0 : 1);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(ioctl(fd, ECHO, 1L) == 1 && poll_now(other) == 0);
}

static void edge_triggered(char **argv)
{
	(void)argv;
	int fd = toy(), queue = ioctl(fd, OPEN_QUEUE, 0L), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, queue, &event) == 0);
	for (long i = 0; i < 5; i++) {
		CHECK(epoll_wait(epoll, &event, 1, 0) == 0);
		CHECK(ioctl(fd, PUSH, i) == 1);
		CHECK(epoll_wait(epoll, &event, 1, 0) == 1 && event.events == EPOLLIN);
	}
}

/* A poller in one process, a producer in another, a reader in a third. */
static void poll_across_processes(char **argv)
{
	(void)argv;
	int fd = toy(), queue = ioctl(fd, OPEN_QUEUE, 0L);
	pid_t producer = fork();
	if (producer == 0) {
		usleep(50000);
		CHECK(ioctl(fd, PUSH, 5L) == 1);
		_exit(0);
	}
	struct pollfd p = { .fd = queue, .events = POLLIN };
	CHECK(poll(&p, 1, 5000) == 1 && p.revents == POLLIN);
	pid_t reader = fork();
	if (reader == 0) {
		uint64_t record;
		CHECK(read(queue, &record, 8) == 8 && record == 5);
		_exit(0);
	}
	child_passes(reader);
	CHECK(poll_now(queue) == 0);
	child_passes(producer);
}

static void event_fds(char **argv)
{
	(void)argv;
	int fd = toy(), event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), pipes[2];
	uint64_t count;
	CHECK(pipe(pipes) == 0);
	FAILS(EBADF, ioctl(fd, KEEP_EVENT, 555L));
	FAILS(EBADF, ioctl(fd, KEEP_EVENT, -2L));
	FAILS(EINVAL, ioctl(fd, KEEP_EVENT, (long)pipes[1]));
	FAILS(EINVAL, ioctl(fd, KEEP_EVENT, (long)fd));
	CHECK(ioctl(fd, KEEP_EVENT, (long)event) == 0);
	CHECK(poll_now(event) == POLLOUT);
	CHECK(ioctl(fd, SIGNAL_EVENT, 3L) == 0);
	CHECK(read(event, &count, 8) == 8 && count == 3); /* at once */
	count = UINT64_MAX - 1;
	CHECK(write(event, &count, 8) == 8);
	CHECK(ioctl(fd, SIGNAL_EVENT, 1L) == 0); /* a full counter stops nobody */
	CHECK(read(event, &count, 8) == 8 && count == UINT64_MAX - 1);
	/* Closed by its giver, alive in a copy. */
	int copy = dup(event);
	close(event);
	CHECK(ioctl(fd, SIGNAL_EVENT, 1L) == 0 && read(copy, &count, 8) == 8 && count == 1);
	CHECK(ioctl(fd, DROP_EVENT, 0L) == 0);
}

/* Signals come before the next call, and take the count; one that came before the watch counts too. */
static void watched_event(char **arguments)
{
	(void)arguments;
	int fd = toy(), event = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), last;
	uint64_t count;
	CHECK(ioctl(fd, WATCH_EVENT, (long)event) == 0);
	CHECK((last = ioctl(fd, SIGNALS, 0L)) == 1);
	for (int i = 0; i < 100; i++) {
		CHECK(eventfd_write(event, 3) == 0);
		CHECK(ioctl(fd, SIGNALS, 0L) == ++last);
		FAILS(EAGAIN, read(event, &count, sizeof(count)));
	}
	CHECK(ioctl(fd, DROP_EVENT, 0L) == 0);
	CHECK(eventfd_write(event, 1) == 0);
	CHECK(ioctl(fd, SIGNALS, 0L) == last);
}

/* Signals without a call. */
static void signal_quietly(char **arguments)
{
	(void)arguments;
	int fd = toy(), event = eventfd(0, EFD_CLOEXEC);
	CHECK(ioctl(fd, WATCH_EVENT, (long)event) == 0);
	CHECK(eventfd_write(event, 1) == 0);
	CHECK(puts("signalled") >= 0 && fflush(stdout) == 0);
	pause();
}

static void event_after_exec(char **argv)
{
	int event = eventfd(0, 0), fd = open("/dev/toy/a", O_RDWR);
	char numbers[2][16];
	CHECK(ioctl(fd, KEEP_EVENT, (long)event) == 0);
	snprintf(numbers[0], 16, "%d", event);
	snprintf(numbers[1], 16, "%d", fd);
	execl(argv[0], argv[0], "signalled", numbers[0], numbers[1], NULL);
	CHECK(!"exec");
}

static void signalled(char **argv)
{
	int event = atoi(argv[2]), fd = atoi(argv[3]);
	uint64_t count;
	CHECK(ioctl(fd, SIGNAL_EVENT, 1L) == 0);
	CHECK(poll_now(event) == (POLLIN | POLLOUT) && read(event, &count, 8) == 8 && count == 1);
	CHECK(ioctl(fd, DROP_EVENT, 0L) == 0);
}

/* For the test of a signal from outside: waits, and says when it does. */
static void wait_for_event(char **argv)
{
	(void)argv;
	int fd = toy(), event = eventfd(0, 0);
	uint64_t count;
	CHECK(ioctl(fd, KEEP_EVENT, (long)event) == 0);
	puts("waiting");
	fflush(stdout);
	CHECK(read(event, &count, 8) == 8 && count == 1);
	CHECK(ioctl(fd, DROP_EVENT, 0L) == 0);
}

int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{ "handler-calls", handler_calls }, { "handler-jumps", handler_jumps }, { "mask", mask_is_kept },
		{ "cancel", cancellation }, { "poll", poll_states }, { "poll-forgotten", poll_forgotten }, { "edge", edge_triggered },
		{ "poll-across", poll_across_processes }, { "eventfd", event_fds }, { "eventfd-exec", event_after_exec },
		{ "eventfd-watched", watched_event }, { "eventfd-quiet", signal_quietly },
		{ "signalled", signalled }, { "wait", wait_for_event }, { NULL, NULL },
	};
	return run_scenario(scenarios, argc, argv);
}
