/* SPDX-License-Identifier: MIT */
/*
 * x86-64: moves of every kind (with extension, by strings, of vector registers, reversed, on a condition), the arithmetic
 * that compilers apply to memory, atomics, and comparisons of strings and vectors. Volatile accesses in C and Rust compile
 * to these, and libc copies, compares and searches with them. AMD64 manual, volumes 3 and 4; EVEX: Intel SDM, volume 2, 2.7.
 */
#if defined(__x86_64__)
#include "shim.h"
#include "x86_64.h"

/* ---- Decoding ---- */

static bool legacy_prefix(struct instruction *i, uint8_t byte)
{
	switch (byte) {
	case 0x66:
		i->pp = i->pp ? i->pp : P66;
		i->operand16 = true;
		return true;
	case 0xf2:
	case 0xf3:
		i->pp = byte == 0xf2 ? PF2 : PF3;
		i->repetition = i->pp;
		return true;
	case 0x67:
		i->address32 = true;
		return true;
	case 0xf0:
		i->locked = true;
		return true;
	case 0x26: /* segments without a base */
	case 0x2e:
	case 0x36:
	case 0x3e:
		return true;
	}
	return false;
}

static void read_vex(struct instruction *i, bool three_bytes)
{
	uint8_t first = *i->next++, second = three_bytes ? *i->next++ : first;
	i->vex = true;
	i->r = first & 0x80 ? 0 : 8;
	i->x = three_bytes && !(first & 0x40) ? 8 : 0;
	i->b = three_bytes && !(first & 0x20) ? 8 : 0;
	i->map = three_bytes ? first & 31 : 1;
	i->w = three_bytes && second & 0x80;
	i->source = ~(second >> 3) & 15;
	i->width = second & 4 ? 32 : 16;
	i->pp = second & 3;
	i->opcode = *i->next++;
}

/* False when something in it is of an instruction without memory, or reserved. */
static bool read_evex(struct instruction *i)
{
	uint8_t first = *i->next++, second = *i->next++, third = *i->next++;
	i->vex = i->evex = true;
	i->r = (first & 0x80 ? 0 : 8) | (first & 0x10 ? 0 : 16);
	i->x = first & 0x40 ? 0 : 8;
	i->b = first & 0x20 ? 0 : 8;
	i->map = first & 7;
	i->w = second & 0x80;
	i->pp = second & 3;
	i->source = (~(second >> 3) & 15) | (third & 8 ? 0 : 16);
	i->width = 16U << ((third >> 5) & 3);
	i->broadcast = third & 0x10;
	i->zeroing = third & 0x80;
	i->mask = third & 7;
	i->opcode = *i->next++;
	return i->width <= 64 && second & 4 && !(first & 8);
}

static bool read_opcode(struct instruction *i)
{
	while (legacy_prefix(i, *i->next))
		i->next++;
	if ((*i->next & 0xf0) == 0x40) {
		uint8_t rex = *i->next++;
		i->rex = true;
		i->w = rex & 8;
		i->r = rex & 4 ? 8 : 0;
		i->x = rex & 2 ? 8 : 0;
		i->b = rex & 1 ? 8 : 0;
	}
	i->opcode = *i->next++;
	if (i->opcode == 0x62)
		return read_evex(i);
	if (i->opcode == 0xc4 || i->opcode == 0xc5) {
		read_vex(i, i->opcode == 0xc4);
	} else if (i->opcode == 0x0f) {
		i->map = 1;
		i->opcode = *i->next++;
		if (i->opcode == 0x38 || i->opcode == 0x3a) {
			i->map = i->opcode == 0x38 ? 2 : 3;
			i->opcode = *i->next++;
		}
	}
	return true;
}

static unsigned word_of(const struct instruction *i)
{
	return i->w ? 8 : i->operand16 ? 2 : 4;
}

/* BT and its like take the number of a bit from a register, and with it the word that the bit is in. */
static uint64_t bit_displacement(struct instruction *i)
{
	unsigned size = word_of(i);
	if (i->vex || i->map != 1 || (i->opcode & 0xe7) != 0xa3)
		return 0;
	uint64_t number = read_gpr(i, reg_of(i), size), top = 1ULL << (8 * size - 1);
	return (uint64_t)((int64_t)((number ^ top) - top) >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size;
}

/* False: the operand is a register, lies where the program is, or is not what faulted. */
static bool read_operand(struct instruction *i)
{
	i->modrm = *i->next++;
	unsigned mode = i->modrm >> 6, base = i->modrm & 7;
	uint64_t at = 0;
	if (mode == 3 || (mode == 0 && base == 5))
		return false;
	if (base == 4) {
		uint8_t sib = *i->next++;
		unsigned index = ((sib >> 3) & 7) | i->x;
		base = sib & 7;
		if (index != 4)
			at += (uint64_t)*gpr(i, index) << (sib >> 6);
		if (base == 5 && mode == 0)
			at += immediate(i, 4);
		else
			at += (uint64_t)*gpr(i, base | i->b);
	} else {
		at += (uint64_t)*gpr(i, base | i->b);
	}
	if (mode)
		at += immediate(i, mode == 1 ? 1 : 4) * (i->evex && mode == 1 ? vector_bytes(i) + packed_bytes(i) : 1);
	at += bit_displacement(i);
	if (i->address32)
		at &= 0xffffffff;
	i->at = at;
	return at <= i->fault && i->fault - at < 64;
}

/* ---- By opcode ---- */

static enum outcome one_byte(struct instruction *i)
{
	uint8_t op = i->opcode;
	unsigned word = word_of(i), size = op & 1 ? word : 1, extension;
	if ((op >= 0xa4 && op <= 0xa7) || (op >= 0xaa && op <= 0xaf))
		return do_string(i, size);
	if (!read_operand(i))
		return UNKNOWN;
	extension = (i->modrm >> 3) & 7;
	if (op < 0x40 && (op & 7) < 4)
		return op & 2 ? apply_to_register(i, op >> 3, size) :
				apply_to_memory(i, op >> 3, read_gpr(i, reg_of(i), size), size);
	switch (op) {
	case 0x63:
		return load_gpr(i, 4, word, true);
	case 0x69:
	case 0x6b:
		return multiply_immediate(i, immediate(i, op == 0x6b ? 1 : word == 2 ? 2 : 4), word);
	case 0x80:
	case 0x81:
	case 0x83:
		return apply_to_memory(i, extension, immediate(i, op == 0x81 ? (word == 2 ? 2 : 4) : 1), size);
	case 0x84:
	case 0x85:
		return test_memory(i, read_gpr(i, reg_of(i), size), size);
	case 0x86:
	case 0x87:
		return exchange(i, size);
	case 0x88:
	case 0x89:
		return store_value(i, read_gpr(i, reg_of(i), size), size);
	case 0x8a:
	case 0x8b:
		return load_gpr(i, size, size, false);
	case 0x8f:
		return extension ? UNKNOWN : pop(i, word == 4 ? 8 : word);
	case 0xc0:
	case 0xc1:
		return shift_memory(i, immediate(i, 1), size);
	case 0xd0:
	case 0xd1:
		return shift_memory(i, 1, size);
	case 0xd2:
	case 0xd3:
		return shift_memory(i, read_gpr(i, 1, 8), size);
	case 0xc6:
	case 0xc7:
		return extension ? UNKNOWN : store_value(i, immediate(i, size == 8 ? 4 : size), size);
	case 0xf6:
	case 0xf7:
		return unary(i, size);
	case 0xfe:
	case 0xff:
		if (extension == 6 && op == 0xff)
			return push(i, word == 4 ? 8 : word);
		return extension > 1 ? UNKNOWN : step_memory(i, extension ? SUB : ADD, size);
	}
	return UNKNOWN;
}

static enum outcome on_vector(struct instruction *i)
{
	i->moving = i->mask ? read_mask(i, i->mask) : ~0ULL;
	return vector_bytes(i) ? move_vector(i) : calculate_vector(i);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: the registers of a device are in no cache. (A prefetch does not fault.) */
static enum outcome flush(const struct instruction *i)
{
	unsigned extension = (i->modrm >> 3) & 7;
	return (extension == 7 && i->pp <= P66) || (extension == 6 && i->pp == P66) ? DONE : UNKNOWN;
}

static enum outcome two_bytes(struct instruction *i)
{
	uint8_t op = i->opcode;
	unsigned word = word_of(i), size = op & 1 ? word : 1, extension;
	if (!read_operand(i))
		return UNKNOWN;
	if (i->vex)
		return on_vector(i);
	extension = (i->modrm >> 3) & 7;
	if ((op & 0xf0) == 0x40)
		return move_if(i, word);
	if ((op & 0xf0) == 0x90)
		return set_condition(i);
	switch (op) {
	case 0xa3:
	case 0xab:
	case 0xb3:
	case 0xbb:
		return test_bit(i, (op >> 3) & 3, read_gpr(i, reg_of(i), word), word);
	case 0xba:
		return extension < 4 ? UNKNOWN : test_bit(i, extension & 3, immediate(i, 1), word);
	case 0xae:
		return flush(i);
	case 0xaf:
		return multiply_register(i, word);
	case 0xb0:
	case 0xb1:
		return compare_and_exchange(i, size);
	case 0xb6:
	case 0xb7:
	case 0xbe:
	case 0xbf:
		return load_gpr(i, op & 1 ? 2 : 1, word, op >= 0xbe);
	case 0xb8:
	case 0xbc:
	case 0xbd:
		return count_bits(i, word);
	case 0xc0:
	case 0xc1:
		return exchange_and_add(i, size);
	case 0xc3:
		return store_value(i, read_gpr(i, reg_of(i), word), word);
	case 0xc7:
		return extension == 1 ? compare_and_exchange_pair(i, i->w ? 8 : 4) : UNKNOWN;
	}
	return on_vector(i);
}

static enum outcome three_bytes(struct instruction *i)
{
	if (!read_operand(i))
		return UNKNOWN;
	if ((i->opcode == 0xf0 || i->opcode == 0xf1) && !i->vex && i->map == 2 && i->pp < PF3)
		return move_reversed(i, word_of(i));
	if (i->opcode == 0x63 && i->map == 3 && i->pp == P66 && !i->evex && !i->source)
		return search_text(i);
	return on_vector(i);
}

static enum outcome by_map(struct instruction *i)
{
	return i->map == 0 ? one_byte(i) : i->map == 1 ? two_bytes(i) : i->map <= 3 ? three_bytes(i) : UNKNOWN;
}

/* XCHG locks without being told to. */
static bool is_atomic(const struct instruction *i)
{
	return i->locked || (i->map == 0 && (i->opcode & 0xfe) == 0x86);
}

/* Immediates are read last, so that the operand's address is known by then. */
enum outcome do_instruction(ucontext_t *context, uintptr_t fault)
{
	mcontext_t *cpu = &context->uc_mcontext;
	struct instruction i = { .cpu = cpu, .next = (const uint8_t *)cpu->gregs[REG_RIP], .width = 16, .fault = fault };
	long long flags = cpu->gregs[REG_EFL];
	if (!read_opcode(&i))
		return UNKNOWN;
	bool atomic = is_atomic(&i);
	uint64_t mask = atomic ? lock_registers() : 0;
	enum outcome outcome = by_map(&i);
	if (atomic)
		unlock_registers(mask);
	cpu->gregs[outcome == DONE ? REG_RIP : REG_EFL] = outcome == DONE ? (long long)(uintptr_t)i.next : flags;
	return outcome;
}

#endif
