/* SPDX-License-Identifier: MIT */
/*
 * x86-64: moves of every kind (with extension, by strings, of vector registers, reversed), and the arithmetic that
 * compilers apply to memory. Volatile accesses in C and Rust compile to these. AMD64 manual, volumes 3 and 4.
 */
#if defined(__x86_64__)
#include <string.h>

#include "instruction.h"

#define CF 0x001U
#define PF 0x004U
#define AF 0x010U
#define ZF 0x040U
#define SF 0x080U
#define DF 0x400U
#define OF 0x800U

enum { NO_PREFIX, P66, PF3, PF2 }; /* as VEX.pp */

struct instruction {
	mcontext_t *cpu;
	const uint8_t *next; /* byte to be read */
	unsigned pp, map;    /* 1: 0F, 2: 0F38 */
	bool rex, w, vex, wide, repeated;
	unsigned r, x, b; /* 0 or 8 */
	uint8_t opcode, modrm;
	uintptr_t at; /* the memory operand */
	uintptr_t fault;
};

static long long *gpr(struct instruction *i, unsigned number)
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

static uint64_t mask_of(unsigned size)
{
	return size == 8 ? ~0ULL : (1ULL << (8 * size)) - 1;
}

static uint64_t read_gpr(struct instruction *i, unsigned number, unsigned size)
{
	bool high = is_high_byte(i, number, size);
	uint64_t value = (uint64_t)*gpr(i, high ? number - 4 : number);
	return (high ? value >> 8 : value) & mask_of(size);
}

/* 32-bit results clear the upper half; shorter ones leave the rest. */
static void write_gpr(struct instruction *i, unsigned number, unsigned size, uint64_t value)
{
	bool high = is_high_byte(i, number, size);
	long long *place = gpr(i, high ? number - 4 : number);
	uint64_t mask = high ? 0xff00 : mask_of(size == 4 ? 8 : size);
	*place = (long long)(((uint64_t)*place & ~mask) | ((high ? value << 8 : value & mask_of(size)) & mask));
}

static unsigned reg_of(const struct instruction *i)
{
	return i->r | ((i->modrm >> 3) & 7);
}

static uint64_t immediate(struct instruction *i, unsigned size)
{
	int64_t value = size == 1 ? *(const int8_t *)i->next : size == 2 ? *(const int16_t *)i->next : *(const int32_t *)i->next;
	i->next += size;
	return (uint64_t)value;
}

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
	i->wide = second & 4;
	i->pp = second & 3;
	i->opcode = *i->next++;
}

static void read_opcode(struct instruction *i)
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
		at += immediate(i, mode == 1 ? 1 : 4);
	i->at = at;
	return at <= i->fault && i->fault - at < 32;
}

/* ---- Arithmetic ---- */

enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

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

static uint64_t calculate(struct instruction *i, unsigned operation, uint64_t a, uint64_t b, unsigned size)
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

static enum outcome apply_to_memory(struct instruction *i, unsigned operation, uint64_t with, unsigned size)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	value = calculate(i, operation, value, with, size);
	return operation == CMP || store_bus(i->at, &value, size) ? DONE : REFUSED;
}

static enum outcome apply_to_register(struct instruction *i, unsigned operation, unsigned size)
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
static enum outcome test_memory(struct instruction *i, uint64_t with, unsigned size)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	calculate(i, AND, value, with, size);
	return DONE;
}

/* INC and DEC leave the carry. */
static enum outcome step_memory(struct instruction *i, unsigned operation, unsigned size)
{
	uint64_t carry = (uint64_t)i->cpu->gregs[REG_EFL] & CF;
	enum outcome outcome = apply_to_memory(i, operation, 1, size);
	i->cpu->gregs[REG_EFL] = (long long)(((uint64_t)i->cpu->gregs[REG_EFL] & ~(uint64_t)CF) | carry);
	return outcome;
}

/* F6 and F7: TEST, NOT and NEG; multiplication and division of registers of devices is nobody's. */
static enum outcome unary(struct instruction *i, unsigned size)
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

static enum outcome load_gpr(struct instruction *i, unsigned from, unsigned to, bool sign)
{
	uint64_t value = 0;
	if (!load_bus(i->at, &value, from))
		return REFUSED;
	if (sign && value >> (8 * from - 1))
		value |= ~mask_of(from);
	write_gpr(i, reg_of(i), to, value);
	return DONE;
}

static enum outcome store_value(struct instruction *i, uint64_t value, unsigned size)
{
	return store_bus(i->at, &value, size) ? DONE : REFUSED;
}

static enum outcome exchange(struct instruction *i, unsigned size)
{
	uint64_t before = 0, value = read_gpr(i, reg_of(i), size);
	if (!load_bus(i->at, &before, size) || !store_bus(i->at, &value, size))
		return REFUSED;
	write_gpr(i, reg_of(i), size, before);
	return DONE;
}

static uint64_t reversed(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

static enum outcome move_reversed(struct instruction *i, unsigned size)
{
	uint64_t value = 0;
	if (i->opcode == 0xf1)
		return store_value(i, reversed(read_gpr(i, reg_of(i), size), size), size);
	if (!load_bus(i->at, &value, size))
		return REFUSED;
	write_gpr(i, reg_of(i), size, reversed(value, size));
	return DONE;
}

/* MOVS, STOS, LODS, repeated as often as asked. After a refusal it stands where the next try goes on, as on hardware. */
static enum outcome move_string(struct instruction *i, unsigned size)
{
	long long *source = gpr(i, 6), *destination = gpr(i, 7), *count = gpr(i, 1);
	long long step = i->cpu->gregs[REG_EFL] & DF ? -(long long)size : (long long)size;
	unsigned kind = i->opcode & 0xfe; /* A4 MOVS, AA STOS, AC LODS */
	for (; !i->repeated || *count; (*count)--) {
		uint64_t value = read_gpr(i, 0, size);
		if (kind != 0xaa && !load_bus((uintptr_t)*source, &value, size))
			return REFUSED;
		if (kind == 0xac)
			write_gpr(i, 0, size, value);
		else if (!store_bus((uintptr_t)*destination, &value, size))
			return REFUSED;
		*source += kind == 0xaa ? 0 : step;
		*destination += kind == 0xac ? 0 : step;
		if (!i->repeated)
			return DONE;
	}
	return DONE;
}

/* ---- Vector registers: in the signal frame as XSAVE lays them out ---- */

#define XSTATE_MAGIC 0x46505853U
#define XSTATE_BV 512
#define YMM_HIGH 576
#define HAS_YMM 4U

static uint8_t *xmm(struct instruction *i, unsigned number)
{
	return (uint8_t *)&i->cpu->fpregs->_xmm[number];
}

/* The upper half of a YMM register; NULL when the frame has none. A part in its initial state is not there until made. */
static uint8_t *ymm_high(struct instruction *i, unsigned number)
{
	uint8_t *frame = (uint8_t *)i->cpu->fpregs;
	uint32_t magic;
	memcpy(&magic, frame + 464, sizeof(magic));
	if (magic != XSTATE_MAGIC || !(frame[472] & HAS_YMM))
		return NULL;
	if (!(frame[XSTATE_BV] & HAS_YMM)) {
		memset(frame + YMM_HIGH, 0, 16 * 16);
		frame[XSTATE_BV] |= HAS_YMM;
	}
	return frame + YMM_HIGH + 16 * number;
}

static enum outcome store_vector(struct instruction *i, unsigned size, unsigned from)
{
	uint8_t bytes[32] = { 0 };
	uint8_t *high = size > 16 ? ymm_high(i, reg_of(i)) : NULL;
	memcpy(bytes, xmm(i, reg_of(i)), 16);
	if (high)
		memcpy(bytes + 16, high, 16);
	return store_bus(i->at, bytes + from, size) ? DONE : REFUSED;
}

/* What is loaded begins at byte `to`; everything else becomes zero, unless it is `kept`. */
static enum outcome load_vector(struct instruction *i, unsigned size, unsigned to, bool kept)
{
	uint8_t bytes[32] = { 0 };
	uint8_t *low = xmm(i, reg_of(i)), *high = i->vex ? ymm_high(i, reg_of(i)) : NULL;
	if (kept)
		memcpy(bytes, low, 16);
	if (!load_bus(i->at, bytes + to, size))
		return REFUSED;
	memcpy(low, bytes, 16);
	if (high)
		memcpy(high, bytes + 16, 16);
	return DONE;
}

static enum outcome move_vector(struct instruction *i)
{
	unsigned whole = i->wide ? 32 : 16, scalar = i->pp == PF3 ? 4 : i->pp == PF2 ? 8 : whole, word = i->w ? 8 : 4;
	bool packed = i->pp == NO_PREFIX || i->pp == P66, integer = i->pp == P66 || i->pp == PF3;
	switch (i->opcode) {
	case 0x10:
		return load_vector(i, scalar, 0, false);
	case 0x11:
		return store_vector(i, scalar, 0);
	case 0x12:
	case 0x16:
		return packed && !i->vex ? load_vector(i, 8, i->opcode == 0x16 ? 8 : 0, true) : UNKNOWN;
	case 0x13:
	case 0x17:
		return packed ? store_vector(i, 8, i->opcode == 0x17 ? 8 : 0) : UNKNOWN;
	case 0x28:
		return packed ? load_vector(i, whole, 0, false) : UNKNOWN;
	case 0x29:
	case 0x2b:
		return packed ? store_vector(i, whole, 0) : UNKNOWN;
	case 0x6e:
		return i->pp == P66 ? load_vector(i, word, 0, false) : UNKNOWN;
	case 0x6f:
		return integer ? load_vector(i, whole, 0, false) : UNKNOWN;
	case 0x7e:
		return i->pp == PF3 ? load_vector(i, 8, 0, false) : i->pp == P66 ? store_vector(i, word, 0) : UNKNOWN;
	case 0x7f:
		return integer ? store_vector(i, whole, 0) : UNKNOWN;
	case 0xd6:
		return i->pp == P66 ? store_vector(i, 8, 0) : UNKNOWN;
	case 0xe7:
		return i->pp == P66 ? store_vector(i, whole, 0) : UNKNOWN;
	case 0xf0:
		return i->pp == PF2 ? load_vector(i, whole, 0, false) : UNKNOWN;
	}
	return UNKNOWN;
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
		return load_vector(i, i->wide ? 32 : 16, 0, false);
	if ((i->opcode == 0xf0 || i->opcode == 0xf1) && !i->vex && i->pp < PF3)
		return move_reversed(i, word);
	return UNKNOWN;
}

/* Immediates are read last, so that the operand's address is known by then. */
enum outcome do_instruction(ucontext_t *context, uintptr_t fault)
{
	mcontext_t *cpu = &context->uc_mcontext;
	struct instruction i = { .cpu = cpu, .next = (const uint8_t *)cpu->gregs[REG_RIP], .fault = fault };
	read_opcode(&i);
	enum outcome outcome = i.map == 0 ? one_byte(&i) : i.map == 1 ? two_bytes(&i) : i.map == 2 ? three_bytes(&i) : UNKNOWN;
	if (outcome == DONE)
		i.cpu->gregs[REG_RIP] = (long long)(uintptr_t)i.next;
	return outcome;
}

#endif
