// SPDX-License-Identifier: MIT
/*
 * Demand paging for a device: DMA to memory that is not mapped waits, a pager hears of it by a fault queue, maps the page,
 * and answers; the DMA goes on. With two kinds of devices: one whose transactions stall in the IOMMU, and one that requests
 * its pages itself (ATS and PRI). Nothing here tells them apart.
 *
 *	uiommufd run --machine page-faults -- ./page-faults
 */
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>

#if __has_include("iommufd.h")
#include "iommufd.h"
#else
#include <linux/iommufd.h>
#endif
#include "dma-probe.h"

enum { PAGE = 4096, PAGES = 16 };
static const uint64_t IOVA = 0x40000000;

struct pager {
	int iommufd, faults;
	uint32_t ioas;
	uint8_t *memory;
	int brought, refused, wrong; /* pages */
};

/* Maps the page behind `address`, if it is one that the device may have. */
static bool bring(struct pager *pager, uint64_t address)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = pager->ioas,
		.iova = address - address % PAGE,
		.length = PAGE,
	};

	if (map.iova < IOVA || map.iova >= IOVA + PAGES * PAGE)
		return false;
	map.user_va = (uintptr_t)(pager->memory + (map.iova - IOVA));
	/* Two requests may have asked for one page. */
	return ioctl(pager->iommufd, IOMMU_IOAS_MAP, &map) == 0 || errno == EEXIST;
}

/* Answers groups of page requests until it is cancelled. */
static void *serve(void *argument)
{
	struct pager *pager = argument;
	struct iommu_hwpt_pgfault requests[16];

	for (;;) {
		struct pollfd wait = { .fd = pager->faults, .events = POLLIN };
		ssize_t length;
		bool good = true;

		pthread_testcancel();
		if (poll(&wait, 1, 20) <= 0 || !(wait.revents & POLLIN))
			continue;
		length = read(pager->faults, requests, sizeof(requests));
		if (length <= 0)
			continue;
		for (size_t i = 0; i < length / sizeof(requests[0]); i++) {
			struct iommu_hwpt_pgfault *request = &requests[i];

			if (bring(pager, request->addr))
				pager->brought++;
			else
				good = false;
			if (request->flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) {
				struct iommu_hwpt_page_response response = {
					.cookie = request->cookie,
					.code = good ? IOMMUFD_PAGE_RESP_SUCCESS : IOMMUFD_PAGE_RESP_INVALID,
				};

				pager->refused += !good;
				pager->wrong += write(pager->faults, &response, sizeof(response)) != sizeof(response);
				good = true;
			}
		}
	}
	return NULL;
}

static void run(struct device *device, int iommufd)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct iommu_fault_alloc queue = { .size = sizeof(queue) };
	struct iommu_hwpt_alloc hwpt = { .size = sizeof(hwpt), .flags = IOMMU_HWPT_FAULT_ID_VALID };
	struct pager pager = { .iommufd = iommufd };
	pthread_t thread;
	bool waited = false;
	int good = 0;

	open_device(device, iommufd);
	start_probe(device);
	must(ioctl(iommufd, IOMMU_IOAS_ALLOC, &ioas), "IOMMU_IOAS_ALLOC");
	must(ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &queue), "IOMMU_FAULT_QUEUE_ALLOC");
	hwpt.dev_id = device->id;
	hwpt.pt_id = ioas.out_ioas_id;
	hwpt.fault_id = queue.out_fault_id;
	must(ioctl(iommufd, IOMMU_HWPT_ALLOC, &hwpt), "IOMMU_HWPT_ALLOC");
	must(attach(device, hwpt.out_hwpt_id), "attach");
	pager.ioas = ioas.out_ioas_id;
	pager.faults = queue.out_fault_fd;
	pager.memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(pager.memory == MAP_FAILED ? -1 : 0, "mmap");
	for (int i = 0; i < PAGES * PAGE; i++)
		pager.memory[i] = i / 256;
	must(-(errno = pthread_create(&thread, NULL, serve, &pager)), "pthread_create");

	/* Across the boundary of two pages each time. */
	for (int page = 0; page + 1 < PAGES; page++) {
		uint64_t end = IOVA + (page + 1) * PAGE;

		good += probe(device, PROBE_READ, end - 8, 16, &waited) == PROBE_DONE &&
			fetch(device, device->bar0 + PROBE_DATA, 8) == 0x0101010101010101ull * (16 * page + 15) &&
			fetch(device, device->bar0 + PROBE_DATA + 8, 8) == 0x0101010101010101ull * (16 * page + 16);
	}
	check(good == PAGES - 1, "%s: %d of %d accesses got their bytes", device->bdf, good, PAGES - 1);
	check(pager.brought == PAGES, "%s: the pager brought each page once: %d", device->bdf, pager.brought);
	check(waited, "%s: the device waited for it", device->bdf);
	put(device, device->bar0 + PROBE_DATA, 0x1122334455667788, 8);
	check(probe(device, PROBE_WRITE, IOVA + 0x10, 8, &waited) == PROBE_DONE &&
		      *(uint64_t *)(pager.memory + 0x10) == 0x1122334455667788,
	      "%s: a write arrives", device->bdf);
	check(probe(device, PROBE_READ, IOVA - 8, 8, &waited) == PROBE_REFUSED && pager.refused == 1,
	      "%s: what the pager refuses ends with an error", device->bdf);
	check(pager.wrong == 0, "%s: every answer was taken", device->bdf);

	pthread_cancel(thread);
	pthread_join(thread, NULL);
	detach(device);
	close(device->fd);
	close(pager.faults);
	munmap(pager.memory, PAGES * PAGE);
}

int main(void)
{
	struct device stalls = { .vfio = "vfio0", .bdf = "stalling" }, requests = { .vfio = "vfio1", .bdf = "requesting" };
	int iommufd = must(open("/dev/iommu", O_RDWR | O_CLOEXEC), "/dev/iommu");

	run(&stalls, iommufd);
	run(&requests, iommufd);
	close(iommufd);
	return verdict();
}
