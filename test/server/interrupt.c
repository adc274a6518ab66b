/*
 * Copies by the DMA engine of vfio0, each with an interrupt by MSI-X: a line on stdout for each, with the nanoseconds
 * from before the write that starts it until its eventfd has been read.
 */
#include <poll.h>
#include <time.h>

#include <sys/mman.h>

#include "../../examples/uapi/iommufd.h"
#include "../../examples/vfio-device.h"

enum { COUNT = 1000, PAGE = 4096 };

static int64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* An IOAS with one page at IOVA 0: the descriptor, and behind it source and target. */
static uint32_t map_page(int iommufd, void *page)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.length = PAGE,
		.user_va = (uintptr_t)page,
	};

	must(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
	map.ioas_id = alloc.out_ioas_id;
	must(ioctl(iommufd, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
	return alloc.out_ioas_id;
}

static int64_t interrupt_after_copy(struct device *device, int event)
{
	struct pollfd wanted = { .fd = event, .events = POLLIN };
	uint64_t count;

	put(device, device->bar0 + CHAINADDR, 0, 8);
	put(device, device->bar0 + CHANCTRL, 0x09, 2);
	int64_t start = nanoseconds();
	put(device, device->bar0 + DMACOUNT, 1, 2);
	must(poll(&wanted, 1, 1000) == 1 ? 0 : -1, "an interrupt");
	must(read(event, &count, sizeof(count)), "read of the eventfd");
	return nanoseconds() - start;
}

int main(void)
{
	struct device device = { .vfio = "vfio0" };
	int iommufd = must(open("/dev/iommu", O_RDWR | O_CLOEXEC), "/dev/iommu");
	struct descriptor *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*page = (struct descriptor){ .size = 16, .control = 1, .source = 0x100, .target = 0x200 };
	open_device(&device, iommufd);
	must(attach(&device, map_page(iommufd, page)), "attach");
	int event = interrupt_eventfd(&device);
	start_engine(&device);
	for (int i = 0; i < COUNT; i++)
		printf("%lld\n", (long long)interrupt_after_copy(&device, event));
	detach(&device);
	return 0;
}
