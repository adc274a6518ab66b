/* SPDX-License-Identifier: MIT */
/* Moves of vector registers. */
#if defined(__x86_64__)
#include "x86_64.h"

/* Bytes of an element of a masked move. */
static unsigned element_of(const struct instruction *i)
{
	bool small = i->pp == PF2 && (i->opcode == 0x6f || i->opcode == 0x7f);
	return small ? (i->w ? 2 : 1) : (i->w ? 8 : 4);
}

static enum outcome store_vector(struct instruction *i, unsigned size, unsigned from)
{
	uint8_t bytes[LARGEST_VECTOR];
	read_vector(i, reg_of(i), bytes);
	return store_moving(i, bytes + from, size) ? DONE : REFUSED;
}

/* What is loaded begins at byte `to`; everything else becomes zero, unless it is `kept`. */
static enum outcome load_vector(struct instruction *i, unsigned size, unsigned to, bool kept)
{
	uint8_t bytes[LARGEST_VECTOR] = { 0 };
	if (kept || (i->mask && !i->zeroing))
		read_vector(i, reg_of(i), bytes);
	memset(bytes + (kept ? 16 : size), 0, LARGEST_VECTOR - (kept ? 16 : size));
	if (!load_moving(i, bytes + to, size))
		return REFUSED;
	write_vector(i, reg_of(i), bytes, size + to);
	return DONE;
}

unsigned vector_bytes(const struct instruction *i)
{
	if (i->map != 1)
		return i->map == 2 && i->opcode == 0x2a ? i->width : 0;
	switch (i->opcode) {
	case 0x10:
	case 0x11:
		return i->pp == PF3 ? 4 : i->pp == PF2 ? 8 : i->width;
	case 0x28:
	case 0x29:
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
	if (!size || i->broadcast || i->source)
		return UNKNOWN;
	i->element = element_of(i);
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
		return i->pp == P66 ? load_vector(i, size, 0, false) : UNKNOWN;
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
