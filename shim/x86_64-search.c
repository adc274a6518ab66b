/* SPDX-License-Identifier: MIT */
/* PCMPISTRI: a text in memory against one in a register, each of which ends at a zero. Intel SDM, volume 2, 4.1. */
#if defined(__x86_64__)
#include "x86_64.h"

enum { WORDS = 1, SIGNED = 2, NEGATE = 0x10, ONLY_VALID = 0x20, LAST = 0x40 }; /* of the immediate; bits 2 and 3: the method */
enum { ANY, RANGES, EACH, ORDERED };

struct text {
	int elements[16];
	unsigned length;
};

static void read_text(struct text *text, const uint8_t *bytes, unsigned mode)
{
	unsigned count = mode & WORDS ? 8 : 16;
	text->length = count;
	for (unsigned n = 0; n < count; n++) {
		unsigned value = mode & WORDS ? bytes[2 * n] | (unsigned)bytes[2 * n + 1] << 8 : bytes[n];
		text->elements[n] = !(mode & SIGNED) ? (int)value : mode & WORDS ? (int16_t)value : (int8_t)value;
		if (value == 0 && text->length == count)
			text->length = n;
	}
}

static bool has(const struct text *set, int element, unsigned step)
{
	for (unsigned n = 0; n + step <= set->length; n += step)
		if (set->elements[n] <= element && element <= set->elements[n + step - 1])
			return true;
	return false;
}

static bool begins_at(const struct text *sought, const struct text *text, unsigned at, unsigned count)
{
	for (unsigned n = 0; n < sought->length && at + n < count; n++)
		if (at + n >= text->length || sought->elements[n] != text->elements[at + n])
			return false;
	return true;
}

static bool matches(const struct text *a, const struct text *b, unsigned n, unsigned mode, unsigned count)
{
	switch ((mode >> 2) & 3) {
	case ANY:
		return n < b->length && has(a, b->elements[n], 1);
	case RANGES:
		return n < b->length && has(a, b->elements[n], 2);
	case EACH:
		return n < a->length && n < b->length ? a->elements[n] == b->elements[n] : n >= a->length && n >= b->length;
	default:
		return begins_at(a, b, n, count);
	}
}

enum outcome search_text(struct instruction *i)
{
	uint8_t bytes[LARGEST_VECTOR];
	struct text a, b;
	unsigned mode = (unsigned)immediate(i, 1), count = mode & WORDS ? 8 : 16, found = 0;
	read_vector(i, reg_of(i), bytes);
	read_text(&a, bytes, mode);
	if (!load_bus(i->at, bytes, 16))
		return REFUSED;
	read_text(&b, bytes, mode);
	for (unsigned n = 0; n < count; n++) {
		bool negated = mode & NEGATE && (!(mode & ONLY_VALID) || n < b.length);
		found |= (unsigned)(matches(&a, &b, n, mode, count) != negated) << n;
	}
	unsigned index = !found ? count : mode & LAST ? 31 - (unsigned)__builtin_clz(found) : (unsigned)__builtin_ctz(found);
	write_gpr(i, 1, 4, index);
	uint64_t flags = (uint64_t)i->cpu->gregs[REG_EFL] & ~(uint64_t)(CF | PF | AF | ZF | SF | OF);
	flags |= (found ? CF : 0) | (b.length < count ? ZF : 0) | (a.length < count ? SF : 0) | (found & 1 ? OF : 0);
	i->cpu->gregs[REG_EFL] = (long long)flags;
	return DONE;
}

#endif
