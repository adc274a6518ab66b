// SPDX-License-Identifier: MIT
/*
 * cmdqv: what a VMM does for a VM on Grace, whose SMMUs have a CMDQV (Tegra241): a command queue that the guest drives
 * itself. The guest writes a command to its own memory and rings a register in a page that the VMM has mapped: the hardware
 * reads the command there, puts the VM's VMID and the physical StreamID into it, and carries it out, with no ioctl.
 *
 *      guest RAM:   commands of the queue        tables of stage 1
 *                        |                            |
 *   mapped page: PROD -> CMDQV: VINTF, VMID -> SMMU: stage 1, then the nesting parent <- device
 *
 *	uiommufd run --machine grace -- ./cmdqv
 *
 * It plays the VMM and the guest. Compile it as two-smmus.c; it speaks the uAPI of Linux 6.17 and later (vIOMMU type
 * TEGRA241_CMDQV, HW_QUEUE_ALLOC), with -DVIOMMU_V2 that of the series from which this came (VQUEUE_ALLOC).
 */
#define _GNU_SOURCE
#include <poll.h>

#include "dma-probe.h"
#include "vm.h"

#define IOVA 0x10000ull
#define ASID 7ull
#define VSID 0x108ull
#define VINTF_PAGE 0x10000ull

/* ---- The guest's queue ------------------------------------------------------------------------------------------- */

enum { CONS, PROD, CONFIG, STATUS, GERROR, GERRORN, QUEUE_WORDS = 0x80 / 4 }; /* words of a queue's registers */
enum { LOG2_ENTRIES = 8, ENTRIES = 1 << LOG2_ENTRIES }; /* a page of commands */

struct queue {
	uint32_t id; /* of its object */
	uint64_t base; /* guest-physical */
	volatile uint32_t *registers; /* in the mapped page */
};

static struct command sync_command(void)
{
	return (struct command){ { 0x46, 0 } };
}

static struct command *entry(struct queue *queue, uint32_t index)
{
	return (struct command *)guest(queue->base) + index % ENTRIES;
}

static bool failed(struct queue *queue)
{
	return (queue->registers[GERROR] ^ queue->registers[GERRORN]) & 1;
}

/* Writes a command and a CMD_SYNC, and rings. True when the hardware has consumed both, false when it stopped at an error. */
static bool submit(struct queue *queue, struct command command)
{
	uint32_t at = queue->registers[PROD], end = (at + 2) % (2 * ENTRIES); /* the bit above the index tells laps apart */

	*entry(queue, at) = command;
	*entry(queue, at + 1) = sync_command();
	__sync_synchronize();
	queue->registers[PROD] = end;
	for (int i = 0; i < 100000 && !failed(queue); i++)
		if ((queue->registers[CONS] & (2 * ENTRIES - 1)) == end)
			return true;
	return false;
}

/* As a driver does: a CMD_SYNC takes the place of the command that is in error, and the queue goes on. */
static bool recover(struct queue *queue)
{
	*entry(queue, queue->registers[CONS]) = sync_command();
	__sync_synchronize();
	queue->registers[GERRORN] = queue->registers[GERROR];
	return !failed(queue) && (queue->registers[CONS] & (2 * ENTRIES - 1)) == queue->registers[PROD];
}

static bool enable(struct queue *queue)
{
	queue->registers[CONFIG] = 1;
	return queue->registers[STATUS] & 1;
}

/* ---- What the VMM sets up ---------------------------------------------------------------------------------------- */

static struct device device = { .bdf = "0000:03:00.0" };
static uint32_t viommu, vdevice, stage1;
static uint64_t page_offset; /* where in the file of /dev/iommu the page is */
static volatile uint32_t *page;
static struct queue queues[2];

static void read_hw_info(void)
{
#ifndef VIOMMU_V2
	struct iommu_hw_info_tegra241_cmdqv cmdqv = { 0 };
	struct iommu_hw_info info = {
		.size = sizeof(info),
		.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
		.dev_id = device.id,
		.data_len = sizeof(cmdqv),
		.data_uptr = (uintptr_t)&cmdqv,
		.in_data_type = IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
	};

	must(ioctl(iommufd, IOMMU_GET_HW_INFO, &info), "IOMMU_GET_HW_INFO");
	check(cmdqv.version == 1 && cmdqv.log2vcmdqs == 1 && cmdqv.log2vsids == 4,
	      "a VM can have %d queues of a CMDQV %d, and %d devices", 1 << cmdqv.log2vcmdqs, cmdqv.version,
	      1 << cmdqv.log2vsids);
#endif
}

static void alloc_viommu(void)
{
	struct iommu_viommu_alloc alloc = {
		.size = sizeof(alloc),
		.type = IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
		.dev_id = device.id,
		.hwpt_id = parent,
	};
#ifndef VIOMMU_V2
	struct iommu_viommu_tegra241_cmdqv vintf = { 0 };

	alloc.data_len = sizeof(vintf);
	alloc.data_uptr = (uintptr_t)&vintf;
#endif
	must(ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &alloc), "IOMMU_VIOMMU_ALLOC");
	viommu = alloc.out_viommu_id;
#ifdef VIOMMU_V2
	page_offset = viommu * PAGE;
#else
	check(vintf.out_vintf_mmap_length == VINTF_PAGE && vintf.out_vintf_mmap_offset,
	      "the vIOMMU's virtual interface has a page of registers to map");
	page_offset = vintf.out_vintf_mmap_offset;
#endif
}

static void *map_page(uint64_t length, int protection, int flags, uint64_t offset)
{
	return mmap(NULL, length, protection, flags, iommufd, offset);
}

static bool refuses(int error, uint64_t length, int protection, int flags, uint64_t offset)
{
	return map_page(length, protection, flags, offset) == MAP_FAILED && errno == error;
}

static void check_mmap(void)
{
	const int both = PROT_READ | PROT_WRITE;

	check(refuses(EINVAL, VINTF_PAGE, both, MAP_PRIVATE, page_offset) &&
		      refuses(EPERM, VINTF_PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, page_offset),
	      "the page is not to be mapped privately, nor to be executed");
#ifdef VIOMMU_V2
	check(refuses(ENOENT, VINTF_PAGE, both, MAP_SHARED, 0) &&
		      refuses(EINVAL, VINTF_PAGE + PAGE, both, MAP_SHARED, page_offset),
	      "what is mapped is named by a vIOMMU, and no longer than its page");
#else
	check(refuses(ENXIO, PAGE, both, MAP_SHARED, page_offset) && refuses(ENXIO, VINTF_PAGE, both, MAP_SHARED, 0) &&
		      refuses(ENXIO, VINTF_PAGE, both, MAP_SHARED, page_offset + PAGE),
	      "the page is mapped as a whole or not at all: ENXIO");
#endif
	page = map_page(VINTF_PAGE, both, MAP_SHARED, page_offset);
	must(page == MAP_FAILED ? -1 : 0, "mmap of the VINTF's page");
}

/* What a VMM does when the guest writes the base register of a queue, which is not in the page. */
static int alloc_queue(uint32_t index, uint64_t base, uint32_t *id)
{
#ifdef VIOMMU_V2
	struct iommu_vqueue_tegra241_cmdqv vcmdq = {
		.vcmdq_id = index, .vcmdq_log2size = LOG2_ENTRIES, .vcmdq_base = base,
	};
	struct iommu_vqueue_alloc alloc = {
		.size = sizeof(alloc),
		.viommu_id = viommu,
		.data_type = IOMMU_VQUEUE_DATA_TEGRA241_CMDQV,
		.data_len = sizeof(vcmdq),
		.data_uptr = (uintptr_t)&vcmdq,
	};
	int result = ioctl(iommufd, IOMMU_VQUEUE_ALLOC, &alloc);

	*id = alloc.out_vqueue_id;
#else
	struct iommu_hw_queue_alloc alloc = {
		.size = sizeof(alloc),
		.viommu_id = viommu,
		.type = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
		.index = index,
		.nesting_parent_iova = base,
		.length = ENTRIES * sizeof(struct command),
	};
	int result = ioctl(iommufd, IOMMU_HW_QUEUE_ALLOC, &alloc);

	*id = alloc.out_hw_queue_id;
#endif
	return result;
}

static void make_queue(uint32_t index)
{
	struct queue *queue = &queues[index];

	queue->base = guest_page();
	queue->registers = page + index * QUEUE_WORDS;
	must(alloc_queue(index, queue->base, &queue->id), "allocation of a queue");
}

static int unmap_guest_ram(void)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = ioas, .iova = GUEST_BASE, .length = GUEST_RAM,
	};

	return ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap);
}

/* ---- The story --------------------------------------------------------------------------------------------------- */

static uint64_t cd, root, old_page, new_page;

static void build_guest(void)
{
	cd = guest_page();
	root = guest_page();
	old_page = guest_page();
	new_page = guest_page();
	*(uint64_t *)guest(old_page) = 0x01d;
	*(uint64_t *)guest(new_page) = 0x2e4;
	*pte(root, IOVA) = old_page | LEAF;
	write_cd(cd, root, ASID);
}

/* Which of the two pages does the device read at IOVA? */
static uint64_t found(void)
{
	bool waited = false;
	uint64_t value;

	if (probe(&device, PROBE_READ, IOVA, 8, &waited) != PROBE_DONE)
		return 0;
	value = fetch(&device, device.bar0 + PROBE_DATA, 8);
	return value == 0x01d ? old_page : value == 0x2e4 ? new_page : 0;
}

static void check_queue(struct queue *queue)
{
	check(!(queue->registers[STATUS] & 1) && queue->registers[CONS] == 0, "a queue that is allocated waits to be enabled");
	check(enable(queue), "the guest enables it by a register of the page");
	check(submit(queue, sync_command()), "a CMD_SYNC is consumed before the next load of CONS");
}

/* The guest changes a PTE. (It should break before it makes; here we want to look at what the caches still hold.) */
static void check_tlbi(struct queue *queue)
{
	struct command other_vmid = tlbi_va(ASID, IOVA + PAGE);

	check(found() == old_page, "stage 1 on: the device reads the guest's page by IOVA");
	*pte(root, IOVA) = new_page | LEAF;
	check(found() == old_page, "PTE changed: DMA still goes to the old page");
	check(submit(queue, tlbi_asid(ASID + 1)) && found() == old_page, "TLBI of another ASID changes nothing");
	other_vmid.word[0] |= 0x5aull << 32;
	check(submit(queue, other_vmid) && found() == old_page, "TLBI of another address changes nothing");
	other_vmid = tlbi_va(ASID, IOVA);
	other_vmid.word[0] |= 0x5aull << 32;
	check(submit(queue, other_vmid) && found() == new_page,
	      "after the right TLBI DMA goes to the new page, whatever VMID the guest wrote");
	*pte(root, IOVA) = old_page | LEAF;
	check(submit(queue, tlbi_asid(ASID)) && found() == old_page, "and so it does after TLBI of the whole ASID");
}

static void check_atc(struct queue *queue)
{
	use_stage1(viommu, &device, &stage1, cd, true);
	found();
	*pte(root, IOVA) = new_page | LEAF;
	check(submit(queue, tlbi_va(ASID, IOVA)) && found() == old_page,
	      "ATS on: after TLBI the device's own cache still has the old page");
	check(submit(queue, atc_inv(VSID)) && found() == new_page, "after ATC_INV of its virtual StreamID it has the new one");
	check(!submit(queue, atc_inv(VSID + 1)) && recover(queue), "ATC_INV of a StreamID that is not the VM's is an error");
}

/* What the queue of a guest does not take stops it until the guest has acknowledged the error. */
static void check_errors(struct queue *queue, int events)
{
	static const struct {
		const char *name;
		struct command command;
	} forbidden[] = {
		{ "CFGI_CD", { { 0x05 | VSID << 32, 1 } } },
		{ "TLBI_EL2_ALL", { { 0x20, 0 } } },
		{ "TLBI_NSNH_ALL", { { 0x30, 0 } } },
	};

	for (size_t i = 0; i < sizeof(forbidden) / sizeof(*forbidden); i++) {
		const char *name = forbidden[i].name;

		check(!submit(queue, forbidden[i].command) && queue->registers[CONS] >> 24,
		      "%s is not for a guest's queue, which stops with error %d", name, queue->registers[CONS] >> 24);
#ifdef VIOMMU_V2
		(void)events;
#else
		struct {
			struct iommufd_vevent_header header;
			struct iommu_vevent_tegra241_cmdqv data;
		} record = { 0 };
		struct pollfd poller = { .fd = events, .events = POLLIN };

		check(poll(&poller, 1, 1000) == 1 && read(events, &record, sizeof(record)) == sizeof(record) &&
			      record.data.lvcmdq_err_map[0] == 1 && !record.data.lvcmdq_err_map[1],
		      "%s: an event tells the VMM which queue it was", name);
#endif
		check(recover(queue), "%s: the guest acknowledges, and the queue goes on", name);
	}
	issue(viommu, cfgi_cd(VSID));
	check(true, "what the queue does not take goes the long way, by IOMMU_HWPT_INVALIDATE");
}

#ifndef VIOMMU_V2
static void open_event_queue(uint32_t *id, int *fd)
{
	struct iommu_veventq_alloc alloc = {
		.size = sizeof(alloc), .viommu_id = viommu, .type = IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV, .veventq_depth = 16,
	};

	must(ioctl(iommufd, IOMMU_VEVENTQ_ALLOC, &alloc), "IOMMU_VEVENTQ_ALLOC");
	*id = alloc.out_veventq_id;
	*fd = alloc.out_veventq_fd;
}
#endif

/* Queues depend on one another and on the vIOMMU; and the hardware reads their memory for as long as they are there. */
static void check_things_in_use(void)
{
#ifdef VIOMMU_V2
	uint32_t third;

	check(alloc_queue(1, queues[1].base, &third) < 0 && errno == EEXIST, "a queue that is taken: EEXIST");
#else
	check(unmap_guest_ram() < 0 && errno == EBUSY, "the queues' memory cannot be unmapped: EBUSY");
	check_busy(queues[0].id, "a queue before another one");
#endif
	check_busy(viommu, "a vIOMMU with queues");
}

static void tear_down(void)
{
	must(destroy(queues[1].id), "IOMMU_DESTROY of the second queue");
	must(destroy(queues[0].id), "IOMMU_DESTROY of the first queue");
	page[PROD] = 1;
	check(page[PROD] == 0 && page[STATUS] == 0, "a page without queues has nothing to write to");
	detach(&device);
	must(destroy(stage1), "IOMMU_DESTROY of the stage 1 HWPT");
	forget_device(viommu, &device, VSID, vdevice);
#ifdef VIOMMU_V2
	check(destroy(viommu) == 0 && page[STATUS] == 0, "the mapping does not keep the vIOMMU");
	munmap((void *)page, VINTF_PAGE);
#else
	check_busy(viommu, "a vIOMMU whose page is mapped");
	munmap((void *)page, PAGE);
	check_busy(viommu, "one of which a part is still mapped");
	munmap((void *)page, VINTF_PAGE);
	must(destroy(viommu), "IOMMU_DESTROY of the vIOMMU");
#endif
	check(unmap_guest_ram() == 0, "guest RAM can be unmapped when no queue is in it");
	check(destroy(parent) == 0 && destroy(ioas) == 0, "everything is gone in the order of its references");
}

int main(void)
{
	uint32_t event_queue = 0;
	int events = -1;

	setlinebuf(stdout);
	errno = ENODEV;
	must(iommu_of(device.bdf, device.iommu) && vfio_node_of(device.bdf, device.vfio) ? 0 : -1, "a DMA probe at 0000:03:00.0");
	iommufd = must(open("/dev/iommu", O_RDWR | O_CLOEXEC), "open of /dev/iommu");
	map_guest_ram();
	open_device(&device, iommufd);
	start_probe(&device);
	read_hw_info();
	alloc_parent(&device);
	alloc_viommu();
	vdevice = name_device(viommu, &device, VSID);
#ifndef VIOMMU_V2
	open_event_queue(&event_queue, &events);
#endif
	build_guest();
	use_stage1(viommu, &device, &stage1, cd, false);

	check_mmap();
	make_queue(0);
	check_queue(&queues[0]);
	check_tlbi(&queues[0]);
	check_atc(&queues[0]);
#ifndef VIOMMU_V2
	struct pollfd poller = { .fd = events, .events = POLLIN };
	uint8_t record[64];

	check(poll(&poller, 1, 1000) == 1 && read(events, record, sizeof(record)) == 24, "its event is there to be read");
#endif
	check_errors(&queues[0], events);
	make_queue(1);
	check_queue(&queues[1]);
	check_things_in_use();
#ifndef VIOMMU_V2
	close(events);
	must(destroy(event_queue), "IOMMU_DESTROY of the event queue");
#else
	(void)event_queue;
#endif
	tear_down();
	close(device.fd);
	close(iommufd);
	return verdict();
}
