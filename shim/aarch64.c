/* SPDX-License-Identifier: MIT */
/*
 * AArch64: every load and store of one or two registers, with and without order; exclusives and atomics, which devices do
 * not take, are unknown. Arm ARM (DDI 0487), C4.1.94 "Loads and stores". What an instruction means is apart from the
 * signal frame, so that it can be tried on any machine.
 */
#include <string.h>

#include "instruction.h"

#if defined(__aarch64__) || defined(TRY_AARCH64)

struct machine {
	uint64_t x[31], sp;
	uint8_t (*v)[16]; /* NULL: the frame has none */
};

struct access {
	unsigned size, registers; /* bytes of each of one or two */
	bool vector, load, sign, to32, write_back;
	uint64_t at, base_after;
};

static unsigned bits(uint32_t word, unsigned high, unsigned low)
{
	return (word >> low) & ((2U << (high - low)) - 1);
}

static int64_t signed_bits(uint32_t word, unsigned high, unsigned low)
{
	return (int32_t)(word << (31 - high)) >> (31 - high + low);
}

static uint64_t *base_of(struct machine *m, uint32_t word)
{
	unsigned n = bits(word, 9, 5);
	return n == 31 ? &m->sp : &m->x[n];
}

static uint64_t general(const struct machine *m, unsigned n)
{
	return n == 31 ? 0 : m->x[n];
}

/* Of a single register: bits 31:30, 26 and 23:22. False for prefetches. */
static bool read_kind(struct access *a, uint32_t word)
{
	unsigned size = bits(word, 31, 30), opc = bits(word, 23, 22);
	a->vector = bits(word, 26, 26);
	a->registers = 1;
	if (a->vector) {
		a->size = opc & 2 ? 16 : 1U << size;
		a->load = opc & 1;
		return !(opc & 2) || size == 0;
	}
	a->size = 1U << size;
	a->load = opc != 0;
	a->sign = opc & 2;
	a->to32 = opc == 3;
	return !(size == 3 && opc & 2) && !(size == 2 && opc == 3);
}

static void index_by(struct access *a, uint64_t base, int64_t offset, unsigned mode)
{
	a->at = mode == 1 ? base : base + (uint64_t)offset; /* 1: afterwards, 3: before, else: not at all */
	a->write_back = mode == 1 || mode == 3;
	a->base_after = base + (uint64_t)offset;
}

static uint64_t extended(uint64_t value, unsigned option)
{
	return option == 2 ? (uint32_t)value : option == 6 ? (uint64_t)(int64_t)(int32_t)value : value;
}

static bool read_pair(struct access *a, uint32_t word, uint64_t base)
{
	unsigned opc = bits(word, 31, 30), mode = bits(word, 24, 23);
	a->vector = bits(word, 26, 26);
	a->size = a->vector ? 4U << opc : opc == 2 ? 8 : 4;
	a->sign = !a->vector && opc == 1;
	a->load = bits(word, 22, 22);
	a->registers = 2;
	index_by(a, base, signed_bits(word, 21, 15) * (int64_t)a->size, mode);
	return opc != 3 && (!a->sign || a->load);
}

static bool decode(struct access *a, struct machine *m, uint32_t word)
{
	uint64_t base = *base_of(m, word);
	*a = (struct access){ 0 };
	if ((word & 0x3a000000) == 0x28000000)
		return read_pair(a, word, base);
	if ((word & 0x3fa00000) == 0x08800000) { /* LDAR, STLR and their limited forms */
		a->size = 1U << bits(word, 31, 30);
		a->load = bits(word, 22, 22);
		a->registers = 1;
		a->at = base;
		return true;
	}
	if ((word & 0x3a000000) != 0x38000000 || !read_kind(a, word))
		return false;
	if (bits(word, 24, 24)) {
		a->at = base + (uint64_t)bits(word, 21, 10) * a->size;
		return true;
	}
	if (!bits(word, 21, 21)) {
		index_by(a, base, signed_bits(word, 20, 12), bits(word, 11, 10));
		return true;
	}
	if (bits(word, 11, 10) != 2)
		return false;
	unsigned shift = bits(word, 12, 12) ? (unsigned)__builtin_ctz(a->size) : 0;
	a->at = base + (extended(general(m, bits(word, 20, 16)), bits(word, 15, 13)) << shift);
	return true;
}

static void put_general(struct machine *m, const struct access *a, unsigned n, uint64_t value)
{
	unsigned unused = 64 - 8 * a->size;
	if (a->sign)
		value = (uint64_t)((int64_t)(value << unused) >> unused);
	if (n != 31)
		m->x[n] = a->to32 ? (uint32_t)value : value;
}

static enum outcome perform(struct machine *m, uint32_t word, uintptr_t fault)
{
	struct access a;
	uint8_t bytes[32] = { 0 };
	if (!decode(&a, m, word) || (a.vector && !m->v) || a.at > fault || fault - a.at >= a.size * a.registers)
		return UNKNOWN;
	const unsigned numbers[2] = { bits(word, 4, 0), bits(word, 14, 10) };
	for (unsigned i = 0; i < a.registers && !a.load; i++) {
		uint64_t value = general(m, numbers[i]);
		memcpy(bytes + i * a.size, a.vector ? (void *)m->v[numbers[i]] : (void *)&value, a.size);
	}
	if (!(a.load ? load_bus(a.at, bytes, a.size * a.registers) : store_bus(a.at, bytes, a.size * a.registers)))
		return REFUSED;
	for (unsigned i = 0; i < a.registers && a.load; i++) {
		uint64_t value = 0;
		if (a.vector) {
			memset(m->v[numbers[i]], 0, 16);
			memcpy(m->v[numbers[i]], bytes + i * a.size, a.size);
		} else {
			memcpy(&value, bytes + i * a.size, a.size);
			put_general(m, &a, numbers[i], value);
		}
	}
	if (a.write_back)
		*base_of(m, word) = a.base_after;
	return DONE;
}

#endif

#if defined(__aarch64__)

#define FPSIMD_RECORD 0x46508001U

/* Records of 32-bit magic and size follow one another; that of vector registers has them at 16. */
static uint8_t (*vectors_of(mcontext_t *cpu))[16]
{
	uint8_t *at = (uint8_t *)cpu->__reserved, *end = at + sizeof(cpu->__reserved);
	while (at + 8 <= end) {
		uint32_t record[2];
		memcpy(record, at, sizeof(record));
		if (record[0] == FPSIMD_RECORD)
			return (uint8_t(*)[16])(at + 16);
		if (record[0] == 0 || record[1] < 8)
			return NULL;
		at += record[1];
	}
	return NULL;
}

enum outcome do_instruction(ucontext_t *context, uintptr_t fault)
{
	mcontext_t *cpu = &context->uc_mcontext;
	struct machine m = { .sp = cpu->sp, .v = vectors_of(cpu) };
	uint32_t word;
	memcpy(m.x, cpu->regs, sizeof(m.x));
	memcpy(&word, (const void *)(uintptr_t)cpu->pc, sizeof(word));
	enum outcome outcome = perform(&m, word, fault);
	if (outcome != DONE)
		return outcome;
	memcpy(cpu->regs, m.x, sizeof(m.x));
	cpu->sp = m.sp;
	cpu->pc += 4;
	return DONE;
}

#elif !defined(__x86_64__) && !defined(TRY_AARCH64)

enum outcome do_instruction(ucontext_t *context, uintptr_t fault)
{
	(void)context, (void)fault;
	return UNKNOWN;
}

#endif
