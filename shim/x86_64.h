/* SPDX-License-Identifier: MIT */
/*
 * One x86-64 instruction on its way.
 *
 *   x86_64.c          decoding; which instructions there are
 *   x86_64-integer.c  what those of general registers do: moves, strings, arithmetic
 *   x86_64-vector.c   moves of vector registers
 */
#ifndef UIOMMUFD_X86_64_H
#define UIOMMUFD_X86_64_H

#include <string.h>

#include "instruction.h"

enum { NO_PREFIX, P66, PF3, PF2 }; /* as VEX.pp */

enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

struct instruction {
	mcontext_t *cpu;
	const uint8_t *next; /* byte to be read */
	unsigned pp, map;    /* 1: 0F, 2: 0F38 */
	bool rex, w, vex, evex, repeated, zeroing;
	unsigned r, x, b; /* 0 or 8; r of EVEX: up to 24 */
	unsigned width;	  /* of vectors: 16, 32, 64 bytes */
	unsigned mask;	  /* register that tells which elements move; 0: all */
	uint8_t opcode, modrm;
	uintptr_t at; /* the memory operand */
	uintptr_t fault;
};

static inline unsigned reg_of(const struct instruction *i)
{
	return i->r | ((i->modrm >> 3) & 7);
}

/* Sign-extended. */
static inline uint64_t immediate(struct instruction *i, unsigned size)
{
	int64_t value = size == 1 ? *(const int8_t *)i->next : size == 2 ? *(const int16_t *)i->next : *(const int32_t *)i->next;
	i->next += size;
	return (uint64_t)value;
}

/* `size` is 1, 2, 4 or 8 bytes. */
long long *gpr(struct instruction *i, unsigned number);
uint64_t read_gpr(struct instruction *i, unsigned number, unsigned size);

enum outcome apply_to_memory(struct instruction *i, unsigned operation, uint64_t with, unsigned size);
enum outcome apply_to_register(struct instruction *i, unsigned operation, unsigned size);
enum outcome test_memory(struct instruction *i, uint64_t with, unsigned size);
enum outcome step_memory(struct instruction *i, unsigned operation, unsigned size);
enum outcome unary(struct instruction *i, unsigned size);
enum outcome load_gpr(struct instruction *i, unsigned from, unsigned to, bool sign);
enum outcome store_value(struct instruction *i, uint64_t value, unsigned size);
enum outcome exchange(struct instruction *i, unsigned size);
enum outcome move_reversed(struct instruction *i, unsigned size);
enum outcome move_string(struct instruction *i, unsigned size);

/* Bytes that a vector move, whose operand has not been read yet, has in memory; 0: it is none. */
unsigned vector_bytes(const struct instruction *i);
enum outcome move_vector(struct instruction *i);

#endif
