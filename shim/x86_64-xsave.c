/* SPDX-License-Identifier: MIT */
/*
 * Vector registers, which are in the signal frame as XSAVE lays them out (Intel SDM, volume 1, 13.4): XMM where FXSAVE has
 * them, the upper halves of YMM, the upper halves of ZMM, and ZMM16 to 31, each in a component of its own.
 */
#if defined(__x86_64__)
#include <cpuid.h>

#include "x86_64.h"

enum { YMM_HIGH = 2, MASKS = 5, ZMM_HIGH = 6, ZMM_16_31 = 7 };

#define XSTATE_MAGIC 0x46505853U
#define MAGIC_AT 464
#define FEATURES_AT 472
#define PRESENT_AT 512 /* components that are not in their initial state, which is zeros */

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

void read_vector(struct instruction *i, unsigned number, uint8_t *bytes)
{
	memset(bytes, 0, LARGEST_VECTOR);
	for (unsigned n = 0; n < LARGEST_VECTOR / 16; n++) {
		const uint8_t *from = part(i, number, n, false);
		if (from)
			memcpy(bytes + 16 * n, from, 16);
	}
}

/* What is above `size` becomes zero, unless the instruction is of before AVX, which knows the lowest part only. */
void write_vector(struct instruction *i, unsigned number, const uint8_t *bytes, unsigned size)
{
	for (unsigned n = 0; n < (i->vex ? LARGEST_VECTOR / 16 : 1); n++) {
		uint8_t *to = part(i, number, n, 16 * n < size);
		if (to)
			memcpy(to, bytes + 16 * n, 16);
	}
}

uint64_t read_mask(struct instruction *i, unsigned number)
{
	const uint8_t *masks = component(i, MASKS, false);
	uint64_t mask = 0;
	if (masks)
		memcpy(&mask, masks + 8 * number, sizeof(mask));
	return mask;
}

void write_mask(struct instruction *i, unsigned number, uint64_t value)
{
	uint8_t *masks = component(i, MASKS, true);
	if (masks)
		memcpy(masks + 8 * number, &value, sizeof(value));
}

/* ---- Elements that move ---- */

bool moves(struct instruction *i, unsigned n)
{
	return i->moving >> (n / i->element) & 1;
}

/* The bytes from `from` on that move in one piece: how many, and in `*skipped` how many before them do not. */
static unsigned run_of(struct instruction *i, unsigned from, unsigned size, unsigned *skipped)
{
	unsigned start = from, end;
	while (start < size && !moves(i, start))
		start++;
	for (end = start; end < size && moves(i, end);)
		end++;
	*skipped = start - from;
	return end - start;
}

bool load_moving(struct instruction *i, uint8_t *bytes, unsigned size)
{
	for (unsigned done = 0, run, skipped; done < size; done += run) {
		run = run_of(i, done, size, &skipped);
		done += skipped;
		if (run && !load_bus(i->at + done, bytes + done, run))
			return false;
	}
	return true;
}

bool store_moving(struct instruction *i, const uint8_t *bytes, unsigned size)
{
	for (unsigned done = 0, run, skipped; done < size; done += run) {
		run = run_of(i, done, size, &skipped);
		done += skipped;
		if (run && !store_bus(i->at + done, bytes + done, run))
			return false;
	}
	return true;
}

#endif
