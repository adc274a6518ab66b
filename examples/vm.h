/* SPDX-License-Identifier: MIT */
/*
 * What a VMM does for a VM with nested translation: guest RAM in an IOAS, a nesting parent on it, the names of devices,
 * nested HWPTs from the guest's STEs, and the guest's commands. With -DVIOMMU_V2 in the uAPI of the series "iommufd: Add
 * VIOMMU infrastructure (Part-1)", v2, and its companions; otherwise in today's.
 */
#ifndef VM_H
#define VM_H

#include <sys/mman.h>

#include "guest-smmu.h"
#include "vfio-device.h"

#if defined(VIOMMU_V2)
#include "iommufd-viommu-v2.h"
#elif __has_include("iommufd.h")
#include "iommufd.h"
#else
#include <linux/iommufd.h>
#ifndef IOMMU_VEVENTQ_ALLOC
#error "<linux/iommufd.h> is older than Linux 6.15: compile with -Iexamples/uapi"
#endif
#endif

static int iommufd;
static uint32_t ioas, parent; /* the VM's memory, and the stage 2 made from it */

static inline int destroy(uint32_t id)
{
	struct iommu_destroy command = { .size = sizeof(command), .id = id };

	return ioctl(iommufd, IOMMU_DESTROY, &command);
}

static inline void map_guest_ram(void)
{
	const size_t block = 2 << 20; /* aligned to this, so that stage 2 can map blocks */
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.length = GUEST_RAM,
		.iova = GUEST_BASE,
	};

	ram = mmap(NULL, GUEST_RAM + block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(ram == MAP_FAILED ? -1 : 0, "mmap of guest RAM");
	ram += -(uintptr_t)ram % block;
	must(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
	ioas = alloc.out_ioas_id;
	map.ioas_id = ioas;
	map.user_va = (uintptr_t)ram;
	must(ioctl(iommufd, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP of guest RAM");
}

static inline void alloc_parent(struct device *device)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = IOMMU_HWPT_ALLOC_NEST_PARENT, .dev_id = device->id, .pt_id = ioas,
	};

	must(ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc), "IOMMU_HWPT_ALLOC of the nesting parent");
	parent = alloc.out_hwpt_id;
}

/* Tells the vIOMMU by which StreamID the guest knows the device. Returns the vDEVICE, where there is such an object. */
static inline uint32_t name_device(uint32_t viommu, struct device *device, uint64_t vsid)
{
#ifdef VIOMMU_V2
	struct iommu_viommu_set_vdev_id set = {
		.size = sizeof(set), .viommu_id = viommu, .dev_id = device->id, .vdev_id = vsid,
	};

	must(ioctl(iommufd, IOMMU_VIOMMU_SET_VDEV_ID, &set), "IOMMU_VIOMMU_SET_VDEV_ID");
	return 0;
#else
	struct iommu_vdevice_alloc alloc = {
		.size = sizeof(alloc), .viommu_id = viommu, .dev_id = device->id, .virt_id = vsid,
	};

	must(ioctl(iommufd, IOMMU_VDEVICE_ALLOC, &alloc), "IOMMU_VDEVICE_ALLOC");
	return alloc.out_vdevice_id;
#endif
}

static inline void forget_device(uint32_t viommu, struct device *device, uint64_t vsid, uint32_t vdevice)
{
#ifdef VIOMMU_V2
	struct iommu_viommu_unset_vdev_id unset = {
		.size = sizeof(unset), .viommu_id = viommu, .dev_id = device->id, .vdev_id = vsid,
	};

	(void)vdevice;
	must(ioctl(iommufd, IOMMU_VIOMMU_UNSET_VDEV_ID, &unset), "IOMMU_VIOMMU_UNSET_VDEV_ID");
#else
	(void)viommu, (void)device, (void)vsid;
	must(destroy(vdevice), "IOMMU_DESTROY of the vDEVICE");
#endif
}

/* A nested HWPT from the guest's part of a stream table entry; the kernel adds the stage 2 and the VMID. */
static inline uint32_t alloc_nested(uint32_t viommu, struct device *device, uint64_t word0, uint64_t word1)
{
	struct iommu_hwpt_arm_smmuv3 ste = { .ste = { word0, word1 } };
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.dev_id = device->id,
		.pt_id = viommu,
		.data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
		.data_len = sizeof(ste),
		.data_uptr = (uintptr_t)&ste,
	};

	must(ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc), "IOMMU_HWPT_ALLOC of a nested HWPT");
	return alloc.out_hwpt_id;
}

/*
 * The guest turns stage 1 on for a device, or changes how: a new HWPT is attached in the place of *stage1, and that is
 * dropped.
 */
static inline void use_stage1(uint32_t viommu, struct device *device, uint32_t *stage1, uint64_t cd, bool ats)
{
	uint32_t before = *stage1;

	*stage1 = alloc_nested(viommu, device, STE_VALID | STE_STAGE1 | cd, STE_CD_FETCHES | (ats ? STE_EATS : 0));
	must(attach(device, *stage1), "attach of the stage 1 HWPT");
	if (before)
		must(destroy(before), "IOMMU_DESTROY of the stage 1 HWPT before");
}

/* Issues commands through a vIOMMU; *done says how many were carried out. */
static inline int invalidate(uint32_t viommu, struct command *commands, uint32_t count, uint32_t *done)
{
	struct iommu_hwpt_invalidate command = {
		.size = sizeof(command),
		.hwpt_id = viommu,
		.data_uptr = (uintptr_t)commands,
		.data_type = 1, /* Arm SMMUv3, under a name that differs in the two uAPIs */
		.entry_len = sizeof(*commands),
		.entry_num = count,
	};
	int result = ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &command);

	*done = command.entry_num;
	return result;
}

static inline void issue(uint32_t viommu, struct command one)
{
	uint32_t done;

	must(invalidate(viommu, &one, 1, &done), "IOMMU_HWPT_INVALIDATE");
}

static inline void check_busy(uint32_t id, const char *what)
{
	int result = destroy(id);

	check(result < 0 && errno == EBUSY, "%s cannot be destroyed: EBUSY", what);
}

#endif
