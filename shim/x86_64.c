/* SPDX-License-Identifier: MIT */
/*
 * x86-64: moves of every kind (with extension, by strings, of vector registers, reversed), and the arithmetic that
 * compilers apply to memory. Volatile accesses in C and Rust compile to these, and libc copies with them. AMD64 manual,
 * volumes 3 and 4; EVEX: Intel SDM, volume 2, 2.7.
 */
#if defined(__x86_64__)
#include "x86_64.h"

/* ---- Decoding ---- */

static bool legacy_prefix(struct instruction *i, uint8_t byte)
{
	switch (byte) {
	case 0x66:
		i->pp = i->pp ? i->pp : P66;
		return true;
	case 0xf2:
	case 0xf3:
		i->pp = byte == 0xf2 ? PF2 : PF3;
		i->repeated = true;
		return true;
	case 0x26: /* segments without a base, and the lock of what is one access anyway */
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0xf0:
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
	i->width = second & 4 ? 32 : 16;
	i->pp = second & 3;
	i->opcode = *i->next++;
}

/* False when an element of it is one that no move has. */
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
	i->width = 16U << ((third >> 5) & 3);
	i->zeroing = third & 0x80;
	i->mask = third & 7;
	i->opcode = *i->next++;
	bool one_source = (second & 0x78) == 0x78 && third & 8, broadcast = third & 0x10;
	return one_source && !broadcast && i->width <= 64 && second & 4 && !(first & 8);
}

static bool read_opcode(struct instruction *i)
{
	bool operand16 = false;
	while (legacy_prefix(i, *i->next)) {
		operand16 = operand16 || *i->next == 0x66;
		i->next++;
	}
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
		if (i->opcode == 0x38) {
			i->map = 2;
			i->opcode = *i->next++;
		}
	}
	if (i->map == 0 && operand16)
		i->pp = P66; /* beside a repetition it still says the size */
	return true;
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
		at += immediate(i, mode == 1 ? 1 : 4) * (i->evex && mode == 1 ? vector_bytes(i) : 1);
	i->at = at;
	return at <= i->fault && i->fault - at < 64;
}

/* ---- By opcode ---- */

static enum outcome one_byte(struct instruction *i)
{
	uint8_t op = i->opcode;
	unsigned size = !(op & 1) ? 1 : i->w ? 8 : i->pp == P66 ? 2 : 4, word = i->w ? 8 : i->pp == P66 ? 2 : 4;
	unsigned extension;
	if (op == 0xa4 || op == 0xa5 || (op >= 0xaa && op <= 0xad))
		return move_string(i, size);
	if (!read_operand(i))
		return UNKNOWN;
	extension = (i->modrm >> 3) & 7;
	if (op < 0x40 && (op & 7) < 4)
		return op & 2 ? apply_to_register(i, op >> 3, size) :
				apply_to_memory(i, op >> 3, read_gpr(i, reg_of(i), size), size);
	switch (op) {
	case 0x63:
		return load_gpr(i, 4, word, true);
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
	case 0xc6:
	case 0xc7:
		return extension ? UNKNOWN : store_value(i, immediate(i, size == 8 ? 4 : size), size);
	case 0xf6:
	case 0xf7:
		return unary(i, size);
	case 0xfe:
	case 0xff:
		return extension > 1 ? UNKNOWN : step_memory(i, extension ? SUB : ADD, size);
	}
	return UNKNOWN;
}

static enum outcome two_bytes(struct instruction *i)
{
	unsigned word = i->w ? 8 : i->pp == P66 ? 2 : 4;
	if (!read_operand(i))
		return UNKNOWN;
	switch (i->vex ? 0 : i->opcode) {
	case 0xb6:
	case 0xb7:
	case 0xbe:
	case 0xbf:
		return load_gpr(i, i->opcode & 1 ? 2 : 1, word, i->opcode >= 0xbe);
	case 0xc3:
		return store_value(i, read_gpr(i, reg_of(i), word), word);
	}
	return move_vector(i);
}

static enum outcome three_bytes(struct instruction *i)
{
	unsigned word = i->w ? 8 : i->pp == P66 ? 2 : 4;
	if (!read_operand(i))
		return UNKNOWN;
	if (i->opcode == 0x2a && i->pp == P66)
		return move_vector(i);
	if ((i->opcode == 0xf0 || i->opcode == 0xf1) && !i->vex && i->pp < PF3)
		return move_reversed(i, word);
	return UNKNOWN;
}

/* Immediates are read last, so that the operand's address is known by then. */
enum outcome do_instruction(ucontext_t *context, uintptr_t fault)
{
	mcontext_t *cpu = &context->uc_mcontext;
	struct instruction i = { .cpu = cpu, .next = (const uint8_t *)cpu->gregs[REG_RIP], .width = 16, .fault = fault };
	if (!read_opcode(&i))
		return UNKNOWN;
	enum outcome outcome = i.map == 0 ? one_byte(&i) : i.map == 1 ? two_bytes(&i) : i.map == 2 ? three_bytes(&i) : UNKNOWN;
	if (outcome == DONE)
		i.cpu->gregs[REG_RIP] = (long long)(uintptr_t)i.next;
	return outcome;
}

#endif
