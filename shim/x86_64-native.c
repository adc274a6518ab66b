/* SPDX-License-Identifier: MIT */
/*
 * Shifts, bits and multiplication: the processor calculates, on copies of the operands and of the flags. So the flags that
 * the manuals leave undefined, and what the processor does not know (LZCNT is BSR on an old one), are as ever.
 */
#if defined(__x86_64__)
#include "x86_64.h"

#define STATUS ((uint64_t)(CF | PF | AF | ZF | SF | OF))

/* The compiler may have put something below the stack pointer. */
#define RUN(text)                                                                                                           \
	__asm__ volatile("lea -128(%%rsp), %%rsp\n push %[flags]\n popf\n" text "\n pushf\n pop %[flags]\n lea 128(%%rsp), %%rsp" \
			 : [to] "+r"(to), [flags] "+r"(flags)                                                               \
			 : [by] "c"(by)                                                                                     \
			 : "cc")

#define RUN_SHIFT(name)                                          \
	do {                                                     \
		if (size == 1)                                   \
			RUN(name "b %%cl, %b[to]");              \
		else if (size == 2)                              \
			RUN(name "w %%cl, %w[to]");              \
		else if (size == 4)                              \
			RUN(name "l %%cl, %k[to]");              \
		else                                             \
			RUN(name "q %%cl, %q[to]");              \
	} while (0)

#define RUN_WORD(name)                                           \
	do {                                                     \
		if (size == 2)                                   \
			RUN(name "w %w[by], %w[to]");            \
		else if (size == 4)                              \
			RUN(name "l %k[by], %k[to]");            \
		else                                             \
			RUN(name "q %q[by], %q[to]");            \
	} while (0)

static uint64_t flags_of(const struct instruction *i)
{
	return (uint64_t)i->cpu->gregs[REG_EFL] & STATUS;
}

static void keep_flags(struct instruction *i, uint64_t flags)
{
	i->cpu->gregs[REG_EFL] = (long long)(((uint64_t)i->cpu->gregs[REG_EFL] & ~STATUS) | (flags & STATUS));
}

enum outcome shift_memory(struct instruction *i, uint64_t by, unsigned size)
{
	uint64_t to = 0, flags = flags_of(i);
	if (!load_bus(i->at, &to, size))
		return REFUSED;
	switch ((i->modrm >> 3) & 7) {
	case 0:
		RUN_SHIFT("rol");
		break;
	case 1:
		RUN_SHIFT("ror");
		break;
	case 2:
		RUN_SHIFT("rcl");
		break;
	case 3:
		RUN_SHIFT("rcr");
		break;
	case 5:
		RUN_SHIFT("shr");
		break;
	case 7:
		RUN_SHIFT("sar");
		break;
	default:
		RUN_SHIFT("shl");
		break;
	}
	if (!store_bus(i->at, &to, size))
		return REFUSED;
	keep_flags(i, flags);
	return DONE;
}

/* BT, BTS, BTR, BTC are operations 0 to 3. */
enum outcome test_bit(struct instruction *i, unsigned operation, uint64_t by, unsigned size)
{
	uint64_t to = 0, flags = flags_of(i);
	if (!load_bus(i->at, &to, size))
		return REFUSED;
	by &= 8 * size - 1;
	if (operation == 0)
		RUN_WORD("bt");
	else if (operation == 1)
		RUN_WORD("bts");
	else if (operation == 2)
		RUN_WORD("btr");
	else
		RUN_WORD("btc");
	if (operation != 0 && !store_bus(i->at, &to, size))
		return REFUSED;
	keep_flags(i, flags);
	return DONE;
}

enum outcome count_bits(struct instruction *i, unsigned size)
{
	uint64_t by = 0, to = read_gpr(i, reg_of(i), 8), flags = flags_of(i);
	bool repeats = i->pp == PF3;
	if (!repeats && i->opcode == 0xb8)
		return UNKNOWN;
	if (!load_bus(i->at, &by, size))
		return REFUSED;
	if (i->opcode == 0xb8)
		RUN_WORD("popcnt");
	else if (i->opcode == 0xbc && repeats)
		RUN_WORD("tzcnt");
	else if (i->opcode == 0xbd && repeats)
		RUN_WORD("lzcnt");
	else if (i->opcode == 0xbc)
		RUN_WORD("bsf");
	else
		RUN_WORD("bsr");
	*gpr(i, reg_of(i)) = (long long)to; /* whole: whether the upper half is cleared is the processor's too */
	keep_flags(i, flags);
	return DONE;
}

static enum outcome multiply(struct instruction *i, uint64_t to, uint64_t by, unsigned size)
{
	uint64_t flags = flags_of(i);
	RUN_WORD("imul");
	write_gpr(i, reg_of(i), size, to);
	keep_flags(i, flags);
	return DONE;
}

enum outcome multiply_register(struct instruction *i, unsigned size)
{
	uint64_t value = 0;
	return load_bus(i->at, &value, size) ? multiply(i, read_gpr(i, reg_of(i), size), value, size) : REFUSED;
}

enum outcome multiply_immediate(struct instruction *i, uint64_t by, unsigned size)
{
	uint64_t value = 0;
	return load_bus(i->at, &value, size) ? multiply(i, value, by, size) : REFUSED;
}

#endif
