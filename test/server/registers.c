/* Maps registers that a file of the server offers: every access is to have the effect that it has on hardware. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%d: %s\n", __LINE__, #condition);   \
			exit(1);                                             \
		}                                                            \
	} while (0)

enum { PEEK = 0x100, LAST_ACCESS = 0x200, FORGET = 0x300 };
#define PAGE 4096UL
#define READ 0
#define WRITE 256

static int fd;

static volatile uint8_t *map_at(void *at, size_t length, int protection, long offset)
{
	void *registers = mmap(at, length, protection, MAP_SHARED | (at ? MAP_FIXED : 0), fd, offset);
	CHECK(registers != MAP_FAILED);
	return registers;
}

static volatile uint8_t *map(void)
{
	return map_at(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, 0);
}

static int last_access(void)
{
	int last = ioctl(fd, LAST_ACCESS);
	CHECK(ioctl(fd, FORGET) == 0);
	return last;
}

#define IS_ONE(kind, bytes) CHECK(last_access() == 65536 + (kind) + (bytes))

static void widths(void)
{
	volatile uint8_t *r = map();
	last_access();
	*(volatile uint8_t *)(r + 1) = 0x11;
	IS_ONE(WRITE, 1);
	*(volatile uint16_t *)(r + 2) = 0x3322;
	IS_ONE(WRITE, 2);
	*(volatile uint32_t *)(r + 4) = 0x77665544;
	IS_ONE(WRITE, 4);
	*(volatile uint64_t *)(r + 8) = 0xffeeddccbbaa9988;
	IS_ONE(WRITE, 8);
	for (long i = 1; i < 16; i++)
		CHECK(ioctl(fd, PEEK, i) == i * 0x11);
	CHECK(*(volatile uint8_t *)(r + 1) == 0x11);
	IS_ONE(READ, 1);
	CHECK(*(volatile uint16_t *)(r + 2) == 0x3322);
	IS_ONE(READ, 2);
	CHECK(*(volatile uint32_t *)(r + 4) == 0x77665544);
	IS_ONE(READ, 4);
	CHECK(*(volatile uint64_t *)(r + 8) == 0xffeeddccbbaa9988);
	IS_ONE(READ, 8);
}

static void code(void)
{
	volatile uint8_t *r = map();
	char text[300], back[300];
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 7);
	memcpy((void *)(uintptr_t)(r + 5), text, sizeof(text));
	memcpy(back, (const void *)(uintptr_t)(r + 5), sizeof(back));
	CHECK(memcmp(text, back, sizeof(back)) == 0);
	/* libc's own, which takes the largest registers that there are, and of small sizes masks. */
	for (volatile size_t size = 1; size < sizeof(text); size += size < 70 ? 3 : 57) {
		memset((void *)(uintptr_t)(r + 5), 0, size);
		memcpy((void *)(uintptr_t)(r + 5), text, size);
		memset(back, 1, sizeof(back));
		memcpy(back, (const void *)(uintptr_t)(r + 5), size);
		CHECK(memcmp(text, back, size) == 0);
		memset((void *)(uintptr_t)(r + 5), 0x33, size);
		CHECK(r[5] == 0x33 && r[4 + size] == 0x33 && r[4] == 0);
	}
	memcpy((void *)(uintptr_t)(r + 5), text, sizeof(text));
	memset((void *)(uintptr_t)(r + 100), 0x5a, 50);
	CHECK(r[99] == (uint8_t)text[94] && r[100] == 0x5a && r[149] == 0x5a && r[150] == (uint8_t)text[145]);
	*(volatile uint32_t *)(r + 16) = 0;
	for (int i = 0; i < 10; i++)
		*(volatile uint32_t *)(r + 16) += 3;
	*(volatile uint32_t *)(r + 16) |= 0x100;
	CHECK(*(volatile uint32_t *)(r + 16) == 0x11e && !(*(volatile uint8_t *)(r + 16) & 1));
	CHECK(*(volatile int8_t *)(r + 16) == 0x1e && *(volatile double *)(r + 512) == 0.0);
	*(volatile double *)(r + 512) = 1.5;
	CHECK(*(volatile double *)(r + 512) == 1.5);
}

#include "registers-libc.h"

/* ---- Faults of other kinds ---- */

static sigjmp_buf escape;
static volatile sig_atomic_t caught;
static void *volatile caught_at;

static void catch(int number, siginfo_t *info, void *context)
{
	(void)context;
	caught = number;
	caught_at = info->si_addr;
	siglongjmp(escape, 1);
}

static void install(int number)
{
	struct sigaction action = { .sa_sigaction = catch, .sa_flags = SA_SIGINFO };
	CHECK(sigaction(number, &action, NULL) == 0);
}

/* The signal that the access ends in; 0. */
#define SIGNAL_OF(access)                        \
	({                                       \
		caught = 0;                      \
		if (sigsetjmp(escape, 1) == 0) { \
			access;                  \
		}                                \
		caught;                          \
	})

static void bus_error(void)
{
	volatile uint8_t *r = map();
	install(SIGBUS);
	CHECK(SIGNAL_OF(r[2 * PAGE + 8]) == SIGBUS && caught_at == r + 2 * PAGE + 8);
	CHECK(SIGNAL_OF(r[2 * PAGE] = 1) == SIGBUS);
	CHECK(SIGNAL_OF(r[0] = 1) == 0);
}

static void parts(void)
{
	volatile uint8_t *r = map_at(NULL, PAGE, PROT_READ, PAGE), *w = map();
	install(SIGSEGV);
	w[PAGE + 3] = 9;
	CHECK(r[3] == 9);
	CHECK(SIGNAL_OF(r[3] = 1) == SIGSEGV && caught_at == r + 3 && w[PAGE + 3] == 9);
	CHECK(mprotect((void *)(uintptr_t)r, PAGE, PROT_READ | PROT_WRITE) == 0);
	CHECK(SIGNAL_OF(r[3] = 1) == 0 && w[PAGE + 3] == 1);
}

static void end_of_page(void)
{
	volatile uint8_t *r = map_at(NULL, PAGE + 1, PROT_READ | PROT_WRITE, 0);
	r[2 * PAGE - 1] = 7;
	CHECK(r[2 * PAGE - 1] == 7 && ioctl(fd, PEEK, 2 * PAGE - 1) == 7);
}

/* Protections of ranges with registers, memory, and registers again in them. */
static void mixed(void)
{
	uint8_t *area = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map_at(area + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, 0);
	map_at(area + 5 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, 0);
	volatile uint8_t *at = area;
	install(SIGSEGV);
	at[PAGE] = at[4 * PAGE] = at[7 * PAGE] = 1;
	CHECK(mprotect(area, 6 * PAGE, PROT_READ) == 0);
	CHECK(at[PAGE] == 1 && SIGNAL_OF(at[PAGE] = 2) == SIGSEGV && SIGNAL_OF(at[2 * PAGE] = 2) == SIGSEGV);
	CHECK(SIGNAL_OF(at[0] = 2) == SIGSEGV && SIGNAL_OF(at[4 * PAGE] = 2) == SIGSEGV);
	CHECK(SIGNAL_OF(at[5 * PAGE] = 2) == SIGSEGV && SIGNAL_OF(at[6 * PAGE] = 2) == 0 && SIGNAL_OF(at[7 * PAGE] = 2) == 0);
	CHECK(ioctl(fd, PEEK, (long)PAGE) == 2);
	CHECK(mprotect(area + 2 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE) == 0);
	CHECK(SIGNAL_OF(at[PAGE] = 3) == SIGSEGV && SIGNAL_OF(at[2 * PAGE] = 3) == 0 && SIGNAL_OF(at[4 * PAGE] = 3) == 0);
	CHECK(mprotect(area + 1, PAGE, PROT_READ) == -1);
	CHECK(munmap(area, 8 * PAGE) == 0 && SIGNAL_OF(at[6 * PAGE]) == SIGSEGV);
}

/* There is room for a number of mappings; beyond it mmap says so, and what is mapped stays as it is. */
static void many(void)
{
	volatile uint8_t *first = map(), *last = first;
	int count = 1;
	for (void *more; (more = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED; count++)
		last = more;
	CHECK(errno == ENOMEM && count > 100);
	CHECK(munmap((void *)(uintptr_t)(last + PAGE), PAGE) == -1 && errno == ENOMEM);
	last[PAGE + 1] = 8;
	CHECK(first[PAGE + 1] == 8 && munmap((void *)(uintptr_t)first, 3 * PAGE) == 0);
	CHECK(munmap((void *)(uintptr_t)(last + 2 * PAGE), PAGE) == 0 && last[PAGE + 1] == 8);
}

static void *count(void *counter)
{
	for (int i = 0; i < 50; i++) {
		__atomic_fetch_add((uint32_t *)counter, 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_or((uint32_t *)counter + 1, 1U << (i % 31), __ATOMIC_SEQ_CST);
		for (uint64_t old = 0; !__atomic_compare_exchange_n((uint64_t *)counter + 1, &old, old + 3, false, __ATOMIC_SEQ_CST,
								    __ATOMIC_SEQ_CST);) {
		}
	}
	return NULL;
}

static void atomics(void)
{
	volatile uint32_t *r = (volatile uint32_t *)map();
	pthread_t counting[3];
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&counting[i], NULL, count, (void *)(uintptr_t)r) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(counting[i], NULL) == 0);
	CHECK(r[0] == 150 && r[1] == 0x7fffffff && r[2] == 450);
}

static _Atomic bool stop;

static void *map_and_unmap(void *unused)
{
	(void)unused;
	while (!stop) {
		volatile uint8_t *r = map();
		r[PAGE + 5] = 5;
		CHECK(r[PAGE + 5] == 5);
		CHECK(munmap((void *)(uintptr_t)r, PAGE) == 0);
		CHECK(r[PAGE + 5] == 5 && munmap((void *)(uintptr_t)(r + PAGE), 2 * PAGE) == 0);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t mapping[3];
	int status;
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&mapping[i], NULL, map_and_unmap, NULL) == 0);
	for (int i = 0; i < 30; i++) {
		pid_t child = fork();
		if (child == 0) {
			volatile uint8_t *r = map();
			r[9] = 9;
			_exit(r[9] == 9 && munmap((void *)(uintptr_t)r, 3 * PAGE) == 0 ? 0 : 1);
		}
		CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		CHECK(pthread_join(mapping[i], NULL) == 0);
}

static void unmapped(void)
{
	volatile uint8_t *r = map();
	install(SIGSEGV);
	r[PAGE] = 5;
	CHECK(munmap((void *)(uintptr_t)r, PAGE) == 0);
	CHECK(SIGNAL_OF(r[0]) == SIGSEGV && r[PAGE] == 5);
	CHECK(mmap((void *)(uintptr_t)(r + PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == r + PAGE);
	r[PAGE] = 6;
	CHECK(r[PAGE] == 6 && ioctl(fd, PEEK, (long)PAGE) == 5);
	map_at((void *)(uintptr_t)(r + PAGE), PAGE, PROT_READ | PROT_WRITE, PAGE);
	CHECK(r[PAGE] == 5);
	CHECK(syscall(SYS_munmap, r + PAGE, 2 * PAGE) == 0);
	CHECK(map_at((void *)(uintptr_t)(r + PAGE), PAGE, PROT_READ, 0) == r + PAGE && syscall(SYS_munmap, r + PAGE, PAGE) == 0);
	CHECK(mmap((void *)(uintptr_t)(r + PAGE), PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == r + PAGE);
	CHECK(SIGNAL_OF(r[PAGE]) == SIGSEGV && SIGNAL_OF(r[2 * PAGE]) == SIGSEGV);
}

static void forked(void)
{
	volatile uint32_t *r = (volatile uint32_t *)map();
	int status;
	CHECK(close(fd) == 0);
	r[0] = 1;
	pid_t child = fork();
	if (child == 0) {
		r[0] += 1;
		_exit(r[0] == 2 ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0 && r[0] == 2);
}

static void own_handler(void)
{
	volatile int *nothing = NULL;
	struct sigaction before;
	install(SIGSEGV);
	volatile uint8_t *r = map();
	CHECK(SIGNAL_OF(*nothing = 1) == SIGSEGV && caught_at == NULL);
	CHECK(SIGNAL_OF(r[0] = 3) == 0 && r[0] == 3);
	CHECK(sigaction(SIGSEGV, NULL, &before) == 0 && before.sa_sigaction == catch);
	CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
	CHECK(sigaction(SIGSEGV, NULL, &before) == 0 && before.sa_handler == SIG_DFL);
	r[0] = 4;
	install(SIGSEGV);
	CHECK(SIGNAL_OF(*nothing = 1) == SIGSEGV && r[0] == 4);
}

/* An instruction that moves between registers and memory, where there is none. */
static void half(void)
{
	volatile uint8_t *r = map();
	uint8_t *nowhere = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(munmap(nowhere + PAGE, PAGE) == 0);
	install(SIGSEGV);
	r[3] = 3;
#if defined(__x86_64__)
	void *to = nowhere + PAGE - 4, *from = (void *)(uintptr_t)r;
	size_t count = 8;
	CHECK(SIGNAL_OF(__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) :: "memory")) == SIGSEGV);
	CHECK(caught_at == nowhere + PAGE && nowhere[PAGE - 1] == 3);
#endif
	CHECK(SIGNAL_OF(r[0] = 1) == 0 && r[0] == 1);
}

static volatile uint8_t *in_handler;

static void access_in_handler(int number)
{
	(void)number;
	in_handler[1] = 11;
	caught = number;
}

static int status_of(void (*run)(void))
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		run();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

static void send_fault(void)
{
	kill(getpid(), SIGSEGV);
}

static void bus_error_blocked(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGBUS);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	in_handler[2 * PAGE] = 1;
}

static void bus_error_ignored(void)
{
	CHECK(signal(SIGBUS, SIG_IGN) != SIG_ERR);
	in_handler[2 * PAGE] = 1;
}

static ucontext_t seen;

static void skip_byte_store(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	seen = *(ucontext_t *)context;
#if defined(__x86_64__)
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3;
#else
	((ucontext_t *)context)->uc_mcontext.pc += 4;
#endif
}

static void signals(void)
{
	struct sigaction action = { .sa_handler = access_in_handler }, once = { .sa_sigaction = catch };
	in_handler = map();
	/* While a handler runs that blocks everything. */
	sigfillset(&action.sa_mask);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0 && caught == SIGUSR1 && in_handler[1] == 11);
	/* Signals that are sent, and no faults. */
	CHECK(status_of(send_fault) == SIGSEGV);
	CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR && status_of(send_fault) == 0);
	/* Nobody can block or ignore a bus error. */
	CHECK(status_of(bus_error_blocked) == SIGBUS && status_of(bus_error_ignored) == SIGBUS);
	/* It meets the instruction, which its handler can step over. */
	struct sigaction skip = { .sa_sigaction = skip_byte_store, .sa_flags = SA_SIGINFO };
	CHECK(sigaction(SIGBUS, &skip, NULL) == 0);
#if defined(__x86_64__)
	uint64_t stays = 6;
	__asm__ volatile("movb $5, (%1)" : "+r"(stays) : "r"(in_handler + 2 * PAGE) : "memory");
	CHECK(stays == 6 && seen.uc_mcontext.gregs[REG_CR2] == (long long)(uintptr_t)(in_handler + 2 * PAGE));
#endif
	/* A handler for once, with its mask. */
	once.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND);
	CHECK(sigaction(SIGSEGV, &once, NULL) == 0);
	volatile int *nothing = NULL;
	CHECK(SIGNAL_OF(*nothing = 1) == SIGSEGV);
	CHECK(sigaction(SIGSEGV, NULL, &once) == 0 && once.sa_handler == SIG_DFL);
}

static void *access_blocked(void *at)
{
	sigset_t all;
	sigfillset(&all);
	CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0 && sigprocmask(SIG_BLOCK, &all, NULL) == 0);
	*(volatile uint32_t *)at = 77;
	return NULL;
}

static void blocked(void)
{
	volatile uint8_t *r = map();
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, access_blocked, (void *)(uintptr_t)(r + 8 * i)) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0 && r[8 * i] == 77);
}

#if defined(__x86_64__)

#include "registers-x86_64.h"

#else

static void each_instruction(void)
{
}

static void unknown(void)
{
	volatile uint8_t *r = map();
	__asm__ volatile("ldxr w1, [%0]" :: "r"(r) : "w1", "memory");
}

#endif

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} scenarios[] = { { "widths", widths },	  { "code", code },	  { "libc", libc }, { "atomics", atomics }, { "instructions", each_instruction },
			  { "bus-error", bus_error }, { "parts", parts }, { "unmapped", unmapped },
			  { "fork", forked },	  { "own-handler", own_handler }, { "blocked", blocked },
			  { "unknown", unknown }, { "end-of-page", end_of_page }, { "mixed", mixed }, { "many", many },
			  { "threads", threads }, { "half", half }, { "signals", signals } };
	fd = open("/dev/registers", O_RDWR);
	CHECK(fd >= 0 && argc == 2);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		if (strcmp(scenarios[i].name, argv[1]) == 0)
			scenarios[i].run();
	return 0;
}
