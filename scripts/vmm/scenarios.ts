/** How each scenario starts QEMU: the machine beneath, the uAPI that QEMU speaks, and the command line. */

export interface Files {
  readonly kernel: string;
  readonly initrd: string;
  /** edk2 for aarch64; not used on x86. */
  readonly firmware: string | null;
}

export interface Scenario {
  readonly summary: string;
  /** A preset. */
  readonly machine: string;
  readonly dialect: string;
  /** The functions that the guest is given. */
  readonly functions: readonly string[];
  readonly needsFirmware: boolean;
  /** Virtual command queues that the guest has in each SMMU; the trace must show that it used them. */
  readonly queuesEach?: number;
  arguments(files: Files, functions: readonly string[], mib: number): string[];
}

const QUIET = ['-display', 'none', '-serial', 'stdio', '-monitor', 'none', '-no-reboot', '-nic', 'none'];
const bootFrom = ({ kernel, initrd }: Files): string[] => ['-kernel', kernel, '-initrd', initrd];
const commandLine = (console: string, mib: number, more = ''): string[] => [
  '-append',
  `console=${console} quiet panic=-1 uiommufd.mib=${mib}${more}`,
];

/** The guest's RAM in a memfd, as a VMM that shares it with device back-ends has it. */
const sharedMemory = (size: string): string[] => [
  ...['-m', size, '-object', `memory-backend-memfd,id=ram,size=${size},share=on`],
  ...['-numa', 'node,nodeid=0,memdev=ram'],
];

const nestedArguments =
  (machine: string, more = '', cpus = 1) =>
  (files: Files, functions: readonly string[], mib: number): string[] => [
    ...['-M', machine, '-cpu', 'cortex-a57', '-smp', `${cpus}`, ...sharedMemory('1G'), ...QUIET],
    ...['-object', 'iommufd,id=iommufd0', '-bios', files.firmware!, ...bootFrom(files)],
    // MSI of a function behind a nested vSMMU is lost in these forks without KVM, so the guest uses INTx.
    ...commandLine('ttyAMA0', mib, ` iommu.passthrough=0 pci=nomsi${more}`),
    ...functions.flatMap((bdf) => ['-device', `vfio-pci,sysfsdev=/sys/bus/pci/devices/${bdf},iommufd=iommufd0`]),
  ];

/** Where the VMM forwards events, the guest makes a fault, too; for that it writes device registers itself. */
const MAKE_A_FAULT = ' uiommufd.fault iomem=relaxed';

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  type1: {
    summary: 'x86 guest, its memory mapped by VFIO type 1 through /dev/vfio/vfio and the group file',
    machine: 'two-smmus-nvme-x86',
    dialect: 'linux-7.1',
    functions: ['0000:01:00.0'],
    needsFirmware: false,
    arguments: (files, functions, mib) => [
      ...['-M', 'q35', '-cpu', 'max', '-m', '512M', ...QUIET, ...bootFrom(files)],
      ...commandLine('ttyS0', mib),
      ...functions.flatMap((bdf) => ['-device', `vfio-pci,host=${bdf}`]),
    ],
  },
  nested: {
    summary: 'arm64 guest whose SMMUv3 is a slice of ours (branch 920_611_ghvirt of nvmochs/QEMU)',
    machine: 'two-smmus-nvme',
    dialect: 'linux-6.13',
    functions: ['0000:01:00.0', '0000:02:00.0'],
    needsFirmware: true,
    arguments: nestedArguments('virt-9.1,gic-version=3,iommu=nested-smmuv3'),
  },
  'nested-v2': {
    summary: 'the same with the uAPI of the vIOMMU series, version 2 (branch 6.8_ghvirt_iommufd_vcmdq)',
    machine: 'two-smmus-nvme',
    dialect: 'viommu-v2',
    functions: ['0000:01:00.0', '0000:02:00.0'],
    needsFirmware: true,
    arguments: nestedArguments('virt,gic-version=3,iommu=nested-smmuv3', MAKE_A_FAULT),
  },
  'nested-v2-cmdqv': {
    summary: 'the same branch and a guest that invalidates through virtual command queues of its own (Tegra241 CMDQV)',
    machine: 'grace',
    dialect: 'viommu-v2',
    functions: ['0000:01:00.0', '0000:04:00.0'],
    needsFirmware: true,
    queuesEach: 2,
    // The guest starts its second CPU, which has a queue of its own, by itself, when the first has done its work.
    arguments: nestedArguments(
      'virt,gic-version=3,iommu=nested-smmuv3,cmdqv=on',
      ` uiommufd.cmdqv=2 maxcpus=1${MAKE_A_FAULT}`,
      2,
    ),
  },
};

/** @returns the scenario that suits this QEMU, from the name of its binary and its version */
export function scenarioFor(qemu: string, version: string): string {
  if (/x86_64|i386/.test(qemu)) return 'type1';
  return /version 9\.0/.test(version) ? 'nested-v2' : 'nested';
}
