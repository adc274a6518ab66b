/* SPDX-License-Identifier: MIT */
/*
 * Event fds that programs signal and the server listens to. JavaScript takes what has been signalled before each call that
 * it serves; a thread, which does nothing else, tells it by a byte in a pipe when that happens without a call.
 *
 * `events` holds the event fds, edge-triggered: each signal is told once. `waker` watches `events` in the same way, so the
 * thread sleeps while JavaScript has not taken what it was told of.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "keeper.h"

#define STOP 1

struct watches {
	int events, waker, stop, told[2];
	pthread_t thread;
	bool running;
};

static void *tell(void *data)
{
	struct watches *w = data;
	struct epoll_event event;
	for (;;) {
		if (epoll_wait(w->waker, &event, 1, -1) != 1)
			continue;
		if (event.data.u32 == STOP)
			return NULL;
		if (write(w->told[1], "", 1) != 1)
			continue; /* full: it has been told */
	}
}

static void shut(struct watches *w)
{
	uint64_t one = 1;
	if (w->running && write(w->stop, &one, sizeof(one)) == sizeof(one))
		pthread_join(w->thread, NULL);
	w->running = false;
	int *fds[] = { &w->events, &w->waker, &w->stop, &w->told[1] };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

static int start(struct watches *w)
{
	struct epoll_event events = { .events = EPOLLIN | EPOLLET }, stop = { .events = EPOLLIN, .data.u32 = STOP };
	w->events = epoll_create1(EPOLL_CLOEXEC);
	w->waker = epoll_create1(EPOLL_CLOEXEC);
	w->stop = eventfd(0, EFD_CLOEXEC);
	if (w->events < 0 || w->waker < 0 || w->stop < 0 || pipe2(w->told, O_CLOEXEC | O_NONBLOCK) != 0)
		return -errno;
	if (epoll_ctl(w->waker, EPOLL_CTL_ADD, w->events, &events) != 0 || epoll_ctl(w->waker, EPOLL_CTL_ADD, w->stop, &stop) != 0)
		return -errno;
	int error = pthread_create(&w->thread, NULL, tell, w);
	w->running = error == 0;
	return -error;
}

/* From now on take() tells when the event fd is signalled, and when it has been already. */
static napi_value watch(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct watches *w = arguments(env, info, v);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.fd = int_at(env, v[0]) };
	return outcome(env, epoll_ctl(w->events, EPOLL_CTL_ADD, event.data.fd, &event));
}

static napi_value unwatch(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct watches *w = arguments(env, info, v);
	return outcome(env, epoll_ctl(w->events, EPOLL_CTL_DEL, int_at(env, v[0]), NULL));
}

/* A program may have taken the count meanwhile: then there was no signal. Never waits, whatever the descriptor's flags. */
static bool take_count(int fd)
{
	uint64_t count;
	struct iovec piece = { &count, sizeof(count) };
	return preadv2(fd, &piece, 1, -1, RWF_NOWAIT) == sizeof(count);
}

/* Fills `fds` with those that have been signalled, and takes their counts. */
static napi_value take(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct watches *w = arguments(env, info, v);
	struct epoll_event events[64];
	size_t room;
	int32_t *fds = bytes_at(env, v[0], &room);
	int count = epoll_wait(w->events, events, room < 64 ? (int)room : 64, 0), found = 0;
	for (int i = 0; i < count; i++)
		if (take_count(events[i].data.fd))
			fds[found++] = events[i].data.fd;
	return number(env, found);
}

/* The descriptor to read the bytes from; the caller's. */
static napi_value told(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct watches *w = arguments(env, info, v);
	return number(env, w->told[0]);
}

static napi_value close_watches(napi_env env, napi_callback_info info)
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

napi_value create_watches(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS], object;
	struct watches *w = malloc(sizeof(*w));
	arguments(env, info, v);
	if (!w)
		return number(env, -ENOMEM);
	*w = (struct watches){ .events = -1, .waker = -1, .stop = -1, .told = { -1, -1 } };
	int error = start(w);
	if (error || napi_create_object(env, &object) != 0 || napi_wrap(env, object, w, finalize, NULL, NULL) != 0) {
		shut(w);
		if (w->told[0] >= 0)
			close(w->told[0]);
		free(w);
		return number(env, error ? error : -ENOMEM);
	}
	add(env, object, "watch", watch, w);
	add(env, object, "unwatch", unwatch, w);
	add(env, object, "take", take, w);
	add(env, object, "told", told, w);
	add(env, object, "close", close_watches, w);
	return object;
}
