/** What programs find of a machine under /sys: PCI devices, IOMMUs, groups, and how they point at each other. */
import type { ReservedRegion } from '../drivers/iommu-driver.ts';
import type { FunctionIdentity } from '../hardware/pci/function-model.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import { ROOT_PORT_IDENTITY } from '../hardware/pci/root-port.ts';
import type { PciAddress } from '../vfio/device.ts';
import type { VfioGroup } from '../vfio/group.ts';
import { formatBdf, hexDigits } from './pci-address.ts';
import { PCI_BUS as BUS, VFIO_PCI as DRIVER, type DrivenFunction } from './pci-driver.ts';
import type { PlacedPort } from './root-ports.ts';

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
  readonly port: PlacedPort;
  readonly barAddress: number;
  readonly interruptLine: number;
  readonly reserved: readonly ReservedRegion[];
}

const PORT_DRIVER = `${BUS}/drivers/pcieport`;
const CLASS_IOMMU = '/sys/class/iommu';
const CLASS_VFIO = '/sys/class/vfio-dev';
const CLASS_GROUP = '/sys/class/vfio';
const VIRTUAL_GROUP = '/sys/devices/virtual/vfio';
const GROUPS = '/sys/kernel/iommu_groups';
const PLATFORM = '/sys/devices/platform';

/** Where programs (DPDK) look for whether there is VFIO at all, beside modules of the real machine (kvm, for one). */
const MODULES = '/sys/module';
const OUR_MODULES = ['iommufd', 'vfio', 'vfio_iommu_type1', 'vfio_pci'].map((name) => `${MODULES}/${name}`);
/** By number, for programs that have a descriptor and want the device: udevadm info /dev/vfio/0. */
const CHARACTER_DEVICES = '/sys/dev/char';

/** Lines of `resource` for a function and for a bridge, where the latter's memory window is, and flags of memory. */
const RESOURCES = 13;
const BRIDGE_RESOURCES = 17;
const BRIDGE_WINDOW = 14;
const RESOURCE_MEMORY = 0x200;
const RESOURCE_MEMORY_64 = 0x140204;

export function sysfsEntries(iommus: readonly string[], functions: readonly SysfsFunction[]): SysfsEntry[] {
  return [
    ...[`${BUS}/devices`, DRIVER, CLASS_IOMMU, CLASS_VFIO, CLASS_GROUP, GROUPS].map(
      (path) => ({ path, kind: 'dir' }) as const,
    ),
    ...OUR_MODULES.map((path) => file(`${path}/initstate`, 'live\n')),
    link(`${DRIVER}/module`, `${MODULES}/vfio_pci`),
    ...iommus.flatMap((name, index) => iommuEntries(name, index)),
    ...portsOf(functions).flatMap(portEntries),
    ...functions.flatMap((fn) => functionEntries(fn, iommus[fn.iommu]!, functions)),
    ...functions.filter((fn) => functions.find(({ group }) => group === fn.group) === fn).flatMap(groupEntries),
  ];
}

/**
 * Trees of the real /sys that this machine's replace as a whole. Nothing of /sys/devices/pci* is among them: the real
 * machine's disks and network cards hang there. Our host bridges are platform devices, as on Arm with a device tree.
 */
export function sysfsRoots(iommus: readonly string[], functions: readonly SysfsFunction[]): string[] {
  const segments = new Set(functions.map(({ address }) => hostBridge(address)));
  const classes = [CLASS_IOMMU, CLASS_VFIO, CLASS_GROUP, VIRTUAL_GROUP];
  const numbers = functions.flatMap(({ group, vfio }) => [
    byNumber(group.node.major, group.node.minor),
    ...(vfio ? [byNumber(vfio.major, vfio.index)] : []),
  ]);
  const platform = [...segments, ...iommus.map((_, index) => platformDevice(index))];
  return [BUS, ...OUR_MODULES, ...classes, GROUPS, ...platform, ...new Set(numbers)];
}

/** What is in sysfs, and what stands in /dev, only while vfio-pci drives a function. */
export function drivenPaths(of: SysfsFunction): Omit<DrivenFunction, 'device'> {
  const { fn, vfio, group } = of;
  const path = devicePath(of);
  const own = vfio
    ? [
        `${path}/vfio-dev`,
        `${CLASS_VFIO}/vfio${vfio.index}`,
        byNumber(vfio.major, vfio.index),
        `/dev/vfio/devices/vfio${vfio.index}`,
      ]
    : [];
  return {
    path,
    uevent: (driver) => lines(uevent(driver, fn.name, fn.kind.identity)),
    whileDriven: [`${path}/driver`, `${DRIVER}/${fn.name}`, ...own],
    whileGroupDriven: [
      `${VIRTUAL_GROUP}/${group.number}`,
      `${CLASS_GROUP}/${group.number}`,
      byNumber(group.node.major, group.node.minor),
      `/dev/vfio/${group.number}`,
    ],
  };
}

const byNumber = (major: number, minor: number): string => `${CHARACTER_DEVICES}/${major}:${minor}`;
const platformDevice = (index: number): string => `${PLATFORM}/uiommufd.arm-smmu-v3.${index}.auto`;
const iommuPath = (name: string, index: number): string => `${platformDevice(index)}/iommu/${name}`;
const hostBridge = ({ segment }: PciAddress): string => `${PLATFORM}/uiommufd.pcie.${segment}`;

export function portPath({ port: { address } }: SysfsFunction): string {
  return `${hostBridge(address)}/pci${hexDigits(address.segment, 4)}:00/${formatBdf(address)}`;
}

export const devicePath = (of: SysfsFunction): string => `${portPath(of)}/${of.fn.name}`;

/** The first function of each bus, which is its port's. */
export const portsOf = (functions: readonly SysfsFunction[]): SysfsFunction[] =>
  functions.filter((fn, index) => functions.findIndex((other) => other.port === fn.port) === index);

/** How a VMM knows that a bus is isolated from the others: the port, its bus numbers, and its ACS in `config`, which lives. */
function portEntries(of: SysfsFunction): SysfsEntry[] {
  const path = portPath(of);
  const { address, window } = of.port;
  const name = formatBdf(address);
  const bus = String(of.address.bus);
  const resource = (index: number): string =>
    index === BRIDGE_WINDOW ? resourceLine(window.start, window.last, RESOURCE_MEMORY) : resourceLine(0, 0, 0);
  const texts = {
    ...identityTexts(ROOT_PORT_IDENTITY),
    irq: '0',
    uevent: uevent('pcieport', name, ROOT_PORT_IDENTITY).join('\n'),
    resource: Array.from({ length: BRIDGE_RESOURCES }, (_, index) => resource(index)).join('\n'),
    secondary_bus_number: bus,
    subordinate_bus_number: bus,
  };
  return [
    ...files(path, texts),
    link(`${BUS}/devices/${name}`, path),
    link(`${PORT_DRIVER}/${name}`, path),
    link(`${path}/subsystem`, BUS),
    link(`${path}/driver`, PORT_DRIVER),
  ];
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

function functionEntries(of: SysfsFunction, iommu: string, all: readonly SysfsFunction[]): SysfsEntry[] {
  const { fn, group } = of;
  const path = devicePath(of);
  const groupPath = `${GROUPS}/${group.number}`;
  return [
    ...attributes(of, path),
    file(`${path}/reset_method`, `${resetMethods(of, all).join(' ')}\n`),
    link(`${BUS}/devices/${fn.name}`, path),
    link(`${DRIVER}/${fn.name}`, path),
    link(`${path}/subsystem`, BUS),
    link(`${path}/driver`, DRIVER),
    link(`${path}/iommu`, iommuPath(iommu, of.iommu)),
    link(`${iommuPath(iommu, of.iommu)}/devices/${fn.name}`, path),
    link(`${path}/iommu_group`, groupPath),
    link(`${groupPath}/devices/${fn.name}`, path),
    ...(of.vfio ? vfioEntries(of.vfio, path) : []),
  ];
}

/** @param of the first function of the group */
function groupEntries({ group, reserved }: SysfsFunction): SysfsEntry[] {
  const { number, node } = group;
  const { major, minor } = node;
  const path = `${VIRTUAL_GROUP}/${number}`;
  return [
    file(`${GROUPS}/${number}/type`, 'DMA\n'),
    file(`${GROUPS}/${number}/reserved_regions`, reserved.map(reservedLine).join('')),
    file(`${path}/dev`, `${major}:${minor}\n`),
    file(`${path}/uevent`, `MAJOR=${major}\nMINOR=${minor}\nDEVNAME=vfio/${number}\n`),
    link(`${path}/subsystem`, CLASS_GROUP),
    link(`${CLASS_GROUP}/${number}`, path),
    link(byNumber(major, minor), path),
  ];
}

/** A reset of the bus is no reset of one function where others share it. */
const resetMethods = (of: SysfsFunction, all: readonly SysfsFunction[]): string[] =>
  all.some((other) => other !== of && other.port === of.port) ? ['flr'] : ['flr', 'bus'];

function attributes(of: SysfsFunction, path: string): SysfsEntry[] {
  const { identity } = of.fn.kind;
  const texts = {
    ...identityTexts(identity),
    irq: String(of.interruptLine),
    uevent: uevent('vfio-pci', of.fn.name, identity).join('\n'),
    resource: resourceLines(of).join('\n'),
  };
  return files(path, texts);
}

type Identity = Pick<
  FunctionIdentity,
  'vendorId' | 'deviceId' | 'subsystemVendorId' | 'subsystemId' | 'classCode' | 'revision'
>;

/** As LNKCAP and LNKSTA have it. */
const LINK = {
  current_link_speed: '8.0 GT/s PCIe',
  max_link_speed: '8.0 GT/s PCIe',
  current_link_width: '16',
  max_link_width: '16',
};

/** Of every function, bridges too: DPDK gives up the whole bus when one of these is not there. */
function identityTexts(identity: Identity): Record<string, string> {
  return {
    vendor: `0x${hexDigits(identity.vendorId, 4)}`,
    device: `0x${hexDigits(identity.deviceId, 4)}`,
    subsystem_vendor: `0x${hexDigits(identity.subsystemVendorId, 4)}`,
    subsystem_device: `0x${hexDigits(identity.subsystemId, 4)}`,
    class: `0x${hexDigits(identity.classCode, 6)}`,
    revision: `0x${hexDigits(identity.revision, 2)}`,
    numa_node: '-1',
    modalias: modalias(identity),
    ...LINK,
  };
}

function uevent(driver: string | null, slot: string, identity: Identity): string[] {
  const pair = (vendor: number, device: number): string =>
    `${hexDigits(vendor, 4)}:${hexDigits(device, 4)}`.toUpperCase();
  return [
    ...(driver ? [`DRIVER=${driver}`] : []),
    `PCI_CLASS=${identity.classCode.toString(16).toUpperCase()}`,
    `PCI_ID=${pair(identity.vendorId, identity.deviceId)}`,
    `PCI_SUBSYS_ID=${pair(identity.subsystemVendorId, identity.subsystemId)}`,
    `PCI_SLOT_NAME=${slot}`,
    `MODALIAS=${modalias(identity)}`,
  ];
}

function modalias({ vendorId, deviceId, subsystemVendorId, subsystemId, classCode }: Identity): string {
  const ids = [vendorId, deviceId, subsystemVendorId, subsystemId].map((id) => hexDigits(id, 8).toUpperCase());
  const [base, sub, programming] = [classCode >>> 16, (classCode >>> 8) & 0xff, classCode & 0xff].map((part) =>
    hexDigits(part, 2).toUpperCase(),
  );
  return `pci:v${ids[0]}d${ids[1]}sv${ids[2]}sd${ids[3]}bc${base}sc${sub}i${programming}`;
}

function resourceLines({ fn, barAddress }: SysfsFunction): string[] {
  const bar0 = resourceLine(barAddress, barAddress + fn.kind.identity.bar0Bytes - 1, RESOURCE_MEMORY_64);
  return [bar0, ...Array.from({ length: RESOURCES - 1 }, () => resourceLine(0, 0, 0))];
}

const resourceLine = (start: number, last: number, flags: number): string =>
  [start, last, flags].map((value) => `0x${hexDigits(value, 16)}`).join(' ');

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
    link(byNumber(major, index), path),
  ];
}

/** Kernels show a software MSI window as 'msi'. */
function reservedLine({ start, last, type }: ReservedRegion): string {
  const bounds = [start, last].map((bound) => `0x${bound.toString(16).padStart(16, '0')}`).join(' ');
  return `${bounds} ${type === 'software-msi' ? 'msi' : type}\n`;
}

const files = (path: string, texts: Readonly<Record<string, string>>): SysfsEntry[] =>
  Object.entries(texts).map(([name, text]) => file(`${path}/${name}`, `${text}\n`));

const lines = (texts: readonly string[]): string => texts.map((text) => `${text}\n`).join('');

const file = (path: string, content: string): SysfsEntry => ({ path, kind: 'file', content });

/** A link as Linux makes it: relative to where it stands. */
function link(path: string, to: string): SysfsEntry {
  const from = path.split('/').slice(0, -1);
  const target = to.split('/');
  let common = 0;
  while (common < from.length && from[common] === target[common]) common++;
  return { path, kind: 'link', target: [...from.slice(common).map(() => '..'), ...target.slice(common)].join('/') };
}
