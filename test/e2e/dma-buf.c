// SPDX-License-Identifier: MIT
/*
 * Peer to peer: the copy engine of one PCI function writes and reads registers of another, which has given its BAR away as
 * a dma-buf; and what becomes of that when the other one is reset, asleep, or closed. An argument: the feature is not there.
 */
#include <stddef.h>
#include <sys/mman.h>

#include "iommufd.h"
#include "vfio-device.h"

enum { PAGE = 4096, BAR = 4 * PAGE };
static const uint64_t MEMORY = 0x10000000, PEER = 0x40000000;

static struct device copier, peer;
static int iommufd;
static uint32_t ioas;
static struct memory {
	struct descriptor descriptor;
	uint64_t value;
} *memory;

/* A dma-buf of a part of the peer's BAR, or -1. */
static int export_bar(uint64_t offset, uint64_t length)
{
	union {
		uint8_t bytes[sizeof(struct vfio_device_feature) + sizeof(struct vfio_device_feature_dma_buf) +
			      sizeof(struct vfio_region_dma_range)];
		struct vfio_device_feature header;
	} command = { .header = { .argsz = sizeof(command), .flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF } };
	struct vfio_device_feature_dma_buf *get = (void *)command.header.data;

	get->region_index = VFIO_PCI_BAR0_REGION_INDEX;
	get->open_flags = O_RDWR | O_CLOEXEC;
	get->nr_ranges = 1;
	get->dma_ranges[0].offset = offset;
	get->dma_ranges[0].length = length;
	return ioctl(peer.fd, VFIO_DEVICE_FEATURE, &command);
}

static int map_peer(int dmabuf, uint64_t start, uint64_t length)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas, .fd = dmabuf, .start = start, .length = length, .iova = PEER,
	};

	return ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &map);
}

static int map_address(void *address, uint64_t iova, uint64_t length)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas, .user_va = (uintptr_t)address, .length = length, .iova = iova,
	};

	return ioctl(iommufd, IOMMU_IOAS_MAP, &map);
}

static void unmap_peer(uint64_t length)
{
	struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas, .iova = PEER, .length = length };

	must(ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
}

static bool copy(uint64_t source, uint64_t target)
{
	memory->descriptor = (struct descriptor){ .size = sizeof(memory->value), .source = source, .target = target };
	return run_engine(&copier, MEMORY + offsetof(struct memory, descriptor));
}

static bool send(uint64_t value)
{
	memory->value = value;
	return copy(MEMORY + offsetof(struct memory, value), PEER + CHAINADDR);
}

static bool receive(uint64_t *value)
{
	bool done = copy(PEER + CHAINADDR, MEMORY + offsetof(struct memory, value));

	*value = memory->value;
	return done;
}

static bool arrives(uint64_t value)
{
	return send(value) && fetch(&peer, peer.bar0 + CHAINADDR, 8) == value;
}

static void check_refused(int result, int error, const char *what)
{
	check(result < 0 && errno == error, "%s: %s", what, strerror(error));
}

int main(int argc, char **argv)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	uint64_t value;
	void *bar;
	int dmabuf, again;

	(void)argv;
	iommufd = must(open("/dev/iommu", O_RDWR | O_CLOEXEC), "open of /dev/iommu");
	find_devices_behind_two_iommus(&copier, &peer);
	open_device(&copier, iommufd);
	open_device(&peer, iommufd);
	if (argc > 1) {
		check_refused(export_bar(0, BAR), ENOTTY, "a release without the feature");
		return verdict();
	}
	must(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
	ioas = alloc.out_ioas_id;
	must(attach(&copier, ioas), "attach");
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(map_address(memory, MEMORY, PAGE), "IOMMU_IOAS_MAP");
	start_engine(&copier);

	bar = mmap(NULL, BAR, PROT_READ | PROT_WRITE, MAP_SHARED, peer.fd, peer.bar0);
	must(bar == MAP_FAILED ? -1 : 0, "mmap of the BAR");
	check_refused(map_address(bar, PEER, BAR), EFAULT, "the address of a mapped BAR is no memory to iommufd");
	munmap(bar, BAR);

	check_refused(export_bar(0, BAR + PAGE), EINVAL, "more than the BAR");
	check_refused(export_bar(0x10, PAGE), EINVAL, "a part of a page");
	dmabuf = must(export_bar(0, BAR), "VFIO_DEVICE_FEATURE_DMA_BUF");
	check(fcntl(dmabuf, F_GETFD) == FD_CLOEXEC, "the descriptor closes on exec");
	check_refused(read(dmabuf, &value, sizeof(value)), EINVAL, "a dma-buf cannot be read");
	check(!send(1), "before it is mapped the peer is not reached");
	must(map_peer(dmabuf, 0, BAR), "IOMMU_IOAS_MAP_FILE");
	check(arrives(0x1122334455667788), "one function writes a register of the other");
	check(receive(&value) && value == 0x1122334455667788, "and reads it");

	must(ioctl(peer.fd, VFIO_DEVICE_RESET), "VFIO_DEVICE_RESET");
	check(!send(2), "a reset of the other takes its registers away");
	unmap_peer(BAR);
	must(map_peer(dmabuf, 0, BAR), "IOMMU_IOAS_MAP_FILE after the reset");
	check(arrives(3), "until they are mapped again");

	put(&peer, peer.config + 4, 0, 2);
	check(!send(4), "so does the other when it stops to decode memory");
	unmap_peer(BAR);
	check_refused(map_peer(dmabuf, 0, BAR), ENODEV, "meanwhile it cannot be mapped");
	put(&peer, peer.config + 4, 2, 2);
	again = must(dup(dmabuf), "dup");
	close(dmabuf);
	must(map_peer(again, 0, PAGE), "IOMMU_IOAS_MAP_FILE of a page");
	close(again);
	check(arrives(5), "what is mapped needs no descriptor");
	unmap_peer(PAGE);

	dmabuf = must(export_bar(0, PAGE), "VFIO_DEVICE_FEATURE_DMA_BUF of a page");
	must(map_peer(dmabuf, 0, PAGE), "IOMMU_IOAS_MAP_FILE of a page");
	check(arrives(6), "a page of it is enough");
	close(peer.fd);
	check(!send(7), "the end of the other takes its registers away");
	unmap_peer(PAGE);
	check_refused(map_peer(dmabuf, 0, PAGE), ENODEV, "for good");
	return verdict();
}
