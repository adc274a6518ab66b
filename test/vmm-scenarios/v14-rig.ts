/** A VM whose IOMMU is emulated without help from the host, with a DMA probe behind it, and pages that say what they are. */
import { Refused } from '../../src/vmm/client.ts';
import { ProbeDriver } from '../../src/vmm/guest/probe-driver.ts';
import type { GuestRam } from '../../src/vmm/guest/ram.ts';
import type { HostSpace, Span } from '../../src/vmm/shadow/host-space.ts';
import { GuestVtdDriver, type VtdDomain } from '../../src/vmm/shadow/intel-iommu/guest-driver.ts';
import { VirtualVtd } from '../../src/vmm/shadow/intel-iommu/virtual-vtd.ts';
import { GuestRiscvDriver, Sv39Tables } from '../../src/vmm/shadow/riscv-iommu/guest-driver.ts';
import { VirtualRiscvIommu } from '../../src/vmm/shadow/riscv-iommu/virtual-riscv-iommu.ts';
import { ShadowVm, type ShadowVmOptions } from '../../src/vmm/shadow/shadow-vm.ts';
import { GuestVirtioIommuDriver } from '../../src/vmm/shadow/virtio-iommu/guest-driver.ts';
import { VirtualVirtioIommu } from '../../src/vmm/shadow/virtio-iommu/virtual-virtio-iommu.ts';
import { probeMachine } from './rig.ts';

export const PAGE = 4096n;
export const MIB_2 = 2n ** 21n;
/** Bus 1, device 2, function 0: the source ID that the guest has for the probe. */
export const SOURCE = 0x0110;

export function startShadowVm(options: Partial<ShadowVmOptions> = {}) {
  const { machine, events } = probeMachine();
  const vm = new ShadowVm(machine, { functions: [{ vfio: 0, id: SOURCE }], ...options });
  const probes = vm.functions.map(({ fn }) => new ProbeDriver(fn));
  return { machine, events, vm, probes, probe: probes[0]!, space: vm.functions[0]!.space };
}

/** With an Intel IOMMU that is on, and the devices behind one domain with nothing in it. */
export function startIntelGuest({ levels = 4, ...options }: Partial<ShadowVmOptions> & { levels?: 3 | 4 } = {}) {
  const made = startShadowVm(options);
  const { vm } = made;
  const vtd = new VirtualVtd(vm.ram, vm.functions, vm.faults);
  const iommu = new GuestVtdDriver(vtd, vm.ram);
  iommu.start();
  const domain: VtdDomain = iommu.domain(levels);
  for (const { id } of vm.functions) iommu.attach(id, domain);
  return { ...made, vtd, iommu, domain };
}

/** A fresh page, or several, that a probe reads `text` from. */
export function textPage(ram: GuestRam, text: string, pages = 1): bigint {
  const gpa = ram.allocate(pages);
  ram.at(gpa, 16).set(new TextEncoder().encode(text.padEnd(16)));
  return gpa;
}

/** With a virtio-iommu, and the devices in domain 1 with nothing in it. */
export function startVirtioGuest({
  pageBytes = PAGE,
  ...options
}: Partial<ShadowVmOptions> & { pageBytes?: bigint } = {}) {
  const made = startShadowVm(options);
  const { vm } = made;
  const device = new VirtualVirtioIommu(vm.functions, vm.faults);
  const iommu = new GuestVirtioIommuDriver(device, pageBytes);
  for (const { id } of vm.functions) iommu.attach(1, id);
  return { ...made, device, iommu };
}

export const GSCID = 5;
export const PSCID = 9;
/** device_id of the probe. */
export const DEVICE = 3;

/** With a RISC-V IOMMU, and a guest's guest whose memory is pages of the guest's, wherever they are. */
export function startRiscvGuest(options: Partial<ShadowVmOptions> = {}) {
  const made = startShadowVm({ functions: [{ vfio: 0, id: DEVICE }], ...options });
  const { vm } = made;
  const { ram } = vm;
  const device = new VirtualRiscvIommu(ram, vm.functions, vm.faults);
  const iommu = new GuestRiscvDriver(device, ram);
  iommu.start();
  const second = iommu.secondStage();
  const pages = new Map<bigint, bigint>();
  /** Puts a page of the guest's behind a page of its guest. */
  const give = (gpa: bigint, page: bigint) => {
    second.set(gpa, page);
    pages.set(gpa, page);
  };
  let nextTable = 0x8000_0000n;
  const allocate = () => {
    give(nextTable, ram.allocate());
    nextTable += PAGE;
    return nextTable - PAGE;
  };
  const first = new Sv39Tables(ram, allocate(), allocate, (gpa) => pages.get(gpa & -PAGE)! | (gpa & 0xfffn));
  return { ...made, device, iommu, first, second, give };
}

/**
 * What a kernel with larger pages than the machine's makes of mappings: it refuses those that are not aligned. No host here
 * has such pages, so that its checks stand in front of one that takes 4 KiB.
 */
export class WidePages implements HostSpace {
  readonly alignment: bigint;
  private readonly space: HostSpace;

  constructor(space: HostSpace, pageBytes: bigint) {
    this.space = space;
    this.alignment = pageBytes;
  }

  get usable(): readonly Span[] {
    return this.space.usable;
  }

  map(iova: bigint, userVa: bigint, length: bigint, prot: number): void {
    if ((iova | userVa | length) % this.alignment) {
      throw new Refused('EINVAL', 'iommu_ioas_map', `0x${iova.toString(16)} is not aligned to ${this.alignment}`);
    }
    this.space.map(iova, userVa, length, prot);
  }

  unmap(iova: bigint, length: bigint): void {
    this.space.unmap(iova, length);
  }

  unmapAll(): void {
    this.space.unmapAll();
  }
}
