/* SPDX-License-Identifier: MIT */
/*
 * The DMA probe, a device of the simulated machines only: it reads or writes up to 256 bytes at an address on command, tells
 * how it went, and sends the interrupt message whose vector is written to PROBE_INTERRUPT.
 */
#ifndef DMA_PROBE_H
#define DMA_PROBE_H

#include "vfio-device.h"

enum { PROBE_IOVA = 0x08, PROBE_LENGTH = 0x14, PROBE_COMMAND = 0x18, PROBE_STATUS = 0x1c };
enum { PROBE_INTERRUPT = 0x20, PROBE_DATA = 0x100 };
enum { PROBE_READ = 1, PROBE_WRITE = 2 };
enum { PROBE_DONE = 1, PROBE_REFUSED = 2, PROBE_WAITING = 4 };

/* Lets it make DMA at all. */
static inline void start_probe(struct device *device)
{
	enum { COMMAND = 4, MEMORY_AND_MASTER = 0x6 };

	put(device, device->config + COMMAND, MEMORY_AND_MASTER, 2);
}

/* What is sent or was fetched is at PROBE_DATA. Returns PROBE_DONE or PROBE_REFUSED; *waited says whether it took a while. */
static inline int probe(struct device *device, int command, uint64_t iova, uint32_t length, bool *waited)
{
	int status;

	put(device, device->bar0 + PROBE_IOVA, iova, 8);
	put(device, device->bar0 + PROBE_LENGTH, length, 4);
	put(device, device->bar0 + PROBE_COMMAND, command, 4);
	while ((status = fetch(device, device->bar0 + PROBE_STATUS, 4)) == PROBE_WAITING)
		*waited = true;
	return status;
}

#endif
