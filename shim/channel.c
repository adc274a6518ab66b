/* SPDX-License-Identifier: MIT */
/*
 * The connection to the server: one per thread, so that no two calls share a stream.
 *
 * - A signal handler that makes a call must not find another one half done, and may leave by longjmp: all signals are
 *   blocked while frames travel, with raw calls, since libc keeps its own (cancellation, setuid) out of the mask.
 * - A program may close descriptors that it does not know (closefrom), and open others on those numbers: the socket's
 *   cookie, which is never used twice, tells whether the descriptor still is our connection.
 * - After fork the parent's connections are closed in the child. A child by vfork or a raw clone runs no handler of
 *   ours and may share our variables with its parent: it gets a connection for each call.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>

#include "shim.h"

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

struct channel {
	int fd;
	pid_t pid;
	uint64_t cookie;
};

static __thread struct channel channel __attribute__((tls_model("initial-exec"))) = { .fd = -1 };

/* Every thread's connection, so that a forked child can close what it inherited. fd is kept plus one: 0 is free. */
#define REGISTRY 1024
static struct {
	_Atomic int fd;
	_Atomic uint64_t cookie;
} registry[REGISTRY];

static pthread_key_t at_thread_exit;
static bool key_made;

static uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	socklen_t size = sizeof(cookie);
	return fd >= 0 && syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

static void close_if_ours(int fd, uint64_t cookie)
{
	if (cookie && cookie_of(fd) == cookie)
		syscall(SYS_close, fd);
}

static void enregister(const struct channel *c)
{
	for (size_t i = 0; i < REGISTRY; i++) {
		int unused = 0;
		if (atomic_load(&registry[i].fd) == 0 && atomic_compare_exchange_strong(&registry[i].fd, &unused, c->fd + 1)) {
			atomic_store(&registry[i].cookie, c->cookie);
			return;
		}
	}
}

static void deregister(const struct channel *c)
{
	for (size_t i = 0; i < REGISTRY; i++)
		if (atomic_load(&registry[i].fd) == c->fd + 1 && atomic_load(&registry[i].cookie) == c->cookie) {
			atomic_store(&registry[i].cookie, 0);
			atomic_store(&registry[i].fd, 0);
		}
}

static void in_forked_child(void)
{
	int kept = errno;
	for (size_t i = 0; i < REGISTRY; i++) {
		int fd = atomic_exchange(&registry[i].fd, 0);
		if (fd)
			close_if_ours(fd - 1, atomic_exchange(&registry[i].cookie, 0));
	}
	channel.fd = -1;
	channel.pid = 0;
	errno = kept;
}

static void thread_exits(void *unused)
{
	(void)unused;
	int kept = errno;
	if (channel.fd >= 0 && channel.pid == getpid()) {
		deregister(&channel);
		close_if_ours(channel.fd, channel.cookie);
		channel.fd = -1;
	}
	errno = kept;
}

__attribute__((constructor)) static void prepare(void)
{
	if (config()) {
		key_made = pthread_key_create(&at_thread_exit, thread_exits) == 0;
		pthread_atfork(NULL, NULL, in_forked_child);
	}
}

socklen_t abstract_address(struct sockaddr_un *address, const struct name *name)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path + 1, name->text, name->length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + name->length);
}

/* Out of the way: programs expect the lowest free numbers. Not far out: the kernel's table grows with the highest. */
static int move_high(int fd)
{
	for (int floor = 960; floor > 15; floor /= 2) {
		long high = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floor);
		if (high >= 0) {
			syscall(SYS_close, fd);
			return (int)high;
		}
	}
	return fd;
}

static bool send_frame(int fd, const struct request *request)
{
	for (size_t done = 0; done < sizeof(*request);) {
		long n = syscall(SYS_sendto, fd, (const char *)request + done, sizeof(*request) - done, MSG_NOSIGNAL, NULL, 0);
		if (n < 0 && errno != EINTR)
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static bool receive_frame(int fd, struct reply *reply)
{
	for (size_t done = 0; done < sizeof(*reply);) {
		long n = syscall(SYS_recvfrom, fd, (char *)reply + done, sizeof(*reply) - done, 0, NULL, NULL);
		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* Shows the server that we are the process that we say: it sends a nonce, and looks for it in that process's memory. */
static bool introduce(int fd, const struct config *c)
{
	struct reply reply;
	struct request hello = { .op = OP_HELLO, .word = PROTOCOL_VERSION, .a = (uint64_t)getpid() };
	struct request prove = { .op = OP_PROVE };
	memcpy(hello.token.random, c->secret, sizeof(c->secret));
	hello.b = (uintptr_t)reply.token.random;
	prctl(PR_SET_PTRACER, (unsigned long)c->server, 0, 0, 0); /* Yama; an error means that there is none */
	return send_frame(fd, &hello) && receive_frame(fd, &reply) && reply.kind == NONCE && send_frame(fd, &prove) &&
	       receive_frame(fd, &reply) && reply.kind == RESULT && reply.error == 0;
}

/* A connection ready for calls, or -errno. */
static int connect_server(const struct config *c)
{
	struct sockaddr_un address;
	socklen_t size = abstract_address(&address, &c->calls);
	int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_connect, fd, &address, size) < 0) {
		syscall(SYS_close, fd);
		return -ENODEV; /* the server has gone */
	}
	fd = move_high(fd);
	if (introduce(fd, c))
		return fd;
	syscall(SYS_close, fd);
	return -EIO;
}

static int this_threads_connection(const struct config *c)
{
	if (channel.fd >= 0) {
		if (cookie_of(channel.fd) == channel.cookie)
			return channel.fd;
		deregister(&channel);
	}
	channel.fd = -1;
	int fd = connect_server(c);
	if (fd < 0)
		return fd;
	channel = (struct channel){ fd, getpid(), cookie_of(fd) };
	enregister(&channel);
	if (key_made)
		pthread_setspecific(at_thread_exit, &channel);
	return fd;
}

/* One call on a connection: the value, -errno, or LOST when the stream broke. */
#define LOST INT64_MIN

static int64_t exchange(int connection, struct request *request, int fd)
{
	struct reply reply;
	struct request done = { .op = OP_DONE };
	for (bool sent = send_frame(connection, request); sent; sent = send_frame(connection, &done)) {
		if (!receive_frame(connection, &reply))
			return LOST;
		switch (reply.kind) {
		case RESULT:
			if (reply.drain && fd >= 0)
				drain_handle(fd, reply.drain);
			if (request->op == OP_LOAD)
				memcpy(&request->c, reply.token.random, sizeof(reply.token.random));
			return reply.error ? -(int64_t)reply.error : reply.value;
		case ASK_MAKE:
			done.a = (uint64_t)(int64_t)make_handle(&reply);
			break;
		case ASK_CLOSE:
			done.a = (uint64_t)(int64_t)close_handle(&reply);
			break;
		case ASK_SEND:
			done.a = (uint64_t)(int64_t)send_descriptor(&reply);
			break;
		case ASK_DRAIN:
			done.a = (uint64_t)(int64_t)drain_descriptor(&reply);
			break;
		case ASK_MAP:
			done.a = (uint64_t)map_pages(&reply, request);
			break;
		default:
			return LOST;
		}
	}
	return LOST;
}

int64_t call_server(struct request *request, int fd)
{
	const struct config *c = config();
	uint64_t everything = ~0ULL, before;
	int64_t result;
	int kept = errno;
	syscall(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, &everything, &before, sizeof(before));
	bool shared = channel.fd >= 0 && channel.pid != getpid() && cookie_of(channel.fd) == channel.cookie;
	int connection = shared ? connect_server(c) : this_threads_connection(c);
	if (connection < 0) {
		result = connection;
	} else {
		result = exchange(connection, request, fd);
		if (result == LOST && !shared) {
			deregister(&channel);
			close_if_ours(channel.fd, channel.cookie);
			channel.fd = -1;
		}
		if (shared)
			syscall(SYS_close, connection);
	}
	syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &before, NULL, sizeof(before));
	errno = kept;
	return result == LOST ? -EIO : result;
}
