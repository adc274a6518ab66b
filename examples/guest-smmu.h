/* SPDX-License-Identifier: MIT */
/*
 * The guest's half: its RAM, and what its SMMUv3 driver writes there. Stage 1 tables are VMSAv8-64 with a 4 KiB granule
 * and 39-bit addresses, which makes three levels; chapters are those of the SMMUv3 specification (Arm IHI 0070).
 */
#ifndef GUEST_SMMU_H
#define GUEST_SMMU_H

#include <stdbool.h>
#include <stdint.h>

/* ---- RAM --------------------------------------------------------------------------------------------------------- */

#define GUEST_BASE 0x40000000ull /* where RAM begins in the guest's physical address space */
#define GUEST_RAM (64ull << 20)
#define PAGE 4096ull

static uint8_t *ram;
static uint64_t next_page = GUEST_BASE;

static inline void *guest(uint64_t physical)
{
	return ram + (physical - GUEST_BASE);
}

/* Pages are handed out once and stay zero until somebody writes to them. */
static inline uint64_t guest_page(void)
{
	uint64_t page = next_page;

	next_page += PAGE;
	return page;
}

/* ---- Stage 1 tables ---------------------------------------------------------------------------------------------- */

#define TABLE 3ull
/* A page: AttrIndx 0, AP read-write at EL0 too (devices are unprivileged), inner shareable, AF, nG. */
#define LEAF (3ull | 1ull << 6 | 3ull << 8 | 1ull << 10 | 1ull << 11)

/* The level 3 entry of `iova`; tables are made on the way. */
static inline uint64_t *pte(uint64_t table, uint64_t iova)
{
	for (int level = 1; level < 3; level++) {
		uint64_t *entry = (uint64_t *)guest(table) + (iova >> (39 - 9 * level) & 511);

		if (!*entry)
			*entry = guest_page() | TABLE;
		table = *entry & 0xfffffffff000ull;
	}
	return (uint64_t *)guest(table) + (iova >> 12 & 511);
}

/* A context descriptor (5.4): where stage 1 begins, its shape, and the ASID of the cache entries made from it. */
static inline void write_cd(uint64_t at, uint64_t root, uint64_t asid)
{
	uint64_t *cd = guest(at);

	cd[3] = 0xff; /* MAIR: AttrIndx 0 is normal write-back memory */
	cd[1] = root;
	cd[0] = 25 /* T0SZ: 39 bits */
		| 1ull << 8 | 1ull << 10 | 3ull << 12 /* walks are write-back, inner shareable */
		| 1ull << 30 /* EPD1: nothing behind TTB1 */
		| 1ull << 31 /* V */
		| 2ull << 32 /* IPS: 40 bits */
		| 1ull << 41 /* AA64 */
		| 1ull << 45 | 1ull << 46 /* R, A: record faults and abort the access */
		| 1ull << 47 /* ASET: an ASID of our own, not one of the CPUs */
		| asid << 48;
}

/* The stream table entry (5.2), as far as it is the guest's. */
enum { STE_VALID = 1, STE_BYPASS = 4 << 1, STE_STAGE1 = 5 << 1 }; /* word 0, with the CD's address */
#define STE_CD_FETCHES (1ull << 2 | 1ull << 4 | 3ull << 6) /* word 1: write-back, inner shareable */
#define STE_EATS (1ull << 28) /* word 1: the device may ask for translations (ATS) and cache them */

/* ---- Commands (chapter 4) ---------------------------------------------------------------------------------------- */

struct command {
	uint64_t word[2];
};

static inline struct command tlbi_va(uint64_t asid, uint64_t iova)
{
	return (struct command){ { 0x12 | asid << 48, iova | 1 /* leaf */ } };
}

static inline struct command tlbi_asid(uint64_t asid)
{
	return (struct command){ { 0x11 | asid << 48, 0 } };
}

static inline struct command tlbi_all(void)
{
	return (struct command){ { 0x10, 0 } };
}

static inline struct command cfgi_ste(uint64_t sid)
{
	return (struct command){ { 0x03 | sid << 32, 1 } };
}

static inline struct command cfgi_cd(uint64_t sid)
{
	return (struct command){ { 0x05 | sid << 32, 1 } };
}

static inline struct command atc_inv(uint64_t sid)
{
	return (struct command){ { 0x40 | sid << 32, 52 /* everything */ } };
}

/* ---- Event records (7.3) ----------------------------------------------------------------------------------------- */

struct event {
	uint64_t word[4];
};

#define F_TRANSLATION 0x10

static inline unsigned event_type(const struct event *event)
{
	return event->word[0] & 0xff;
}

static inline uint32_t event_sid(const struct event *event)
{
	return event->word[0] >> 32;
}

static inline bool event_is_read(const struct event *event)
{
	return event->word[1] >> 35 & 1;
}

static inline bool event_is_stage2(const struct event *event)
{
	return event->word[1] >> 39 & 1;
}

#endif
