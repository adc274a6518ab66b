/**
 * What no case can reach, and why: refusals of the engine that other tests reach, and errnos of Linux 7.1 that take a race,
 * a broken driver or a failed allocation (those are swept by failure-sweep.test.ts).
 */

export interface Unreached {
  readonly file: string;
  /** A part of the call of fail(). */
  readonly text: string;
  readonly why: string;
}

const NOT_ATTACHED = 'the test driver attaches an access as it makes it';
const WHILE_CLOSING = 'only during the notification of an unmap, in which the test driver makes no calls';
const OLDER = 'an older release, or a newer one';
const CHECKED_BEFORE = 'the core has checked it before it calls the driver';

const MEANWHILE = 'takes two threads in the same moment; the unit tests have it';

export const UNREACHED: readonly Unreached[] = [
  { file: 'src/iommufd/access.ts', text: 'is attached to no IOAS`); this.attach', why: NOT_ATTACHED },
  { file: 'src/iommufd/access.ts', text: 'is attached to no IOAS`); return', why: NOT_ATTACHED },
  { file: 'src/iommufd/access.ts', text: 'was mapped without WRITEABLE', why: 'a writeable area has writable pages' },
  { file: 'src/iommufd/access.ts', text: 'is being unmapped', why: WHILE_CLOSING },
  { file: 'src/iommufd/io-pagetable.ts', text: 'is being unmapped', why: WHILE_CLOSING },
  { file: 'src/iommufd/context.ts', text: '/dev/iommu cannot be mapped', why: OLDER },
  { file: 'src/iommufd/fault-queue.ts', text: 'bytes of a group', why: OLDER },
  { file: 'src/iommufd/veventq.ts', text: 'bytes of an event', why: OLDER },
  { file: 'src/iommufd/vfio-compat/type1-map.ts', text: 'nothing is mapped in the', why: OLDER },
  { file: 'src/drivers/mock/mock-iommu.ts', text: 'a paging domain of this release takes no data', why: OLDER },
  { file: 'src/iommufd/device.ts', text: 'is not cache coherent', why: 'every device of the machines is' },
  {
    file: 'src/iommufd/io-pagetable.ts',
    text: 'may be mapped by huge pages',
    why: 'only type 1 cuts areas, and only when huge pages are off',
  },
  { file: 'src/iommufd/io-pagetable.ts', text: 'the smallest page of the domain', why: 'these SMMUs have 4 KiB pages' },
  { file: 'src/iommufd/io-pagetable.ts', text: 'is not given back', why: 'the test driver always gives pins back' },
  { file: 'src/iommufd/pages.ts', text: 'no physical frames are left', why: "takes a full machine's memory" },
  {
    file: 'src/iommufd/user-memory.ts',
    text: 'bytes longer than the known one',
    why: 'a kernel searches any tail for a byte that is not 0; here one of more than 1 MiB is refused unread',
  },
  { file: 'src/iommufd/user-memory.ts', text: 'does not exist', why: 'drivers count to entry_num' },
  { file: 'src/iommufd/viommu.ts', text: 'this machine allows one', why: 'a policy of machines, which no kernel has' },
  { file: 'src/vfio/bar-mappings.ts', text: 'is in low power', why: 'a load or a store of a mapping ends in SIGBUS' },
  { file: 'src/vfio/interrupts.ts', text: 'the device was closed meanwhile', why: MEANWHILE },
  { file: 'src/vfio/io-event-fds.ts', text: 'the device was closed meanwhile', why: MEANWHILE },
  { file: 'src/vfio/low-power.ts', text: 'the device was closed meanwhile', why: MEANWHILE },
  { file: 'src/drivers/mock/device.ts', text: 'the parent is not of the mock driver', why: CHECKED_BEFORE },
  { file: 'src/drivers/mock/mock-iommu.ts', text: 'of a nested mock domain', why: CHECKED_BEFORE },
  { file: 'src/drivers/mock/viommu.ts', text: 'the parent does not map', why: 'a kernel calls that a bug of its own' },
];

export interface KernelOnly {
  readonly command: string;
  readonly errnos: string;
  readonly why: string;
}

const RACE = 'takes two threads in the same moment';
const BUG = 'stands for a bug of the kernel or of a driver';

/** Errnos of Linux 7.1 that programs cannot bring about at will. */
export const KERNEL_ONLY: readonly KernelOnly[] = [
  { command: 'every command', errnos: 'ENOMEM', why: 'an allocation fails: swept by the failure-sweep tests' },
  { command: 'IOMMU_OPTION', errnos: 'EPERM', why: 'RLIMIT_MODE without CAP_SYS_RESOURCE: this engine asks for none' },
  { command: 'IOMMU_DESTROY', errnos: 'EBUSY after 60 s', why: BUG },
  { command: 'IOMMU_IOAS_UNMAP', errnos: 'EBUSY', why: `of an area that is being unmapped: ${RACE}` },
  { command: 'IOMMU_IOAS_UNMAP', errnos: 'EDEADLK', why: `an access keeps its pins: ${BUG}` },
  { command: 'IOMMU_IOAS_MAP', errnos: 'ERESTARTSYS', why: 'a signal while memory is pinned' },
  { command: 'IOMMU_HWPT_ALLOC', errnos: 'EINVAL', why: 'a domain with pages above 4 KiB only' },
  { command: 'IOMMU_GET_HW_INFO', errnos: 'EOPNOTSUPP', why: `data without a type: ${BUG}` },
  { command: 'IOMMU_VIOMMU_ALLOC, IOMMU_VDEVICE_ALLOC, IOMMU_HW_QUEUE_ALLOC', errnos: 'EOPNOTSUPP', why: BUG },
  { command: 'IOMMU_VDEVICE_ALLOC', errnos: 'ENOENT', why: `a device that is being unbound: ${RACE}` },
  { command: 'IOMMU_HW_QUEUE_ALLOC', errnos: 'EFAULT', why: `an address that the parent does not map: ${BUG}` },
  { command: 'IOMMU_HWPT_INVALIDATE', errnos: 'ETIMEDOUT', why: 'an SMMU that does not answer' },
  { command: 'VFIO_SET_IOMMU', errnos: 'EPERM', why: 'no-IOMMU mode, which is not here' },
  { command: 'VFIO_DEVICE_BIND_IOMMUFD', errnos: 'EPERM', why: 'interrupts that are not isolated' },
  { command: 'VFIO_DEVICE_BIND_IOMMUFD, VFIO_GROUP_GET_DEVICE_FD', errnos: 'EACCES', why: 'a virtual function' },
  { command: 'VFIO_GROUP_*', errnos: 'ENODEV, EPERM', why: 'a group that goes away meanwhile, or is without an IOMMU' },
  { command: 'VFIO_GROUP_UNSET_CONTAINER', errnos: 'EBUSY', why: "VFIO's own container, which is not here" },
  { command: 'VFIO_DEVICE_SET_IRQS of INTx', errnos: 'ENODEV', why: 'a pin that is connected to nothing' },
  {
    command: 'VFIO_DEVICE_RESET',
    errnos: 'EINVAL, EAGAIN, ENOTTY',
    why: 'every function of these machines has a reset',
  },
  {
    command: 'VFIO_DEVICE_*_HOT_RESET',
    errnos: 'ENODEV',
    why: 'a root bus, on which these machines have no functions',
  },
  { command: 'read, write', errnos: 'EIO', why: 'a device that does not wake up' },
];
