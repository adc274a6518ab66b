/* SPDX-License-Identifier: MIT */
/*
 * libuiommufd-shim: a preload library that carries calls on our paths and descriptors to the server. Everything else
 * goes to the next library untouched. It never interprets what an ioctl's argument points to.
 *
 *   config.c   what the server wrote for us: names, owned paths, device nodes
 *   paths.c    which paths are ours, and where their files really are
 *   channel.c  the connection to the server, one per thread
 *   status.c   what /proc/PID/status says about pinned memory
 *   handles.c  descriptors of ours: making one, recognising one
 *   open.c, stat.c, links.c, directories.c   interposed: what takes a path
 *   streams.c                                interposed: what flushes a stream; streams on files that live
 *   calls.c                                  interposed: what takes a descriptor
 *   programs.c                               interposed: what executes a program
 *   programs.c                               interposed: what executes a program
 *   syscall.c                                interposed: the same by their numbers
 *   registers.c             mapped registers of devices: each access faults, and the server makes it
 *   faults.c                these faults, and what programs say of signals
 *   x86_64*.c, aarch64.c    what an instruction does that has faulted there
 */
#ifndef UIOMMUFD_SHIM_H
#define UIOMMUFD_SHIM_H

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol.h"

#define EXPORT __attribute__((visibility("default")))

/* The same function in the next library. Resolved on first use: others' constructors may call us before ours has run. */
#define NEXT(name)                                                       \
	({                                                               \
		static __typeof__(&name) next_;                          \
		if (!next_)                                              \
			next_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
		next_;                                                   \
	})

/* The system call itself, since syscall() is interposed too. */
typedef long syscall_fn(long number, ...);
syscall_fn *raw_syscall(void);
#define syscall(...) raw_syscall()(__VA_ARGS__)

struct node {
	ino_t inode;
	dev_t rdev;
	mode_t mode; /* type and permissions */
	off_t size;
	const char *path;
};

struct name {
	const char *text; /* of an abstract Unix socket, without the leading zero byte */
	size_t length;
};

struct config {
	const char *root; /* folder that holds our files at their paths */
	size_t root_length;
	dev_t device; /* file system of that folder */
	pid_t server;
	struct name calls, keeper, handles;
	uint8_t secret[16];
	const char **owned;
	size_t owned_count;
	struct node *nodes;
	size_t node_count;
};

/* NULL when this process is not run by a server. */
const struct config *config(void);

bool hex_decode(const char *text, uint8_t *into, size_t size);

/* Fills `into` from an address of this process that may be any number. */
bool copy_in(void *into, const void *from, size_t size);

/* A path that is longer (with the folder before it) is not ours. Small, since a handler on a small stack may open files. */
#define OUR_PATH_MAX 1024

/*
 * Where the file at `path`, relative to the folder `dirfd`, really is: in `buffer` (OUR_PATH_MAX bytes) when it has to be
 * named otherwise, which then is an absolute path; else `path` itself.
 */
const char *real_path_at(int dirfd, const char *path, char *buffer);

/* Cuts the folder of our files off the front of a path that the kernel gave. Returns the new length. */
size_t strip_root(char *path, size_t length);

/* Index of the device node that a stat result shows, or -1. */
int node_of(const struct stat *st);

/* A call of the server: sends, does what the server asks, returns the value or -errno. `fd` is the handle's, or -1. */
int64_t call_server(struct request *request, int fd);

socklen_t abstract_address(struct sockaddr_un *address, const struct name *name);

/* Opens `path` if it is the status file of a process; -1 otherwise: open it as any other. */
int open_status(const char *path, int flags);

/* Is `fd` one of ours? Costs one system call; errno is kept. */
bool handle_of(int fd, struct token *token);

/* N of "/proc/self/fd/N" and its other names; -1 when it is none. `path` is one that the kernel could read. */
int descriptor_named(const char *path);

/* A file with what can be read from `fd` now, which it closes; -1. For streams, whose reads are not seen. */
int snapshot(int fd);

/* A stream whose reads and writes are those of `fd`, which it closes. On failure `fd` is closed. */
FILE *stream_on(int fd, const char *mode);

/* Index of a handle's device node, -1: anonymous. */
static inline int token_node(const struct token *token)
{
	return (int)(token->node & TOKEN_NODE) - 1;
}

/* O_RDONLY, O_WRONLY, O_RDWR or 3: what a handle was opened for. */
static inline int token_access(const struct token *token)
{
	return (int)(token->node >> TOKEN_ACCESS_SHIFT);
}

/* The ASKs of protocol.h about descriptors. Descriptor, 0 or -errno. */
int make_handle(const struct reply *ask);
int close_handle(const struct reply *ask);
int send_descriptor(const struct reply *ask);
int drain_descriptor(const struct reply *ask);

/* Maps pages of the server as `request` (an OP_MMAP) asks for. Address or -errno. */
int64_t map_pages(const struct reply *ask, const struct request *request);

void drain_handle(int fd, uint32_t bytes);

/* ---- registers.c: an address range is rounded up to whole pages ---- */

/* Held while mappings change, the kernel's and ours; no signal comes. Returns the mask that was. */
uint64_t lock_registers(void);
void unlock_registers(uint64_t mask);

/* From `start` on there are registers of a device, which the server knows as `token`. False: there is no room for more. */
bool add_registers(uintptr_t start, size_t length, int protection, const struct token *token);

/* What is mapped in the range is apart from what is around it: cutting it out cannot fail. False: there is no room. */
bool isolate_registers(uintptr_t start, size_t length);

/* Something else is there now. */
void cut_registers(uintptr_t start, size_t length);

bool is_register(uintptr_t at);

/* ---- faults.c ---- */

/* From now on each access of a register is one of the device. */
void catch_faults(void);
bool catches_faults(void);

/* Turns a -errno into -1 and errno. */
static inline int64_t returned(int64_t result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

#endif
