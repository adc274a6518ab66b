/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "keeper.h"

#define FRONT (offsetof(struct sockaddr_un, sun_path) + 1)

_Static_assert(NAME_BYTES == sizeof(((struct sockaddr_un *)0)->sun_path), "sun_path");

int listen_for_arrivals(struct arrivals *a, const char *name, size_t length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	memcpy(address.sun_path + 1, name, length);
	a->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->listener < 0 || bind(a->listener, (struct sockaddr *)&address, (socklen_t)(FRONT + length)) != 0 ||
	    listen(a->listener, 4096) != 0)
		return -errno;
	return 0;
}

static void forget(struct arrivals *a, size_t i, bool close_it)
{
	if (close_it)
		close(a->list[i].fd);
	a->count--;
	memmove(&a->list[i], &a->list[i + 1], (a->count - i) * sizeof(a->list[0]));
}

static bool parse_hex(const char *text, uint8_t *into, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < size; i++) {
		const char *high = memchr(digits, text[2 * i], 16), *low = memchr(digits, text[2 * i + 1], 16);
		if (!high || !low)
			return false;
		into[i] = (uint8_t)((high - digits) << 4 | (low - digits));
	}
	return true;
}

/* False when it is neither a handle nor the bearer of a descriptor. */
static bool identify(const struct arrivals *a, struct arrival *arrival)
{
	struct sockaddr_un address;
	socklen_t size = sizeof(address);
	if (getpeername(arrival->fd, (struct sockaddr *)&address, &size) != 0)
		return false;
	arrival->unnamed = size <= FRONT;
	const char *token = address.sun_path + 1 + a->handles_length;
	return arrival->unnamed || (size == FRONT + a->handles_length + 2 * sizeof(arrival->token) &&
				    memcmp(address.sun_path + 1, a->handles, a->handles_length) == 0 &&
				    parse_hex(token, (uint8_t *)&arrival->token, sizeof(arrival->token)));
}

void accept_arrivals(struct arrivals *a)
{
	struct arrival arrival;
	while ((arrival.fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (!identify(a, &arrival)) {
			close(arrival.fd);
			continue;
		}
		if (a->count == MOST_ARRIVALS)
			forget(a, 0, true);
		a->list[a->count++] = arrival;
	}
}

int take_handle(struct arrivals *a, const struct token *token)
{
	for (size_t i = 0; i < a->count; i++) {
		int fd = a->list[i].fd;
		if (a->list[i].unnamed || memcmp(&a->list[i].token, token, sizeof(*token)) != 0)
			continue;
		forget(a, i, false);
		return fd;
	}
	return -ENOENT;
}

/* The descriptor that it bears under the name `token`; -EAGAIN when nothing has come yet, -EPROTO when it is not that. */
static int descriptor_of(const struct arrival *arrival, const struct token *token)
{
	struct token name;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec data = { &name, sizeof(name) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fds[4], count = 0;
	ssize_t n = recvmsg(arrival->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : -EPROTO;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
		count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(header), (size_t)count * sizeof(int));
	}
	if (n == (ssize_t)sizeof(name) && count == 1 && memcmp(&name, token, sizeof(name)) == 0)
		return fds[0];
	for (int i = 0; i < count; i++)
		close(fds[i]);
	return -EPROTO;
}

int take_descriptor(struct arrivals *a, const struct token *token)
{
	for (size_t i = 0; i < a->count;) {
		int fd = a->list[i].unnamed ? descriptor_of(&a->list[i], token) : -EAGAIN;
		if (fd == -EAGAIN) {
			i++;
			continue;
		}
		forget(a, i, true);
		if (fd >= 0)
			return fd;
	}
	return -ENOENT;
}

static bool has_data(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

void prune_arrivals(struct arrivals *a)
{
	for (size_t i = a->count; i-- > 0;) {
		struct pollfd p = { .fd = a->list[i].fd, .events = POLLIN };
		if (poll(&p, 1, 0) == 1 && p.revents & POLLHUP && !(a->list[i].unnamed && has_data(p.fd)))
			forget(a, i, true);
	}
}

void close_arrivals(struct arrivals *a)
{
	while (a->count)
		forget(a, a->count - 1, true);
	if (a->listener >= 0)
		close(a->listener);
	a->listener = -1;
}
