/* Talks to the server by itself, wrongly. Run without the shim: arguments are the configuration file and a scenario. */
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/un.h>

#include "../../shim/protocol.h"
#include "client.h"

static char calls[128], keeper[128], handles[128];
static struct request hello = { .op = OP_HELLO, .word = PROTOCOL_VERSION };

static void read_config(const char *path)
{
	char line[512], secret[64];
	int server;
	FILE *file = fopen(path, "r");
	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "calls %127s", calls);
		sscanf(line, "keeper %127s", keeper);
		sscanf(line, "handles %127s", handles);
		if (sscanf(line, "server %d", &server) == 1)
			prctl(PR_SET_PTRACER, server, 0, 0, 0);
		if (sscanf(line, "secret %63s", secret) == 1)
			for (int i = 0; i < 16; i++)
				sscanf(secret + 2 * i, "%2hhx", &hello.token.random[i]);
	}
	fclose(file);
}

static int connect_from(const char *name, const char *own)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (own) {
		strcpy(a.sun_path + 1, own);
		CHECK(bind(fd, (void *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(own))) == 0);
		memset(a.sun_path, 0, sizeof(a.sun_path));
	}
	strcpy(a.sun_path + 1, name);
	CHECK(connect(fd, (void *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) == 0);
	return fd;
}

static void put(int fd, const struct request *request)
{
	CHECK(send(fd, request, sizeof(*request), MSG_NOSIGNAL) == sizeof(*request));
}

static struct reply get(int fd)
{
	struct reply reply;
	CHECK(recv(fd, &reply, sizeof(reply), MSG_WAITALL) == sizeof(reply));
	return reply;
}

/* The server has closed it, with or without an answer before. */
static void is_closed(int fd)
{
	struct reply reply;
	ssize_t n;
	while ((n = recv(fd, &reply, sizeof(reply), 0)) > 0)
		;
	CHECK(n == 0 || errno == ECONNRESET);
	close(fd);
}

static struct reply shown;

static int greet(pid_t pid, const void *address)
{
	int fd = connect_from(calls, NULL);
	hello.a = (uint64_t)pid;
	hello.b = (uintptr_t)address;
	put(fd, &hello);
	shown = get(fd);
	CHECK(shown.kind == NONCE);
	put(fd, &(struct request){ .op = OP_PROVE });
	return fd;
}

static int greeted(void)
{
	int fd = greet(getpid(), shown.token.random);
	struct reply reply = get(fd);
	CHECK(reply.kind == RESULT && reply.error == 0);
	return fd;
}

static void false_claims(char **argv)
{
	(void)argv;
	static char elsewhere[16];
	is_closed(greet(getpid(), elsewhere));
	is_closed(greet(getppid(), shown.token.random));
	is_closed(greet(1 << 21, shown.token.random));
	is_closed(greet(0, shown.token.random));
	is_closed(greet(-1, shown.token.random));
	is_closed(greet(getpid(), (void *)~0UL));
	int fd = connect_from(calls, NULL);
	struct request wrong = hello;
	wrong.token.random[3] ^= 1;
	put(fd, &wrong);
	is_closed(fd);
	fd = connect_from(calls, NULL);
	put(fd, &(struct request){ .op = OP_PROVE });
	is_closed(fd);
	close(greeted());
}

static void out_of_turn(char **argv)
{
	(void)argv;
	int fd = greeted();
	put(fd, &(struct request){ .op = OP_DONE });
	is_closed(fd);
	put(fd = greeted(), &hello);
	is_closed(fd);
	put(fd = greeted(), &(struct request){ .op = 99 });
	is_closed(fd);
	/* A call while one is under way. */
	fd = greeted();
	put(fd, &(struct request){ .op = OP_OPEN });
	put(fd, &(struct request){ .op = OP_OPEN });
	is_closed(fd);
	/* An open whose descriptor is never made, is something else, or does not exist. */
	fd = greeted();
	put(fd, &(struct request){ .op = OP_OPEN });
	CHECK(get(fd).kind == ASK_MAKE);
	close(fd);
	long answers[] = { fd, 0, 1000, -5, -1000000, 1L << 40 };
	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		fd = greeted();
		put(fd, &(struct request){ .op = OP_OPEN });
		CHECK(get(fd).kind == ASK_MAKE);
		put(fd, &(struct request){ .op = OP_DONE, .a = (uint64_t)answers[i] });
		struct reply reply = get(fd);
		CHECK(reply.kind == RESULT && reply.error > 0);
		close(fd);
	}
	fd = greeted();
	put(fd, &(struct request){ .op = OP_OPEN, .word = 77 });
	CHECK(get(fd).error == ENXIO);
	put(fd, &(struct request){ .op = OP_IOCTL, .token = { 0, 1, { 0 } } });
	CHECK(get(fd).error == EBADF);
	put(fd, &(struct request){ .op = OP_IOCTL, .token = { ~0U, 1, { 0 } } });
	CHECK(get(fd).error == EBADF);
}

static void random_frames(char **argv)
{
	srand((unsigned)atoi(argv[3]));
	for (int i = 0; i < 200; i++) {
		int fd = rand() % 4 ? greeted() : connect_from(calls, NULL);
		struct request r;
		for (size_t j = 0; j < sizeof(r); j++)
			((unsigned char *)&r)[j] = (unsigned char)rand();
		r.op = (uint32_t)(rand() % 10);
		for (int n = rand() % 5; n >= 0; n--)
			if (send(fd, &r, n ? sizeof(r) : (size_t)rand() % sizeof(r), MSG_NOSIGNAL) < 0)
				break;
		close(fd);
	}
}

/* Half of everything that one sends to the keeper. */
static void keeper_junk(char **argv)
{
	(void)argv;
	char name[128];
	int kept[64];
	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "%s%048x", handles, i);
		kept[i] = connect_from(keeper, i % 2 ? name : NULL);
		if (i % 3 == 0)
			CHECK(send(kept[i], name, (size_t)i, MSG_NOSIGNAL) == i);
	}
	for (int i = 0; i < 3000; i++)
		close(connect_from(keeper, NULL));
	snprintf(name, sizeof(name), "junk-%d", getpid());
	is_closed(connect_from(keeper, name));
	/* A descriptor that nobody asked for. */
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec data = { name, 24 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	CHECK(sendmsg(connect_from(keeper, NULL), &m, MSG_NOSIGNAL) == 24);
}

/* Asks and asks, and reads no answer. */
static void never_reads(char **argv)
{
	(void)argv;
	int fd = greeted();
	struct request r = { .op = OP_IOCTL };
	for (int i = 0; i < 200000; i++)
		if (send(fd, &r, sizeof(r), MSG_NOSIGNAL) < 0)
			return;
	CHECK(!"the server takes everything");
}

int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{ "false-claims", false_claims }, { "out-of-turn", out_of_turn }, { "random", random_frames },
		{ "keeper", keeper_junk }, { "never-reads", never_reads }, { NULL, NULL },
	};
	CHECK(argc > 2);
	read_config(argv[1]);
	argv[1] = argv[2];
	return run_scenario(scenarios, argc - 1, argv);
}
