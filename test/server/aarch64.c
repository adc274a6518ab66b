/* The meaning of AArch64's loads and stores, on any machine: words as an assembler makes them. */
#define TRY_AARCH64
#include "../../shim/aarch64.c"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%d: %s\n", __LINE__, #condition);   \
			exit(1);                                             \
		}                                                            \
	} while (0)

static uint8_t memory[256];
static size_t last_size;

bool load_bus(uintptr_t at, void *into, size_t size)
{
	memcpy(into, memory + at, last_size = size);
	return true;
}

bool store_bus(uintptr_t at, const void *from, size_t size)
{
	memcpy(memory + at, from, last_size = size);
	return true;
}

static uint8_t vectors[32][16];
static struct machine m;

/* X1 is 64, and so is SP; X2 is 2. */
static void run(uint32_t word, uintptr_t fault)
{
	for (int i = 0; i < 256; i++)
		memory[i] = (uint8_t)(i | 0x80);
	m = (struct machine){ .sp = 64, .v = vectors };
	m.x[0] = 0x1122334455667788;
	m.x[1] = 64;
	m.x[2] = 2;
	m.x[3] = 0xfffffffffffffff8;
	CHECK(perform(&m, word, fault) == DONE);
}

int main(void)
{
	run(0xb9400020, 64); /* ldr w0, [x1] */
	CHECK(m.x[0] == 0xc3c2c1c0 && last_size == 4);
	run(0xf9000420, 72); /* str x0, [x1, #8] */
	CHECK(last_size == 8 && memory[72] == 0x88 && memory[79] == 0x11);
	run(0x38401423, 64); /* ldrb w3, [x1], #1 */
	CHECK(m.x[3] == 0xc0 && m.x[1] == 65 && last_size == 1);
	run(0x78002c20, 66); /* strh w0, [x1, #2]! */
	CHECK(memory[66] == 0x88 && memory[67] == 0x77 && memory[68] == 0xc4 && m.x[1] == 66);
	run(0xb9800020, 64); /* ldrsw x0, [x1] */
	CHECK(m.x[0] == 0xffffffffc3c2c1c0);
	run(0x39c00020, 64); /* ldrsb w0, [x1] */
	CHECK(m.x[0] == 0xffffffc0);
	run(0x79800020, 64); /* ldrsh x0, [x1] */
	CHECK(m.x[0] == 0xffffffffffffc1c0);
	run(0xf8627820, 80); /* ldr x0, [x1, x2, lsl #3] */
	CHECK(m.x[0] == 0xd7d6d5d4d3d2d1d0);
	run(0xb823c820, 56); /* str w0, [x1, w3, sxtw] */
	CHECK(memory[56] == 0x88 && memory[59] == 0x55 && memory[60] == 0xbc);
	run(0xf85f8020, 56); /* ldur x0, [x1, #-8] */
	CHECK(m.x[0] == 0xbfbebdbcbbbab9b8 && m.x[1] == 64);
	run(0xf94003e0, 64); /* ldr x0, [sp] */
	CHECK(m.x[0] == 0xc7c6c5c4c3c2c1c0);
	run(0xb900003f, 64); /* str wzr, [x1] */
	CHECK(memory[64] == 0 && memory[67] == 0 && memory[68] == 0xc4);
	run(0xa9400820, 64); /* ldp x0, x2, [x1] */
	CHECK(m.x[0] == 0xc7c6c5c4c3c2c1c0 && m.x[2] == 0xcfcecdcccbcac9c8 && last_size == 16);
	run(0x29bf0820, 56); /* stp w0, w2, [x1, #-8]! */
	CHECK(memory[56] == 0x88 && memory[60] == 2 && memory[64] == 0xc0 && m.x[1] == 56 && last_size == 8);
	run(0x69400820, 64); /* ldpsw x0, x2, [x1] */
	CHECK(m.x[0] == 0xffffffffc3c2c1c0 && m.x[2] == 0xffffffffc7c6c5c4);
	run(0x88dffc20, 64); /* ldar w0, [x1] */
	CHECK(m.x[0] == 0xc3c2c1c0);
	run(0xc89ffc20, 64); /* stlr x0, [x1] */
	CHECK(memory[64] == 0x88 && memory[71] == 0x11);
	run(0x3dc00025, 64); /* ldr q5, [x1] */
	CHECK(memcmp(vectors[5], memory + 64, 16) == 0 && last_size == 16);
	run(0x3d800425, 80); /* str q5, [x1, #16] */
	CHECK(memory[80] == 0xc0 && memory[95] == 0xcf);
	run(0xbd400026, 64); /* ldr s6, [x1] */
	CHECK(vectors[6][0] == 0xc0 && vectors[6][3] == 0xc3 && vectors[6][4] == 0);
	run(0xad401c26, 64); /* ldp q6, q7, [x1] */
	CHECK(memcmp(vectors[7], memory + 80, 16) == 0 && last_size == 32);
	const uint32_t unknown[] = { 0x885f7c20 /* ldxr */, 0xb8200020 /* ldadd */, 0xf9800020 /* prfm */, 0x8b000020 /* add */ };
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		CHECK(perform(&m, unknown[i], 64) == UNKNOWN);
	CHECK(perform(&m, 0xb9400020, 200) == UNKNOWN); /* not at the address that faulted */
	return 0;
}
