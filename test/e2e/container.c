/*
 * A VFIO client of the old kind, from /dev/vfio/vfio to the copied bytes: group, container, type 1 mappings, the device
 * by its name, its registers mapped, DMA, an interrupt, and P2P between two devices. argv[1]: the container's path.
 */
#include <fcntl.h>
#include <linux/types.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio.h"

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%d: %s\n", __LINE__, #condition);   \
			exit(1);                                             \
		}                                                            \
	} while (0)

#define MIB (1UL << 20)
#define IOVA 0x40000000UL
#define PEER_IOVA 0x80000000UL

/* I/OAT: channel 0, and its descriptor. */
enum { CHANCTRL = 0x80, CHANCMD = 0x84, DMACOUNT = 0x86, CHANSTS = 0x88, CHAINADDR = 0x90 };
enum { DONE = 1, HALTED = 3, SUSPEND = 0x04, RESET = 0x20 };

struct descriptor {
	uint32_t size, control; /* bit 0: interrupt */
	uint64_t source, destination, next, reserved[4];
};

struct device {
	int group, fd;
	volatile uint8_t *registers;
};

static void command(int device, uint16_t value)
{
	CHECK(pwrite(device, &value, 2, (7L << 40) + 4) == 2);
}

static struct device open_device(int container, const char *group, const char *name)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct vfio_region_info bar = { .argsz = sizeof(bar) };
	struct device d = { .group = open(group, O_RDWR) };
	CHECK(d.group >= 0 && open(group, O_RDWR) == -1);
	CHECK(ioctl(d.group, VFIO_GROUP_GET_STATUS, &status) == 0 && status.flags == VFIO_GROUP_FLAGS_VIABLE);
	CHECK(ioctl(d.group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
	CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
	d.fd = ioctl(d.group, VFIO_GROUP_GET_DEVICE_FD, name);
	CHECK(d.fd >= 0 && ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &bar) == 0 && bar.flags & VFIO_REGION_INFO_FLAG_MMAP);
	d.registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, d.fd, (off_t)bar.offset);
	CHECK(d.registers != MAP_FAILED && d.registers[8] == 0x32);
	command(d.fd, 0x6);
	d.registers[CHANCMD] = RESET;
	return d;
}

static int map_dma(int container, const volatile void *at, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)at, .iova = iova, .size = size,
	};
	return ioctl(container, VFIO_IOMMU_MAP_DMA, &map);
}

/* One descriptor at the start of the memory at IOVA; the state in which it ended. */
static unsigned copy(struct device *d, struct descriptor *at, uint64_t from, uint64_t to, uint32_t size, bool interrupt)
{
	*at = (struct descriptor){ .size = size, .control = interrupt, .source = from, .destination = to, .next = IOVA };
	*(volatile uint64_t *)(d->registers + CHAINADDR) = IOVA;
	*(volatile uint16_t *)(d->registers + CHANCTRL) = 0x9;
	*(volatile uint16_t *)(d->registers + DMACOUNT) = 1;
	unsigned state = d->registers[CHANSTS] & 7;
	d->registers[CHANCMD] = state == HALTED ? RESET : SUSPEND;
	return state;
}

static int interrupts(struct device *d)
{
	struct {
		struct vfio_irq_set set;
		int fd;
	} request = { { sizeof(request), VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1 },
		      eventfd(0, EFD_NONBLOCK) };
	CHECK(ioctl(d->fd, VFIO_DEVICE_SET_IRQS, &request) == 0);
	d->registers[3] = 0x8;
	return request.fd;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	int container = open(argv[1], O_RDWR), p2p = strcmp(argv[1], "/dev/vfio/vfio") == 0;
	CHECK(container >= 0 && ioctl(container, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	CHECK(ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) == 1);
	struct device first = open_device(container, "/dev/vfio/0", "0000:01:00.0");
	struct device second = open_device(container, "/dev/vfio/1", "0000:02:00.0");
	CHECK(open("/dev/vfio/devices/vfio0", O_RDWR) >= 0);

	uint8_t *memory = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED && map_dma(container, memory, IOVA, 2 * MIB) == 0);
	memset(memory + 4096, 'x', 4096);
	CHECK(copy(&first, (void *)memory, IOVA + 4096, IOVA + MIB, 4096, false) == DONE);
	CHECK(memcmp(memory + 4096, memory + MIB, 4096) == 0);
	CHECK(copy(&second, (void *)memory, IOVA + MIB + 8, IOVA + 100, 50, false) == DONE && memory[149] == 'x' && !memory[150]);
	CHECK(copy(&first, (void *)memory, IOVA + 4 * MIB, IOVA + 100, 50, false) == HALTED);

	int event = interrupts(&first);
	uint64_t count;
	CHECK(copy(&first, (void *)memory, IOVA + 4096, IOVA + MIB, 8, true) == DONE);
	struct pollfd wait = { .fd = event, .events = POLLIN };
	CHECK(poll(&wait, 1, 5000) == 1 && read(event, &count, sizeof(count)) == 8 && count == 1);

	/* A device writes a register of the other. */
	CHECK((map_dma(container, second.registers, PEER_IOVA, 4096) == 0) == p2p);
	if (p2p) {
		uint64_t chain = 0x1122334455667740;
		memcpy(memory + 8192, &chain, sizeof(chain));
		CHECK(copy(&first, (void *)memory, IOVA + 8192, PEER_IOVA + CHAINADDR, 8, false) == DONE);
		CHECK(*(volatile uint64_t *)(second.registers + CHAINADDR) == chain);
	}

	struct vfio_iommu_type1_dma_unmap all = { .argsz = sizeof(all), .flags = VFIO_DMA_UNMAP_FLAG_ALL };
	CHECK(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &all) == 0 && all.size == 2 * MIB + (p2p ? 4096 : 0));
	CHECK(copy(&second, (void *)memory, IOVA, IOVA + 100, 50, false) == HALTED);
	return 0;
}
