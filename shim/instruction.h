/* SPDX-License-Identifier: MIT */
/*
 * Doing what one instruction of the program does, when it has faulted at a register of a device. One implementation for
 * each architecture: x86_64.c, aarch64.c.
 */
#ifndef UIOMMUFD_INSTRUCTION_H
#define UIOMMUFD_INSTRUCTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* The memory that instructions see: registers where a device is, ordinary memory elsewhere. False: refused. */
bool load_bus(uintptr_t at, void *into, size_t size);
bool store_bus(uintptr_t at, const void *from, size_t size);

struct refusal {
	int error; /* EIO: the device does not answer; else there is nothing, or it may not be accessed so */
	uintptr_t at;
};

/* Of this thread. */
const struct refusal *last_refusal(void);

/* There was a fault. If the two above made it, they refuse; else this returns. */
void recover_memory(void);

enum outcome {
	DONE,	 /* and the program counter is at the next instruction */
	REFUSED, /* last_refusal() tells why; nothing has changed */
	UNKNOWN, /* not an instruction that we know */
};

/* `fault` is the address that it faulted at: one that it accesses, or we have not understood it. */
enum outcome do_instruction(ucontext_t *context, uintptr_t fault);

#endif
