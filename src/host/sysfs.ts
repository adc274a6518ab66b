/** What programs find of a machine under /sys: PCI devices, IOMMUs, groups, and how they point at each other. */
import type { ReservedRegion } from '../drivers/iommu-driver.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import type { PciAddress } from '../vfio/device.ts';
import type { VfioGroup } from '../vfio/group.ts';
import { hexDigits } from './pci-address.ts';

/** Structurally what a server serves. */
export type SysfsEntry =
  | { readonly path: string; readonly kind: 'dir' }
  | { readonly path: string; readonly kind: 'file'; readonly content: string | Uint8Array; readonly mode?: number }
  | { readonly path: string; readonly kind: 'link'; readonly target: string };

/** A function with what sysfs tells of it. */
export interface SysfsFunction {
  readonly fn: PciFunction;
  readonly address: PciAddress;
  /** N of vfioN; null when the dialect's release has no such devices. */
  readonly vfio: { readonly index: number; readonly major: number } | null;
  readonly group: Pick<VfioGroup, 'number' | 'node'>;
  /** Index into the IOMMUs. */
  readonly iommu: number;
  readonly barAddress: number;
  readonly interruptLine: number;
  readonly reserved: readonly ReservedRegion[];
}

const BUS = '/sys/bus/pci';
const DRIVER = `${BUS}/drivers/vfio-pci`;
const CLASS_IOMMU = '/sys/class/iommu';
const CLASS_VFIO = '/sys/class/vfio-dev';
const CLASS_GROUP = '/sys/class/vfio';
const VIRTUAL_GROUP = '/sys/devices/virtual/vfio';
const GROUPS = '/sys/kernel/iommu_groups';
const PLATFORM = '/sys/devices/platform';

/** Lines of `resource` for a function without bridge windows, and flags of a 64-bit memory BAR. */
const RESOURCES = 13;
const RESOURCE_MEMORY_64 = 0x140204;

export function sysfsEntries(iommus: readonly string[], functions: readonly SysfsFunction[]): SysfsEntry[] {
  return [
    ...[`${BUS}/devices`, DRIVER, CLASS_IOMMU, CLASS_VFIO, CLASS_GROUP, GROUPS].map(
      (path) => ({ path, kind: 'dir' }) as const,
    ),
    ...iommus.flatMap((name, index) => iommuEntries(name, index)),
    ...functions.flatMap((fn) => functionEntries(fn, iommus[fn.iommu]!)),
    ...[...new Set(functions.map(({ group }) => group))].flatMap(groupEntries),
  ];
}

/**
 * Trees of the real /sys that this machine's replace as a whole. Nothing of /sys/devices/pci* is among them: the real
 * machine's disks and network cards hang there. Our host bridges are platform devices, as on Arm with a device tree.
 */
export function sysfsRoots(iommus: readonly string[], functions: readonly SysfsFunction[]): string[] {
  const segments = new Set(functions.map(({ address }) => hostBridge(address)));
  const classes = [CLASS_IOMMU, CLASS_VFIO, CLASS_GROUP, VIRTUAL_GROUP];
  return [BUS, ...classes, GROUPS, ...segments, ...iommus.map((_, index) => platformDevice(index))];
}

const platformDevice = (index: number): string => `${PLATFORM}/uiommufd.arm-smmu-v3.${index}.auto`;
const iommuPath = (name: string, index: number): string => `${platformDevice(index)}/iommu/${name}`;
const hostBridge = ({ segment }: PciAddress): string => `${PLATFORM}/uiommufd.pcie.${segment}`;

/** Behind a root port of its own bus. */
function devicePath({ fn, address }: SysfsFunction): string {
  const port = `${hexDigits(address.segment, 4)}:00:${hexDigits(address.bus & 0x1f, 2)}.${address.bus >>> 5}`;
  return `${hostBridge(address)}/pci${hexDigits(address.segment, 4)}:00/${port}/${fn.name}`;
}

function iommuEntries(name: string, index: number): SysfsEntry[] {
  const path = iommuPath(name, index);
  return [
    { path: `${path}/devices`, kind: 'dir' },
    link(`${CLASS_IOMMU}/${name}`, path),
    link(`${path}/subsystem`, CLASS_IOMMU),
    link(`${path}/device`, platformDevice(index)),
  ];
}

function functionEntries(of: SysfsFunction, iommu: string): SysfsEntry[] {
  const { fn, group } = of;
  const path = devicePath(of);
  const groupPath = `${GROUPS}/${group.number}`;
  return [
    ...attributes(of, path),
    link(`${BUS}/devices/${fn.name}`, path),
    link(`${DRIVER}/${fn.name}`, path),
    link(`${path}/subsystem`, BUS),
    link(`${path}/driver`, DRIVER),
    link(`${path}/iommu`, iommuPath(iommu, of.iommu)),
    link(`${iommuPath(iommu, of.iommu)}/devices/${fn.name}`, path),
    link(`${path}/iommu_group`, groupPath),
    link(`${groupPath}/devices/${fn.name}`, path),
    file(`${groupPath}/type`, 'DMA\n'),
    file(`${groupPath}/reserved_regions`, of.reserved.map(reservedLine).join('')),
    ...(of.vfio ? vfioEntries(of.vfio, path) : []),
  ];
}

function groupEntries({ number, node: { major, minor } }: SysfsFunction['group']): SysfsEntry[] {
  const path = `${VIRTUAL_GROUP}/${number}`;
  return [
    file(`${path}/dev`, `${major}:${minor}\n`),
    file(`${path}/uevent`, `MAJOR=${major}\nMINOR=${minor}\nDEVNAME=vfio/${number}\n`),
    link(`${path}/subsystem`, CLASS_GROUP),
    link(`${CLASS_GROUP}/${number}`, path),
  ];
}

function attributes(of: SysfsFunction, path: string): SysfsEntry[] {
  const { identity } = of.fn.kind;
  const alias = modalias(of.fn);
  const ids = `${hexDigits(identity.vendorId, 4)}:${hexDigits(identity.deviceId, 4)}`.toUpperCase();
  const subsystem = `${hexDigits(identity.subsystemVendorId, 4)}:${hexDigits(identity.subsystemId, 4)}`.toUpperCase();
  const uevent = [
    'DRIVER=vfio-pci',
    `PCI_CLASS=${identity.classCode.toString(16).toUpperCase()}`,
    `PCI_ID=${ids}`,
    `PCI_SUBSYS_ID=${subsystem}`,
    `PCI_SLOT_NAME=${of.fn.name}`,
    `MODALIAS=${alias}`,
  ];
  const texts: Record<string, string> = {
    vendor: `0x${hexDigits(identity.vendorId, 4)}`,
    device: `0x${hexDigits(identity.deviceId, 4)}`,
    subsystem_vendor: `0x${hexDigits(identity.subsystemVendorId, 4)}`,
    subsystem_device: `0x${hexDigits(identity.subsystemId, 4)}`,
    class: `0x${hexDigits(identity.classCode, 6)}`,
    revision: `0x${hexDigits(identity.revision, 2)}`,
    irq: String(of.interruptLine),
    numa_node: '-1',
    modalias: alias,
    driver_override: 'vfio-pci',
    uevent: uevent.join('\n'),
    resource: resourceLines(of).join('\n'),
  };
  return [
    ...Object.entries(texts).map(([name, text]) => file(`${path}/${name}`, `${text}\n`)),
    { path: `${path}/config`, kind: 'file', content: of.fn.config.bytes.slice() },
  ];
}

function modalias({ kind: { identity } }: PciFunction): string {
  const { vendorId, deviceId, subsystemVendorId, subsystemId, classCode } = identity;
  const ids = [vendorId, deviceId, subsystemVendorId, subsystemId].map((id) => hexDigits(id, 8).toUpperCase());
  const [base, sub, programming] = [classCode >>> 16, (classCode >>> 8) & 0xff, classCode & 0xff].map((part) =>
    hexDigits(part, 2).toUpperCase(),
  );
  return `pci:v${ids[0]}d${ids[1]}sv${ids[2]}sd${ids[3]}bc${base}sc${sub}i${programming}`;
}

function resourceLines({ fn, barAddress }: SysfsFunction): string[] {
  const line = (start: number, last: number, flags: number): string =>
    [start, last, flags].map((value) => `0x${hexDigits(value, 16)}`).join(' ');
  const bar0 = line(barAddress, barAddress + fn.kind.identity.bar0Bytes - 1, RESOURCE_MEMORY_64);
  return [bar0, ...Array.from({ length: RESOURCES - 1 }, () => line(0, 0, 0))];
}

function vfioEntries(
  { index, major }: { readonly index: number; readonly major: number },
  device: string,
): SysfsEntry[] {
  const name = `vfio${index}`;
  const path = `${device}/vfio-dev/${name}`;
  return [
    file(`${path}/dev`, `${major}:${index}\n`),
    file(`${path}/uevent`, `MAJOR=${major}\nMINOR=${index}\nDEVNAME=vfio/devices/${name}\n`),
    link(`${path}/device`, device),
    link(`${path}/subsystem`, CLASS_VFIO),
    link(`${CLASS_VFIO}/${name}`, path),
  ];
}

/** Kernels show a software MSI window as 'msi'. */
function reservedLine({ start, last, type }: ReservedRegion): string {
  const bounds = [start, last].map((bound) => `0x${bound.toString(16).padStart(16, '0')}`).join(' ');
  return `${bounds} ${type === 'software-msi' ? 'msi' : type}\n`;
}

const file = (path: string, content: string): SysfsEntry => ({ path, kind: 'file', content });

/** A link as Linux makes it: relative to where it stands. */
function link(path: string, to: string): SysfsEntry {
  const from = path.split('/').slice(0, -1);
  const target = to.split('/');
  let common = 0;
  while (common < from.length && from[common] === target[common]) common++;
  return { path, kind: 'link', target: [...from.slice(common).map(() => '..'), ...target.slice(common)].join('/') };
}
