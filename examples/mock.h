/* SPDX-License-Identifier: MIT */
/*
 * IOMMU_TEST_CMD, by which a program plays the devices of the mock driver: `uiommufd run -m mock`, or a kernel with
 * CONFIG_IOMMUFD_TEST. Only the operations that the programs of docs/objects need.
 */
#ifndef MOCK_H
#define MOCK_H

#include "objects.h"

#define IOMMU_TEST_CMD _IO(IOMMUFD_TYPE, 0xa0)

enum {
	MOCK_DOMAIN = 2,
	CREATE_ACCESS = 5,
	ACCESS_PAGES = 7,
	MOCK_DOMAIN_REPLACE = 10,
};

#define MOCK_TYPE 0xdeadbeef /* of vIOMMUs and HW queues */

struct mock_command {
	uint32_t size, op, id, reserved;
	union {
		uint32_t words[12];
		uint64_t longs[6];
	};
	uint64_t unused;
};

static inline void mock(int iommufd, struct mock_command *command)
{
	command->size = sizeof(*command);
	if (ioctl(iommufd, IOMMU_TEST_CMD, command) < 0)
		exit(show("IOMMU_TEST_CMD", -1));
}

struct mock_device {
	uint32_t handle; /* for attaching it to something else */
	uint32_t hwpt; /* what it is attached to */
	uint32_t dev_id;
};

/* A device that is attached to the IOAS or HWPT. */
static inline struct mock_device mock_device(int iommufd, uint32_t pt_id)
{
	struct mock_command command = { .op = MOCK_DOMAIN, .id = pt_id };

	mock(iommufd, &command);
	return (struct mock_device){ command.words[0], command.words[1], command.words[2] };
}

static inline void mock_attach(int iommufd, struct mock_device *device, uint32_t pt_id)
{
	struct mock_command command = { .op = MOCK_DOMAIN_REPLACE, .id = device->handle, .words = { pt_id } };

	mock(iommufd, &command);
	device->hwpt = pt_id;
}

/* A user of the IOAS inside the kernel; its descriptor. */
static inline int mock_access(int iommufd, uint32_t ioas)
{
	enum { PINS_PAGES = 1 };
	struct mock_command command = { .op = CREATE_ACCESS, .id = ioas, .words = { 0, PINS_PAGES } };

	mock(iommufd, &command);
	return command.words[0];
}

/* The user pins [iova, iova + length), which is the memory at `at`. */
static inline void mock_pin(int iommufd, int access, uint64_t iova, uint64_t length, const void *at)
{
	struct mock_command command = { .op = ACCESS_PAGES, .id = access, .longs = { 0, iova, length, (uintptr_t)at } };

	mock(iommufd, &command);
}

#endif
