/** Machines by name. */
import type { MachineInput } from './machine-description.ts';
import { MachineError } from './machine-error.ts';

const FIRST_SMMU = { type: 'smmuv3', address: '0x2b400000', vmid16: false } as const;
const SECOND_SMMU = { type: 'smmuv3', address: '0x2b500000', vmid16: false } as const;
const FIRST_NAME = 'smmu3.0x000000002b400000';
const SECOND_NAME = 'smmu3.0x000000002b500000';

/** A copy engine behind each of two SMMUs. */
const ONE_EACH = [
  { bdf: '0000:01:00.0', iommu: FIRST_NAME, model: 'ioat', ats: true, msi: 4 },
  { bdf: '0000:02:00.0', iommu: SECOND_NAME, model: 'ioat', ats: true, msi: 4 },
] as const;

/** What the programs that forward a guest's SMMUv3 to ours ask of GET_HW_INFO, and what stands behind the first of two. */
const accelerated = (oas: 44 | 48): MachineInput => {
  const smmu = { vmid16: true, granules: [4, 16, 64] as (4 | 16 | 64)[], oas, ssidSize: 20, ril: true };
  const features = { ats: true, pri: true, pasidBits: 20 };
  return {
    iommus: [
      { ...FIRST_SMMU, ...smmu },
      { ...SECOND_SMMU, ...smmu },
    ],
    functions: [
      { bdf: '0000:01:00.0', iommu: FIRST_NAME, model: 'nvme', ...features },
      { bdf: '0000:02:00.0', iommu: FIRST_NAME, model: 'ioat', msi: 4, ...features },
      { bdf: '0000:03:00.0', iommu: FIRST_NAME, model: 'dma-probe', ...features },
      { bdf: '0000:04:00.0', iommu: SECOND_NAME, model: 'nvme', ...features },
    ],
  };
};

/**
 * Two of the SMMUs of Grace, each with its CMDQV: 64 virtual interfaces with two queues and 16 StreamIDs each, in 0x830000
 * bytes. The rest of the identity is what VMMs for Grace ask for.
 */
const grace = (): MachineInput => {
  const smmu = { type: 'smmuv3', ssidSize: 20, ril: true } as const;
  const features = { ats: true, pri: true, pasidBits: 20 };
  const [first, second] = ['smmu3.0x0000000011000000', 'smmu3.0x0000000012000000'] as const;
  return {
    iommus: [
      { ...smmu, address: '0x11000000', cmdqv: { address: '0x11200000' } },
      { ...smmu, address: '0x12000000', cmdqv: { address: '0x12200000' } },
    ],
    functions: [
      { bdf: '0000:01:00.0', iommu: first, model: 'nvme', ...features },
      { bdf: '0000:02:00.0', iommu: first, model: 'ioat', msi: 4, ...features },
      { bdf: '0000:03:00.0', iommu: first, model: 'dma-probe', ...features },
      { bdf: '0000:04:00.0', iommu: second, model: 'nvme', ...features },
      { bdf: '0000:05:00.0', iommu: second, model: 'dma-probe', ...features },
    ],
  };
};

export interface Preset {
  readonly summary: string;
  readonly machine: MachineInput;
}

/** VMIDs have 8 bits, except where a VMM is to be pleased, so that a program can fill a pool in a moment. */
export const PRESETS: Readonly<Record<string, Preset>> = {
  'two-smmus': {
    summary: 'two SMMUv3 with a DMA engine (IOAT, ATS) behind each',
    machine: { iommus: [FIRST_SMMU, SECOND_SMMU], functions: [...ONE_EACH] },
  },
  'two-smmus-fragmented': {
    summary: 'the same, with the pages of programs scattered over physical memory',
    machine: { memory: { fragmentSeed: 1 }, iommus: [FIRST_SMMU, SECOND_SMMU], functions: [...ONE_EACH] },
  },
  'two-smmus-nvme': {
    summary: 'two SMMUv3 with an NVMe controller (256 MiB in memory) behind each',
    machine: {
      iommus: [FIRST_SMMU, SECOND_SMMU],
      functions: ONE_EACH.map((fn) => ({ ...fn, model: 'nvme', msi: 0 })),
    },
  },
  'two-smmus-nvme-x86': {
    summary:
      'the same for x86 guests: MSI at 0xfee00000 past the SMMUs, and no window at 0x8000000, where their RAM is',
    machine: {
      iommus: [FIRST_SMMU, SECOND_SMMU].map((smmu) => ({ ...smmu, msiWindow: null })),
      functions: ONE_EACH.map((fn) => ({ ...fn, model: 'nvme', msi: 0 })),
    },
  },
  'accel-oas48': {
    summary:
      'two SMMUv3 as QEMU (accel=on) and OpenVMM want them: every granule, 48-bit addresses, 20-bit PASIDs, range invalidation; NVMe, IOAT and DMA probe with ATS, PRI and PASIDs behind the first, NVMe behind the second',
    machine: accelerated(48),
  },
  'accel-oas44': { summary: 'the same with 44-bit addresses', machine: accelerated(44) },
  grace: {
    summary:
      'two SMMUv3 with a Tegra241 CMDQV each, as two of those of Grace; NVMe, IOAT and DMA probe with ATS, PRI and PASIDs behind the first, NVMe and DMA probe behind the second',
    machine: grace(),
  },
  'one-smmu': {
    summary:
      'one SMMUv3 that tracks dirty pages, with two DMA engines, one of them without ATS, and a DMA probe with ATS and PASIDs',
    machine: {
      iommus: [{ ...FIRST_SMMU, httu: 2 }],
      functions: [
        { bdf: '0000:01:00.0', iommu: FIRST_NAME, model: 'ioat', ats: true, msi: 4 },
        { bdf: '0000:02:00.0', iommu: FIRST_NAME, model: 'ioat', ats: false, msi: 4 },
        { bdf: '0000:03:00.0', iommu: FIRST_NAME, model: 'dma-probe', ats: true, pasidBits: 8 },
      ],
    },
  },
  'page-faults': {
    summary:
      'one SMMUv3 with two DMA probes with PASIDs whose faults can be answered: an integrated one that stalls, and one with ATS and PRI',
    machine: {
      iommus: [{ ...FIRST_SMMU, stallModel: 0 }],
      functions: [
        { bdf: '0000:01:00.0', iommu: FIRST_NAME, model: 'dma-probe', ats: false, canStall: true, pasidBits: 8 },
        { bdf: '0000:02:00.0', iommu: FIRST_NAME, model: 'dma-probe', ats: true, pri: true, pasidBits: 8 },
      ],
    },
  },
};

export const DEFAULT_PRESET = 'two-smmus';

/** @throws MachineError that lists the names there are */
export function preset(name: string): Preset {
  if (Object.hasOwn(PRESETS, name)) return PRESETS[name]!;
  throw new MachineError(`machine: "${name}" found, expected one of ${Object.keys(PRESETS).join(', ')}`);
}
