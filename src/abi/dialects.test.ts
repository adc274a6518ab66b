import { describe, expect, it } from 'vitest';
import { COMMAND_BUFFER_SIZE, DEFAULT_DIALECT, DIALECTS, type Dialect, dialect } from './dialects.ts';

const releases = DIALECTS.filter(({ name }) => name.startsWith('linux-'));
const known = ({ commands }: Dialect): string =>
  [...commands.keys()]
    .sort((a, b) => a - b)
    .map((nr) => nr.toString(16))
    .join(' ');
/** [minimum size, size] of a command, or null. */
const sizes = (name: string, nr: number): number[] | null => {
  const command = dialect(name).commands.get(nr);
  return command ? [command.minimumSize, command.size] : null;
};

describe('dialects', () => {
  it('are the releases from 6.2 to 7.2 in order, and the design thread', () => {
    const minors = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map((minor) => `linux-6.${minor}`);
    expect(DIALECTS.map(({ name }) => name)).toEqual([...minors, 'linux-7.0', 'linux-7.1', 'linux-7.2', 'viommu-v2']);
    expect(dialect(DEFAULT_DIALECT).name).toBe('linux-7.1');
  });

  it('an unknown name is refused with the known ones', () => {
    expect(() => dialect('linux-5.0')).toThrow(/unknown ABI 'linux-5.0': expected one of linux-6.2, .*viommu-v2$/);
  });

  it('each release has the commands of its kernel', () => {
    const first = '80 81 82 83 84 85 86 87 88';
    expect(known(dialect('linux-6.2'))).toBe(first);
    expect(known(dialect('linux-6.5'))).toBe(first);
    expect(known(dialect('linux-6.6'))).toBe(`${first} 89 8a`);
    expect(known(dialect('linux-6.7'))).toBe(`${first} 89 8a 8b 8c`);
    expect(known(dialect('linux-6.8'))).toBe(`${first} 89 8a 8b 8c 8d`);
    expect(known(dialect('linux-6.12'))).toBe(`${first} 89 8a 8b 8c 8d 8e`);
    expect(known(dialect('linux-6.13'))).toBe(`${first} 89 8a 8b 8c 8d 8e 8f 90 91 92`);
    expect(known(dialect('linux-6.15'))).toBe(`${first} 89 8a 8b 8c 8d 8e 8f 90 91 92 93`);
    expect(known(dialect('linux-6.17'))).toBe(`${first} 89 8a 8b 8c 8d 8e 8f 90 91 92 93 94`);
    expect(known(dialect('linux-7.1'))).toBe(`${first} 89 8a 8b 8c 8d 8e 8f 90 91 92 93 94`);
    expect(known(dialect('viommu-v2'))).toBe(`${first} 89 8a 8b 8c 8d 8e 8f 90 91 92 93`);
  });

  it('a number means something else in viommu-v2', () => {
    const names = (name: string) => [0x8f, 0x90, 0x91, 0x92, 0x93].map((nr) => dialect(name).commands.get(nr)?.name);
    expect(names('viommu-v2')).toEqual([
      'IOMMU_VIOMMU_ALLOC',
      'IOMMU_VIOMMU_SET_VDEV_ID',
      'IOMMU_VIOMMU_UNSET_VDEV_ID',
      'IOMMU_VIRQ_ALLOC',
      'IOMMU_VQUEUE_ALLOC',
    ]);
    expect(names('linux-7.1')).toEqual([
      'IOMMU_IOAS_MAP_FILE',
      'IOMMU_VIOMMU_ALLOC',
      'IOMMU_VDEVICE_ALLOC',
      'IOMMU_IOAS_CHANGE_PROCESS',
      'IOMMU_VEVENTQ_ALLOC',
    ]);
  });

  it('the minimum sizes of 7.1 are those of the kernel', () => {
    const minimum = [...dialect('linux-7.1').commands.values()].map(({ nr, minimumSize }) => [nr, minimumSize]);
    expect(minimum.toSorted(([a], [b]) => a! - b!)).toEqual([
      [0x80, 8], // DESTROY
      [0x81, 12], // IOAS_ALLOC
      [0x82, 24], // IOAS_ALLOW_IOVAS
      [0x83, 40], // IOAS_COPY
      [0x84, 32], // IOAS_IOVA_RANGES
      [0x85, 40], // IOAS_MAP
      [0x86, 24], // IOAS_UNMAP
      [0x87, 24], // OPTION
      [0x88, 12], // VFIO_IOAS
      [0x89, 24], // HWPT_ALLOC: it grew twice
      [0x8a, 32], // GET_HW_INFO: out_capabilities came later
      [0x8b, 16], // HWPT_SET_DIRTY_TRACKING
      [0x8c, 48], // HWPT_GET_DIRTY_BITMAP
      [0x8d, 32], // HWPT_INVALIDATE
      [0x8e, 16], // FAULT_QUEUE_ALLOC
      [0x8f, 40], // IOAS_MAP_FILE
      [0x90, 24], // VIOMMU_ALLOC: its data came later
      [0x91, 24], // VDEVICE_ALLOC
      [0x92, 8], // IOAS_CHANGE_PROCESS
      [0x93, 28], // VEVENTQ_ALLOC: up to out_veventq_fd
      [0x94, 40], // HW_QUEUE_ALLOC
    ]);
  });

  it('structs grow from release to release and their minimum stays', () => {
    const growth = (nr: number) => releases.map(({ name }) => sizes(name, nr)?.join('-') ?? '');
    const changes = (nr: number) => growth(nr).filter((size, i, all) => size !== '' && size !== all[i - 1]);
    expect(changes(0x89)).toEqual(['24-24', '24-40', '24-48']);
    expect(changes(0x8a)).toEqual(['32-32', '32-40']);
    expect(changes(0x90)).toEqual(['24-24', '24-40']);
    expect(changes(0x85)).toEqual(['40-40']);
    expect([sizes('linux-6.10', 0x89), sizes('linux-6.11', 0x89)]).toEqual([
      [24, 40],
      [24, 48],
    ]);
    expect([sizes('linux-6.16', 0x90), sizes('linux-6.17', 0x90)]).toEqual([
      [24, 24],
      [24, 40],
    ]);
  });

  it('no release forgets a command, a flag or a type', () => {
    for (const [i, newer] of releases.entries()) {
      const older = releases[i - 1];
      if (!older) continue;
      for (const nr of older.commands.keys()) expect(newer.commands.has(nr)).toBe(true);
      for (const nr of older.vfioCommands.keys()) expect(newer.vfioCommands.has(nr)).toBe(true);
      for (const [name, before] of Object.entries(older.accepted)) {
        const now = newer.accepted[name as keyof Dialect['accepted']];
        if (typeof before === 'number') expect((now as number) & before).toBe(before);
        else expect(now).toEqual(expect.arrayContaining(before));
      }
    }
  });

  it('every command holds together: number, sizes, and room in a command buffer', () => {
    for (const { commands, vfioCommands } of DIALECTS) {
      for (const [nr, command] of [...commands, ...vfioCommands]) {
        expect(command.nr).toBe(nr);
        expect(command.command).toBe(0x3b00 | nr);
        expect(command.minimumSize).toBeLessThanOrEqual(command.size);
        expect(command.size).toBeLessThanOrEqual(command.struct?.size ?? 0);
        expect(command.struct?.size ?? 0).toBeLessThanOrEqual(COMMAND_BUFFER_SIZE);
      }
    }
  });

  it('HWPT_ALLOC accepts flags as its kernel does: a fault queue on a nested HWPT two releases before a paging one', () => {
    const flags = (name: string) => {
      const { hwptAllocFlags, nestedHwptAllocFlags } = dialect(name).accepted;
      return [hwptAllocFlags, nestedHwptAllocFlags];
    };
    expect(flags('linux-6.6')).toEqual([0, 0]);
    expect(flags('linux-6.7')).toEqual([0b0011, 0]);
    expect(flags('linux-6.12')).toEqual([0b0011, 0b0100]);
    expect(flags('linux-6.13')).toEqual([0b0111, 0b0100]);
    expect(flags('linux-6.14')).toEqual([0b0111, 0b0100]);
    expect(flags('linux-6.15')).toEqual([0b1111, 0b1100]);
    expect(flags('linux-7.1')).toEqual([0b1111, 0b1100]);
    expect(flags('viommu-v2')).toEqual([0b0011, 0b0100]);
  });

  it('SMMUv3 nesting comes with 6.13, and with viommu-v2, which has type 0 and 1 for vIOMMUs', () => {
    const nesting = (name: string) => {
      const { hwptDataTypes, hwInfoTypes, invalidateDataTypes, viommuTypes } = dialect(name).accepted;
      return [hwptDataTypes, hwInfoTypes, invalidateDataTypes, viommuTypes].map((types) => types.join());
    };
    expect(nesting('linux-6.12')).toEqual(['0,1', '0,1', '0', '']);
    expect(nesting('linux-6.13')).toEqual(['0,1,2', '0,1,2', '0,1', '1']);
    expect(nesting('linux-7.1')).toEqual(['0,1,2,3', '0,1,2,3,4', '0,1', '1,2']);
    expect(nesting('viommu-v2')).toEqual(['0,1,2', '0,1,2', '0,1', '0,1']);
  });

  it('the VFIO character device begins with 6.6, PASID with 6.15, the token with 6.17', () => {
    const vfio = (name: string, nr: number) => dialect(name).vfioCommands.get(nr);
    expect([118, 119, 120].map((nr) => vfio('linux-6.5', nr))).toEqual([undefined, undefined, undefined]);
    expect([vfio('linux-6.6', 118)?.size, vfio('linux-6.17', 118)?.size]).toEqual([16, 24]);
    expect([vfio('linux-6.14', 119)?.size, vfio('linux-6.15', 119)?.size]).toEqual([12, 16]);
    expect([vfio('linux-6.14', 120)?.size, vfio('linux-6.15', 120)?.size]).toEqual([8, 12]);
    const minimum = [...dialect('linux-7.1').vfioCommands.values()].map(({ nr, minimumSize }) => [nr, minimumSize]);
    expect(Object.fromEntries(minimum)).toEqual({
      107: 16,
      108: 32,
      109: 16,
      110: 20,
      111: 0,
      112: 12,
      113: 12,
      116: 28,
      117: 8,
      118: 16,
      119: 12,
      120: 8,
    });
  });

  it('behaviours change with the release that changed them', () => {
    expect(dialect('linux-6.14').behaviour).toMatchObject({ hwInfoPasid: false, nestedAttachNeedsVdevice: 'never' });
    expect(dialect('linux-6.15').behaviour).toMatchObject({ hwInfoPasid: true, nestedAttachNeedsVdevice: 'always' });
    expect(dialect('linux-6.16').behaviour).toMatchObject({ vdeviceTombstone: false, mmap: 'none' });
    expect(dialect('linux-6.17').behaviour).toMatchObject({ vdeviceTombstone: true, mmap: 'reported-offset' });
    expect(dialect('linux-7.1').behaviour).toEqual({
      viommuTypeDefaultAllowed: false,
      invalidateOnNestedHwptSmmuv3: false,
      nestedAttachNeedsVdevice: 'translating',
      veventHeader: true,
      hwInfoPasid: true,
      smmuv3Nesting: true,
      smmuv3DirtyTracking: true,
      smmuv3FaultsNeedRequests: false,
      oneVirtualIdPerDevice: true,
      vdeviceTombstone: true,
      mmap: 'reported-offset',
      mapFileDmabuf: true,
      type1UnmapsNothing: true,
      eventReadCountChecked: false,
    });
    expect(dialect('viommu-v2').behaviour).toEqual({
      viommuTypeDefaultAllowed: true,
      invalidateOnNestedHwptSmmuv3: true,
      nestedAttachNeedsVdevice: 'never',
      veventHeader: false,
      hwInfoPasid: false,
      smmuv3Nesting: true,
      smmuv3DirtyTracking: true,
      smmuv3FaultsNeedRequests: true,
      oneVirtualIdPerDevice: true,
      vdeviceTombstone: false,
      mmap: 'viommu-id',
      mapFileDmabuf: false,
      type1UnmapsNothing: false,
      eventReadCountChecked: false,
    });
  });
});
