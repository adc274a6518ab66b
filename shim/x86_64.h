/* SPDX-License-Identifier: MIT */
/*
 * One x86-64 instruction on its way.
 *
 *   x86_64.c          decoding; which instructions there are
 *   x86_64-integer.c  what those of general registers do: moves, arithmetic
 *   x86_64-string.c   strings: moves, comparisons
 *   x86_64-atomic.c   exchanges
 *   x86_64-native.c   shifts, bits, multiplication
 *   x86_64-xsave.c    vector registers: where they are
 *   x86_64-vector.c   moves of them
 *   x86_64-packed.c   what is calculated with them: comparisons, logic, sums
 *   x86_64-search.c   texts in them
 */
#ifndef UIOMMUFD_X86_64_H
#define UIOMMUFD_X86_64_H

#include <string.h>

#include "instruction.h"

enum { NO_PREFIX, P66, PF3, PF2 }; /* as VEX.pp */

enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

#define CF 0x001U
#define PF 0x004U
#define AF 0x010U
#define ZF 0x040U
#define SF 0x080U
#define DF 0x400U
#define OF 0x800U

struct instruction {
	mcontext_t *cpu;
	const uint8_t *next; /* byte to be read */
	unsigned pp, map;    /* 1: 0F, 2: 0F38, 3: 0F3A */
	unsigned repetition; /* of strings: PF3 (while equal), PF2 (while not) */
	bool rex, w, vex, evex, zeroing, locked;
	bool operand16, address32;
	bool broadcast;	  /* the operand in memory is one element, which stands for all */
	unsigned source;  /* the register that a vector instruction has beside the one of ModRM */
	unsigned r, x, b; /* 0 or 8; r of EVEX: up to 24 */
	unsigned width;	  /* of vectors: 16, 32, 64 bytes */
	unsigned mask;	  /* register that tells which elements move; 0: all */
	uint64_t moving;  /* the elements that move, a bit for each */
	unsigned element; /* bytes of one */
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
void write_gpr(struct instruction *i, unsigned number, unsigned size, uint64_t value);
uint64_t mask_of(unsigned size);

/* Sets the flags. */
uint64_t calculate(struct instruction *i, unsigned operation, uint64_t a, uint64_t b, unsigned size);

enum outcome apply_to_memory(struct instruction *i, unsigned operation, uint64_t with, unsigned size);
enum outcome apply_to_register(struct instruction *i, unsigned operation, unsigned size);
enum outcome test_memory(struct instruction *i, uint64_t with, unsigned size);
enum outcome step_memory(struct instruction *i, unsigned operation, unsigned size);
enum outcome unary(struct instruction *i, unsigned size);
enum outcome load_gpr(struct instruction *i, unsigned from, unsigned to, bool sign);
enum outcome store_value(struct instruction *i, uint64_t value, unsigned size);
enum outcome move_reversed(struct instruction *i, unsigned size);
enum outcome set_condition(struct instruction *i);
enum outcome move_if(struct instruction *i, unsigned size);
enum outcome push(struct instruction *i, unsigned size);
enum outcome pop(struct instruction *i, unsigned size);

enum outcome do_string(struct instruction *i, unsigned size);

enum outcome exchange(struct instruction *i, unsigned size);
enum outcome exchange_and_add(struct instruction *i, unsigned size);
enum outcome compare_and_exchange(struct instruction *i, unsigned size);
enum outcome compare_and_exchange_pair(struct instruction *i, unsigned half);

enum outcome shift_memory(struct instruction *i, uint64_t by, unsigned size);
enum outcome test_bit(struct instruction *i, unsigned operation, uint64_t by, unsigned size);
enum outcome count_bits(struct instruction *i, unsigned size);
enum outcome multiply_register(struct instruction *i, unsigned size);
enum outcome multiply_immediate(struct instruction *i, uint64_t by, unsigned size);

#define LARGEST_VECTOR 64 /* bytes */

void read_vector(struct instruction *i, unsigned number, uint8_t *bytes);
void write_vector(struct instruction *i, unsigned number, const uint8_t *bytes, unsigned size);
uint64_t read_mask(struct instruction *i, unsigned number);
void write_mask(struct instruction *i, unsigned number, uint64_t value);

/* Whether byte `n` of a vector moves. */
bool moves(struct instruction *i, unsigned n);

/* Loads and stores `size` bytes of the operand, those that move: in as few pieces as there are runs of them. */
bool load_moving(struct instruction *i, uint8_t *bytes, unsigned size);
bool store_moving(struct instruction *i, const uint8_t *bytes, unsigned size);

/* Bytes that a vector instruction, whose operand has not been read yet, has in memory; 0: it is none. */
unsigned vector_bytes(const struct instruction *i);
unsigned packed_bytes(const struct instruction *i);
enum outcome move_vector(struct instruction *i);
enum outcome calculate_vector(struct instruction *i);
enum outcome search_text(struct instruction *i);

#endif
