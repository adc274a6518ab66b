/* SPDX-License-Identifier: MIT */
/*
 * SIGSEGV while registers are mapped. Our handler comes with the first mapping. From then on the program's own stands
 * behind ours, which passes on every fault that is not at a register. A thread that blocks SIGSEGV would die of its first
 * access: as there is no use in blocking it, masks lose that bit, those of other signals' handlers too.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "instruction.h"
#include "shim.h"

static _Atomic bool installed;
static struct sigaction theirs;

bool catches_faults(void)
{
	return atomic_load(&installed);
}

static void take_default(int number)
{
	struct sigaction standard = { .sa_handler = SIG_DFL };
	NEXT(sigaction)(number, &standard, NULL);
}

/* As if ours were not there. A default action takes the process when the instruction faults again. */
static void pass_on(int number, siginfo_t *info, ucontext_t *context)
{
	struct sigaction action = theirs;
	bool fault = info->si_code > 0;
	sigset_t mask;
	if (action.sa_handler == SIG_IGN && !fault)
		return;
	if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
		take_default(number);
		if (!fault)
			syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
		return;
	}
	if (action.sa_flags & (int)SA_RESETHAND)
		theirs = (struct sigaction){ .sa_handler = SIG_DFL };
	sigorset(&mask, &context->uc_sigmask, &action.sa_mask);
	pthread_sigmask(SIG_SETMASK, &mask, NULL); /* without SIGSEGV; what it was comes back when we return */
	if (action.sa_flags & SA_SIGINFO)
		action.sa_sigaction(number, info, context);
	else
		action.sa_handler(number);
}

/* For the instruction that has faulted, when we return to it. Like one of the kernel, it cannot be blocked or ignored. */
static void bus_error(siginfo_t *info, ucontext_t *context)
{
	struct sigaction action;
	NEXT(sigaction)(SIGBUS, NULL, &action);
	if (action.sa_handler == SIG_IGN || sigismember(&context->uc_sigmask, SIGBUS)) {
		take_default(SIGBUS);
		sigdelset(&context->uc_sigmask, SIGBUS);
	}
	info->si_signo = SIGBUS;
	info->si_code = BUS_ADRERR;
	syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, info);
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
	siginfo_t told = *info;
	enum outcome outcome = UNKNOWN;
	bool fault = info->si_code > 0, ours = fault && is_register((uintptr_t)info->si_addr);
	if (fault && !ours)
		recover_memory();
	if (ours)
		outcome = do_instruction(context, (uintptr_t)info->si_addr);
	errno = kept;
	if (outcome == DONE)
		return;
	if (ours && outcome == UNKNOWN)
		tell_unknown(context);
	if (outcome == REFUSED)
		told.si_addr = (void *)last_refusal()->at;
	if (outcome == REFUSED && last_refusal()->error == EIO)
		bus_error(&told, context);
	else
		pass_on(number, &told, context);
}

/* It may fault in its turn (SA_NODEFER). A bus error of ours waits until it has returned, to meet the instruction itself. */
void catch_faults(void)
{
	struct sigaction ours = { .sa_sigaction = handle_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER };
	sigaddset(&ours.sa_mask, SIGBUS);
	if (!atomic_exchange(&installed, true))
		NEXT(sigaction)(SIGSEGV, &ours, &theirs);
}

/* ---- What programs say of signals ---- */

static const sigset_t *without_faults(const sigset_t *set, sigset_t *copy)
{
	if (!set || !config() || !sigismember(set, SIGSEGV))
		return set;
	*copy = *set;
	sigdelset(copy, SIGSEGV);
	return copy;
}

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
	struct sigaction copy, old = theirs;
	if (number != SIGSEGV || !catches_faults()) {
		if (action && number != SIGSEGV) {
			copy = *action;
			copy.sa_mask = *without_faults(&action->sa_mask, &copy.sa_mask);
			action = &copy;
		}
		return NEXT(sigaction)(number, action, before);
	}
	if (action)
		theirs = *action;
	if (before)
		*before = old;
	return 0;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
	if (number != SIGSEGV || !catches_faults())
		return NEXT(signal)(number, handler);
	sighandler_t before = theirs.sa_handler;
	theirs = (struct sigaction){ .sa_handler = handler, .sa_flags = SA_RESTART };
	return before;
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
