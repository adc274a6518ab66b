/* SPDX-License-Identifier: MIT */
/* Moves of general registers, and arithmetic with its flags. AMD64 manual, volume 3. */
#if defined(__x86_64__)
#include "x86_64.h"

long long *gpr(struct instruction *i, unsigned number)
{
	static const int places[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					REG_R8,	 REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	return &i->cpu->gregs[places[number & 15]];
}

/* AH to BH have the numbers of SP to DI, when there is no REX. */
static bool is_high_byte(const struct instruction *i, unsigned number, unsigned size)
{
	return size == 1 && !i->rex && number >= 4 && number < 8;
}

uint64_t mask_of(unsigned size)
{
	return size == 8 ? ~0ULL : (1ULL << (8 * size)) - 1;
}

uint64_t read_gpr(struct instruction *i, unsigned number, unsigned size)
{
	bool high = is_high_byte(i, number, size);
	uint64_t value = (uint64_t)*gpr(i, high ? number - 4 : number);
	return (high ? value >> 8 : value) & mask_of(size);
}

/* 32-bit results clear the upper half; shorter ones leave the rest. */
void write_gpr(struct instruction *i, unsigned number, unsigned size, uint64_t value)
{
	bool high = is_high_byte(i, number, size);
	long long *place = gpr(i, high ? number - 4 : number);
	uint64_t mask = high ? 0xff00 : mask_of(size == 4 ? 8 : size);
	*place = (long long)(((uint64_t)*place & ~mask) | ((high ? value << 8 : value & mask_of(size)) & mask));
}

/* ---- Arithmetic ---- */

static uint64_t set_flags(struct instruction *i, uint64_t result, unsigned size, unsigned carry, unsigned overflow, unsigned adjust)
{
	uint64_t flags = (uint64_t)i->cpu->gregs[REG_EFL] & ~(uint64_t)(CF | PF | AF | ZF | SF | OF);
	result &= mask_of(size);
	flags |= (carry ? CF : 0) | (overflow ? OF : 0) | (adjust ? AF : 0) | (result ? 0 : ZF);
	flags |= __builtin_parity((unsigned)result & 0xff) ? 0 : PF;
	flags |= result >> (8 * size - 1) ? SF : 0;
	i->cpu->gregs[REG_EFL] = (long long)flags;
	return result;
}

uint64_t calculate(struct instruction *i, unsigned operation, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t mask = mask_of(size), carry_in = 0, result;
	a &= mask;
	b &= mask;
	if (operation == ADC || operation == SBB)
		carry_in = (uint64_t)i->cpu->gregs[REG_EFL] & CF;
	switch (operation) {
	case OR:
		return set_flags(i, a | b, size, 0, 0, 0);
	case AND:
		return set_flags(i, a & b, size, 0, 0, 0);
	case XOR:
		return set_flags(i, a ^ b, size, 0, 0, 0);
	case ADD:
	case ADC:
		result = (a + b + carry_in) & mask;
		return set_flags(i, result, size, result < a || (carry_in && result == a),
				 (unsigned)(((a ^ result) & (b ^ result)) >> (8 * size - 1)), (unsigned)((a ^ b ^ result) & 16));
	default:
		result = (a - b - carry_in) & mask;
		return set_flags(i, result, size, a < b || (carry_in && a == b),
				 (unsigned)(((a ^ b) & (a ^ result)) >> (8 * size - 1)), (unsigned)((a ^ b ^ result) & 16));
	}
}

enum outcome apply_to_memory(struct instruction *i, unsigned operation, uint64_t with, unsigned size)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	value = calculate(i, operation, value, with, size);
	return operation == CMP || store_bus(i->at, &value, size) ? DONE : REFUSED;
}

enum outcome apply_to_register(struct instruction *i, unsigned operation, unsigned size)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	value = calculate(i, operation, read_gpr(i, reg_of(i), size), value, size);
	if (operation != CMP)
		write_gpr(i, reg_of(i), size, value);
	return DONE;
}

/* TEST: an AND that keeps nothing. */
enum outcome test_memory(struct instruction *i, uint64_t with, unsigned size)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	calculate(i, AND, value, with, size);
	return DONE;
}

/* INC and DEC leave the carry. */
enum outcome step_memory(struct instruction *i, unsigned operation, unsigned size)
{
	uint64_t carry = (uint64_t)i->cpu->gregs[REG_EFL] & CF;
	enum outcome outcome = apply_to_memory(i, operation, 1, size);
	i->cpu->gregs[REG_EFL] = (long long)(((uint64_t)i->cpu->gregs[REG_EFL] & ~(uint64_t)CF) | carry);
	return outcome;
}

/* F6 and F7: TEST, NOT and NEG; multiplication and division of registers of devices is nobody's. */
enum outcome unary(struct instruction *i, unsigned size)
{
	unsigned operation = (i->modrm >> 3) & 7;
	uint64_t value = 0;
	if (operation < 2)
		return test_memory(i, immediate(i, size == 8 ? 4 : size), size);
	if (operation > 3)
		return UNKNOWN;
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	value = operation == 2 ? ~value : calculate(i, SUB, 0, value, size);
	return store_bus(i->at, &value, size) ? DONE : REFUSED;
}

/* ---- Moves ---- */

enum outcome load_gpr(struct instruction *i, unsigned from, unsigned to, bool sign)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, from))
		return REFUSED;
	if (sign && value >> (8 * from - 1))
		value |= ~mask_of(from);
	write_gpr(i, reg_of(i), to, value);
	return DONE;
}

enum outcome store_value(struct instruction *i, uint64_t value, unsigned size)
{
	return store_bus(i->at, &value, size) ? DONE : REFUSED;
}

static uint64_t reversed(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

enum outcome move_reversed(struct instruction *i, unsigned size)
{
	uint64_t value = 0;
	if (i->opcode == 0xf1)
		return store_value(i, reversed(read_gpr(i, reg_of(i), size), size), size);
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	write_gpr(i, reg_of(i), size, reversed(value, size));
	return DONE;
}

/* A condition as JCC, SETCC and CMOVCC have it in their lowest four bits. */
static bool condition(const struct instruction *i)
{
	uint64_t flags = (uint64_t)i->cpu->gregs[REG_EFL];
	bool zero = flags & ZF, less = !(flags & SF) != !(flags & OF), holds[8] = {
		flags & OF, flags & CF, zero, flags & CF || zero, flags & SF, flags & PF, less, less || zero,
	};
	return holds[(i->opcode >> 1) & 7] != (i->opcode & 1);
}

enum outcome set_condition(struct instruction *i)
{
	return store_value(i, condition(i), 1);
}

/* It reads whether it moves or not. */
enum outcome move_if(struct instruction *i, unsigned size)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	write_gpr(i, reg_of(i), size, condition(i) ? value : read_gpr(i, reg_of(i), size));
	return DONE;
}

enum outcome push(struct instruction *i, unsigned size)
{
	long long *stack = gpr(i, 4);
	uint64_t value = 0;
	if (!load_bus(i->at, &value, size) || !store_bus((uintptr_t)*stack - size, &value, size))
		return REFUSED;
	*stack -= size;
	return DONE;
}

enum outcome pop(struct instruction *i, unsigned size)
{
	long long *stack = gpr(i, 4);
	uint64_t value = 0;
	if (!load_bus((uintptr_t)*stack, &value, size) || !store_bus(i->at, &value, size))
		return REFUSED;
	*stack += size;
	return DONE;
}

#endif
