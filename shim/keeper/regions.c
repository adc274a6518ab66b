/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "keeper.h"

/*
 * createRegion(size): its descriptor. Opened anew, since the first one does not count among a file's writers; of a fixed
 * size, since a program that cut it short would end us.
 */
napi_value create_region(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	char path[64];
	arguments(env, info, v);
	int first = memfd_create("uiommufd-region", MFD_CLOEXEC | MFD_ALLOW_SEALING), fd = -1;
	if (first >= 0 && ftruncate(first, (off_t)double_at(env, v[0])) == 0 &&
	    fcntl(first, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", first);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	napi_value result = outcome(env, fd);
	if (first >= 0)
		close(first);
	return result;
}

static void unmap(napi_env env, void *data, void *hint)
{
	(void)env;
	munmap(data, (size_t)hint);
}

/* mapRegion(descriptor, size): its bytes as an ArrayBuffer, or -errno. */
napi_value map_region(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS], buffer;
	arguments(env, info, v);
	size_t size = (size_t)double_at(env, v[1]);
	void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, int_at(env, v[0]), 0);
	if (data == MAP_FAILED)
		return outcome(env, -1);
	if (napi_create_external_arraybuffer(env, data, size, unmap, (void *)size, &buffer) == 0)
		return buffer;
	munmap(data, size);
	return number(env, -ENOMEM);
}

/*
 * isShared(descriptor): 1 while anybody else has the region open, as every mapping of another process does, forked ones
 * included. The kernel gives a write lease to nobody else's file only; ours is given back at once. Who opens it meanwhile
 * breaks the lease, which would end us by SIGIO: SIGURG does nothing.
 */
napi_value is_shared(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	int fd = int_at(env, v[0]);
	if (fcntl(fd, F_SETSIG, SIGURG) != 0 || fcntl(fd, F_SETLEASE, F_WRLCK) != 0)
		return number(env, errno == EAGAIN);
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return number(env, 0);
}
