/* SPDX-License-Identifier: MIT */
/*
 * The keeper: an addon of the server's Node, for what Node cannot do with descriptors. It holds our end of every handle
 * without reading from it, tells which have hung up, makes them readable, takes descriptors that clients send,
 * shares memory with clients, and reaches into a client's own under the client's page protections.
 *
 * Every function returns at once: a number, or -errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "node-api.h"
#include "protocol.h"

#define EXPORT __attribute__((visibility("default")))
#define LISTENER UINT32_MAX
#define FRONT (offsetof(struct sockaddr_un, sun_path) + 1)

/* Accepted, but nobody has asked for it yet: a handle (known by its name) or the bearer of a descriptor (`unnamed`). */
struct arrival {
	int fd;
	bool unnamed;
	struct token token;
};

/* More at once than clients in good faith have on the way; then the oldest goes. */
#define MOST_ARRIVALS 1024

struct keeper {
	int listener, epoll;
	char handles[sizeof(((struct sockaddr_un *)0)->sun_path)];
	size_t handles_length;
	struct arrival arrivals[MOST_ARRIVALS];
	size_t arrival_count;
};

/* ---- Arrivals ---- */

static void forget_arrival(struct keeper *k, size_t i, bool close_it)
{
	if (close_it)
		close(k->arrivals[i].fd);
	k->arrival_count--;
	memmove(&k->arrivals[i], &k->arrivals[i + 1], (k->arrival_count - i) * sizeof(k->arrivals[0]));
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
static bool identify(const struct keeper *k, struct arrival *a)
{
	struct sockaddr_un address;
	socklen_t size = sizeof(address);
	if (getpeername(a->fd, (struct sockaddr *)&address, &size) != 0)
		return false;
	a->unnamed = size <= FRONT;
	return a->unnamed || (size == FRONT + k->handles_length + 2 * sizeof(a->token) &&
			      memcmp(address.sun_path + 1, k->handles, k->handles_length) == 0 &&
			      parse_hex(address.sun_path + 1 + k->handles_length, (uint8_t *)&a->token, sizeof(a->token)));
}

static void accept_all(struct keeper *k)
{
	struct arrival a;
	while ((a.fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (!identify(k, &a)) {
			close(a.fd);
			continue;
		}
		if (k->arrival_count == MOST_ARRIVALS)
			forget_arrival(k, 0, true);
		k->arrivals[k->arrival_count++] = a;
	}
}

/* The descriptor that `a` bears under the name `token`; -EAGAIN when nothing has come yet, -EPROTO when it is not that. */
static int take_descriptor(const struct arrival *a, const struct token *token)
{
	struct token name;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec data = { &name, sizeof(name) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fds[4], count = 0;
	ssize_t n = recvmsg(a->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
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

static bool has_data(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

static bool is_eventfd(int fd)
{
	char path[64], target[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = 0;
	return strcmp(target, "anon_inode:[eventfd]") == 0;
}

/* ---- Arguments and results ---- */

static int32_t int_at(napi_env env, napi_value value)
{
	int32_t n = -1;
	napi_get_value_int32(env, value, &n);
	return n;
}

static void *bytes_at(napi_env env, napi_value value, size_t *length)
{
	int type;
	void *data = NULL;
	*length = 0;
	napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL);
	return data;
}

static napi_value number(napi_env env, int32_t n)
{
	napi_value value = NULL;
	napi_create_int32(env, n, &value);
	return value;
}

static napi_value outcome(napi_env env, long result)
{
	return number(env, result < 0 ? -errno : (int32_t)result);
}

#define MOST_ARGUMENTS 4

static void *arguments(napi_env env, napi_callback_info info, napi_value *values)
{
	size_t count = MOST_ARGUMENTS;
	void *data = NULL;
	napi_get_cb_info(env, info, &count, values, NULL, &data);
	return data;
}

/* ---- keeper.adopt(token, index), .receive(token), .hungUp(indexes), .prune(), .close() ---- */

/* The descriptor of our end of the handle `token`, which hungUp will call `index`. */
static napi_value adopt(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct keeper *k = arguments(env, info, v);
	size_t length;
	const struct token *token = bytes_at(env, v[0], &length);
	struct epoll_event event = { .events = 0 /* hang-ups are always told */, .data.u32 = (uint32_t)int_at(env, v[1]) };
	accept_all(k);
	for (size_t i = 0; token && length == sizeof(*token) && i < k->arrival_count; i++) {
		int fd = k->arrivals[i].fd;
		if (k->arrivals[i].unnamed || memcmp(&k->arrivals[i].token, token, sizeof(*token)) != 0)
			continue;
		forget_arrival(k, i, false);
		if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
			return number(env, fd);
		int error = errno;
		close(fd);
		return number(env, -error);
	}
	return number(env, -ENOENT);
}

/* The event fd that a client sent under the name `token`; -EINVAL when it is something else. */
static napi_value receive(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct keeper *k = arguments(env, info, v);
	size_t length;
	const struct token *token = bytes_at(env, v[0], &length);
	int fd = -ENOENT;
	accept_all(k);
	for (size_t i = 0; token && length == sizeof(*token) && i < k->arrival_count && fd < 0;) {
		int taken = k->arrivals[i].unnamed ? take_descriptor(&k->arrivals[i], token) : -EAGAIN;
		if (taken == -EAGAIN) {
			i++;
			continue;
		}
		forget_arrival(k, i, true);
		if (taken >= 0)
			fd = taken;
	}
	if (fd >= 0 && !is_eventfd(fd)) {
		close(fd);
		fd = -EINVAL;
	}
	return number(env, fd);
}

/* Fills `indexes` with the handles that have hung up; the caller closes them before it asks again. */
static napi_value hung_up(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct keeper *k = arguments(env, info, v);
	struct epoll_event events[64];
	size_t room;
	uint32_t *indexes = bytes_at(env, v[0], &room);
	int count = epoll_wait(k->epoll, events, room < 64 ? (int)room : 64, 0), found = 0;
	for (int i = 0; i < count; i++) {
		if (events[i].data.u32 == LISTENER)
			accept_all(k);
		else
			indexes[found++] = events[i].data.u32;
	}
	return number(env, found);
}

/* Drops arrivals whose client has gone: nobody will ask for them, except for a descriptor that was sent. */
static napi_value prune(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct keeper *k = arguments(env, info, v);
	for (size_t i = k->arrival_count; i-- > 0;) {
		struct pollfd p = { .fd = k->arrivals[i].fd, .events = POLLIN };
		if (poll(&p, 1, 0) == 1 && p.revents & POLLHUP && !(k->arrivals[i].unnamed && has_data(p.fd)))
			forget_arrival(k, i, true);
	}
	return number(env, 0);
}

static void shut(struct keeper *k)
{
	while (k->arrival_count)
		forget_arrival(k, k->arrival_count - 1, true);
	if (k->listener >= 0)
		close(k->listener);
	if (k->epoll >= 0)
		close(k->epoll);
	k->listener = k->epoll = -1;
}

static napi_value close_keeper(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	shut(arguments(env, info, v));
	return number(env, 0);
}

static void finalize(napi_env env, void *data, void *hint)
{
	(void)env, (void)hint;
	shut(data);
	free(data);
}

static void add(napi_env env, napi_value object, const char *name, napi_callback callback, void *data)
{
	napi_value function;
	if (napi_create_function(env, name, strlen(name), callback, data, &function) == 0)
		napi_set_named_property(env, object, name, function);
}

static int start_listening(struct keeper *k, const char *name, size_t length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = LISTENER };
	memcpy(address.sun_path + 1, name, length);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	k->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->epoll < 0 || k->listener < 0 || bind(k->listener, (struct sockaddr *)&address, (socklen_t)(FRONT + length)) != 0 ||
	    listen(k->listener, 4096) != 0 || epoll_ctl(k->epoll, EPOLL_CTL_ADD, k->listener, &event) != 0)
		return -errno;
	return 0;
}

/* createKeeper(name to listen at, what handles' names start with): the object, or -errno. */
static napi_value create_keeper(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS], object;
	struct keeper *k = calloc(1, sizeof(*k));
	char name[sizeof(k->handles)];
	size_t length = 0;
	arguments(env, info, v);
	if (!k)
		return number(env, -ENOMEM);
	napi_get_value_string_utf8(env, v[0], name, sizeof(name), &length);
	napi_get_value_string_utf8(env, v[1], k->handles, sizeof(k->handles), &k->handles_length);
	int error = start_listening(k, name, length);
	if (error || napi_create_object(env, &object) != 0 || napi_wrap(env, object, k, finalize, NULL, NULL) != 0) {
		shut(k);
		free(k);
		return number(env, error ? error : -ENOMEM);
	}
	add(env, object, "adopt", adopt, k);
	add(env, object, "receive", receive, k);
	add(env, object, "hungUp", hung_up, k);
	add(env, object, "prune", prune, k);
	add(env, object, "close", close_keeper, k);
	return object;
}

/* ---- Descriptors ---- */

/* Makes a handle readable by one byte more. */
static napi_value wake(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	return outcome(env, send(int_at(env, v[0]), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* How much of what wake() sent is unread; a measure, not a count of bytes: 0 is exact. */
static napi_value unread(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	int size = 0;
	arguments(env, info, v);
	int result = ioctl(int_at(env, v[0]), SIOCOUTQ, &size);
	return outcome(env, result < 0 ? result : size);
}

/* Adds 1 to an event fd; never waits, as a counter at its top would make write(2) do. */
static napi_value signal_event(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	uint64_t one = 1;
	struct pollfd writable = { .fd = int_at(env, v[0]), .events = POLLOUT };
	if (poll(&writable, 1, 0) != 1)
		return number(env, 0);
	return outcome(env, write(writable.fd, &one, sizeof(one)));
}

/* makeNode(path, mode): what stands for a device node; see files.c. */
static napi_value make_node(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	char path[4096];
	size_t length = 0;
	arguments(env, info, v);
	napi_get_value_string_utf8(env, v[0], path, sizeof(path), &length);
	int result = mknod(path, S_IFSOCK | 0600, 0);
	return outcome(env, result < 0 ? result : chmod(path, (mode_t)int_at(env, v[1])));
}

/* ---- Regions: memory that we share with programs ---- */

/* createRegion(size): its descriptor. Opened anew, since the first one does not count among a file's writers. */
static napi_value create_region(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	char path[64];
	arguments(env, info, v);
	int first = memfd_create("uiommufd-region", MFD_CLOEXEC), fd = -1;
	if (first >= 0 && ftruncate(first, int_at(env, v[0])) == 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", first);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	napi_value result = outcome(env, fd);
	if (first >= 0)
		close(first);
	return result;
}

static void unmap_region(napi_env env, void *data, void *hint)
{
	(void)env;
	munmap(data, (size_t)hint);
}

/* mapRegion(descriptor, size): its bytes as an ArrayBuffer, or -errno. */
static napi_value map_region(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS], buffer;
	arguments(env, info, v);
	size_t size = (size_t)int_at(env, v[1]);
	void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, int_at(env, v[0]), 0);
	if (data == MAP_FAILED)
		return outcome(env, -1);
	if (napi_create_external_arraybuffer(env, data, size, unmap_region, (void *)size, &buffer) == 0)
		return buffer;
	munmap(data, size);
	return number(env, -ENOMEM);
}

/*
 * isShared(descriptor): 1 while anybody else has the region open, as every mapping of another process does, forked ones
 * included. The kernel gives a write lease to nobody else's file only; ours is given back at once.
 */
static napi_value is_shared(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	int fd = int_at(env, v[0]);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0)
		return number(env, errno == EAGAIN);
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return number(env, 0);
}

/* ---- Files that are memory ---- */

static double double_at(napi_env env, napi_value value)
{
	double n = 0;
	napi_get_value_double(env, value, &n);
	return n;
}

/* mapFile(descriptor, size, writable): where it is, or -errno. No huge pages are set aside for what nobody touches. */
static napi_value map_file(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS], address = NULL;
	arguments(env, info, v);
	int protection = int_at(env, v[2]) ? PROT_READ | PROT_WRITE : PROT_READ;
	void *at = mmap(NULL, (size_t)double_at(env, v[1]), protection, MAP_SHARED | MAP_NORESERVE, int_at(env, v[0]), 0);
	napi_create_double(env, at == MAP_FAILED ? -errno : (double)(uintptr_t)at, &address);
	return address;
}

/* unmapFile(where, size) */
static napi_value unmap_file(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	return outcome(env, munmap((void *)(uintptr_t)double_at(env, v[0]), (size_t)double_at(env, v[1])));
}

/* ---- Memory: (descriptor of /proc/PID/mem, PID, address, bytes) ---- */

/*
 * /proc/PID/mem stays with the memory that it was opened for, so it tells whether PID still has that memory (after exec
 * or death it reads as empty), but it ignores page protections; process_vm_readv and writev do the converse.
 */
static bool is_alive(int mem)
{
	char byte;
	return pread(mem, &byte, 1, 0) != 0;
}

static napi_value access_memory(napi_env env, napi_callback_info info, bool writing)
{
	napi_value v[MOST_ARGUMENTS];
	double address = 0;
	size_t length;
	arguments(env, info, v);
	int mem = int_at(env, v[0]), pid = int_at(env, v[1]);
	napi_get_value_double(env, v[2], &address);
	void *bytes = bytes_at(env, v[3], &length);
	if (!(address >= 0 && address < 0x1p53) || !is_alive(mem))
		return number(env, 0);
	struct iovec local = { bytes, length }, remote = { (void *)(uintptr_t)address, length };
	ssize_t n = writing ? process_vm_writev(pid, &local, 1, &remote, 1, 0) : process_vm_readv(pid, &local, 1, &remote, 1, 0);
	if (n < 0 && (errno == ENOSYS || errno == EPERM)) /* a container's filter */
		n = writing ? pwrite(mem, bytes, length, (off_t)address) : pread(mem, bytes, length, (off_t)address);
	return number(env, n == (ssize_t)length);
}

/* readMemory: 1 when all of it was read, otherwise 0. */
static napi_value read_memory(napi_env env, napi_callback_info info)
{
	return access_memory(env, info, false);
}

static napi_value write_memory(napi_env env, napi_callback_info info)
{
	return access_memory(env, info, true);
}

/* isAlive(descriptor of /proc/PID/mem): 0 when that memory is gone. */
static napi_value alive(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	return number(env, is_alive(int_at(env, v[0])));
}

EXPORT int32_t node_api_module_get_api_version_v1(void);
EXPORT int32_t node_api_module_get_api_version_v1(void)
{
	return 8;
}

EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports);
EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
	add(env, exports, "createKeeper", create_keeper, NULL);
	add(env, exports, "wake", wake, NULL);
	add(env, exports, "unread", unread, NULL);
	add(env, exports, "signal", signal_event, NULL);
	add(env, exports, "makeNode", make_node, NULL);
	add(env, exports, "createRegion", create_region, NULL);
	add(env, exports, "mapRegion", map_region, NULL);
	add(env, exports, "isShared", is_shared, NULL);
	add(env, exports, "mapFile", map_file, NULL);
	add(env, exports, "unmapFile", unmap_file, NULL);
	add(env, exports, "readMemory", read_memory, NULL);
	add(env, exports, "writeMemory", write_memory, NULL);
	add(env, exports, "isAlive", alive, NULL);
	return exports;
}
