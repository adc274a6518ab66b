/* SPDX-License-Identifier: MIT */
/*
 * The keeper: an addon of the server's Node, for what Node cannot do with descriptors and with memory.
 *
 *   addon.c        what JavaScript sees of all this
 *   values.c       arguments and results
 *   arrivals.c     connections that clients have made to us, until somebody asks for them
 *   handles.c      our end of every handle: holds it without reading from it, tells which have hung up
 *   descriptors.c  wakes handles, signals event fds, makes device nodes
 *   watches.c      tells when programs signal event fds
 *   regions.c      memory of ours that programs map
 *   files.c        memory of programs that is a file
 *   windows.c      the same, mapped as memory of JavaScript
 *   processes.c    memory of programs that is theirs alone
 *
 * Every function returns at once: a number, or -errno.
 */
#ifndef UIOMMUFD_KEEPER_H
#define UIOMMUFD_KEEPER_H

#include <errno.h>
#include <string.h>
#include <sys/types.h>

#include "../protocol.h"
#include "node-api.h"

#define MOST_ARGUMENTS 4

/* ---- values.c ---- */

/* Fills `values` with MOST_ARGUMENTS arguments. Returns what add() was given for this function. */
void *arguments(napi_env env, napi_callback_info info, napi_value *values);
int32_t int_at(napi_env env, napi_value value);
double double_at(napi_env env, napi_value value);
/* Of a typed array; NULL and 0 when it is none. */
void *bytes_at(napi_env env, napi_value value, size_t *length);

napi_value number(napi_env env, double n);
/* `result`, or -errno when it is negative. */
napi_value outcome(napi_env env, double result);

void add(napi_env env, napi_value object, const char *name, napi_callback callback, void *data);

/* ---- arrivals.c ---- */

/* Accepted, but nobody has asked for it yet: a handle (known by its name) or the bearer of a descriptor (`unnamed`). */
struct arrival {
	int fd;
	bool unnamed;
	struct token token;
};

/* More at once than clients in good faith have on the way; then the oldest goes. */
#define MOST_ARRIVALS 1024
#define NAME_BYTES 108 /* sun_path */

struct arrivals {
	int listener;
	char handles[NAME_BYTES]; /* what the names of handles start with */
	size_t handles_length;
	struct arrival list[MOST_ARRIVALS];
	size_t count;
};

/* Listens at an abstract name. 0 or -errno. */
int listen_for_arrivals(struct arrivals *a, const char *name, size_t length);
void accept_arrivals(struct arrivals *a);
/* The connection of the handle `token`; -ENOENT when it has not come. */
int take_handle(struct arrivals *a, const struct token *token);
/* The descriptor that was sent as `token`; -ENOENT. */
int take_descriptor(struct arrivals *a, const struct token *token);
/* Drops those whose client has gone: nobody will ask for them, except for a descriptor that was sent. */
void prune_arrivals(struct arrivals *a);
void close_arrivals(struct arrivals *a);

/* ---- functions for JavaScript ---- */

#define FUNCTIONS(_)                         \
	_(createKeeper, create_keeper)       \
	_(wake, wake)                        \
	_(unread, unread)                    \
	_(signal, signal_event)              \
	_(createWatches, create_watches)     \
	_(makeNode, make_node)               \
	_(createRegion, create_region)       \
	_(mapRegion, map_region)             \
	_(isShared, is_shared)               \
	_(mapFile, map_file)                 \
	_(unmapFile, unmap_file)             \
	_(createWindow, create_window)       \
	_(showFile, show_file)               \
	_(showMore, show_more)               \
	_(clearWindow, clear_window)         \
	_(readMemory, read_memory)           \
	_(writeMemory, write_memory)         \
	_(isAlive, is_alive)                 \
	_(findMapping, find_mapping)

#define DECLARED(name, function) napi_value function(napi_env env, napi_callback_info info);
FUNCTIONS(DECLARED)
#undef DECLARED

#endif
