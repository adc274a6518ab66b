import { describe, expect, it } from 'vitest';
import { dialect } from '../abi/dialects.ts';
import { Machine } from './machine.ts';
import { parseMachine } from './machine-description.ts';
import { PRESETS, preset } from './presets.ts';

const machineOf = (name: string, abi = 'linux-7.1') =>
  new Machine(parseMachine(preset(name).machine), { dialect: dialect(abi) });

describe('a machine', () => {
  it.each(Object.keys(PRESETS))('%s starts with nothing held', (name) => {
    const machine = machineOf(name);
    expect(Object.values(machine.leftovers()).filter((count) => count !== 0)).toEqual([]);
  });

  it('has a node for iommufd, for the container, for each group and each device', () => {
    const nodes = machineOf('two-smmus').deviceNodes.filter(({ regular }) => !regular);
    expect(nodes).toEqual([
      { path: '/dev/iommu', major: 10, minor: 127 },
      { path: '/dev/vfio/vfio', major: 10, minor: 196, mode: 0o666 },
      { path: '/dev/vfio/0', major: 510, minor: 0 },
      { path: '/dev/vfio/1', major: 510, minor: 1 },
      { path: '/dev/vfio/devices/vfio0', major: 511, minor: 0 },
      { path: '/dev/vfio/devices/vfio1', major: 511, minor: 1 },
    ]);
  });

  it('opens its nodes, and says ENOENT to what it does not have', () => {
    const machine = machineOf('two-smmus');
    expect(machine.open('/dev/iommu').kind).toBe('iommufd');
    expect(machine.open('/dev/vfio/devices/vfio1').kind).toBe('vfio-device');
    expect(machine.open('/dev/vfio/vfio').kind).toBe('iommufd');
    expect(machine.open('/dev/vfio/0').kind).toBe('vfio-group');
    for (const path of ['/dev/vfio/2', '/dev/vfio/noiommu-0', '/dev/vfio/devices/vfio2', '']) {
      expect(() => machine.open(path), path).toThrow('ENOENT');
    }
  });

  it('has no nodes of single devices in a release that had only groups', () => {
    const machine = machineOf('two-smmus', 'linux-6.5');
    const paths = machine.deviceNodes.filter(({ regular }) => !regular).map(({ path }) => path);
    expect(paths).toEqual(['/dev/iommu', '/dev/vfio/vfio', '/dev/vfio/0', '/dev/vfio/1']);
    expect(machine.sysfs.some(({ path }) => path.includes('/vfio-dev/'))).toBe(false);
  });

  it('counts the objects of an open iommufd until it is closed', () => {
    const machine = machineOf('two-smmus');
    const before = machine.leftovers().objects;
    const iommufd = machine.open('/dev/iommu');
    expect(machine.leftovers().objects).toBe(before);
    iommufd.release();
    expect(machine.leftovers().objects).toBe(0);
  });

  it('places registers where physical memory finds them', () => {
    const { memory } = machineOf('two-smmus');
    // IDR5 of the first SMMU: OAS 48 bits, all granules. The device identity of no BAR is memory-decoded yet.
    expect(memory.load32(0x2b400, 0x14)).toBe(true);
    expect(memory.lo & 0x77).toBe(0x75);
    expect(memory.load32(0x10000, 0x08)).toBe(true);
    expect(memory.lo).toBe(0xffff_ffff);
  });

  it('puts the SMMUs into a state in which devices abort', () => {
    const machine = machineOf('two-smmus');
    for (const { smmu } of machine.iommus) expect(smmu.readRegister(0x24, 4) & 1).toBe(1);
    for (const [i, stream] of [0x100, 0x200].entries()) {
      expect(machine.iommus[i]!.smmu.translate(stream, -1, 0x100, 0, 1)).toBe(1);
    }
  });
});
