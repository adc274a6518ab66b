/* SPDX-License-Identifier: MIT */
/*
 * Moves of vector registers, which are in the signal frame as XSAVE lays them out (Intel SDM, volume 1, 13.4): XMM where
 * FXSAVE has them, the upper halves of YMM, the upper halves of ZMM, and ZMM16 to 31, each in a component of its own.
 */
#if defined(__x86_64__)
#include <cpuid.h>

#include "x86_64.h"

enum { YMM_HIGH = 2, MASKS = 5, ZMM_HIGH = 6, ZMM_16_31 = 7 };

#define XSTATE_MAGIC 0x46505853U
#define MAGIC_AT 464
#define FEATURES_AT 472
#define PRESENT_AT 512 /* components that are not in their initial state, which is zeros */
#define LARGEST 64

/* NULL: the frame does not have it, or, unless it is to be made, it is zeros. */
static uint8_t *component(struct instruction *i, unsigned number, bool make)
{
	static unsigned offsets[8], sizes[8];
	uint8_t *frame = (uint8_t *)i->cpu->fpregs, bit = (uint8_t)(1U << number);
	uint32_t magic;
	unsigned ecx, edx;
	memcpy(&magic, frame + MAGIC_AT, sizeof(magic));
	if (magic != XSTATE_MAGIC || !(frame[FEATURES_AT] & bit))
		return NULL;
	if (!offsets[number])
		__cpuid_count(13, number, sizes[number], offsets[number], ecx, edx);
	if (!(frame[PRESENT_AT] & bit)) {
		if (!make)
			return NULL;
		memset(frame + offsets[number], 0, sizes[number]);
		frame[PRESENT_AT] |= bit;
	}
	return frame + offsets[number];
}

/* The `n`th 16 bytes of a register; NULL as above. */
static uint8_t *part(struct instruction *i, unsigned number, unsigned n, bool make)
{
	if (number >= 16) {
		uint8_t *all = component(i, ZMM_16_31, make);
		return all ? all + 64 * (number - 16) + 16 * n : NULL;
	}
	if (n == 0)
		return (uint8_t *)&i->cpu->fpregs->_xmm[number];
	uint8_t *upper = component(i, n == 1 ? YMM_HIGH : ZMM_HIGH, make);
	return !upper ? NULL : n == 1 ? upper + 16 * number : upper + 32 * number + 16 * (n - 2);
}

static void read_register(struct instruction *i, unsigned number, uint8_t *bytes)
{
	memset(bytes, 0, LARGEST);
	for (unsigned n = 0; n < LARGEST / 16; n++) {
		const uint8_t *from = part(i, number, n, false);
		if (from)
			memcpy(bytes + 16 * n, from, 16);
	}
}

/* What is above `size` becomes zero, unless the instruction is of before AVX, which knows the lowest part only. */
static void write_register(struct instruction *i, unsigned number, const uint8_t *bytes, unsigned size)
{
	for (unsigned n = 0; n < (i->vex ? LARGEST / 16 : 1); n++) {
		uint8_t *to = part(i, number, n, 16 * n < size);
		if (to)
			memcpy(to, bytes + 16 * n, 16);
	}
}

/* Bytes of an element of a masked move. */
static unsigned element_of(const struct instruction *i)
{
	bool small = i->pp == PF2 && (i->opcode == 0x6f || i->opcode == 0x7f);
	return small ? (i->w ? 2 : 1) : (i->w ? 8 : 4);
}

/* Whether byte `n` moves. */
static bool moves(struct instruction *i, const uint8_t *masks, unsigned n)
{
	uint64_t mask;
	if (!i->mask)
		return true;
	memcpy(&mask, masks + 8 * i->mask, sizeof(mask));
	return mask >> (n / element_of(i)) & 1;
}

/* The bytes from `from` on that move in one piece: how many, and in `*skipped` how many before them do not. */
static unsigned run_of(struct instruction *i, unsigned from, unsigned size, unsigned *skipped)
{
	static const uint8_t none[64];
	const uint8_t *masks = i->mask ? component(i, MASKS, false) : NULL;
	unsigned start = from, end;
	masks = masks ? masks : none;
	while (start < size && !moves(i, masks, start))
		start++;
	for (end = start; end < size && moves(i, masks, end);)
		end++;
	*skipped = start - from;
	return end - start;
}

static enum outcome store_vector(struct instruction *i, unsigned size, unsigned from)
{
	uint8_t bytes[LARGEST];
	read_register(i, reg_of(i), bytes);
	for (unsigned done = 0, run, skipped; done < size; done += run) {
		run = run_of(i, done, size, &skipped);
		done += skipped;
		if (run && !store_bus(i->at + done, bytes + from + done, run))
			return REFUSED;
	}
	return DONE;
}

/* What is loaded begins at byte `to`; everything else becomes zero, unless it is `kept`. */
static enum outcome load_vector(struct instruction *i, unsigned size, unsigned to, bool kept)
{
	uint8_t bytes[LARGEST] = { 0 };
	if (kept || (i->mask && !i->zeroing))
		read_register(i, reg_of(i), bytes);
	memset(bytes + (kept ? 16 : size), 0, LARGEST - (kept ? 16 : size));
	for (unsigned done = 0, run, skipped; done < size; done += run) {
		run = run_of(i, done, size, &skipped);
		done += skipped;
		if (run && !load_bus(i->at + done, bytes + to + done, run))
			return REFUSED;
	}
	write_register(i, reg_of(i), bytes, size + to);
	return DONE;
}

unsigned vector_bytes(const struct instruction *i)
{
	switch (i->opcode) {
	case 0x10:
	case 0x11:
		return i->pp == PF3 ? 4 : i->pp == PF2 ? 8 : i->width;
	case 0x28:
	case 0x29:
	case 0x2a:
	case 0x2b:
	case 0x6f:
	case 0x7f:
	case 0xe7:
	case 0xf0:
		return i->width;
	case 0x6e:
		return i->w ? 8 : 4;
	case 0x7e:
		return i->pp == PF3 || i->w ? 8 : 4;
	case 0x12:
	case 0x13:
	case 0x16:
	case 0x17:
	case 0xd6:
		return 8;
	}
	return 0;
}

enum outcome move_vector(struct instruction *i)
{
	unsigned size = vector_bytes(i);
	bool packed = i->pp == NO_PREFIX || i->pp == P66, integer = i->pp == P66 || i->pp == PF3 || (i->evex && i->pp == PF2);
	switch (i->opcode) {
	case 0x10:
		return load_vector(i, size, 0, false);
	case 0x11:
		return store_vector(i, size, 0);
	case 0x12:
	case 0x16:
		return packed && !i->vex ? load_vector(i, size, i->opcode == 0x16 ? 8 : 0, true) : UNKNOWN;
	case 0x13:
	case 0x17:
		return packed ? store_vector(i, size, i->opcode == 0x17 ? 8 : 0) : UNKNOWN;
	case 0x28:
		return packed ? load_vector(i, size, 0, false) : UNKNOWN;
	case 0x29:
	case 0x2b:
		return packed ? store_vector(i, size, 0) : UNKNOWN;
	case 0x2a:
		return i->map == 2 && i->pp == P66 ? load_vector(i, size, 0, false) : UNKNOWN;
	case 0x6e:
		return i->pp == P66 ? load_vector(i, size, 0, false) : UNKNOWN;
	case 0x6f:
		return integer ? load_vector(i, size, 0, false) : UNKNOWN;
	case 0x7e:
		return i->pp == PF3 ? load_vector(i, size, 0, false) : i->pp == P66 ? store_vector(i, size, 0) : UNKNOWN;
	case 0x7f:
		return integer ? store_vector(i, size, 0) : UNKNOWN;
	case 0xd6:
	case 0xe7:
		return i->pp == P66 ? store_vector(i, size, 0) : UNKNOWN;
	case 0xf0:
		return i->pp == PF2 && !i->evex ? load_vector(i, size, 0, false) : UNKNOWN;
	}
	return UNKNOWN;
}

#endif
