/* SPDX-License-Identifier: MIT */
/*
 * A PCI function through VFIO, and the DMA engine in it: an IOAT-compatible copy engine. A descriptor in memory names a
 * source, a destination and a length; these addresses, and the descriptor's own, are IOVAs.
 */
#ifndef VFIO_DEVICE_H
#define VFIO_DEVICE_H

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"
#if __has_include("vfio.h")
#include "vfio.h"
#else
#include <linux/vfio.h>
#endif

struct device {
	char bdf[NAME_MAX + 1], iommu[NAME_MAX + 1], vfio[NAME_MAX + 1];
	int fd;
	uint32_t id; /* in the iommufd that it is bound to */
	uint64_t bar0, config; /* offsets of these regions in fd */
};

/* ---- Finding devices in sysfs ------------------------------------------------------------------------------------ */

/* The IOMMU in front of a PCI function: the last component of its "iommu" link. */
static inline bool iommu_of(const char *bdf, char *name)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu", bdf);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = 0;
	strcpy(name, strrchr(target, '/') ? strrchr(target, '/') + 1 : target);
	return true;
}

/* The name under /dev/vfio/devices of a function that is bound to vfio-pci: the one entry of its "vfio-dev". */
static inline bool vfio_node_of(const char *bdf, char *name)
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *directory;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	directory = opendir(path);
	if (!directory)
		return false;
	while (!found && (entry = readdir(directory))) {
		found = strncmp(entry->d_name, "vfio", 4) == 0;
		strcpy(name, entry->d_name);
	}
	closedir(directory);
	return found;
}

/* The first two VFIO devices, in the order of their addresses, that sit behind different IOMMUs. */
static inline void find_devices_behind_two_iommus(struct device *a, struct device *b)
{
	struct device *next = a;
	struct dirent **entries;
	int count = must(scandir("/sys/bus/pci/devices", &entries, NULL, alphasort), "scan of /sys/bus/pci/devices");

	for (int i = 0; i < count; i++) {
		const char *bdf = entries[i]->d_name;

		if (next && iommu_of(bdf, next->iommu) && vfio_node_of(bdf, next->vfio) &&
		    (next == a || strcmp(a->iommu, b->iommu) != 0)) {
			strcpy(next->bdf, bdf);
			next = next == a ? b : NULL;
		}
		free(entries[i]);
	}
	free(entries);
	errno = ENODEV;
	must(next ? -1 : 0, "two VFIO devices behind different IOMMUs are needed");
}

/* ---- VFIO -------------------------------------------------------------------------------------------------------- */

static inline uint64_t region_offset(struct device *device, uint32_t index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	must(ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, &info), "VFIO_DEVICE_GET_REGION_INFO");
	return info.offset;
}

static inline void open_device(struct device *device, int iommufd)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", device->vfio);
	device->fd = must(open(path, O_RDWR | O_CLOEXEC), path);
	must(ioctl(device->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind), "VFIO_DEVICE_BIND_IOMMUFD");
	device->id = bind.out_devid;
	device->config = region_offset(device, VFIO_PCI_CONFIG_REGION_INDEX);
	device->bar0 = region_offset(device, VFIO_PCI_BAR0_REGION_INDEX);
}

/* Puts the device behind an IOAS or a HWPT, in place of the one before. */
static inline int attach(struct device *device, uint32_t pt_id)
{
	struct vfio_device_attach_iommufd_pt command = { .argsz = sizeof(command), .pt_id = pt_id };

	return ioctl(device->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &command);
}

static inline void detach(struct device *device)
{
	struct vfio_device_detach_iommufd_pt command = { .argsz = sizeof(command) };

	must(ioctl(device->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &command), "VFIO_DEVICE_DETACH_IOMMUFD_PT");
}

/* An eventfd that MSI-X vector 0 signals from now on. */
static inline int interrupt_eventfd(struct device *device)
{
	int event = must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
	uint8_t command[sizeof(struct vfio_irq_set) + sizeof(event)];
	struct vfio_irq_set set = {
		.argsz = sizeof(command),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = 1,
	};

	memcpy(command, &set, sizeof(set));
	memcpy(command + sizeof(set), &event, sizeof(event));
	must(ioctl(device->fd, VFIO_DEVICE_SET_IRQS, command), "VFIO_DEVICE_SET_IRQS");
	return event;
}

/* ---- The DMA engine ---------------------------------------------------------------------------------------------- */

enum {
	INTRCTRL = 0x03,
	CHANNEL = 0x80, /* registers of channel 0 */
	CHANCTRL = CHANNEL + 0x00,
	CHANCMD = CHANNEL + 0x04,
	DMACOUNT = CHANNEL + 0x06,
	CHANSTS = CHANNEL + 0x08,
	CHAINADDR = CHANNEL + 0x10,
	CHANERR = CHANNEL + 0x28,
};

enum { SUSPEND = 0x04, RESET = 0x20 }; /* CHANCMD */
enum { DONE = 1, SUSPENDED = 2, HALTED = 3 }; /* CHANSTS, low three bits */

struct descriptor {
	uint32_t size;
	uint32_t control; /* bit 0: interrupt when done; bits 31:24: operation, 0 is copy */
	uint64_t source, target, next;
	uint64_t unused[4];
};

static inline void put(struct device *device, uint64_t at, uint64_t value, size_t size)
{
	must(pwrite(device->fd, &value, size, at) == (ssize_t)size ? 0 : -1, "write to a device register");
}

static inline uint64_t fetch(struct device *device, uint64_t at, size_t size)
{
	uint64_t value = 0;

	must(pread(device->fd, &value, size, at) == (ssize_t)size ? 0 : -1, "read of a device register");
	return value;
}

static inline int wait_for(struct device *device, int a, int b)
{
	for (int i = 0; i < 100000; i++) {
		int state = fetch(device, device->bar0 + CHANSTS, 8) & 7;

		if (state == a || state == b)
			return state;
	}
	errno = ETIMEDOUT;
	return must(-1, "the DMA engine does not come to an end");
}

static inline void reset_engine(struct device *device)
{
	put(device, device->bar0 + CHANERR, fetch(device, device->bar0 + CHANERR, 4), 4); /* write 1 to clear */
	put(device, device->bar0 + CHANCMD, RESET, 1);
	wait_for(device, HALTED, HALTED);
}

static inline void start_engine(struct device *device)
{
	enum { COMMAND = 4, MEMORY_AND_MASTER_WITHOUT_INTX = 0x406 };

	put(device, device->config + COMMAND, MEMORY_AND_MASTER_WITHOUT_INTX, 2);
	put(device, device->bar0 + INTRCTRL, 0x08, 1); /* completion interrupts come as MSI-X */
	reset_engine(device);
}

/* Runs the one descriptor at this IOVA. True when the engine says that it is done, false when it had to stop. */
static inline bool run_engine(struct device *device, uint64_t descriptor)
{
	put(device, device->bar0 + CHAINADDR, descriptor, 8);
	put(device, device->bar0 + CHANCTRL, 0x09, 2); /* stop at any error, arm the interrupt */
	put(device, device->bar0 + DMACOUNT, 1, 2);
	if (wait_for(device, DONE, HALTED) == HALTED) {
		reset_engine(device);
		return false;
	}
	put(device, device->bar0 + CHANCMD, SUSPEND, 1);
	wait_for(device, SUSPENDED, SUSPENDED);
	return true;
}

#endif
