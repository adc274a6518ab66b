/* SPDX-License-Identifier: MIT */
/*
 * A handle's descriptor is a Unix stream socket, bound to a name that says which handle it is and connected to the
 * keeper, which never reads from it. So the kernel carries it through dup, fork, exec and SCM_RIGHTS; the name can be
 * asked for wherever a copy is; and the keeper's end hangs up when the last copy is closed.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>

#include "shim.h"

#define TOKEN_TEXT (2 * sizeof(struct token))

static bool token_of(int fd, struct token *token)
{
	const struct config *c = config();
	struct sockaddr_un address;
	socklen_t size = sizeof(address);
	size_t front = offsetof(struct sockaddr_un, sun_path) + 1;
	if (syscall(SYS_getsockname, fd, &address, &size) != 0)
		return false;
	return address.sun_family == AF_UNIX && size == front + c->handles.length + TOKEN_TEXT &&
	       memcmp(address.sun_path + 1, c->handles.text, c->handles.length) == 0 &&
	       hex_decode(address.sun_path + 1 + c->handles.length, (uint8_t *)token, sizeof(*token));
}

bool handle_of(int fd, struct token *token)
{
	int kept = errno;
	bool ours = fd >= 0 && config() && token_of(fd, token);
	errno = kept;
	return ours;
}

int descriptor_named(const char *path)
{
	int fd = -1, end = 0, pid;
	if (sscanf(path, "/proc/self/fd/%d%n", &fd, &end) != 1 && sscanf(path, "/dev/fd/%d%n", &fd, &end) != 1 &&
	    (sscanf(path, "/proc/%d/fd/%d%n", &pid, &fd, &end) != 2 || pid != (int)getpid()))
		return -1;
	return end && !path[end] ? fd : -1;
}

static void bind_name(struct sockaddr_un *address, socklen_t *size, const struct config *c, const struct token *token)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = (const uint8_t *)token;
	*size = (socklen_t)(abstract_address(address, &c->handles) + TOKEN_TEXT);
	char *at = address->sun_path + 1 + c->handles.length;
	for (size_t i = 0; i < sizeof(*token); i++) {
		*at++ = digits[bytes[i] >> 4];
		*at++ = digits[bytes[i] & 15];
	}
}

/*
 * The kernel calls a stream socket writable while a quarter of its send buffer is free. Unread bytes in the smallest
 * buffer make it, for poll, what a file without a write side is.
 */
static void make_unwritable(int fd)
{
	int smallest = 1;
	struct pollfd poll = { .fd = fd, .events = POLLOUT };
	struct timespec now = { 0, 0 };
	syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest));
	for (int i = 0; i < 64 && syscall(SYS_ppoll, &poll, 1, &now, NULL, 0) == 1; i++)
		syscall(SYS_sendto, fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}

static int connect_keeper(int fd)
{
	struct sockaddr_un address;
	socklen_t size = abstract_address(&address, &config()->keeper);
	return syscall(SYS_connect, fd, &address, size) == 0 ? 0 : -errno;
}

int make_handle(const struct reply *ask)
{
	struct sockaddr_un address;
	socklen_t size;
	int cloexec = ask->flags & O_CLOEXEC ? SOCK_CLOEXEC : 0, error = 0;
	int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | cloexec, 0);
	if (fd < 0)
		return -errno;
	bind_name(&address, &size, config(), &ask->token);
	if (syscall(SYS_bind, fd, &address, size) != 0)
		error = -errno;
	if (!error)
		error = connect_keeper(fd);
	if (error) {
		syscall(SYS_close, fd);
		return error;
	}
	if (!ask->value)
		make_unwritable(fd);
	if (ask->flags & O_NONBLOCK)
		syscall(SYS_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK);
	return fd;
}

static bool is_handle(int fd, const struct token *expected)
{
	struct token token;
	return handle_of(fd, &token) && memcmp(&token, expected, sizeof(token)) == 0;
}

int close_handle(const struct reply *ask)
{
	if (is_handle((int)ask->value, &ask->token))
		syscall(SYS_close, (int)ask->value);
	return 0;
}

int send_descriptor(const struct reply *ask)
{
	int passed = (int)ask->value;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct token name = ask->token;
	struct iovec data = { &name, sizeof(name) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memcpy(CMSG_DATA(&control.header), &passed, sizeof(passed));
	int error = connect_keeper(fd);
	if (!error && syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL) != (long)sizeof(name))
		error = -errno;
	syscall(SYS_close, fd);
	return error;
}

void drain_handle(int fd, uint32_t bytes)
{
	char sink[64];
	struct token token;
	while (bytes && handle_of(fd, &token)) {
		size_t piece = bytes < sizeof(sink) ? bytes : sizeof(sink);
		long n = syscall(SYS_recvfrom, fd, sink, piece, MSG_DONTWAIT, NULL, NULL);
		if (n <= 0)
			return;
		bytes -= (uint32_t)n;
	}
}

int drain_descriptor(const struct reply *ask)
{
	if (!is_handle((int)ask->value, &ask->token))
		return -EBADF;
	drain_handle((int)ask->value, ask->drain);
	return 0;
}
