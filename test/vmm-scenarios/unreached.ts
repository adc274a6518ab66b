/** What of the VMM scenarios has no test here, and why. */
export const UNREACHED: Readonly<Record<string, string>> = {
  V12: 'needs hardware command queues (CMDQV): HW_QUEUE_ALLOC is refused on every SMMUv3 here',
  V13: 'needs hardware command queues (CMDQV): no guest commands go past the VMM',
  'V14, QEMU intel-iommu': 'needs an Intel VT-d unit',
  'V14, QEMU virtio-iommu': 'needs an emulated virtio-iommu; the VMM here has vSMMUs only',
  'V14, RISC-V': 'needs a RISC-V IOMMU',
  'V14, unmap of the last page':
    'the last page of 2^64 is beyond what any SMMUv3 translates, so nothing stale can be seen',
  'V16, event thread': 'a thread that polls for ever cannot be joined; the VMM here has an event loop and no threads',
  'V17, with dma-buf': 'VFIO_DEVICE_FEATURE_DMA_BUF is ENOTTY here, so that only its absence can be met',
};
