/* Instruction by instruction: each has the effect on registers that it has on ordinary memory. */

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
	_(78, "mov $3, %%ecx\n mov 4(%%rdi,%%rcx,4), %%eax") _(79, "movabs $5, %%rcx\n mov %%edx, 0x10(%%rdi,%%rcx,8)") \
	_(80, "lock xadd %%eax, (%%rdi)") \
	_(81, "xadd %%dl, 3(%%rdi)") \
	_(82, "xadd %%rcx, 8(%%rdi)") \
	_(83, "xadd %%ah, (%%rdi)") \
	_(84, "lock cmpxchg %%ecx, (%%rdi)") \
	_(85, "mov 8(%%rdi), %%rax\n lock cmpxchg %%rdx, 8(%%rdi)") \
	_(86, "cmpxchg %%bl, (%%rdi)") \
	_(87, "mov (%%rdi), %%ax\n cmpxchg %%cx, (%%rdi)") \
	_(88, "cmpxchg %%ecx, (%%rdi)") \
	_(89, "lock cmpxchg8b 8(%%rdi)") \
	_(90, "mov 8(%%rdi), %%eax\n mov 12(%%rdi), %%edx\n cmpxchg8b 8(%%rdi)") \
	_(91, "lock cmpxchg16b 16(%%rdi)") \
	_(92, "mov 16(%%rdi), %%rax\n mov 24(%%rdi), %%rdx\n lock cmpxchg16b 16(%%rdi)") \
	_(93, "lock incl (%%rdi)") \
	_(94, "clflush (%%rdi)") \
	_(95, "prefetcht0 (%%rdi)\n prefetchnta (%%rdi)\n prefetchw (%%rdi)") \
	_(96, "shll $3, (%%rdi)") \
	_(97, "shrb (%%rdi)") \
	_(98, "sarq %%cl, (%%rdi)") \
	_(99, "shlw %%cl, (%%rdi)") \
	_(100, "shrq $63, 8(%%rdi)") \
	_(101, "sarl (%%rdi)") \
	_(102, "rolb $5, (%%rdi)") \
	_(103, "rorw %%cl, (%%rdi)") \
	_(104, "rclq (%%rdi)") \
	_(105, "rclb %%cl, (%%rdi)") \
	_(106, "rcrl $2, (%%rdi)") \
	_(107, "rolq %%cl, (%%rdi)") \
	_(108, "sarb %%cl, 5(%%rdi)") \
	_(109, "shll $0, (%%rdi)") \
	_(110, "btl $7, (%%rdi)") \
	_(111, "btsl $31, (%%rdi)") \
	_(112, "btrq $40, (%%rdi)") \
	_(113, "btcw $15, (%%rdi)") \
	_(114, "and $0x1ff, %%eax\n sub $0x100, %%eax\n bt %%eax, 8(%%rdi)") \
	_(115, "movsbq %%al, %%rax\n lock bts %%rax, 8(%%rdi)") \
	_(116, "movsbw %%cl, %%cx\n btr %%cx, (%%rdi)") \
	_(117, "movsbl %%cl, %%ecx\n lock btc %%ecx, (%%rdi)") \
	_(118, "cmovo (%%rdi), %%eax") \
	_(119, "cmovc (%%rdi), %%ecx") \
	_(120, "cmovz (%%rdi), %%rdx") \
	_(121, "cmovbe (%%rdi), %%bx") \
	_(122, "cmovs 8(%%rdi), %%rax") \
	_(123, "cmovp (%%rdi), %%eax") \
	_(124, "cmovl (%%rdi), %%eax") \
	_(125, "cmovle (%%rdi), %%rcx") \
	_(126, "cmovno (%%rdi), %%eax") \
	_(127, "cmovnc (%%rdi), %%ecx") \
	_(128, "cmovnz (%%rdi), %%rdx") \
	_(129, "cmova (%%rdi), %%bx") \
	_(130, "cmovns 8(%%rdi), %%rax") \
	_(131, "cmovnp (%%rdi), %%eax") \
	_(132, "cmovge (%%rdi), %%eax") \
	_(133, "cmovg (%%rdi), %%rcx") \
	_(134, "setc (%%rdi)") \
	_(135, "setle 1(%%rdi)") \
	_(136, "setnz 2(%%rdi)") \
	_(137, "imul (%%rdi), %%eax") \
	_(138, "imul 8(%%rdi), %%rcx") \
	_(139, "imul (%%rdi), %%dx") \
	_(140, "imul $-7, (%%rdi), %%ebx") \
	_(141, "imul $0x12345, (%%rdi), %%rax") \
	_(142, "imul $0x1234, (%%rdi), %%ax") \
	_(143, "popcnt (%%rdi), %%eax") \
	_(144, "popcnt (%%rdi), %%ax") \
	_(145, "popcnt 8(%%rdi), %%rdx") \
	_(146, "lzcnt (%%rdi), %%ecx") \
	_(147, "lzcnt 8(%%rdi), %%rax") \
	_(148, "tzcnt (%%rdi), %%eax") \
	_(149, "tzcnt (%%rdi), %%bx") \
	_(150, "bsf (%%rdi), %%rcx") \
	_(151, "bsr (%%rdi), %%edx") \
	_(152, "movl $0, (%%rdi)\n bsf (%%rdi), %%rcx") \
	_(153, "pushq (%%rdi)\n pop %%rax") \
	_(154, "pushw 2(%%rdi)\n pop %%cx") \
	_(155, "push %%rdx\n popq 8(%%rdi)") \
	_(156, "push %%bx\n popw (%%rdi)") \
	_(157, "cmpsb") \
	_(158, "cmpsq") \
	_(159, "mov $9, %%ecx\n repe cmpsb") \
	_(160, "mov (%%rdi), %%rax\n mov %%rax, (%%rsi)\n mov $16, %%ecx\n repe cmpsb") \
	_(161, "mov $7, %%ecx\n repne cmpsw") \
	_(162, "std\n cmpsl") \
	_(163, "scasb") \
	_(164, "scasq") \
	_(165, "mov $32, %%ecx\n mov 5(%%rdi), %%al\n repne scasb") \
	_(166, "mov $9, %%ecx\n movq $0, (%%rdi)\n mov $0, %%eax\n repe scasw") \
	_(167, "xor %%ecx, %%ecx\n repe cmpsb") \
	_(168, "movdqu 1(%%rdi), %%xmm3\n pcmpeqb (%%rdi), %%xmm3") \
	_(169, "movdqu 16(%%rdi), %%xmm3\n pcmpeqd (%%rdi), %%xmm3") \
	_(170, "pcmpeqw (%%rdi), %%xmm3") \
	_(171, "pcmpgtb (%%rdi), %%xmm3") \
	_(172, "pcmpgtd (%%rdi), %%xmm3") \
	_(173, "pminub (%%rdi), %%xmm3") \
	_(174, "pmaxub (%%rdi), %%xmm3") \
	_(175, "pminsw (%%rdi), %%xmm3") \
	_(176, "pmaxsw (%%rdi), %%xmm3") \
	_(177, "pand (%%rdi), %%xmm3") \
	_(178, "pandn (%%rdi), %%xmm3") \
	_(179, "por (%%rdi), %%xmm3") \
	_(180, "pxor (%%rdi), %%xmm3") \
	_(181, "paddb (%%rdi), %%xmm3") \
	_(182, "paddw (%%rdi), %%xmm3") \
	_(183, "paddd (%%rdi), %%xmm3") \
	_(184, "paddq (%%rdi), %%xmm3") \
	_(185, "psubb (%%rdi), %%xmm3") \
	_(186, "psubw (%%rdi), %%xmm3") \
	_(187, "psubd (%%rdi), %%xmm3") \
	_(188, "psubq (%%rdi), %%xmm3") \
	_(189, "andps (%%rdi), %%xmm3") \
	_(190, "xorpd (%%rdi), %%xmm3") \
	_(191, "andb $3, 5(%%rdi)\n andb $0, 12(%%rdi)\n movdqu (%%rdi), %%xmm3\n pcmpistri $0x1a, (%%rdi), %%xmm3") \
	_(192, "movdqu 1(%%rdi), %%xmm3\n pcmpistri $0x0, (%%rdi), %%xmm3") \
	_(193, "movdqu (%%rdi), %%xmm3\n pcmpistri $0x2, (%%rdi), %%xmm3") \
	_(194, "andb $3, 5(%%rdi)\n andb $0, 12(%%rdi)\n pcmpistri $0x12, (%%rdi), %%xmm3") \
	_(195, "movdqu (%%rdi), %%xmm3\n pcmpistri $0x30, (%%rdi), %%xmm3") \
	_(196, "movdqu 1(%%rdi), %%xmm3\n pcmpistri $0xc, (%%rdi), %%xmm3") \
	_(197, "andb $3, 5(%%rdi)\n andb $0, 12(%%rdi)\n movdqu (%%rdi), %%xmm3\n pcmpistri $0x4c, (%%rdi), %%xmm3") \
	_(198, "pcmpistri $0x44, (%%rdi), %%xmm3") \
	_(199, "movdqu (%%rdi), %%xmm3\n pcmpistri $0x5, (%%rdi), %%xmm3") \
	_(200, "andb $3, 5(%%rdi)\n andb $0, 12(%%rdi)\n movdqu 1(%%rdi), %%xmm3\n pcmpistri $0xa, (%%rdi), %%xmm3") \
	_(201, "movdqu (%%rdi), %%xmm3\n pcmpistri $0x38, (%%rdi), %%xmm3") \
	_(202, "pcmpistri $0x7b, (%%rdi), %%xmm3") \
	_(203, "andb $3, 5(%%rdi)\n andb $0, 12(%%rdi)\n movdqu (%%rdi), %%xmm3\n pcmpistri $0x5a, (%%rdi), %%xmm3") \
	_(204, "movdqu 1(%%rdi), %%xmm3\n pcmpistri $0xd, (%%rdi), %%xmm3") \
	_(205, "movdqu (%%rdi), %%xmm3\n pcmpistri $0x21, (%%rdi), %%xmm3") \
	_(206, "andb $3, 5(%%rdi)\n andb $0, 12(%%rdi)\n pcmpistri $0x31, (%%rdi), %%xmm3") \
	_(207, "movdqu (%%rdi), %%xmm3\n pcmpistri $0x46, (%%rdi), %%xmm3") \
	_(208, "movdqu 1(%%rdi), %%xmm3\n pcmpistri $0x7, (%%rdi), %%xmm3") \
	_(209, "andb $3, 5(%%rdi)\n andb $0, 12(%%rdi)\n movdqu (%%rdi), %%xmm3\n pcmpistri $0x3f, (%%rdi), %%xmm3") \
	_(210, "pcmpistri $0x69, (%%rdi), %%xmm3") \
	_(211, "movl $0x797800, (%%rdi)\n movl $0x7978, %%eax\n movd %%eax, %%xmm3\n pcmpistri $0x0c, (%%rdi), %%xmm3")

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
	memcpy((void *)(uintptr_t)registers, memory, AREA);
	instructions[n].run(&with_memory, memory, other[0] + 32);
	instructions[n].run(&with_registers, registers, other[1] + 32);
	memcpy(seen, (void *)(uintptr_t)registers, AREA);
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

/* ---- Of the larger vector registers ---- */

/* YMM4 or ZMM20, and K1, are operands; YMM3 or ZMM3, ZMM19, K2 and the flags are results. */
struct vectors {
	uint8_t x[64], y[64], other[64];
	uint64_t mask, result, flags;
};

#define DEFINE_VECTOR(n, target_of, prefix, load, text, store)                                                  \
	__attribute__((target(target_of))) static void prefix##n(struct vectors *v, volatile uint8_t *at)       \
	{                                                                                                       \
		uint64_t flags = v->flags;                                                                      \
		__asm__ volatile("lea -256(%%rsp), %%rsp\n" load "\n push %0\n popf\n" text "\n pushf\n pop %0\n"  \
				 store "\n lea 256(%%rsp), %%rsp"                                               \
				 : "+r"(flags)                                                                  \
				 : "a"(v), "D"(at + 64)                                                         \
				 : "memory", "cc", "xmm3", "xmm4");                                             \
		v->flags = flags & STATUS;                                                                      \
	}

#define DEFINE_AVX(n, text) \
	DEFINE_VECTOR(n, "avx2", avx_, "vmovdqu (%%rax), %%ymm3\n vmovdqu 64(%%rax), %%ymm4", text, "vmovdqu %%ymm3, (%%rax)")
#define DEFINE_EVEX(n, text)                                                                                       \
	DEFINE_VECTOR(n, AVX512, evex_,                                                                            \
		      "vmovdqu64 (%%rax), %%zmm3\n vmovdqu64 64(%%rax), %%zmm20\n vmovdqu64 64(%%rax), %%zmm4\n"  \
		      "vmovdqu64 128(%%rax), %%zmm19\n kmovq 192(%%rax), %%k1\n kmovq 200(%%rax), %%k2",           \
		      text, "vmovdqu64 %%zmm3, (%%rax)\n vmovdqu64 %%zmm19, 128(%%rax)\n kmovq %%k2, 200(%%rax)")

#define OF_AVX2(_) \
	_(0, "vpcmpeqb 1(%%rdi), %%ymm4, %%ymm3") \
	_(1, "vpcmpeqd (%%rdi), %%xmm4, %%xmm3") \
	_(2, "vpcmpeqq (%%rdi), %%ymm4, %%ymm3") \
	_(3, "vpcmpgtw (%%rdi), %%ymm4, %%ymm3") \
	_(4, "vpcmpgtq (%%rdi), %%ymm4, %%ymm3") \
	_(5, "vpminub (%%rdi), %%ymm4, %%ymm3") \
	_(6, "vpminuw (%%rdi), %%ymm4, %%ymm3") \
	_(7, "vpminsb (%%rdi), %%ymm4, %%ymm3") \
	_(8, "vpminsd (%%rdi), %%ymm4, %%ymm3") \
	_(9, "vpmaxud (%%rdi), %%ymm4, %%ymm3") \
	_(10, "vpmaxsb (%%rdi), %%ymm4, %%ymm3") \
	_(11, "vpminud (%%rdi), %%ymm4, %%ymm3") \
	_(12, "vpmaxuw (%%rdi), %%ymm4, %%ymm3") \
	_(13, "vpaddd (%%rdi), %%ymm4, %%ymm3") \
	_(14, "vpsubb (%%rdi), %%ymm4, %%ymm3") \
	_(15, "vpand (%%rdi), %%ymm4, %%ymm3") \
	_(16, "vpandn (%%rdi), %%ymm4, %%ymm3") \
	_(17, "vpor (%%rdi), %%ymm4, %%ymm3") \
	_(18, "vpxor (%%rdi), %%ymm4, %%ymm3") \
	_(19, "vandpd (%%rdi), %%ymm4, %%ymm3") \
	_(20, "vptest (%%rdi), %%ymm4") \
	_(21, "vmovdqu (%%rdi), %%ymm4\n vptest (%%rdi), %%ymm4") \
	_(22, "vpxor %%ymm4, %%ymm4, %%ymm4\n vptest (%%rdi), %%ymm4") \
	_(23, "vpbroadcastb 3(%%rdi), %%ymm3") \
	_(24, "vpbroadcastw (%%rdi), %%xmm3") \
	_(25, "vpbroadcastd (%%rdi), %%ymm3") \
	_(26, "vpbroadcastq (%%rdi), %%ymm3") \
	_(27, "vbroadcastss (%%rdi), %%ymm3") \
	_(28, "vbroadcastsd (%%rdi), %%ymm3") \
	_(29, "vbroadcasti128 (%%rdi), %%ymm3") \
	_(30, "vpmaskmovd (%%rdi), %%ymm4, %%ymm3") \
	_(31, "vpmaskmovq (%%rdi), %%xmm4, %%xmm3") \
	_(32, "vpmaskmovd %%ymm3, %%ymm4, (%%rdi)") \
	_(33, "vmaskmovps (%%rdi), %%ymm4, %%ymm3") \
	_(34, "vmaskmovpd %%ymm3, %%ymm4, 8(%%rdi)") \
	_(35, "ptest (%%rdi), %%xmm3") \
	_(36, "pminud (%%rdi), %%xmm3")

#define OF_AVX512(_) \
	_(0, "vpcmpeqb 64(%%rdi), %%zmm20, %%k2") \
	_(1, "vpcmpeqb (%%rdi), %%ymm20, %%k2%{%%k1%}") \
	_(2, "vpcmpeqd 32(%%rdi), %%ymm20, %%k2") \
	_(3, "vpcmpgtw (%%rdi), %%zmm20, %%k2%{%%k1%}") \
	_(4, "vpcmpub $1, 64(%%rdi), %%zmm20, %%k2") \
	_(5, "vpcmpb $2, (%%rdi), %%zmm20, %%k2") \
	_(6, "vpcmpuw $5, (%%rdi), %%zmm20, %%k2%{%%k1%}") \
	_(7, "vpcmpw $6, (%%rdi), %%ymm20, %%k2") \
	_(8, "vpcmpud $4, (%%rdi), %%zmm20, %%k2") \
	_(9, "vpcmpd $3, (%%rdi), %%zmm20, %%k2") \
	_(10, "vpcmpuq $7, (%%rdi), %%zmm20, %%k2") \
	_(11, "vpcmpq $0, (%%rdi), %%zmm20, %%k2") \
	_(12, "vpcmpneqb (%%rdi), %%xmm20, %%k2%{%%k1%}") \
	_(13, "vpcmpeqd 4(%%rdi)%{1to16%}, %%zmm20, %%k2") \
	_(14, "vpminub 64(%%rdi), %%zmm20, %%zmm3") \
	_(15, "vpminub (%%rdi), %%zmm20, %%zmm3%{%%k1%}") \
	_(16, "vpminud (%%rdi), %%zmm20, %%zmm3%{%%k1%}%{z%}") \
	_(17, "vpminuq (%%rdi), %%ymm20, %%ymm19") \
	_(18, "vpmaxsq (%%rdi), %%zmm20, %%zmm3") \
	_(19, "vpxorq (%%rdi), %%zmm20, %%zmm3") \
	_(20, "vpxord 8(%%rdi)%{1to8%}, %%ymm20, %%ymm3%{%%k1%}") \
	_(21, "vpandd (%%rdi), %%zmm20, %%zmm3%{%%k1%}") \
	_(22, "vporq (%%rdi), %%zmm20, %%zmm3%{%%k1%}%{z%}") \
	_(23, "vpandnq (%%rdi), %%zmm20, %%zmm19") \
	_(24, "vpaddd (%%rdi), %%zmm20, %%zmm3%{%%k1%}") \
	_(25, "vpsubb (%%rdi), %%zmm20, %%zmm3%{%%k1%}") \
	_(26, "vpternlogd $0xde, 64(%%rdi), %%zmm20, %%zmm3") \
	_(27, "vpternlogq $0x1b, (%%rdi), %%ymm20, %%ymm3%{%%k1%}") \
	_(28, "vptestmb (%%rdi), %%zmm20, %%k2") \
	_(29, "vptestnmb (%%rdi), %%ymm20, %%k2%{%%k1%}") \
	_(30, "vptestmd (%%rdi), %%zmm20, %%k2") \
	_(31, "vptestnmq (%%rdi), %%zmm20, %%k2") \
	_(32, "vptestnmw (%%rdi), %%zmm20, %%k2") \
	_(33, "vpbroadcastb 3(%%rdi), %%zmm19") \
	_(34, "vpbroadcastw (%%rdi), %%zmm3%{%%k1%}") \
	_(35, "vpbroadcastd 8(%%rdi), %%zmm3%{%%k1%}%{z%}") \
	_(36, "vpbroadcastq 8(%%rdi), %%zmm19") \
	_(37, "vbroadcasti32x4 16(%%rdi), %%zmm19%{%%k1%}") \
	_(38, "vbroadcasti64x4 32(%%rdi), %%zmm19") \
	_(39, "vpcmpeqb (%%rdi), %%ymm4, %%ymm3")

OF_AVX2(DEFINE_AVX)
OF_AVX512(DEFINE_EVEX)

struct on_vectors {
	void (*run)(struct vectors *, volatile uint8_t *);
	const char *text;
};

#define LISTED_AVX(n, text) { avx_##n, text },
#define LISTED_EVEX(n, text) { evex_##n, text },
static const struct on_vectors of_avx2[] = { OF_AVX2(LISTED_AVX) }, of_avx512[] = { OF_AVX512(LISTED_EVEX) };

/* Of what is compared with memory, some is the same. */
static void compare_vectors(const struct on_vectors *instruction, volatile uint8_t *registers)
{
	static uint8_t memory[AREA] __attribute__((aligned(64)));
	struct vectors with_memory, with_registers;
	fill(&with_memory, sizeof(with_memory));
	fill(memory, AREA);
	memcpy(with_memory.y + 8, memory + 72, 16);
	memcpy(with_memory.y + 36, memory + 64 + 36, 20);
	with_memory.flags &= STATUS;
	with_registers = with_memory;
	memcpy((void *)(uintptr_t)registers, memory, AREA);
	instruction->run(&with_memory, memory);
	instruction->run(&with_registers, registers);
	if (memcmp(&with_memory, &with_registers, sizeof(with_memory)) || memcmp(memory, (void *)(uintptr_t)registers, AREA)) {
		fprintf(stderr, "%s: x %lx %lx, on memory %lx %lx; mask %lx %lx; flags %lx %lx\n", instruction->text,
			*(uint64_t *)with_registers.x, *(uint64_t *)(with_registers.x + 8), *(uint64_t *)with_memory.x,
			*(uint64_t *)(with_memory.x + 8), with_registers.result, with_memory.result, with_registers.flags,
			with_memory.flags);
		exit(1);
	}
}

static void each_of(const struct on_vectors *instructions, size_t count, volatile uint8_t *registers)
{
	for (size_t n = 0; n < count; n++)
		for (int i = 0; i < 5; i++)
			compare_vectors(&instructions[n], registers);
}

/* With the prefix that cuts addresses to 32 bits, in which what is above them in a register counts for nothing. */
static void short_addresses(void)
{
	volatile uint8_t *r = map_at((void *)0x20000000UL, PAGE, PROT_READ | PROT_WRITE, 0);
	uint64_t at = (uintptr_t)r + (5UL << 32), count = (7UL << 32) + 3;
	uint32_t value;
	*(volatile uint32_t *)(r + 8) = 0x12345678;
	__asm__ volatile("movl 8(%k1), %0" : "=r"(value) : "r"(at) : "memory");
	CHECK(value == 0x12345678);
	__asm__ volatile("addr32 rep stosb" : "+D"(at), "+c"(count) : "a"(0x5a) : "memory");
	CHECK(at == (uintptr_t)r + 3 && count == 0 && *(volatile uint32_t *)r == 0x5a5a5a);
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
	if (__builtin_cpu_supports("avx2"))
		each_of(of_avx2, sizeof(of_avx2) / sizeof(of_avx2[0]), r);
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		each_of(of_avx512, sizeof(of_avx512) / sizeof(of_avx512[0]), r);
	short_addresses();
}

/* A division by a register: of no use to anybody, but an access. */
static void unknown(void)
{
	volatile uint8_t *r = map();
	__asm__ volatile("divl (%0)" :: "r"(r) : "rax", "rdx", "memory");
}

