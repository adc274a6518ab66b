/* SPDX-License-Identifier: MIT */
/*
 * What travels between a client process and the server, on a Unix stream socket per thread. Every frame has a fixed
 * size, so there is no length to distrust. src/server/protocol.ts has the same numbers; the two are compared by a test.
 *
 * A call is one request. Before its result the server may ask the shim, in order, to do things that only the process
 * itself can do: make a descriptor, close one, send one, map memory. Each is answered by a request with OP_DONE.
 */
#ifndef UIOMMUFD_PROTOCOL_H
#define UIOMMUFD_PROTOCOL_H

#include <stdint.h>

#define PROTOCOL_VERSION 1

/* Names a handle (an open file of the server), or a descriptor on its way to it. The server checks all of it. */
struct token {
	uint32_t index;
	uint32_t node; /* TOKEN_NODE: 1 + index of its device node in the configuration, 0: anonymous; above: its O_ACCMODE */
	uint8_t random[16];
};

#define TOKEN_NODE 0x3fffffffU
#define TOKEN_ACCESS_SHIFT 30

enum { /* request.op */
	OP_HELLO = 1, /* word = version, token.random = secret, a = PID, b = where the nonce will be shown */
	OP_PROVE,     /* the nonce is in place */
	OP_OPEN,      /* word = index of the node, a = open flags; result: a descriptor */
	OP_IOCTL,     /* word = command, a = argument */
	OP_READ,      /* a = address, b = count, word = 1: c = position */
	OP_WRITE,     /* likewise */
	OP_MMAP,      /* word = protection, a = length, b = offset, c = flags, d = address; result: where it is */
	OP_DONE,      /* answers an ASK: a = descriptor, address, 0, or -errno */
	OP_LOAD,      /* of mapped registers: token = the mapping's, a = offset in it, word = bytes (up to 16); fills c and d */
	OP_STORE,     /* likewise; c and d hold the bytes */
	OP_SEEK,      /* a = offset, word = from where; result: the new one */
};

enum { /* reply.kind */
	RESULT = 1, /* value, or error; then receive `drain` bytes from the handle */
	NONCE,      /* token.random = nonce */
	ASK_MAKE,   /* make a descriptor for `token`; flags = O_CLOEXEC | O_NONBLOCK, value = 1: it polls as writable */
	ASK_CLOSE,  /* close descriptor `value` if it still is `token` */
	ASK_SEND,   /* send descriptor `value` to the keeper under the name `token` */
	ASK_DRAIN,  /* receive `drain` bytes from descriptor `value` if it still is `token` */
	ASK_MAP,    /* map the server's descriptor `value` as the OP_MMAP under way asks for; flags = 1: as registers, `token` */
};

struct request {
	uint32_t op;
	uint32_t word;
	struct token token;
	uint64_t a, b, c, d;
};

struct reply { /* the result of an OP_LOAD is in token.random */
	uint32_t kind;
	int32_t error;
	int64_t value;
	uint32_t drain;
	uint32_t flags;
	struct token token;
};

_Static_assert(sizeof(struct token) == 24, "token");
_Static_assert(sizeof(struct request) == 64, "request");
_Static_assert(sizeof(struct reply) == 48, "reply");

#endif
