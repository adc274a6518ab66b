/* Handles across processes: fork, vfork, exec, SCM_RIGHTS, threads, and a program that closes what it does not know. */
#include <pthread.h>
#include <spawn.h>
#include <sys/syscall.h>

#include "client.h"

extern char **environ;

static void forked(char **argv)
{
	(void)argv;
	int fd = toy();
	works(fd);
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();
		if (child == 0) {
			works(fd);
			works(toy());
			/* A child of the child, which outlives it. */
			if (fork() == 0) {
				usleep(20000);
				works(fd);
				_exit(0);
			}
			_exit(0);
		}
		works(fd);
		child_passes(child);
		works(fd);
	}
	usleep(40000);
}

/* The memory that a call names is the caller's, not that of the process which opened the file. */
static void own_memory(char **argv)
{
	(void)argv;
	int fd = toy();
	uint32_t word = 10;
	CHECK(ioctl(fd, INCREMENT, &word) == 0 && word == 11);
	pid_t child = fork();
	if (child == 0) {
		word = 20;
		CHECK(ioctl(fd, INCREMENT, &word) == 0 && word == 21);
		_exit(0);
	}
	child_passes(child);
	CHECK(word == 11);
}

static void raw_fork(char **argv)
{
	(void)argv;
	int fd = toy();
	uint32_t word = 5;
	works(fd);
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* no handler of libc runs */
	if (child == 0) {
		CHECK(ioctl(fd, INCREMENT, &word) == 0 && word == 6);
		works(fd);
		_exit(0);
	}
	works(fd);
	child_passes(child);
	CHECK(word == 5);
	works(fd);
}

static void vforked(char **argv)
{
	int fd = open("/dev/toy/a", O_RDWR);
	char number[16];
	snprintf(number, sizeof(number), "%d", fd);
	for (int i = 0; i < 5; i++) {
		pid_t child = vfork();
		if (child == 0) {
			if (ioctl(fd, ECHO, 8L) != 8)
				_exit(3);
			execl(argv[0], argv[0], "use", number, NULL);
			_exit(4);
		}
		works(fd);
		child_passes(child);
	}
	/* A parent that has made no call when its vfork child does. */
	pid_t child = vfork();
	if (child == 0)
		_exit(ioctl(fd, ECHO, 8L) != 8);
	works(fd);
	child_passes(child);
}

static void use(char **argv)
{
	works(atoi(argv[2]));
}

static void must_be_closed(char **argv)
{
	FAILS(EBADF, ioctl(atoi(argv[2]), ECHO, 1L));
}

static void executed(char **argv)
{
	int fd = open("/dev/toy/a", O_RDWR), cloexec = toy();
	char number[16], closed[16];
	pid_t child;
	snprintf(number, sizeof(number), "%d", fd);
	snprintf(closed, sizeof(closed), "%d", cloexec);
	works(fd);
	CHECK(posix_spawn(&child, argv[0], NULL, NULL, (char *[]){ argv[0], "use", number, NULL }, environ) == 0);
	child_passes(child);
	CHECK(posix_spawn(&child, argv[0], NULL, NULL, (char *[]){ argv[0], "closed", closed, NULL }, environ) == 0);
	child_passes(child);
	execl(argv[0], argv[0], "use", number, NULL);
	CHECK(!"exec");
}

static void send_fd(int over, int fd)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	CHECK(sendmsg(over, &m, 0) == 1);
}

static int receive_fd(int over)
{
	char space[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	int fd;
	CHECK(recvmsg(over, &m, 0) == 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static void passed_on(char **argv)
{
	(void)argv;
	int pair[2], to_exec[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, to_exec) == 0);
	pid_t child = fork(); /* before this process has any handle */
	if (child == 0) {
		int fd = receive_fd(pair[1]);
		works(fd);
		CHECK(ioctl(fd, KIND_OF, (long)fd) == 0);
		struct stat st;
		CHECK(fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
		dup2(to_exec[1], 50);
		execl(argv[0], argv[0], "receive", "50", NULL);
		_exit(4);
	}
	int fd = toy();
	send_fd(pair[0], fd);
	send_fd(to_exec[0], fd);
	close(fd);
	child_passes(child);
	/* In flight when the last process that has it dies: the kernel closes it. */
	fd = toy();
	send_fd(pair[1], fd);
}

static void receive(char **argv)
{
	works(receive_fd(atoi(argv[2])));
}

static void *hammer(void *fd)
{
	for (int i = 0; i < 200; i++) {
		uint32_t word = (uint32_t)i;
		CHECK(ioctl(*(int *)fd, ECHO, (long)i) == i);
		CHECK(ioctl(*(int *)fd, INCREMENT, &word) == 0 && word == (uint32_t)i + 1);
		if (i % 20 == 0) {
			int mine = toy(), queue;
			works(mine);
			CHECK((queue = ioctl(mine, OPEN_QUEUE, 0L)) > 0);
			close(queue);
			close(mine);
		}
	}
	return NULL;
}

static int open_descriptors(void)
{
	int count = 0;
	for (int i = 0; i < 2000; i++)
		count += fcntl(i, F_GETFD) >= 0;
	return count;
}

static void threads(char **argv)
{
	(void)argv;
	pthread_t thread[16];
	int fd = toy(), before = open_descriptors();
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 16; i++)
			CHECK(pthread_create(&thread[i], NULL, hammer, &fd) == 0);
		pid_t child = fork(); /* in the middle of their calls */
		if (child == 0) {
			works(fd);
			_exit(0);
		}
		for (int i = 0; i < 16; i++)
			CHECK(pthread_join(thread[i], NULL) == 0);
		child_passes(child);
	}
	/* Connections of threads that are gone are gone too: there is the main thread's, if that. */
	CHECK(open_descriptors() <= before + 1);
}

static pthread_barrier_t all_connected, end;

static void *connect_and_wait(void *fd)
{
	works(*(int *)fd);
	pthread_barrier_wait(&all_connected);
	pthread_barrier_wait(&end);
	return NULL;
}

#define CONNECTED 3

/* With CONNECTED threads besides this one connected to the server, until finish(). */
static void connect_threads(pthread_t *threads, int *fd)
{
	works(*fd);
	CHECK(pthread_barrier_init(&all_connected, NULL, CONNECTED + 1) == 0 && pthread_barrier_init(&end, NULL, CONNECTED + 1) == 0);
	for (int i = 0; i < CONNECTED; i++)
		CHECK(pthread_create(&threads[i], NULL, connect_and_wait, fd) == 0);
	pthread_barrier_wait(&all_connected);
}

static void finish(pthread_t *threads)
{
	pthread_barrier_wait(&end);
	for (int i = 0; i < CONNECTED; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void inherits_no_connection(char **argv)
{
	(void)argv;
	pthread_t threads[CONNECTED];
	int fd = toy();
	connect_threads(threads, &fd);
	int before = open_descriptors();
	pid_t child = fork();
	if (child == 0) {
		CHECK(open_descriptors() == before - CONNECTED - 1);
		works(fd);
		CHECK(open_descriptors() == before - CONNECTED);
		_exit(0);
	}
	child_passes(child);
	CHECK(open_descriptors() == before);
	finish(threads);
}

/* For the test that looks at the server meanwhile: says when it is connected, and goes on when it is told. */
static void connected(char **argv)
{
	(void)argv;
	pthread_t threads[CONNECTED];
	int fd = toy();
	connect_threads(threads, &fd);
	puts("connected");
	fflush(stdout);
	CHECK(getchar() == '\n');
	finish(threads);
}

static void connected_after_exec(char **argv)
{
	works(toy());
	execl(argv[0], argv[0], "connected", NULL);
	CHECK(!"exec");
}

static void one_slow_call_stops_nobody_else(char **argv)
{
	(void)argv;
	int fd = toy();
	pid_t child = fork();
	if (child == 0) {
		CHECK(ioctl(fd, SLOW, 400L) == 400);
		_exit(0);
	}
	usleep(50000);
	for (int i = 0; i < 50; i++)
		works(fd);
	CHECK(waitpid(child, NULL, WNOHANG) == 0);
	child_passes(child);
}

static void closed_while_in_use(char **argv)
{
	(void)argv;
	int fd = toy();
	pid_t child = fork();
	if (child == 0) {
		pid_t slow = fork();
		if (slow == 0) {
			CHECK(ioctl(fd, SLOW, 100L) == 100);
			_exit(0);
		}
		child_passes(slow);
		_exit(0);
	}
	close(fd);
	child_passes(child);
}

static void killed(char **argv)
{
	(void)argv;
	for (int i = 0; i < 30; i++) {
		pid_t child = fork();
		if (child == 0) {
			for (;;) {
				int fd = toy(), queue = ioctl(fd, OPEN_QUEUE, 0L);
				works(fd);
				close(queue);
				close(fd);
			}
		}
		usleep((useconds_t)(2000 + i * 377));
		CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
	}
	works(toy());
}

static void killed_in_a_slow_call(char **argv)
{
	(void)argv;
	int fd = toy();
	pid_t child = fork();
	if (child == 0)
		ioctl(fd, SLOW, 300L);
	usleep(100000);
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
	works(fd);
}

static void closes_everything(char **argv)
{
	(void)argv;
	int fd = toy();
	works(fd);
	CHECK(dup2(fd, 5) == 5);
	for (int i = 6; i < 2000; i++)
		close(i);
	CHECK(ioctl(5, ECHO, 9L) == 9);
	/* Somebody else's descriptor where our connection was, wherever that is. */
	for (int i = 6; i < 1020; i++)
		if (fcntl(i, F_GETFD) < 0)
			CHECK(dup2(1, i) == i);
		else
			CHECK(dup2(1, i) == i);
	CHECK(ioctl(5, ECHO, 9L) == 9);
	for (int i = 6; i < 1020; i++)
		close(i);
	int pair[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	for (int i = 900; i < 1020; i++)
		CHECK(dup2(pair[0], i) == i);
	CHECK(ioctl(5, ECHO, 9L) == 9);
	char byte;
	CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{ "fork", forked }, { "own-memory", own_memory }, { "raw-fork", raw_fork }, { "vfork", vforked },
		{ "exec", executed }, { "use", use }, { "closed", must_be_closed }, { "scm-rights", passed_on },
		{ "receive", receive }, { "threads", threads }, { "slow", one_slow_call_stops_nobody_else },
		{ "closed-while-in-use", closed_while_in_use }, { "killed", killed },
		{ "killed-in-call", killed_in_a_slow_call }, { "closes-everything", closes_everything },
		{ "no-connection", inherits_no_connection }, { "connected", connected },
		{ "connected-after-exec", connected_after_exec }, { NULL, NULL },
	};
	return run_scenario(scenarios, argc, argv);
}
