import { describe, expect, it } from 'vitest';
import { Machine } from './machine.ts';
import { parseMachine } from './machine-description.ts';
import { preset } from './presets.ts';
import type { SysfsEntry } from './sysfs.ts';

const machine = new Machine(parseMachine(preset('two-smmus').machine));
const entries = new Map<string, SysfsEntry>(machine.sysfs.map((entry) => [entry.path, entry]));

/** Follows links in the middle and at the end of a path, as realpath does. */
function realpath(path: string): string {
  let real = '';
  for (const step of path.split('/').slice(1)) {
    if (step === '..') real = real.slice(0, real.lastIndexOf('/'));
    else real += `/${step}`;
    const entry = entries.get(real);
    if (entry?.kind === 'link') real = realpath(`${real.slice(0, real.lastIndexOf('/'))}/${entry.target}`);
  }
  return real;
}

function content(path: string): string {
  const entry = entries.get(realpath(path));
  return entry?.kind === 'file' ? String(entry.content) : `no file at ${realpath(path)}`;
}

const children = (path: string): string[] => {
  const prefix = `${realpath(path)}/`;
  const names = [...entries.keys(), ...machine.deviceNodes.map((node) => node.path)]
    .filter((at) => at.startsWith(prefix))
    .map((at) => at.slice(prefix.length).split('/')[0]!);
  return [...new Set(names)].sort();
};

const DEVICE = '/sys/bus/pci/devices/0000:01:00.0';

describe('sysfs', () => {
  it('leads from the BDF to the vfio device and its number', () => {
    expect(children(`${DEVICE}/vfio-dev`)).toEqual(['vfio0']);
    expect(content(`${DEVICE}/vfio-dev/vfio0/dev`)).toBe('511:0\n');
    expect(machine.deviceNodes).toContainEqual({ path: '/dev/vfio/devices/vfio0', major: 511, minor: 0 });
    expect(realpath('/sys/class/vfio-dev/vfio1/device')).toBe(realpath('/sys/bus/pci/devices/0000:02:00.0'));
  });

  it('shows that VFIO and iommufd are there, where programs look for the modules', () => {
    expect(realpath('/sys/bus/pci/drivers/vfio-pci/module')).toBe('/sys/module/vfio_pci');
    for (const module of ['vfio', 'vfio_pci', 'vfio_iommu_type1', 'iommufd']) {
      expect(content(`/sys/module/${module}/initstate`)).toBe('live\n');
    }
    expect(machine.ownedRoots).not.toContain('/sys/module');
  });

  it('has what a scan of the bus reads, of the root ports too', () => {
    const read = [
      'vendor',
      'device',
      'subsystem_vendor',
      'subsystem_device',
      'class',
      'numa_node',
      'resource',
      'config',
    ];
    for (const bdf of ['0000:00:01.0', '0000:01:00.0']) {
      expect(children(`/sys/bus/pci/devices/${bdf}`)).toEqual(expect.arrayContaining(read));
    }
    expect(content('/sys/bus/pci/devices/0000:00:01.0/subsystem_vendor')).toBe('0x0000\n');
  });

  it('leads from the numbers of a node to its device', () => {
    expect(realpath('/sys/dev/char/511:1')).toBe(realpath('/sys/class/vfio-dev/vfio1'));
    expect(realpath('/sys/dev/char/510:0')).toBe(realpath('/sys/class/vfio/0'));
    expect(machine.ownedRoots).toEqual(expect.arrayContaining(['/sys/dev/char/511:1', '/sys/dev/char/510:0']));
  });

  it('leads from the device to its IOMMU, and back', () => {
    expect(realpath(`${DEVICE}/iommu`).split('/').at(-1)).toBe('smmu3.0x000000002b400000');
    expect(realpath(`${DEVICE}/iommu`)).toBe(realpath('/sys/class/iommu/smmu3.0x000000002b400000'));
    expect(realpath('/sys/class/iommu/smmu3.0x000000002b500000/devices/0000:02:00.0')).toBe(
      realpath('/sys/bus/pci/devices/0000:02:00.0'),
    );
    expect(children('/sys/class/iommu')).toEqual(['smmu3.0x000000002b400000', 'smmu3.0x000000002b500000']);
  });

  it('leads from the device to its group, and back', () => {
    expect(realpath(`${DEVICE}/iommu_group`)).toBe('/sys/kernel/iommu_groups/0');
    expect(realpath('/sys/kernel/iommu_groups/0/devices/0000:01:00.0')).toBe(realpath(DEVICE));
    expect(children('/sys/kernel/iommu_groups')).toEqual(['0', '1']);
    expect(content('/sys/class/vfio/1/dev')).toBe('510:1\n');
    expect(machine.deviceNodes).toContainEqual({ path: '/dev/vfio/1', major: 510, minor: 1 });
    expect(content(`${DEVICE}/iommu_group/reserved_regions`)).toBe('0x0000000008000000 0x00000000080fffff msi\n');
  });

  it('says what a PCI function is', () => {
    expect(content(`${DEVICE}/vendor`)).toBe('0x8086\n');
    expect(content(`${DEVICE}/device`)).toBe('0x2021\n');
    expect(content(`${DEVICE}/class`)).toBe('0x088000\n');
    expect(content(`${DEVICE}/modalias`)).toBe('pci:v00008086d00002021sv00008086sd00000000bc08sc80i00\n');
    expect(realpath(`${DEVICE}/subsystem`)).toBe('/sys/bus/pci');
    expect(realpath(`${DEVICE}/driver`)).toBe('/sys/bus/pci/drivers/vfio-pci');
    const resource = content(`${DEVICE}/resource`).trimEnd().split('\n');
    expect(resource).toHaveLength(13);
    expect(resource[0]).toBe('0x0000000010000000 0x0000000010003fff 0x0000000000140204');
  });

  it('has a root port above each bus, which libvirt looks for before it assigns a function', () => {
    expect(children('/sys/bus/pci/devices')).toEqual(['0000:00:01.0', '0000:00:02.0', '0000:01:00.0', '0000:02:00.0']);
    expect(realpath(`${DEVICE}/..`)).toBe(realpath('/sys/bus/pci/devices/0000:00:01.0'));
    const port = '/sys/bus/pci/devices/0000:00:02.0';
    expect([content(`${port}/class`), content(`${port}/secondary_bus_number`)]).toEqual(['0x060400\n', '2\n']);
    expect(realpath(`${port}/driver`)).toBe('/sys/bus/pci/drivers/pcieport');
    expect([content(`${port}/max_link_speed`), content(`${port}/max_link_width`)]).toEqual(['8.0 GT/s PCIe\n', '16\n']);
  });

  it('offers a reset of the bus only where a function is alone on it', () => {
    expect(content(`${DEVICE}/reset_method`)).toBe('flr bus\n');
    const [first, second] = preset('two-smmus').machine.functions;
    const shared = [first!, { ...second!, bdf: '0000:01:00.1', iommu: first!.iommu }];
    const both = new Machine(parseMachine({ ...preset('two-smmus').machine, functions: shared })).sysfs;
    const methods = both.filter(({ path }) => path.endsWith('/reset_method'));
    expect(methods.map((entry) => (entry.kind === 'file' ? entry.content : ''))).toEqual(['flr\n', 'flr\n']);
    expect(both.filter(({ path }) => path.endsWith('/secondary_bus_number'))).toHaveLength(1);
  });

  it('has only relative links, each to something that is there', () => {
    for (const entry of machine.sysfs) {
      if (entry.kind !== 'link') continue;
      expect(entry.target).not.toMatch(/^\//);
      const real = realpath(entry.path);
      const exists = entries.has(real) || children(real).length > 0;
      expect(exists, `${entry.path} -> ${real}`).toBe(true);
    }
  });

  it('lies under the roots that the machine owns', () => {
    for (const { path } of machine.sysfs) {
      expect(
        machine.ownedRoots.some((root) => path === root || path.startsWith(`${root}/`)),
        path,
      ).toBe(true);
    }
  });
});
