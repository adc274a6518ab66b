/**
 * What a VMM can get wrong whose emulated IOMMU mirrors the guest's mappings in the host: switches like those of ../faults.ts.
 */
export const SHADOW_FAULTS = {
  // Intel VT-d

  skipAbsentTables: { scenario: 'V14', does: 'follows the tables of an Intel IOMMU and skips absent upper entries' },

  // virtio-iommu

  freezeGranule: {
    scenario: 'V14',
    does: 'tells a guest with virtio-iommu of pages of 4 KiB before it knows what the host can',
  },
  hideRefusals: { scenario: 'V14', does: 'answers OK to a MAP of virtio-iommu that the host has refused' },
  hideReservedRegions: { scenario: 'V14', does: 'tells a guest with virtio-iommu of no reserved regions' },
  roundUnmaps: { scenario: 'V14', does: 'has the host unmap an aligned power of two for an UNMAP of virtio-iommu' },

  // RISC-V

  gvmaSingleStage: {
    scenario: 'V14',
    does: 'leaves entries of two stages in a RISC-V IOATC when IOTINVAL.GVMA has an address',
  },

  // Everything unmapped

  unmapAllBySize: { scenario: 'V14', does: 'unmaps all 2^64 bytes with a size, which is 0 then' },
  trustLastPage: { scenario: 'V14', does: 'goes on when the host refuses to unmap the last page of 2^64 with others' },
} as const satisfies Record<string, { readonly scenario: string; readonly does: string }>;

export type ShadowFaultName = keyof typeof SHADOW_FAULTS;

export type ShadowFaults = Readonly<Partial<Record<ShadowFaultName, boolean>>>;
