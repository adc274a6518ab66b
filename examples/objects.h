/* SPDX-License-Identifier: MIT */
/*
 * What the short programs of docs/objects share: CALL() makes an ioctl and prints its name and what came of it. Like any
 * program for iommufd they fill a struct, its size first, and look at the result; checking every step is left out here.
 */
#ifndef OBJECTS_H
#define OBJECTS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommufd.h"
#include "vfio.h"

#define KIB (1024ull)
#define MIB (1024 * KIB)

static inline const char *errno_name(int error)
{
	static const struct {
		int error;
		const char *name;
	} names[] = {
		{ EADDRINUSE, "EADDRINUSE" }, { EBADF, "EBADF" },   { EBUSY, "EBUSY" },   { EEXIST, "EEXIST" },
		{ EFAULT, "EFAULT" },	      { EINVAL, "EINVAL" }, { EIO, "EIO" },	  { EMSGSIZE, "EMSGSIZE" },
		{ ENODEV, "ENODEV" },	      { ENOENT, "ENOENT" }, { ENOTTY, "ENOTTY" }, { EOPNOTSUPP, "EOPNOTSUPP" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].error == error)
			return names[i].name;
	return strerror(error);
}

static inline int show(const char *what, int result)
{
	printf("%s: %s\n", what, result < 0 ? errno_name(errno) : "ok");
	return result;
}

#define CALL(fd, command, argument) show(#command, ioctl(fd, command, argument))

static inline int destroy(int iommufd, uint32_t id)
{
	struct iommu_destroy command = { .size = sizeof(command), .id = id };

	return CALL(iommufd, IOMMU_DESTROY, &command);
}

/* Memory for a guest, aligned so that one leaf of a page table can map it. */
static inline void *guest_ram(size_t length)
{
	char *at = mmap(NULL, length + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at + -(uintptr_t)at % (2 * MIB);
}

/* An IOAS that maps `length` bytes of such memory from IOVA 0x40000000 on. */
static inline uint32_t ioas_with_ram(int iommufd, void *ram, size_t length)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.user_va = (uintptr_t)ram,
		.length = length,
		.iova = 0x40000000,
	};

	if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc) < 0)
		exit(show("IOMMU_IOAS_ALLOC", -1));
	map.ioas_id = alloc.out_ioas_id;
	if (ioctl(iommufd, IOMMU_IOAS_MAP, &map) < 0)
		exit(show("IOMMU_IOAS_MAP", -1));
	return alloc.out_ioas_id;
}

/* Opens a VFIO device and binds it; *id is its ID in the iommufd. */
static inline int bind_device(const char *path, int iommufd, uint32_t *id)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	int device = open(path, O_RDWR);

	if (device < 0 || ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0)
		exit(show(path, -1));
	*id = bind.out_devid;
	return device;
}

static inline int attach_device(int device, uint32_t pt_id)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = pt_id };

	return CALL(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

/* A nesting parent on the IOAS. */
static inline uint32_t nesting_parent(int iommufd, uint32_t dev_id, uint32_t ioas)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = IOMMU_HWPT_ALLOC_NEST_PARENT, .dev_id = dev_id, .pt_id = ioas,
	};

	if (ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc) < 0)
		exit(show("IOMMU_HWPT_ALLOC", -1));
	return alloc.out_hwpt_id;
}

/* A vIOMMU on the parent: a slice of the SMMUv3 that the device is behind. */
static inline uint32_t smmuv3_viommu(int iommufd, uint32_t dev_id, uint32_t parent)
{
	struct iommu_viommu_alloc alloc = {
		.size = sizeof(alloc), .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3, .dev_id = dev_id, .hwpt_id = parent,
	};

	if (ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &alloc) < 0)
		exit(show("IOMMU_VIOMMU_ALLOC", -1));
	return alloc.out_viommu_id;
}

#endif
