/* SPDX-License-Identifier: MIT */
/*
 * Instructions that exchange. They are a load and a store, which is what a locked access of registers is on the bus;
 * do_instruction() keeps those of other threads out meanwhile. A comparison that fails stores what it has read.
 */
#if defined(__x86_64__)
#include "x86_64.h"

enum outcome exchange(struct instruction *i, unsigned size)
{
	uint64_t before = 0, value = read_gpr(i, reg_of(i), size);
	if (!load_bus(i->at, &before, size) || !store_bus(i->at, &value, size))
		return REFUSED;
	write_gpr(i, reg_of(i), size, before);
	return DONE;
}

enum outcome exchange_and_add(struct instruction *i, unsigned size)
{
	uint64_t before = 0;
	if (!load_bus(i->at, &before, size))
		return REFUSED;
	uint64_t sum = calculate(i, ADD, before, read_gpr(i, reg_of(i), size), size);
	if (!store_bus(i->at, &sum, size))
		return REFUSED;
	write_gpr(i, reg_of(i), size, before);
	return DONE;
}

enum outcome compare_and_exchange(struct instruction *i, unsigned size)
{
	uint64_t before = 0, wanted = read_gpr(i, 0, size), value = read_gpr(i, reg_of(i), size);
	if (!load_bus(i->at, &before, size))
		return REFUSED;
	calculate(i, CMP, wanted, before, size);
	if (!store_bus(i->at, before == wanted ? &value : &before, size))
		return REFUSED;
	if (before != wanted)
		write_gpr(i, 0, size, before);
	return DONE;
}

/* CMPXCHG8B and CMPXCHG16B: D:A against memory, which becomes C:B. `half` is 4 or 8 bytes. */
enum outcome compare_and_exchange_pair(struct instruction *i, unsigned half)
{
	uint8_t before[16], value[16];
	uint64_t wanted[2] = { read_gpr(i, 0, half), read_gpr(i, 2, half) }, found[2] = { 0, 0 };
	uint64_t new[2] = { read_gpr(i, 3, half), read_gpr(i, 1, half) };
	if (!load_bus(i->at, before, 2 * half))
		return REFUSED;
	memcpy(value, before, sizeof(value));
	memcpy(&found[0], before, half);
	memcpy(&found[1], before + half, half);
	bool same = found[0] == wanted[0] && found[1] == wanted[1];
	if (same) {
		memcpy(value, &new[0], half);
		memcpy(value + half, &new[1], half);
	}
	if (!store_bus(i->at, value, 2 * half))
		return REFUSED;
	if (!same) {
		write_gpr(i, 0, half, found[0]);
		write_gpr(i, 2, half, found[1]);
	}
	i->cpu->gregs[REG_EFL] = (long long)(((uint64_t)i->cpu->gregs[REG_EFL] & ~(uint64_t)ZF) | (same ? ZF : 0));
	return DONE;
}

#endif
