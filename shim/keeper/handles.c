/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "keeper.h"

#define LISTENER UINT32_MAX

struct keeper {
	struct arrivals arrivals;
	int epoll;
};

/* Our end of the handle that `token` names, which hungUp will call `index`. */
static napi_value adopt(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct keeper *k = arguments(env, info, v);
	size_t length;
	const struct token *token = bytes_at(env, v[0], &length);
	struct epoll_event event = { .events = 0 /* hang-ups are always told */, .data.u32 = (uint32_t)int_at(env, v[1]) };
	accept_arrivals(&k->arrivals);
	int fd = token && length == sizeof(*token) ? take_handle(&k->arrivals, token) : -ENOENT;
	if (fd < 0 || epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
		return number(env, fd);
	int error = errno;
	close(fd);
	return number(env, -error);
}

static bool is_eventfd(int fd)
{
	char path[64], target[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = 0;
	return strcmp(target, "anon_inode:[eventfd]") == 0;
}

/* The event fd that a client sent under the name `token`; -EINVAL when it is something else. */
static napi_value receive(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct keeper *k = arguments(env, info, v);
	size_t length;
	const struct token *token = bytes_at(env, v[0], &length);
	accept_arrivals(&k->arrivals);
	int fd = token && length == sizeof(*token) ? take_descriptor(&k->arrivals, token) : -ENOENT;
	if (fd < 0 || is_eventfd(fd))
		return number(env, fd);
	close(fd);
	return number(env, -EINVAL);
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
			accept_arrivals(&k->arrivals);
		else
			indexes[found++] = events[i].data.u32;
	}
	return number(env, found);
}

static napi_value prune(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct keeper *k = arguments(env, info, v);
	prune_arrivals(&k->arrivals);
	return number(env, 0);
}

static void shut(struct keeper *k)
{
	close_arrivals(&k->arrivals);
	if (k->epoll >= 0)
		close(k->epoll);
	k->epoll = -1;
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

static int start(struct keeper *k, const char *name, size_t length)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = LISTENER };
	int error = listen_for_arrivals(&k->arrivals, name, length);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!error && (k->epoll < 0 || epoll_ctl(k->epoll, EPOLL_CTL_ADD, k->arrivals.listener, &event) != 0))
		error = -errno;
	return error;
}

napi_value create_keeper(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS], object;
	struct keeper *k = calloc(1, sizeof(*k));
	char name[NAME_BYTES];
	size_t length = 0;
	arguments(env, info, v);
	if (!k)
		return number(env, -ENOMEM);
	napi_get_value_string_utf8(env, v[0], name, sizeof(name), &length);
	napi_get_value_string_utf8(env, v[1], k->arrivals.handles, NAME_BYTES, &k->arrivals.handles_length);
	int error = start(k, name, length);
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
