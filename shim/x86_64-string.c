/* SPDX-License-Identifier: MIT */
/*
 * Instructions of strings, repeated as often as asked. After a refusal they stand where the next try goes on, as on
 * hardware.
 */
#if defined(__x86_64__)
#include "x86_64.h"

/* RSI, RDI and RCX, or, with a prefix, the lower halves of them. */
static void advance(struct instruction *i, unsigned number, long long by)
{
	unsigned size = i->address32 ? 4 : 8;
	write_gpr(i, number, size, read_gpr(i, number, size) + (uint64_t)by);
}

static bool one_move(struct instruction *i, unsigned size, uintptr_t source, uintptr_t destination)
{
	uint64_t value = read_gpr(i, 0, size);
	bool loads = i->opcode < 0xaa || i->opcode > 0xab, stores = i->opcode < 0xac;
	if (loads && !load_bus(source, &value, size))
		return false;
	if (stores)
		return store_bus(destination, &value, size);
	write_gpr(i, 0, size, value);
	return true;
}

static bool one_comparison(struct instruction *i, unsigned size, uintptr_t source, uintptr_t destination)
{
	uint64_t value = read_gpr(i, 0, size), with = 0;
	if ((i->opcode < 0xa8 && !load_bus(source, &value, size)) || !load_bus(destination, &with, size))
		return false;
	calculate(i, CMP, value, with, size);
	return true;
}

enum outcome do_string(struct instruction *i, unsigned size)
{
	unsigned kind = i->opcode & 0xfe; /* A4 MOVS, A6 CMPS, AA STOS, AC LODS, AE SCAS */
	unsigned address = i->address32 ? 4 : 8;
	bool compares = kind == 0xa6 || kind == 0xae, has_source = kind != 0xaa && kind != 0xae, has_destination = kind != 0xac;
	long long step = i->cpu->gregs[REG_EFL] & DF ? -(long long)size : (long long)size;
	while (!i->repetition || read_gpr(i, 1, address)) {
		uintptr_t source = read_gpr(i, 6, address), destination = read_gpr(i, 7, address);
		if (!(compares ? one_comparison : one_move)(i, size, source, destination))
			return REFUSED;
		if (has_source)
			advance(i, 6, step);
		if (has_destination)
			advance(i, 7, step);
		if (!i->repetition)
			break;
		advance(i, 1, -1);
		if (compares && !(i->cpu->gregs[REG_EFL] & ZF) != (i->repetition == PF2))
			break;
	}
	return DONE;
}

#endif
