/* SPDX-License-Identifier: MIT */
/*
 * two-smmus: what a VMM does for a VM with two vSMMUs that share one stage 2.
 *
 *      guest's stage 1, ASID 7            guest's stage 1, ASID 7         tables in guest RAM
 *                |                                  |
 *   device A -> SMMU A: vIOMMU, VMID a    SMMU B: vIOMMU, VMID b <- device B
 *                |                                  |
 *                +---- one nesting parent: stage 2 -+                     tables of the kernel
 *                                |
 *                     guest RAM, mapped by one IOAS
 *
 * It opens /dev/iommu and two /dev/vfio/devices/vfioN and builds this picture with the kernel's uAPI. Then it plays the
 * guest, which writes page tables and SMMU commands, and lets the devices copy memory. It knows nothing of what is
 * beneath.
 *
 *     cc -O2 -Wall -Wextra -Iexamples/uapi examples/two-smmus.c -o two-smmus
 *
 * speaks today's uAPI (from Linux 6.15); with -DVIOMMU_V2, that of the series "iommufd: Add VIOMMU infrastructure
 * (Part-1)", v2. Without -Iexamples/uapi it takes the system's <linux/iommufd.h>. Each check prints a line of TAP; the
 * exit status is zero when all of them hold. check.h, vfio-device.h, guest-smmu.h and vm.h have what is not special to
 * this story.
 */
#define _GNU_SOURCE
#include <poll.h>

#include "vm.h"

/* The addresses that the guest's drivers give to their devices. */
#define IOVA_SOURCE 0x10000ull
#define IOVA_TARGET 0x20000ull
#define IOVA_DESCRIPTOR 0x30000ull
#define IOVA_HOLE 0x50000ull
#define ASID 7ull

/*
 * Where the host maps the page that devices write their MSIs to, in the parent: IOMMU_IOAS_IOVA_RANGES leaves it out. An
 * MSI goes through stage 1 like all DMA, so the guest has to map it one to one; a VMM says so by an RMR in its firmware.
 */
#define MSI_WINDOW 0x8000000ull

/* One physical SMMU with one device behind it, and the VM's slice of that SMMU. */
struct side {
	char label;
	struct device device;
	bool has_ats;
	int vmid_bits;
	uint32_t viommu, vdevice, event_queue, bypass, stage1; /* object IDs */
	int event_fd;
	uint64_t vsid; /* the StreamID by which the guest knows the device */
	uint64_t cd, root, other_root; /* guest-physical, like everything of the guest's */
	uint64_t source, descriptor, old_page, new_page;
};

static uint32_t neighbour; /* another slice of SMMU A, as if for another VM */

/* ---- Building the VM --------------------------------------------------------------------------------------------- */

static void read_hw_info(struct side *side)
{
	struct iommu_hw_info_arm_smmuv3 smmu = { 0 };
	struct iommu_hw_info info = {
		.size = sizeof(info),
		.dev_id = side->device.id,
		.data_len = sizeof(smmu),
		.data_uptr = (uintptr_t)&smmu,
	};

	must(ioctl(iommufd, IOMMU_GET_HW_INFO, &info), "IOMMU_GET_HW_INFO");
	check(info.out_data_type == IOMMU_HW_INFO_TYPE_ARM_SMMUV3, "%s is an SMMUv3", side->device.iommu);
	side->vmid_bits = smmu.idr[0] >> 18 & 1 ? 16 : 8; /* IDR0.VMID16 */
	/* IDR0.ATS, unless the device has none (Linux 7.1 added this bit; before, it is 0). */
	side->has_ats = (smmu.idr[0] >> 10 & 1) && !(info.out_capabilities & 1 << 3);
}

/* A slice of this side's SMMU on the one nesting parent; -1 and errno when it is refused. */
static int alloc_viommu(struct side *side, uint32_t *id)
{
	struct iommu_viommu_alloc alloc = {
		.size = sizeof(alloc),
#ifdef VIOMMU_V2
		.type = IOMMU_VIOMMU_TYPE_DEFAULT,
#else
		.type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
#endif
		.dev_id = side->device.id,
		.hwpt_id = parent,
	};
	int result = ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &alloc);

	*id = alloc.out_viommu_id;
	return result;
}

/* The queue in which the faults of the guest's devices come to the VMM. */
static void open_event_queue(struct side *side)
{
#ifdef VIOMMU_V2
	struct iommu_virq_alloc alloc = {
		.size = sizeof(alloc), .viommu_id = side->viommu, .type = IOMMU_VIRQ_TYPE_ARM_SMMUV3,
	};

	must(ioctl(iommufd, IOMMU_VIRQ_ALLOC, &alloc), "IOMMU_VIRQ_ALLOC");
	side->event_queue = alloc.out_virq_id;
	side->event_fd = alloc.out_virq_fd;
#else
	struct iommu_veventq_alloc alloc = {
		.size = sizeof(alloc), .viommu_id = side->viommu, .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, .veventq_depth = 16,
	};

	must(ioctl(iommufd, IOMMU_VEVENTQ_ALLOC, &alloc), "IOMMU_VEVENTQ_ALLOC");
	side->event_queue = alloc.out_veventq_id;
	side->event_fd = alloc.out_veventq_fd;
#endif
}

static void build_viommu(struct side *side)
{
	must(alloc_viommu(side, &side->viommu), "IOMMU_VIOMMU_ALLOC");
	side->vsid = side->label == 'A' ? 0x108 : 0x210;
	side->vdevice = name_device(side->viommu, &side->device, side->vsid);
	open_event_queue(side);
	side->bypass = alloc_nested(side->viommu, &side->device, STE_VALID | STE_BYPASS, 0);
	must(attach(&side->device, side->bypass), "attach of the bypass HWPT");
}

/* ---- What the guest does ----------------------------------------------------------------------------------------- */

static uint64_t build_stage1(struct side *side, uint64_t target)
{
	uint64_t root = guest_page();

	*pte(root, IOVA_SOURCE) = side->source | LEAF;
	*pte(root, IOVA_TARGET) = target | LEAF;
	*pte(root, IOVA_DESCRIPTOR) = side->descriptor | LEAF;
	*pte(root, MSI_WINDOW) = MSI_WINDOW | LEAF;
	return root;
}

/* Two stage 1 tables that differ in the page behind IOVA_TARGET; the context descriptor names the first. */
static void build_guest(struct side *side)
{
	side->cd = guest_page();
	side->source = guest_page();
	side->descriptor = guest_page();
	side->old_page = guest_page();
	side->new_page = guest_page();
	side->root = build_stage1(side, side->old_page);
	side->other_root = build_stage1(side, side->new_page);
	write_cd(side->cd, side->root, ASID);
}

/* Has the device copy `length` bytes; every address is as the device sees it. False when the engine had to stop. */
static bool dma(struct side *side, uint64_t at, uint64_t target, uint64_t source, uint32_t length, bool interrupt)
{
	*(struct descriptor *)guest(side->descriptor) = (struct descriptor){
		.size = length, .control = interrupt, .source = source, .target = target, .next = at,
	};
	return run_engine(&side->device, at);
}

static bool dma_by_iova(struct side *side, uint64_t source)
{
	return dma(side, IOVA_DESCRIPTOR, IOVA_TARGET, source, PAGE, false);
}

/* Fills a page with bytes that no earlier call used. */
static void fill(uint64_t page)
{
	static uint64_t pattern;

	for (uint64_t *word = guest(page), *end = word + PAGE / sizeof(*word); word < end; word++)
		*word = ++pattern * 0x9e3779b97f4a7c15ull;
}

static bool same(uint64_t a, uint64_t b)
{
	return memcmp(guest(a), guest(b), PAGE) == 0;
}

/* Which of the two pages does DMA to IOVA_TARGET reach? */
static uint64_t landing(struct side *side)
{
	fill(side->source);
	if (!dma_by_iova(side, IOVA_SOURCE))
		return 0;
	if (same(side->source, side->old_page))
		return side->old_page;
	return same(side->source, side->new_page) ? side->new_page : 0;
}

/* ---- The story --------------------------------------------------------------------------------------------------- */

/* The guest's SMMU is off, as at boot: its device reaches guest-physical memory, through stage 2 alone. */
static void check_bypass(struct side *side)
{
	fill(side->source);
	check(dma(side, side->descriptor, side->old_page, side->source, PAGE, false) && same(side->source, side->old_page),
	      "%c, guest SMMU off: DMA by guest-physical address goes through stage 2", side->label);
}

static void check_stage1(struct side *side)
{
	int event = interrupt_eventfd(&side->device);
	uint64_t interrupts = 0;

	fill(side->source);
	check(dma(side, IOVA_DESCRIPTOR, IOVA_TARGET, IOVA_SOURCE, PAGE, true) && same(side->source, side->old_page),
	      "%c, stage 1 on: the device reads and writes guest pages by IOVA", side->label);
	check(read(event, &interrupts, sizeof(interrupts)) == sizeof(interrupts) && interrupts == 1,
	      "%c: the completion interrupt arrives at its eventfd, once", side->label);
	close(event);
}

/* Both SMMUs walk the same stage 2: what one device writes, the other reads. */
static void check_shared_memory(struct side *a, struct side *b)
{
	uint64_t *entry = pte(b->root, IOVA_SOURCE);

	fill(a->source);
	*entry = a->old_page | LEAF;
	issue(b->viommu, tlbi_va(ASID, IOVA_SOURCE));
	check(dma_by_iova(a, IOVA_SOURCE) && dma_by_iova(b, IOVA_SOURCE) && same(a->source, b->old_page),
	      "what device A wrote through SMMU A, device B reads through SMMU B");
	*entry = b->source | LEAF;
	issue(b->viommu, tlbi_va(ASID, IOVA_SOURCE));
}

/* The guest changes a PTE. (It should break before it makes; here we want to look at what the caches still hold.) */
static void check_tlbi(struct side *side, struct side *other)
{
	landing(side); /* now the translation is cached */
	*pte(side->root, IOVA_TARGET) = side->new_page | LEAF;
	check(landing(side) == side->old_page, "%c, PTE changed: DMA still goes to the old page", side->label);
	issue(side->viommu, tlbi_asid(ASID + 1));
	check(landing(side) == side->old_page, "%c: TLBI of another ASID changes nothing", side->label);
	issue(side->viommu, tlbi_va(ASID, IOVA_SOURCE));
	check(landing(side) == side->old_page, "%c: TLBI of another address changes nothing", side->label);
	issue(other->viommu, tlbi_all());
	check(landing(side) == side->old_page, "%c: TLBI in the VM's other vIOMMU changes nothing", side->label);
	if (side->label == 'A') {
		issue(neighbour, tlbi_all());
		check(landing(side) == side->old_page, "A: TLBI of another VMID on the same SMMU changes nothing");
	}
	issue(side->viommu, tlbi_va(ASID, IOVA_TARGET));
	check(landing(side) == side->new_page, "%c: after the right TLBI, DMA goes to the new page", side->label);

	*pte(side->root, IOVA_TARGET) = side->old_page | LEAF;
	issue(side->viommu, tlbi_va(ASID, IOVA_TARGET));
}

/* With ATS the device caches translations too, and TLBI does not reach it. */
static void check_atc(struct side *side, struct side *other)
{
	use_stage1(side->viommu, &side->device, &side->stage1, side->cd, true);
	check(landing(side) == side->old_page, "%c, ATS on: DMA by IOVA arrives", side->label);
	*pte(side->root, IOVA_TARGET) = side->new_page | LEAF;
	issue(side->viommu, tlbi_va(ASID, IOVA_TARGET));
	check(landing(side) == side->old_page, "%c: after TLBI the device's own cache still has the old page", side->label);
	issue(other->viommu, atc_inv(other->vsid));
	check(landing(side) == side->old_page, "%c: ATC_INV of another StreamID changes nothing", side->label);
	issue(side->viommu, atc_inv(side->vsid));
	check(landing(side) == side->new_page, "%c: after ATC_INV, DMA goes to the new page", side->label);

	*pte(side->root, IOVA_TARGET) = side->old_page | LEAF;
	issue(side->viommu, tlbi_all());
	use_stage1(side->viommu, &side->device, &side->stage1, side->cd, false);
}

/* The guest points its context descriptor at other tables. The SMMU has the old one in its configuration cache. */
static void check_cfgi_cd(struct side *side)
{
	write_cd(side->cd, side->other_root, ASID);
	issue(side->viommu, tlbi_asid(ASID));
	check(landing(side) == side->old_page, "%c, CD changed: TLBI alone leaves DMA on the old tables", side->label);
	issue(side->viommu, cfgi_cd(side->vsid));
	issue(side->viommu, tlbi_asid(ASID));
	check(landing(side) == side->new_page, "%c: CFGI_CD and TLBI bring it to the new ones", side->label);

	write_cd(side->cd, side->root, ASID);
	issue(side->viommu, cfgi_cd(side->vsid));
	issue(side->viommu, tlbi_asid(ASID));
}

static void check_refused_commands(struct side *side)
{
	struct command unknown[] = { tlbi_all(), tlbi_asid(ASID), cfgi_cd(side->vsid + 1), tlbi_all() };
	struct command forbidden[] = { tlbi_all(), cfgi_ste(side->vsid) };
	uint32_t done;
	int result = invalidate(side->viommu, unknown, 4, &done);

	check(result < 0 && errno == EIO && done == 2, "%c: an unknown StreamID stops the batch: EIO, entry_num says 2",
	      side->label);
	result = invalidate(side->viommu, forbidden, 2, &done);
	check(result < 0 && errno == EIO && done == 1, "%c: CFGI_STE is not the guest's: EIO, entry_num says 1", side->label);
}

/* A fault of stage 1 is the guest's: it comes with the guest's own StreamID. */
static void check_fault(struct side *side)
{
	struct pollfd poller = { .fd = side->event_fd, .events = POLLIN };
	struct {
#ifndef VIOMMU_V2
		struct iommufd_vevent_header header;
#endif
		struct event event;
	} record = { 0 };
	struct event *event = &record.event;

	check(poll(&poller, 1, 0) == 0, "%c: no event is waiting", side->label);
	check(!dma_by_iova(side, IOVA_HOLE), "%c: DMA from an unmapped IOVA stops the engine", side->label);
	check(poll(&poller, 1, 1000) == 1 && poller.revents == POLLIN &&
	      read(side->event_fd, &record, sizeof(record)) == sizeof(record),
	      "%c: its event is read from the queue that poll() announces", side->label);
	check(event_type(event) == F_TRANSLATION && event->word[2] == IOVA_HOLE && event_is_read(event) &&
	      !event_is_stage2(event),
	      "%c: it is F_TRANSLATION of stage 1, for a read of 0x%llx", side->label, IOVA_HOLE);
	check(event_sid(event) == side->vsid, "%c: it names the device by its virtual StreamID, 0x%x", side->label,
	      event_sid(event));
	check(poll(&poller, 1, 0) == 0, "%c: the queue is empty again", side->label);
}

/* A VMID per vIOMMU, from the SMMU's own pool: take all of one SMMU's, and the other still has some. */
static void check_vmid_pools(struct side *full, struct side *other)
{
	static uint32_t taken[1 << 16];
	uint32_t one = 0;
	int count = 0, all = 1 << full->vmid_bits;

	while (count < all && alloc_viommu(full, &taken[count]) == 0)
		count++;
	check(count < all && errno == ENOSPC, "%c: %d more vIOMMUs empty its pool of VMIDs, then ENOSPC", full->label, count);
	check(alloc_viommu(other, &one) == 0 && destroy(one) == 0, "%c still allocates", other->label);
	while (count > 0)
		must(destroy(taken[--count]), "IOMMU_DESTROY of a vIOMMU");
	check(alloc_viommu(full, &one) == 0 && destroy(one) == 0, "%c allocates again when they are gone", full->label);
}

static void check_things_in_use(struct side *side)
{
	check_busy(ioas, "the IOAS under a stage 2");
	check_busy(parent, "the nesting parent under vIOMMUs");
	check_busy(side->viommu, "a vIOMMU with HWPTs and a queue");
	check_busy(side->stage1, "an attached HWPT");
	check_busy(side->event_queue, "an event queue whose descriptor is open");
}

/* In the order that the references ask for. */
static void tear_down(struct side *side)
{
	detach(&side->device);
	forget_device(side->viommu, &side->device, side->vsid, side->vdevice);
	close(side->event_fd);
	must(destroy(side->event_queue), "IOMMU_DESTROY of the event queue");
	must(destroy(side->stage1), "IOMMU_DESTROY of the stage 1 HWPT");
	must(destroy(side->bypass), "IOMMU_DESTROY of the bypass HWPT");
	must(destroy(side->viommu), "IOMMU_DESTROY of the vIOMMU");
}

int main(void)
{
	static struct side sides[2] = { { .label = 'A' }, { .label = 'B' } };
	struct side *a = &sides[0], *b = &sides[1], *side;

	setlinebuf(stdout);
	find_devices_behind_two_iommus(&a->device, &b->device);
	iommufd = must(open("/dev/iommu", O_RDWR | O_CLOEXEC), "open of /dev/iommu");
	map_guest_ram();
	for (side = a; side <= b; side++) {
		printf("# device %c: %s, %s, behind %s\n", side->label, side->device.bdf, side->device.vfio, side->device.iommu);
		open_device(&side->device, iommufd);
		read_hw_info(side);
	}

	alloc_parent(&a->device);
	must(alloc_viommu(a, &neighbour), "IOMMU_VIOMMU_ALLOC of a neighbour");
	build_viommu(a);
	build_viommu(b);
	check(a->viommu != b->viommu, "a vIOMMU on each SMMU holds the one nesting parent");

	for (side = a; side <= b; side++) {
		start_engine(&side->device);
		build_guest(side);
		check_bypass(side);
		use_stage1(side->viommu, &side->device, &side->stage1, side->cd, false);
		check_stage1(side);
	}
	check_shared_memory(a, b);
	check_vmid_pools(a, b);
	for (side = a; side <= b; side++) {
		check_tlbi(side, side == a ? b : a);
		check_cfgi_cd(side);
		if (side->has_ats)
			check_atc(side, side == a ? b : a);
		check_refused_commands(side);
		check_fault(side);
	}

	check_things_in_use(a);
	tear_down(a);
	tear_down(b);
	must(destroy(neighbour), "IOMMU_DESTROY of the neighbour");
	check(destroy(parent) == 0 && destroy(ioas) == 0, "everything is gone in the order of its references");
	close(a->device.fd);
	close(b->device.fd);
	close(iommufd);
	return verdict();
}
