import { describe, expect, it } from 'vitest';
import { dialect } from '../abi/dialects.ts';
import { ERRNO } from '../abi/errno.ts';
import {
  IOMMU_GET_HW_INFO,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_IOAS_MAP,
  IOMMU_VIOMMU_ALLOC,
  IoasMap,
} from '../abi/iommufd.ts';
import { VFIO_DEVICE_GET_REGION_INFO } from '../abi/vfio.ts';
import type { IoctlEvent } from './events.ts';
import { commandsOf, showFileCall, showIoctl } from './print-ioctl.ts';
import { showLength } from './print-struct.ts';

const lookup = commandsOf(dialect('linux-7.1'));

/** What the program gave and what it got back. */
function ioctl(command: number, before: object, after: object = {}, rest: Partial<IoctlEvent> = {}): string {
  const type = lookup(command, rest.struct ?? '')?.struct ?? IoasMap;
  const given = Object.assign(new type(), before);
  const left = Object.assign(new type(given.bytes.slice()), after);
  const event: IoctlEvent = {
    type: 'ioctl',
    pid: 1,
    file: 'iommufd',
    command,
    struct: type.structName,
    before: given.bytes,
    after: left.bytes,
    result: 0,
    reason: '',
    ...rest,
  };
  return showIoctl(event, lookup);
}

const MAP = { size: 40, flags: 7, ioasId: 1, userVa: 0x7f0000200000n, length: 2n << 20n, iova: 0n };

describe('an ioctl', () => {
  it('is shown with the fields that were given, flags by name, lengths in words', () => {
    expect(ioctl(IOMMU_IOAS_MAP, MAP)).toBe(
      'IOMMU_IOAS_MAP {flags=FIXED_IOVA|WRITEABLE|READABLE, ioas_id=1, user_va=0x7f0000200000, length=2 MiB, iova=0x0} = 0',
    );
  });

  it('shows behind an arrow what it gave back or changed', () => {
    const asked = { size: 40, type: 1, devId: 2, hwptId: 4 };
    expect(ioctl(IOMMU_VIOMMU_ALLOC, asked, { outViommuId: 5 })).toBe(
      'IOMMU_VIOMMU_ALLOC {type=ARM_SMMUV3, dev_id=2, hwpt_id=4} => out_viommu_id=5 = 0',
    );
    expect(ioctl(IOMMU_IOAS_MAP, { ...MAP, flags: 4 }, { iova: 0x1000n })).toContain('iova=0x0} => iova=0x1000 = 0');
  });

  it('shows a union once, under the name that is meant', () => {
    expect(ioctl(IOMMU_GET_HW_INFO, { size: 40, devId: 2, dataLen: 40, dataUptr: 0x1000n }, { outDataType: 2 })).toBe(
      'IOMMU_GET_HW_INFO {dev_id=2, data_len=40} => out_data_type=ARM_SMMUV3 = 0',
    );
  });

  it('takes only the size that begins a struct for plumbing', () => {
    expect(
      ioctl(VFIO_DEVICE_GET_REGION_INFO, { argsz: 32, index: 7 }, { flags: 3, size: 4096n, offset: 7n << 40n }),
    ).toBe('VFIO_DEVICE_GET_REGION_INFO {index=CONFIG} => flags=READ|WRITE, size=4 KiB, offset=0x70000000000 = 0');
  });

  it('names the errno of a refusal, and the reason', () => {
    const refused = { result: -ERRNO.ENOSPC, reason: 'all 255 VMIDs of smmu3.0x2b400000 are in use' };
    expect(ioctl(IOMMU_VIOMMU_ALLOC, { size: 40, type: 1, devId: 2, hwptId: 4 }, { outViommuId: 9 }, refused)).toBe(
      'IOMMU_VIOMMU_ALLOC {type=ARM_SMMUV3, dev_id=2, hwpt_id=4} = -1 ENOSPC (all 255 VMIDs of smmu3.0x2b400000 are in use)',
    );
  });

  it('shows how far a refused batch came', () => {
    const asked = { size: 32, hwptId: 5, dataUptr: 0x1000n, dataType: 1, entryLen: 16, entryNum: 4 };
    expect(ioctl(IOMMU_HWPT_INVALIDATE, asked, { entryNum: 2 }, { result: -ERRNO.EIO })).toMatch(
      /entry_num=4} => entry_num=2 = -1 EIO$/,
    );
  });

  it('shows no field that the size of the program leaves out', () => {
    expect(ioctl(IOMMU_VIOMMU_ALLOC, { size: 24, type: 1, devId: 2, hwptId: 4, dataLen: 99 })).toBe(
      'IOMMU_VIOMMU_ALLOC {type=ARM_SMMUV3, dev_id=2, hwpt_id=4} = 0',
    );
  });

  it('is shown by its number when the dialect has none such', () => {
    expect(ioctl(0x3bff, {}, {}, { result: -ERRNO.ENOTTY, reason: 'no such command' })).toBe(
      'ioctl 0x3bff = -1 ENOTTY (no such command)',
    );
  });

  it('takes the number for what it is in the dialect that is spoken', () => {
    const event = {
      type: 'ioctl',
      pid: 1,
      file: 'iommufd',
      command: 0x3b90,
      struct: '',
      result: 0,
      reason: '',
    } as const;
    const bytes = { before: new Uint8Array(24), after: new Uint8Array(24) };
    const first = (name: string) => showIoctl({ ...event, ...bytes }, commandsOf(dialect(name))).split(' ')[0];
    expect(['linux-6.12', 'linux-7.1', 'viommu-v2'].map(first)).toEqual([
      'ioctl',
      'IOMMU_VIOMMU_ALLOC',
      'IOMMU_VIOMMU_SET_VDEV_ID',
    ]);
    expect(showIoctl({ ...event, ...bytes, command: 0x4890 }, lookup)).toBe('ioctl 0x4890 = 0');
  });

  it('says so when its struct cannot be read', () => {
    const nothing = new Uint8Array();
    expect(ioctl(IOMMU_IOAS_MAP, {}, {}, { before: nothing, after: nothing, result: -ERRNO.EFAULT })).toBe(
      'IOMMU_IOAS_MAP {unreadable} = -1 EFAULT',
    );
  });
});

describe('a length', () => {
  it('is shown in the largest unit of which it is a whole number', () => {
    const shown = [0n, 16n, 4096n, 4097n, 2n << 20n, 3n << 30n, 2n ** 64n - 1n].map(showLength);
    expect(shown).toEqual(['0', '16', '4 KiB', '4097', '2 MiB', '3 GiB', 'U64_MAX']);
  });
});

describe('a call on a file', () => {
  it('of a number with two meanings is told apart by its struct', () => {
    const values = { argsz: 24 };
    expect(ioctl(0x3b70, values, {}, { struct: 'vfio_iommu_type1_info' })).toBe('VFIO_IOMMU_GET_INFO {} = 0');
    expect(ioctl(0x3b70, values, {}, { struct: 'vfio_pci_hot_reset_info' })).toMatch(/^VFIO_DEVICE_GET_PCI_HOT_RESET/);
  });

  it('is shown with length and offset', () => {
    const event = { type: 'file', pid: 1, file: 'vfio0', call: 'pread', offset: 0x88, length: 8 } as const;
    expect(showFileCall({ ...event, result: 8, reason: '' })).toBe('pread 8 at 0x88 = 8');
    expect(showFileCall({ ...event, call: 'read', result: -ERRNO.EAGAIN, reason: '' })).toBe('read 8 = -1 EAGAIN');
  });
});
