/* SPDX-License-Identifier: MIT */
/*
 * Registers of a device that a program has mapped. Behind the mapping are pages that cannot be accessed: each load and
 * store faults, and the handler (faults.c) does what the instruction does, asking the server for what it reads and writes.
 * So a store has acted on the device before the next instruction runs, as on hardware.
 *
 * The handler looks mappings up while others change them. So a mapping is split by making its upper part before it ends
 * earlier, and where an address leads to in the device (address - base) is the same in both.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "instruction.h"
#include "shim.h"

#define MOST_MAPPINGS 256
#define LARGEST 16 /* bytes of one access of the server */
#define PAGE 4096UL

static struct mapping {
	_Atomic uintptr_t start;
	_Atomic uintptr_t end; /* 0: unused */
	uintptr_t base;
	_Atomic int protection;
	struct token token;
} mappings[MOST_MAPPINGS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t mask_at_fork;

static __thread struct refusal refusal __attribute__((tls_model("initial-exec")));
static __thread jmp_buf *recovery __attribute__((tls_model("initial-exec")));

static struct mapping *mapping_at(uintptr_t at)
{
	for (size_t i = 0; i < MOST_MAPPINGS; i++)
		if (atomic_load(&mappings[i].start) <= at && at < atomic_load(&mappings[i].end))
			return &mappings[i];
	return NULL;
}

bool is_register(uintptr_t at)
{
	return mapping_at(at) != NULL;
}

/* ---- Accesses ---- */

const struct refusal *last_refusal(void)
{
	return &refusal;
}

static bool refuse(int error, uintptr_t at)
{
	refusal = (struct refusal){ error, at };
	return false;
}

static bool access_device(struct mapping *m, uintptr_t at, void *bytes, size_t size, uint32_t op)
{
	struct request request = { .op = op, .word = (uint32_t)size, .token = m->token, .a = at - m->base };
	if (!(atomic_load(&m->protection) & (op == OP_STORE ? PROT_WRITE : PROT_READ)))
		return refuse(EFAULT, at);
	if (op == OP_STORE)
		memcpy(&request.c, bytes, size);
	int64_t result = call_server(&request, -1);
	if (result < 0)
		return refuse((int)-result, at);
	if (op == OP_LOAD)
		memcpy(bytes, &request.c, size);
	return true;
}

/* The other operand of an instruction may be anywhere, so this may fault in its turn: then recover_memory() comes here. */
static bool access_memory(uintptr_t at, uint8_t *byte, uint32_t op)
{
	jmp_buf here;
	if (_setjmp(here))
		return refuse(EFAULT, at);
	recovery = &here;
	if (op == OP_LOAD)
		*byte = *(volatile uint8_t *)at;
	else
		*(volatile uint8_t *)at = *byte;
	recovery = NULL;
	return true;
}

void recover_memory(void)
{
	jmp_buf *there = recovery;
	recovery = NULL;
	if (there)
		_longjmp(*there, 1);
}

/* One access of the program is one of the device, unless it is larger than any register or leaves the mapping. */
static bool access_bus(uintptr_t at, uint8_t *bytes, size_t size, uint32_t op)
{
	for (size_t done = 0, piece; done < size; done += piece) {
		struct mapping *m = mapping_at(at + done);
		piece = size - done < LARGEST ? size - done : LARGEST;
		if (m && atomic_load(&m->end) - (at + done) < piece)
			piece = atomic_load(&m->end) - (at + done);
		if (!m)
			piece = 1;
		if (!(m ? access_device(m, at + done, bytes + done, piece, op) : access_memory(at + done, bytes + done, op)))
			return false;
	}
	return true;
}

bool load_bus(uintptr_t at, void *into, size_t size)
{
	return access_bus(at, into, size, OP_LOAD);
}

bool store_bus(uintptr_t at, const void *from, size_t size)
{
	return access_bus(at, (uint8_t *)(uintptr_t)from, size, OP_STORE);
}

/* ---- Mappings ---- */

uint64_t lock_registers(void)
{
	uint64_t everything = ~0ULL, before;
	syscall(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, &everything, &before, sizeof(before));
	pthread_mutex_lock(&lock);
	return before;
}

void unlock_registers(uint64_t mask)
{
	pthread_mutex_unlock(&lock);
	syscall(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &mask, NULL, sizeof(mask));
}

static void before_fork(void)
{
	mask_at_fork = lock_registers();
}

static void after_fork(void)
{
	unlock_registers(mask_at_fork);
}

__attribute__((constructor)) static void prepare(void)
{
	if (config())
		pthread_atfork(before_fork, after_fork, after_fork);
}

static uintptr_t page_end(uintptr_t start, size_t length)
{
	return start + ((length + PAGE - 1) & ~(PAGE - 1));
}

static bool add(uintptr_t start, uintptr_t end, uintptr_t base, int protection, const struct token *token)
{
	for (size_t i = 0; i < MOST_MAPPINGS; i++) {
		struct mapping *m = &mappings[i];
		if (atomic_load(&m->end))
			continue;
		m->base = base;
		m->token = *token;
		atomic_store(&m->protection, protection);
		atomic_store(&m->start, start);
		atomic_store(&m->end, end);
		return true;
	}
	return false;
}

bool add_registers(uintptr_t start, size_t length, int protection, const struct token *token)
{
	catch_faults();
	return add(start, page_end(start, length), start, protection, token);
}

/* No mapping goes across `at` any more. False: there is no room for one more. */
static bool split(uintptr_t at)
{
	struct mapping *m = mapping_at(at);
	if (!m || atomic_load(&m->start) == at)
		return true;
	if (!add(at, atomic_load(&m->end), m->base, atomic_load(&m->protection), &m->token))
		return false;
	atomic_store(&m->end, at);
	return true;
}

bool isolate_registers(uintptr_t start, size_t length)
{
	return split(start) && split(page_end(start, length));
}

void cut_registers(uintptr_t start, size_t length)
{
	uintptr_t end = page_end(start, length);
	for (size_t i = 0; i < MOST_MAPPINGS; i++)
		if (start <= atomic_load(&mappings[i].start) && atomic_load(&mappings[i].end) <= end)
			atomic_store(&mappings[i].end, 0);
}

/* What the kernel would say of it comes before anything else. */
static bool is_our_range(const void *at, size_t length)
{
	uintptr_t start = (uintptr_t)at;
	return catches_faults() && start % PAGE == 0 && length && length < UINTPTR_MAX - PAGE - start;
}

EXPORT int munmap(void *at, size_t length)
{
	if (!is_our_range(at, length))
		return NEXT(munmap)(at, length);
	uint64_t mask = lock_registers();
	int result = -1;
	if (!isolate_registers((uintptr_t)at, length))
		errno = ENOMEM;
	else if ((result = NEXT(munmap)(at, length)) == 0)
		cut_registers((uintptr_t)at, length);
	unlock_registers(mask);
	return result;
}

/* The first register above `at`, or `end`. */
static uintptr_t next_register(uintptr_t at, uintptr_t end)
{
	for (size_t i = 0; i < MOST_MAPPINGS; i++) {
		uintptr_t start = atomic_load(&mappings[i].start);
		if (atomic_load(&mappings[i].end) && start > at && start < end)
			end = start;
	}
	return end;
}

/* Registers stay inaccessible: what changes is what our handler lets through. */
EXPORT int mprotect(void *at, size_t length, int protection)
{
	if (!is_our_range(at, length))
		return NEXT(mprotect)(at, length, protection);
	uint64_t mask = lock_registers();
	int result = 0;
	if (!isolate_registers((uintptr_t)at, length)) {
		errno = ENOMEM;
		result = -1;
	}
	for (uintptr_t from = (uintptr_t)at, next, end = page_end(from, length); result == 0 && from < end; from = next) {
		struct mapping *m = mapping_at(from);
		next = m ? atomic_load(&m->end) : next_register(from, end);
		if (m)
			atomic_store(&m->protection, protection);
		else
			result = NEXT(mprotect)((void *)from, next - from, protection);
	}
	unlock_registers(mask);
	return result;
}
