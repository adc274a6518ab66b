/* SPDX-License-Identifier: MIT */
/*
 * Registers of a device that a program has mapped. Behind the mapping are pages that cannot be accessed: each load and
 * store faults, and the handler does what the instruction does, asking the server for what it reads and writes. So a
 * store has acted on the device before the next instruction runs, as on hardware.
 *
 * The handler comes with the first such mapping. From then on the program's own handler of SIGSEGV stands behind ours,
 * which passes on every fault that is not at a register. A thread that blocks SIGSEGV would die of its first access:
 * as there is no use in blocking it, masks lose that bit.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "instruction.h"
#include "shim.h"

#define MOST_MAPPINGS 256
#define LARGEST 16 /* bytes of one access of the server */

static struct mapping {
	_Atomic uintptr_t start; /* 0: unused */
	_Atomic uintptr_t end;
	uintptr_t offset; /* of `start` in what was mapped at first */
	int protection;
	struct token token;
} mappings[MOST_MAPPINGS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of changes; the handler only reads */
static _Atomic bool installed;
static struct sigaction theirs;
static __thread int refusal __attribute__((tls_model("initial-exec")));

static struct mapping *mapping_at(uintptr_t at)
{
	for (size_t i = 0; i < MOST_MAPPINGS; i++)
		if (atomic_load(&mappings[i].start) <= at && at < atomic_load(&mappings[i].end))
			return &mappings[i];
	return NULL;
}

/* ---- Accesses ---- */

static bool access_device(struct mapping *m, uintptr_t at, void *bytes, size_t size, uint32_t op)
{
	struct request request = { .op = op, .word = (uint32_t)size, .token = m->token };
	request.a = m->offset + (at - atomic_load(&m->start));
	if (!(m->protection & (op == OP_STORE ? PROT_WRITE : PROT_READ))) {
		refusal = EFAULT;
		return false;
	}
	if (op == OP_STORE)
		memcpy(&request.c, bytes, size);
	int64_t result = call_server(&request, -1);
	if (result < 0) {
		refusal = (int)-result;
		return false;
	}
	if (op == OP_LOAD)
		memcpy(bytes, &request.c, size);
	return true;
}

/* One access of the program is one of the device, unless it is larger than any register or leaves the mapping. */
static bool access_bus(uintptr_t at, uint8_t *bytes, size_t size, uint32_t op)
{
	for (size_t done = 0, piece; done < size; done += piece) {
		struct mapping *m = mapping_at(at + done);
		piece = size - done < LARGEST ? size - done : LARGEST;
		if (m && atomic_load(&m->end) - (at + done) < piece)
			piece = atomic_load(&m->end) - (at + done);
		if (!m) {
			piece = 1;
			if (op == OP_LOAD)
				bytes[done] = *(volatile uint8_t *)(at + done);
			else
				*(volatile uint8_t *)(at + done) = bytes[done];
		} else if (!access_device(m, at + done, bytes + done, piece, op)) {
			return false;
		}
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

/* ---- Faults ---- */

/* As if ours were not there. A default action takes the process when the instruction faults again. */
static void pass_on(int number, siginfo_t *info, void *context)
{
	if (theirs.sa_flags & SA_SIGINFO) {
		theirs.sa_sigaction(number, info, context);
	} else if (theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN) {
		theirs.sa_handler(number);
	} else {
		struct sigaction standard = { .sa_handler = SIG_DFL };
		NEXT(sigaction)(number, &standard, NULL);
	}
}

static void bus_error(siginfo_t *info)
{
	siginfo_t error = *info;
	error.si_signo = SIGBUS;
	error.si_code = BUS_ADRERR;
	syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &error);
}

static void tell_unknown(const ucontext_t *context)
{
	char text[128];
	uint8_t bytes[8] = { 0 };
#if defined(__x86_64__)
	copy_in(bytes, (const void *)context->uc_mcontext.gregs[REG_RIP], sizeof(bytes));
#else
	(void)context;
#endif
	int length = snprintf(text, sizeof(text), "uiommufd: %02x %02x %02x %02x %02x %02x %02x %02x cannot access a mapped register\n",
			      bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]);
	syscall(SYS_write, STDERR_FILENO, text, (size_t)length);
}

static void handle_fault(int number, siginfo_t *info, void *context)
{
	int kept = errno;
	uintptr_t at = (uintptr_t)info->si_addr;
	enum outcome outcome = UNKNOWN;
	bool ours = info->si_code > 0 && mapping_at(at);
	if (ours)
		outcome = do_instruction(context, at);
	errno = kept;
	if (ours && outcome == DONE)
		return;
	if (ours && outcome == UNKNOWN)
		tell_unknown(context);
	if (ours && outcome == REFUSED && refusal == EIO)
		bus_error(info);
	else
		pass_on(number, info, context);
}

static void install_handler(void)
{
	struct sigaction ours = { .sa_sigaction = handle_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	if (!atomic_exchange(&installed, true))
		NEXT(sigaction)(SIGSEGV, &ours, &theirs);
}

/* ---- Mappings ---- */

/* Takes [start, end) out of what is mapped; what is left of a mapping on both sides becomes two. */
static void cut(uintptr_t start, uintptr_t end)
{
	for (size_t i = 0; i < MOST_MAPPINGS; i++) {
		struct mapping *m = &mappings[i];
		uintptr_t low = atomic_load(&m->start), high = atomic_load(&m->end);
		if (!low || low >= end || high <= start)
			continue;
		if (low < start && high > end) {
			add_registers(end, high - end, m->protection, &m->token, m->offset + (end - low));
			atomic_store(&m->end, start);
		} else if (low < start) {
			atomic_store(&m->end, start);
		} else if (high > end) {
			m->offset += end - low;
			atomic_store(&m->start, end);
		} else {
			atomic_store(&m->end, 0);
			atomic_store(&m->start, 0);
		}
	}
}

void add_registers(uintptr_t start, size_t length, int protection, const struct token *token, uintptr_t offset)
{
	install_handler();
	for (size_t i = 0; i < MOST_MAPPINGS; i++) {
		struct mapping *m = &mappings[i];
		if (atomic_load(&m->start))
			continue;
		m->offset = offset;
		m->protection = protection;
		m->token = *token;
		atomic_store(&m->start, start);
		atomic_store(&m->end, start + length);
		return;
	}
}

void cut_registers(uintptr_t start, size_t length)
{
	int kept = errno;
	if (!atomic_load(&installed))
		return;
	pthread_mutex_lock(&lock);
	cut(start, start + ((length + 4095) & ~(size_t)4095));
	pthread_mutex_unlock(&lock);
	errno = kept;
}

EXPORT int munmap(void *at, size_t length)
{
	int result = NEXT(munmap)(at, length);
	if (result == 0)
		cut_registers((uintptr_t)at, length);
	return result;
}

/* Registers stay inaccessible: what changes is what our handler lets through. */
EXPORT int mprotect(void *at, size_t length, int protection)
{
	struct mapping *m = atomic_load(&installed) ? mapping_at((uintptr_t)at) : NULL;
	if (!m)
		return NEXT(mprotect)(at, length, protection);
	m->protection = protection;
	return 0;
}

/* ---- Signals ---- */

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
	if (number != SIGSEGV || !atomic_load(&installed))
		return NEXT(sigaction)(number, action, before);
	if (before)
		*before = theirs;
	if (action)
		theirs = *action;
	return 0;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
	if (number != SIGSEGV || !atomic_load(&installed))
		return NEXT(signal)(number, handler);
	sighandler_t before = theirs.sa_handler;
	theirs = (struct sigaction){ .sa_handler = handler, .sa_flags = SA_RESTART };
	return before;
}

static const sigset_t *without_faults(const sigset_t *set, sigset_t *copy)
{
	if (!set || !config() || !sigismember(set, SIGSEGV))
		return set;
	*copy = *set;
	sigdelset(copy, SIGSEGV);
	return copy;
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *before)
{
	sigset_t copy;
	return NEXT(sigprocmask)(how, how == SIG_UNBLOCK ? set : without_faults(set, &copy), before);
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
	sigset_t copy;
	return NEXT(pthread_sigmask)(how, how == SIG_UNBLOCK ? set : without_faults(set, &copy), before);
}
