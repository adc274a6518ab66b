/* SPDX-License-Identifier: MIT */
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "keeper.h"

/* ---- Bytes: (descriptor of /proc/PID/mem, PID, address, bytes) ---- */

/*
 * /proc/PID/mem stays with the memory that it was opened for, so it tells whether PID still has that memory (after exec
 * or death it reads as empty), but it ignores page protections; process_vm_readv and writev do the converse.
 */
static bool still_there(int mem)
{
	char byte;
	return pread(mem, &byte, 1, 0) != 0;
}

static napi_value access_memory(napi_env env, napi_callback_info info, bool writing)
{
	napi_value v[MOST_ARGUMENTS];
	size_t length;
	arguments(env, info, v);
	int mem = int_at(env, v[0]), pid = int_at(env, v[1]);
	double address = double_at(env, v[2]);
	void *bytes = bytes_at(env, v[3], &length);
	if (!(address >= 0 && address < 0x1p53) || !still_there(mem))
		return number(env, 0);
	struct iovec local = { bytes, length }, remote = { (void *)(uintptr_t)address, length };
	ssize_t n = writing ? process_vm_writev(pid, &local, 1, &remote, 1, 0) : process_vm_readv(pid, &local, 1, &remote, 1, 0);
	if (n < 0 && (errno == ENOSYS || errno == EPERM)) /* a container's filter */
		n = writing ? pwrite(mem, bytes, length, (off_t)address) : pread(mem, bytes, length, (off_t)address);
	return number(env, n == (ssize_t)length);
}

/* readMemory: 1 when all of it was read, otherwise 0. */
napi_value read_memory(napi_env env, napi_callback_info info)
{
	return access_memory(env, info, false);
}

napi_value write_memory(napi_env env, napi_callback_info info)
{
	return access_memory(env, info, true);
}

/* isAlive(descriptor of /proc/PID/mem): 0 when that memory is gone. */
napi_value is_alive(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	return number(env, still_there(int_at(env, v[0])));
}

/* ---- Mappings ---- */

/* PROCMAP_QUERY of linux/fs.h (6.11), which the headers of older systems do not have. */
struct query {
	uint64_t size, flags, address;
	uint64_t start, end, access, page_size, offset, inode;
	uint32_t major, minor;
	uint32_t name_size, build_id_size;
	uint64_t name, build_id;
};

#define QUERY _IOWR('f', 17, struct query)
#define WRITABLE 0x02
#define COVERING_OR_NEXT 0x10

_Static_assert(sizeof(struct query) == 104, "struct procmap_query");

/* As in proc_pid_maps(5), without a name where there is none. */
static int ask(int maps, struct query *q, uint64_t address, char *name, size_t room)
{
	*q = (struct query){
		.size = sizeof(*q), .flags = COVERING_OR_NEXT, .address = address, .name = (uintptr_t)name, .name_size = (uint32_t)room,
	};
	return ioctl(maps, QUERY, q);
}

/*
 * findMapping(descriptor of /proc/PID/maps, address, numbers, name): the mapping at `address`, or else the next one. 1: found;
 * `numbers` are start, end, access (1 read, 2 write, 8 shared), offset, major, minor, inode, length of the name, which is
 * only told of what may be something else than memory: a name costs as much as all the rest. -ENOENT: none; -ENOTTY: not
 * known here.
 */
napi_value find_mapping(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	struct query q;
	size_t count, room;
	arguments(env, info, v);
	int maps = int_at(env, v[0]);
	uint64_t address = (uint64_t)double_at(env, v[1]);
	double *numbers = bytes_at(env, v[2], &count);
	char *name = bytes_at(env, v[3], &room);
	if (!numbers || count < 8)
		return number(env, -EINVAL);
	int result = ask(maps, &q, address, NULL, 0);
	if (result == 0 && (q.inode != 0 || !(q.access & WRITABLE)))
		result = ask(maps, &q, address, name, room);
	if (result != 0)
		return outcome(env, -1);
	double found[8] = { (double)q.start, (double)q.end, (double)q.access, (double)q.offset,
			    q.major,	     q.minor,	    (double)q.inode,  q.name_size };
	memcpy(numbers, found, sizeof(found));
	return number(env, 1);
}
