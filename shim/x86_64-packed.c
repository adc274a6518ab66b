/* SPDX-License-Identifier: MIT */
/*
 * What is calculated with vector registers and one operand in memory, element by element: comparisons, smaller and larger,
 * logic, sums, into a vector register or one of masks; and the copies of one element. So libc searches and compares.
 */
#if defined(__x86_64__)
#include "x86_64.h"

enum operation { EQUAL, GREATER, LEAST, MOST, PLUS, MINUS, BOTH, NOT_BOTH, EITHER, DIFFER };

static const struct packed {
	uint8_t map, opcode;
	uint8_t operation;
	uint8_t element; /* bytes; 0: 4, or 8 of W, of what looks at bits only */
	bool is_signed;
} table[] = {
	{ 1, 0x54, BOTH, 0, 0 },      { 1, 0x55, NOT_BOTH, 0, 0 },  { 1, 0x56, EITHER, 0, 0 },	  { 1, 0x57, DIFFER, 0, 0 },
	{ 1, 0x64, GREATER, 1, 1 },   { 1, 0x65, GREATER, 2, 1 },   { 1, 0x66, GREATER, 4, 1 },	  { 1, 0x74, EQUAL, 1, 0 },
	{ 1, 0x75, EQUAL, 2, 0 },     { 1, 0x76, EQUAL, 4, 0 },	    { 1, 0xd4, PLUS, 8, 0 },	  { 1, 0xda, LEAST, 1, 0 },
	{ 1, 0xdb, BOTH, 0, 0 },      { 1, 0xde, MOST, 1, 0 },	    { 1, 0xdf, NOT_BOTH, 0, 0 },  { 1, 0xea, LEAST, 2, 1 },
	{ 1, 0xeb, EITHER, 0, 0 },    { 1, 0xee, MOST, 2, 1 },	    { 1, 0xef, DIFFER, 0, 0 },	  { 1, 0xf8, MINUS, 1, 0 },
	{ 1, 0xf9, MINUS, 2, 0 },     { 1, 0xfa, MINUS, 4, 0 },	    { 1, 0xfb, MINUS, 8, 0 },	  { 1, 0xfc, PLUS, 1, 0 },
	{ 1, 0xfd, PLUS, 2, 0 },      { 1, 0xfe, PLUS, 4, 0 },	    { 2, 0x29, EQUAL, 8, 0 },	  { 2, 0x37, GREATER, 8, 1 },
	{ 2, 0x38, LEAST, 1, 1 },     { 2, 0x39, LEAST, 4, 1 },	    { 2, 0x3a, LEAST, 2, 0 },	  { 2, 0x3b, LEAST, 4, 0 },
	{ 2, 0x3c, MOST, 1, 1 },      { 2, 0x3d, MOST, 4, 1 },	    { 2, 0x3e, MOST, 2, 0 },	  { 2, 0x3f, MOST, 4, 0 },
};

static const struct packed *row_of(const struct instruction *i)
{
	for (size_t n = 0; n < sizeof(table) / sizeof(table[0]); n++)
		if (table[n].map == i->map && table[n].opcode == i->opcode)
			return i->pp == P66 || (i->opcode < 0x60 && i->map == 1 && i->pp == NO_PREFIX) ? &table[n] : NULL;
	return NULL;
}

/* EVEX only: VPCMP and VPCMPU, VPTEST(N)M, VPTERNLOG. */
static bool compares_into_mask(const struct instruction *i)
{
	return i->evex && i->map == 3 && i->pp == P66 && (i->opcode & 0xde) == 0x1e;
}

static bool tests_into_mask(const struct instruction *i)
{
	return i->evex && i->map == 2 && (i->pp == P66 || i->pp == PF3) && (i->opcode & 0xfe) == 0x26;
}

static bool is_ternary(const struct instruction *i)
{
	return i->evex && i->map == 3 && i->pp == P66 && i->opcode == 0x25;
}

static bool is_masked_move(const struct instruction *i)
{
	return i->vex && !i->evex && i->map == 2 && i->pp == P66 &&
	       ((i->opcode & 0xfd) == 0x8c || (i->opcode & 0xfc) == 0x2c);
}

static bool is_vector_test(const struct instruction *i)
{
	return !i->evex && i->map == 2 && i->pp == P66 && i->opcode == 0x17; /* PTEST */
}

/* Bytes that a broadcast reads; 0: it is none. */
static unsigned repeated_bytes(const struct instruction *i)
{
	if (!i->vex || i->map != 2 || i->pp != P66)
		return 0;
	switch (i->opcode) {
	case 0x78:
		return 1;
	case 0x79:
		return 2;
	case 0x18:
	case 0x58:
		return 4;
	case 0x19:
	case 0x59:
		return 8;
	case 0x1a:
	case 0x5a:
		return 16;
	case 0x1b:
	case 0x5b:
		return i->evex ? 32 : 0;
	}
	return 0;
}

static unsigned element_of(const struct instruction *i)
{
	const struct packed *row = row_of(i);
	unsigned word = i->w ? 8 : 4, repeated = repeated_bytes(i);
	if (row) /* with EVEX.W some of the second map are those of twice the size */
		return row->element && !(i->evex && i->map == 2 && row->element == 4) ? row->element : word;
	if (repeated)
		return repeated < 8 ? repeated : word;
	if ((compares_into_mask(i) && i->opcode & 0x20) || (tests_into_mask(i) && i->opcode == 0x26))
		return i->w ? 2 : 1;
	return is_masked_move(i) && i->opcode < 0x80 ? (i->opcode & 1 ? 8 : 4) : word;
}

unsigned packed_bytes(const struct instruction *i)
{
	if (repeated_bytes(i))
		return repeated_bytes(i);
	if (row_of(i) || compares_into_mask(i) || tests_into_mask(i) || is_ternary(i) || is_masked_move(i) || is_vector_test(i))
		return i->broadcast ? element_of(i) : i->width;
	return 0;
}

/* ---- Elements ---- */

static uint64_t element_at(const uint8_t *bytes, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, bytes, size);
	return value;
}

/* -1, 0, 1. */
static int order(uint64_t a, uint64_t b, unsigned size, bool is_signed)
{
	uint64_t top = is_signed ? 1ULL << (8 * size - 1) : 0;
	a ^= top;
	b ^= top;
	return (a > b) - (a < b);
}

static uint64_t combine(enum operation operation, uint64_t a, uint64_t b, unsigned size, bool is_signed)
{
	switch (operation) {
	case EQUAL:
		return a == b ? ~0ULL : 0;
	case GREATER:
		return order(a, b, size, is_signed) > 0 ? ~0ULL : 0;
	case LEAST:
		return order(a, b, size, is_signed) < 0 ? a : b;
	case MOST:
		return order(a, b, size, is_signed) > 0 ? a : b;
	case PLUS:
		return a + b;
	case MINUS:
		return a - b;
	case BOTH:
		return a & b;
	case NOT_BOTH:
		return ~a & b;
	case EITHER:
		return a | b;
	default:
		return a ^ b;
	}
}

/* The predicates of VPCMP: equal, less, less or equal, never, and their opposites. */
static bool holds(unsigned predicate, int order)
{
	bool result = (predicate & 3) == 0 ? order == 0 : (predicate & 3) == 1 ? order < 0 : (predicate & 3) == 2 && order <= 0;
	return result != ((predicate & 4) != 0);
}

static uint64_t ternary(uint64_t a, uint64_t b, uint64_t c, unsigned results)
{
	uint64_t value = 0;
	for (unsigned n = 0; n < 8; n++)
		if (results >> n & 1)
			value |= (n & 4 ? a : ~a) & (n & 2 ? b : ~b) & (n & 1 ? c : ~c);
	return value;
}

/* ---- Vectors ---- */

/* `size` bytes of the operand, of which `piece` are in memory. What does not move is zero, and is not accessed. */
static bool load_operand(struct instruction *i, uint8_t *bytes, unsigned size, unsigned piece)
{
	memset(bytes, 0, LARGEST_VECTOR);
	if (piece == size)
		return load_moving(i, bytes, size);
	if (!load_bus(i->at, bytes, piece))
		return false;
	for (unsigned done = piece; done < size; done += piece)
		memcpy(bytes + done, bytes, piece);
	return true;
}

/* Elements that do not move stay, or become zero. */
static enum outcome keep_vector(struct instruction *i, const uint8_t *result)
{
	uint8_t bytes[LARGEST_VECTOR] = { 0 };
	if (!i->zeroing)
		read_vector(i, reg_of(i), bytes);
	for (unsigned n = 0; n < LARGEST_VECTOR; n++)
		if (n >= i->width)
			bytes[n] = 0;
		else if (moves(i, n))
			bytes[n] = result[n];
	write_vector(i, reg_of(i), bytes, i->width);
	return DONE;
}

static enum outcome into_mask(struct instruction *i, const uint8_t *a, const uint8_t *b)
{
	bool tests = tests_into_mask(i), is_signed = i->opcode & 1;
	unsigned predicate = tests ? 0 : (unsigned)immediate(i, 1) & 7;
	uint64_t mask = 0;
	for (unsigned n = 0; n < i->width; n += i->element) {
		uint64_t x = element_at(a + n, i->element), y = element_at(b + n, i->element);
		bool result = tests ? ((x & y) != 0) == (i->pp == P66) : holds(predicate, order(x, y, i->element, is_signed));
		if (result && moves(i, n))
			mask |= 1ULL << (n / i->element);
	}
	write_mask(i, reg_of(i) & 7, mask);
	return DONE;
}

static enum outcome by_row(struct instruction *i, const struct packed *row, const uint8_t *a, const uint8_t *b)
{
	uint8_t result[LARGEST_VECTOR] = { 0 };
	uint64_t mask = 0;
	for (unsigned n = 0; n < i->width; n += i->element) {
		uint64_t value = combine(row->operation, element_at(a + n, i->element), element_at(b + n, i->element), i->element,
					 row->is_signed);
		memcpy(result + n, &value, i->element);
		if (value && moves(i, n))
			mask |= 1ULL << (n / i->element);
	}
	if (!i->evex || row->operation > GREATER)
		return keep_vector(i, result);
	write_mask(i, reg_of(i) & 7, mask);
	return DONE;
}

static enum outcome three_sources(struct instruction *i, const uint8_t *b, const uint8_t *c)
{
	uint8_t bytes[LARGEST_VECTOR];
	unsigned results = (unsigned)immediate(i, 1);
	read_vector(i, reg_of(i), bytes);
	for (unsigned n = 0; n < i->width; n += 8) {
		uint64_t value = ternary(element_at(bytes + n, 8), element_at(b + n, 8), element_at(c + n, 8), results);
		memcpy(bytes + n, &value, 8);
	}
	return keep_vector(i, bytes);
}

/* ZF: nothing in both; CF: nothing in the operand only. The others are cleared. */
static enum outcome test_vector(struct instruction *i, const uint8_t *a, const uint8_t *b)
{
	uint64_t both = 0, only = 0, flags = (uint64_t)i->cpu->gregs[REG_EFL] & ~(uint64_t)(CF | PF | AF | ZF | SF | OF);
	for (unsigned n = 0; n < i->width; n += 8) {
		both |= element_at(a + n, 8) & element_at(b + n, 8);
		only |= ~element_at(a + n, 8) & element_at(b + n, 8);
	}
	i->cpu->gregs[REG_EFL] = (long long)(flags | (both ? 0 : ZF) | (only ? 0 : CF));
	return DONE;
}

/* The mask is the highest bits of the elements of a vector register. */
static enum outcome move_masked(struct instruction *i, const uint8_t *masks)
{
	uint8_t bytes[LARGEST_VECTOR] = { 0 };
	i->moving = 0;
	for (unsigned n = 0; n < i->width; n += i->element)
		i->moving |= (uint64_t)(masks[n + i->element - 1] >> 7) << (n / i->element);
	if (i->opcode == 0x8e || (i->opcode & 0xfe) == 0x2e) {
		read_vector(i, reg_of(i), bytes);
		return store_moving(i, bytes, i->width) ? DONE : REFUSED;
	}
	if (!load_moving(i, bytes, i->width))
		return REFUSED;
	write_vector(i, reg_of(i), bytes, i->width);
	return DONE;
}

enum outcome calculate_vector(struct instruction *i)
{
	uint8_t a[LARGEST_VECTOR], b[LARGEST_VECTOR];
	const struct packed *row = row_of(i);
	unsigned piece = packed_bytes(i);
	if (!piece || (repeated_bytes(i) && (i->broadcast || i->source)))
		return UNKNOWN;
	i->element = element_of(i);
	read_vector(i, i->vex && !is_vector_test(i) ? i->source : reg_of(i), a);
	if (is_masked_move(i))
		return move_masked(i, a);
	if (!load_operand(i, b, i->width, piece))
		return REFUSED;
	if (row)
		return by_row(i, row, a, b);
	if (repeated_bytes(i))
		return keep_vector(i, b);
	return is_vector_test(i) ? test_vector(i, a, b) : is_ternary(i) ? three_sources(i, a, b) : into_mask(i, a, b);
}

#endif
