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

/* ---- Instruction by instruction ---- */

#if defined(__x86_64__)

struct state {
	uint64_t a, b, c, d, s, to, flags;
	uint8_t x[16] __attribute__((aligned(16)));
};

/* RDI is at the registers, RSI (of no other instruction than those of strings) at ordinary memory. */
#define DEFINE(n, text)                                                                                             \
	static void instruction_##n(struct state *state, volatile uint8_t *at, uint8_t *other)                      \
	{                                                                                                           \
		register uint64_t flags __asm__("r8") = state->flags;                                               \
		register uint8_t *x __asm__("r9") = state->x;                                                       \
		uint64_t to = (uintptr_t)at + 64, s = (uintptr_t)other;                                             \
		__asm__ volatile("lea -256(%%rsp), %%rsp\n movdqu (%%r9), %%xmm3\n push %%r8\n popf\n" text         \
				 "\n pushf\n pop %%r8\n cld\n movdqu %%xmm3, (%%r9)\n lea 256(%%rsp), %%rsp"        \
				 : "+a"(state->a), "+b"(state->b), "+c"(state->c), "+d"(state->d), "+S"(s), "+D"(to), \
				   "+r"(flags)                                                                      \
				 : "r"(x)                                                                           \
				 : "memory", "cc", "xmm3");                                                         \
		state->flags = flags;                                                                               \
		state->to = to - (uintptr_t)at;                                                                     \
		state->s = s - (uintptr_t)other;                                                                    \
	}

#define INSTRUCTIONS(_)                                                                                        \
	_(0, "mov %%al, 3(%%rdi)") _(1, "mov %%ah, (%%rdi)") _(2, "mov %%cx, 2(%%rdi)") _(3, "mov %%edx, 4(%%rdi)")    \
	_(4, "mov %%rbx, 8(%%rdi)") _(5, "mov (%%rdi), %%dh") _(6, "mov 2(%%rdi), %%ax") _(7, "mov 4(%%rdi), %%ecx")   \
	_(8, "mov 8(%%rdi), %%rdx") _(9, "movb $0x9a, (%%rdi)") _(10, "movw $0x1234, (%%rdi)")                          \
	_(11, "movl $0x89abcdef, (%%rdi)") _(12, "movq $-5, 8(%%rdi)") _(13, "movzbl (%%rdi), %%eax")                   \
	_(14, "movzwl (%%rdi), %%eax") _(15, "movsbl (%%rdi), %%eax") _(16, "movswq (%%rdi), %%rax")                    \
	_(17, "movslq (%%rdi), %%rax") _(18, "movsbw (%%rdi), %%ax") _(19, "movzbw (%%rdi), %%cx")                      \
	_(20, "add %%eax, (%%rdi)") _(21, "adc %%rcx, (%%rdi)") _(22, "sub (%%rdi), %%dl") _(23, "sbb (%%rdi), %%bx")   \
	_(24, "and %%al, (%%rdi)") _(25, "or %%rcx, (%%rdi)") _(26, "xor (%%rdi), %%edx") _(27, "cmp %%rax, (%%rdi)")   \
	_(28, "cmp (%%rdi), %%ecx") _(29, "cmpb $0x80, (%%rdi)") _(30, "cmpl $-3, (%%rdi)") _(31, "cmpq $0x12345, (%%rdi)") \
	_(32, "addl $1000, (%%rdi)") _(33, "adcb $7, (%%rdi)") _(34, "subw $0x1234, (%%rdi)") _(35, "sbbq $-1, (%%rdi)") \
	_(36, "andl $0xff, (%%rdi)") _(37, "orb $0x11, (%%rdi)") _(38, "xorq $-2, (%%rdi)") _(39, "test %%eax, (%%rdi)") \
	_(40, "test %%dl, (%%rdi)") _(41, "testb $1, (%%rdi)") _(42, "testl $0x80000000, (%%rdi)")                      \
	_(43, "testw $0x8000, (%%rdi)") _(44, "testq $-8, (%%rdi)") _(45, "notl (%%rdi)") _(46, "negq (%%rdi)")         \
	_(47, "negb (%%rdi)") _(48, "incl (%%rdi)") _(49, "decw (%%rdi)") _(50, "incq (%%rdi)") _(51, "decb (%%rdi)")   \
	_(52, "xchg %%eax, (%%rdi)") _(53, "xchg %%bl, (%%rdi)") _(54, "lock addl $5, (%%rdi)")                         \
	_(55, "movnti %%rcx, (%%rdi)") _(56, "lea -300(%%rdi), %%rdx\n mov %%eax, 300(%%rdx)\n mov $0, %%edx")            \
	_(57, "movsb") _(58, "movsq") _(59, "mov $5, %%ecx\n rep stosl") _(60, "mov $11, %%ecx\n rep movsb")             \
	_(61, "std\n movsw\n stosb") _(62, "xchg %%rsi, %%rdi\n lodsl\n xchg %%rsi, %%rdi")                             \
	_(63, "xor %%ecx, %%ecx\n rep stosb") _(64, "movups (%%rdi), %%xmm3") _(65, "movdqa %%xmm3, (%%rdi)")           \
	_(66, "movss (%%rdi), %%xmm3") _(67, "movsd %%xmm3, (%%rdi)") _(68, "movd (%%rdi), %%xmm3")                     \
	_(69, "movq %%xmm3, (%%rdi)") _(70, "movq (%%rdi), %%xmm3") _(71, "movhps (%%rdi), %%xmm3")                     \
	_(72, "movlps %%xmm3, (%%rdi)") _(73, "movhpd %%xmm3, (%%rdi)") _(74, "movntdq %%xmm3, (%%rdi)")                \
	_(75, "movaps (%%rdi), %%xmm3") _(76, "movdqu %%xmm3, 1(%%rdi)") _(77, "mov -8(%%rdi), %%rax")                  \
	_(78, "mov $3, %%ecx\n mov 4(%%rdi,%%rcx,4), %%eax") _(79, "movabs $5, %%rcx\n mov %%edx, 0x10(%%rdi,%%rcx,8)")

INSTRUCTIONS(DEFINE)

#define LISTED(n, text) { instruction_##n, text },
static const struct {
	void (*run)(struct state *, volatile uint8_t *, uint8_t *);
	const char *text;
} instructions[] = { INSTRUCTIONS(LISTED) };

#define STATUS 0x8c5UL /* carry, parity, zero, sign, overflow */
#define ADJUST 0x10UL  /* logical instructions leave it undefined */
#define AREA 256

static uint64_t random_number(void)
{
	static uint64_t seed = 88172645463325252;
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed & 1 ? seed : seed & 0xff ? 0 : ~0UL; /* zeros and ones often */
}

static void fill(void *into, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t number = random_number();
		memcpy((char *)into + i, &number, size - i < 8 ? size - i : 8);
	}
}

static void compare(size_t n, volatile uint8_t *registers)
{
	static uint8_t memory[AREA] __attribute__((aligned(64)));
	uint8_t other[2][64] __attribute__((aligned(16))), seen[AREA];
	struct state before, with_memory, with_registers;
	const char *text = instructions[n].text;
	bool logical = strstr(text, "and") || strstr(text, "or") || strstr(text, "test");
	fill(&before, sizeof(before));
	fill(memory, AREA);
	fill(other[0], 64);
	memcpy(other[1], other[0], 64);
	before.flags = random_number() & (STATUS | ADJUST);
	with_memory = with_registers = before;
	for (size_t i = 0; i < AREA; i += 8)
		*(volatile uint64_t *)(registers + i) = *(uint64_t *)(memory + i);
	instructions[n].run(&with_memory, memory, other[0] + 32);
	instructions[n].run(&with_registers, registers, other[1] + 32);
	for (size_t i = 0; i < AREA; i += 8)
		*(uint64_t *)(seen + i) = *(volatile uint64_t *)(registers + i);
	with_memory.flags &= STATUS | (logical ? 0 : ADJUST);
	with_registers.flags &= STATUS | (logical ? 0 : ADJUST);
	if (memcmp(&with_memory, &with_registers, sizeof(before)) || memcmp(memory, seen, AREA) || memcmp(other[0], other[1], 64)) {
		fprintf(stderr, "%s: flags %lx, on memory %lx; a %lx %lx; b %lx %lx; c %lx %lx; d %lx %lx; to %ld %ld\n", text,
			with_registers.flags, with_memory.flags, with_registers.a, with_memory.a, with_registers.b, with_memory.b,
			with_registers.c, with_memory.c, with_registers.d, with_memory.d, with_registers.to, with_memory.to);
		exit(1);
	}
}

__attribute__((target("avx"))) static void wide(volatile uint8_t *r)
{
	uint8_t from[64], back[64];
	fill(from, 64);
	__asm__ volatile("vmovdqu (%1), %%ymm2\n vmovdqu %%ymm2, 7(%0)\n vmovdqu 7(%0), %%ymm3\n vmovdqu %%ymm3, (%2)\n"
			 "vmovups 7(%0), %%xmm2\n vmovdqu %%ymm2, 32(%2)"
			 :: "r"(r), "r"(from), "r"(back) : "memory", "xmm2", "xmm3");
	CHECK(memcmp(from, back, 32) == 0 && memcmp(from, back + 32, 16) == 0);
	memset(from, 0, 16);
	CHECK(memcmp(from, back + 48, 16) == 0);
}

#define AVX512 "avx512f,avx512vl,avx512bw"

/* Registers of all sizes and numbers, displacements in units of the operand, masks that merge and that clear. */
__attribute__((target(AVX512))) static void masked(volatile uint8_t *r)
{
	uint8_t from[64], back[64], old[64];
	fill(from, 64);
	fill(old, 64);
	__asm__ volatile("vmovdqu64 (%1), %%zmm17\n vmovdqu64 %%zmm17, 64(%0)\n vmovups 64(%0), %%zmm2\n vmovdqu8 %%zmm2, (%2)"
			 :: "r"(r), "r"(from), "r"(back) : "memory", "xmm2", "xmm17");
	CHECK(memcmp(from, back, 64) == 0 && r[64] == from[0] && r[127] == from[63]);
	__asm__ volatile("vmovdqu64 64(%0), %%ymm17\n vmovdqu64 %%zmm17, (%1)" :: "r"(r), "r"(back) : "memory", "xmm17");
	CHECK(memcmp(from, back, 32) == 0 && back[32] == 0 && back[63] == 0);
	__asm__ volatile("vmovdqu64 (%1), %%zmm20\n kmovq %3, %%k3\n vmovdqu8 64(%0), %%zmm20%{%%k3%}\n vmovdqu64 %%zmm20, (%2)"
			 :: "r"(r), "r"(old), "r"(back), "r"(0x8000ffff00000105UL) : "memory", "xmm20");
	for (int i = 0; i < 64; i++)
		CHECK(back[i] == (0x8000ffff00000105UL >> i & 1 ? from[i] : old[i]));
	__asm__ volatile("kmovq %2, %%k1\n vmovdqa32 64(%0), %%zmm20%{%%k1%}%{z%}\n vmovdqu64 %%zmm20, (%1)"
			 :: "r"(r), "r"(back), "r"(0x5UL) : "memory", "xmm20");
	for (int i = 0; i < 64; i++)
		CHECK(back[i] == (0x5 >> i / 4 & 1 ? from[i] : 0));
	last_access();
	__asm__ volatile("kmovq %2, %%k1\n vmovdqu64 (%1), %%ymm5\n vmovdqu8 %%ymm5, 128(%0)%{%%k1%}\n vmovd %%xmm5, 256(%0)"
			 :: "r"(r), "r"(from), "r"(0x70UL) : "memory", "xmm5");
	CHECK(ioctl(fd, LAST_ACCESS) == 2 * 65536 + WRITE + 4);
	CHECK(r[131] == 0 && r[132] == from[4] && r[134] == from[6] && r[135] == 0 && r[256] == from[0]);
}

static void each_instruction(void)
{
	volatile uint8_t *r = map();
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		masked(r);
	for (size_t n = 0; n < sizeof(instructions) / sizeof(instructions[0]); n++)
		for (int i = 0; i < 5; i++)
			compare(n, r);
	if (__builtin_cpu_supports("avx"))
		wide(r);
}

/* A division by a register: of no use to anybody, but an access. */
static void unknown(void)
{
	volatile uint8_t *r = map();
	__asm__ volatile("divl (%0)" :: "r"(r) : "rax", "rdx", "memory");
}

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
	} scenarios[] = { { "widths", widths },	  { "code", code },	  { "instructions", each_instruction },
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
