/* SPDX-License-Identifier: MIT */
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper.h"

napi_value wake(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	return outcome(env, send(int_at(env, v[0]), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* How much of what wake() sent is unread; a measure, not a count of bytes: 0 is exact. */
napi_value unread(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	int size = 0;
	arguments(env, info, v);
	int result = ioctl(int_at(env, v[0]), SIOCOUTQ, &size);
	return outcome(env, result < 0 ? result : size);
}

/* Never waits, as a counter at its top would make write(2) do. */
napi_value signal_event(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	uint64_t one = 1;
	struct pollfd writable = { .fd = int_at(env, v[0]), .events = POLLOUT };
	if (poll(&writable, 1, 0) != 1)
		return number(env, 0);
	return outcome(env, write(writable.fd, &one, sizeof(one)));
}

/* What stands for a device node; see files.c of the shim. */
napi_value make_node(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	char path[4096];
	size_t length = 0;
	arguments(env, info, v);
	napi_get_value_string_utf8(env, v[0], path, sizeof(path), &length);
	int result = mknod(path, S_IFSOCK | 0600, 0);
	return outcome(env, result < 0 ? result : chmod(path, (mode_t)int_at(env, v[1])));
}
