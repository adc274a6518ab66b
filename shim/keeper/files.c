/* SPDX-License-Identifier: MIT */
#include <sys/mman.h>

#include "keeper.h"

/* mapFile(descriptor, size, writable): where it is, or -errno. No huge pages are set aside for what nobody touches. */
napi_value map_file(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	int protection = int_at(env, v[2]) ? PROT_READ | PROT_WRITE : PROT_READ;
	void *at = mmap(NULL, (size_t)double_at(env, v[1]), protection, MAP_SHARED | MAP_NORESERVE, int_at(env, v[0]), 0);
	return outcome(env, at == MAP_FAILED ? -1 : (double)(uintptr_t)at);
}

/* unmapFile(where, size) */
napi_value unmap_file(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	return outcome(env, munmap((void *)(uintptr_t)double_at(env, v[0]), (size_t)double_at(env, v[1])));
}
