/** In which release each command of /dev/iommu and of a VFIO device began, and how their structs grew. */
import { describe } from 'vitest';
import { Errno } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import type { AnyStruct } from '../../src/abi/struct.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { MockProgram } from '../../src/iommufd/test-command/testing.ts';
import { Program, testMachine } from '../host/program.ts';
import { type Answer, changed } from './changes.ts';

const SELFTEST = 0xdeadbeef;

type Values = Record<string, number | bigint>;

/** The errno of a command with these values, also when it opens a descriptor. */
async function call(program: MockProgram, command: number, layout: AnyStruct, values: Values = {}): Promise<Answer> {
  try {
    await program.okAsync(command, layout, values);
    return '';
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

/** A command with nothing but its size: what a program does that asks whether there is one. */
const probe = (command: number, layout: AnyStruct, values?: Values) => (release: string) =>
  call(new MockProgram(release), command, layout, values);

describe('commands', () => {
  changed(
    'linux-6.6',
    'HWPT_ALLOC is a command',
    { before: 'ENOTTY', since: 'ENOENT' },
    probe(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc),
  );
  changed(
    'linux-6.6',
    'GET_HW_INFO is a command',
    { before: 'ENOTTY', since: 'ENOENT' },
    probe(uapi.IOMMU_GET_HW_INFO, uapi.HwInfo),
  );
  changed(
    'linux-6.7',
    'HWPT_SET_DIRTY_TRACKING is a command',
    { before: 'ENOTTY', since: 'ENOENT' },
    probe(uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.HwptSetDirtyTracking),
  );
  changed(
    'linux-6.7',
    'HWPT_GET_DIRTY_BITMAP is a command',
    { before: 'ENOTTY', since: 'ENOENT' },
    probe(uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, uapi.HwptGetDirtyBitmap),
  );
  changed(
    'linux-6.8',
    'HWPT_INVALIDATE is a command',
    { before: 'ENOTTY', since: 'ENOENT' },
    probe(uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate),
  );
  changed(
    'linux-6.11',
    'FAULT_QUEUE_ALLOC is a command',
    { before: 'ENOTTY', since: '' },
    probe(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.FaultAlloc),
  );
  changed(
    'linux-6.13',
    'IOAS_MAP_FILE is a command',
    { before: 'ENOTTY', since: 'ENOENT' },
    probe(uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, { flags: uapi.IOMMU_IOAS_MAP_READABLE, length: 4096n }),
  );
  changed(
    'linux-6.13',
    'VIOMMU_ALLOC is a command, and type 0 none of its types',
    { before: 'ENOTTY', since: 'EOPNOTSUPP' },
    probe(uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, { size: 24 }),
  );
  changed(
    'linux-6.13',
    'VDEVICE_ALLOC is a command',
    { before: 'ENOTTY', since: 'ENOENT' },
    probe(uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc),
  );
  changed(
    'linux-6.13',
    'IOAS_CHANGE_PROCESS is a command',
    { before: 'ENOTTY', since: '' },
    probe(uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IoasChangeProcess),
  );
  changed(
    'linux-6.15',
    'VEVENTQ_ALLOC is a command, and type 0 none of its types',
    { before: 'ENOTTY', since: 'EOPNOTSUPP' },
    probe(uapi.IOMMU_VEVENTQ_ALLOC, uapi.VeventqAlloc, { veventqDepth: 1 }),
  );
  changed(
    'linux-6.17',
    'HW_QUEUE_ALLOC is a command, and type 0 none of its types',
    { before: 'ENOTTY', since: 'EOPNOTSUPP' },
    probe(uapi.IOMMU_HW_QUEUE_ALLOC, uapi.HwQueueAlloc, { length: 4096n }),
  );
});

describe('sizes', () => {
  /** A struct with a non-zero byte in what is new: E2BIG where it is not known. */
  const hwptAlloc = (values: Values) => async (release: string) => {
    const program = new MockProgram(release);
    const ioasId = program.ioas();
    const { idevId } = program.device(ioasId);
    return call(program, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, { devId: idevId, ptId: ioasId, ...values });
  };

  changed(
    'linux-6.7',
    'HWPT_ALLOC has data, of 40 bytes in all',
    { from: 'linux-6.6', before: 'E2BIG', since: 'EINVAL' },
    hwptAlloc({ size: 40, dataLen: 4 }),
  );
  changed(
    'linux-6.11',
    'HWPT_ALLOC has a fault_id, of 48 bytes in all',
    { from: 'linux-6.6', before: 'E2BIG', since: '' },
    hwptAlloc({ faultId: 77 }),
  );
  changed(
    'linux-6.7',
    'GET_HW_INFO has out_capabilities, of 40 bytes in all',
    { from: 'linux-6.6', before: 'E2BIG', since: '' },
    async (release) => {
      const program = new MockProgram(release);
      const { idevId } = program.device(program.ioas());
      return call(program, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, { devId: idevId, outCapabilities: 1n });
    },
  );
  changed(
    'linux-6.17',
    'VIOMMU_ALLOC has data, of 40 bytes in all',
    { from: 'linux-6.13', before: 'E2BIG', since: 'EFAULT' },
    async (release) => {
      const program = new MockProgram(release);
      const ioasId = program.ioas();
      const { idevId } = program.device(ioasId);
      const hwptId = program.hwpt(idevId, ioasId, uapi.IOMMU_HWPT_ALLOC_NEST_PARENT);
      const values = { type: SELFTEST, devId: idevId, hwptId, dataLen: 24, dataUptr: 8n };
      return call(program, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, values);
    },
  );
  changed(
    'linux-6.6',
    'a program with the oldest HWPT_ALLOC, of 24 bytes, is served by every later release',
    { before: 'ENOTTY', since: '' },
    (release) => hwptAlloc({ size: 24 })(release),
  );
});

describe('VFIO devices', () => {
  changed('linux-6.6', '/dev/vfio/devices exists', { before: 'ENOENT', since: '' }, (release) =>
    testMachine({ abi: release }).machine.deviceNodes.some(({ path }) => path === '/dev/vfio/devices/vfio0')
      ? ''
      : 'ENOENT',
  );

  /** A bound device and an IOAS. */
  async function bound(release: string) {
    const program = new Program(testMachine({ abi: release, preset: 'one-smmu' }).machine);
    const iommufd = program.open('/dev/iommu');
    const fd = program.open('/dev/vfio/devices/vfio2');
    const { outIoasId } = await program.ok(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc);
    const bind = (values: Values) =>
      program.err(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, { iommufd, ...values });
    return { program, fd, outIoasId, bind };
  }

  changed(
    'linux-6.15',
    'DETACH_IOMMUFD_PT takes VFIO_DEVICE_DETACH_PASID',
    { from: 'linux-6.6', before: 'EINVAL', since: '' },
    async (release) => {
      const { program, fd, bind } = await bound(release);
      await bind({ argsz: 16 });
      const values = { flags: vfio.VFIO_DEVICE_DETACH_PASID, pasid: 1 };
      return program.err(fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt, values);
    },
  );
  changed(
    'linux-6.15',
    'ATTACH_IOMMUFD_PT takes VFIO_DEVICE_ATTACH_PASID, and looks for the pt_id',
    { from: 'linux-6.6', before: 'EINVAL', since: 'ENOENT' },
    async (release) => {
      const { program, fd, bind } = await bound(release);
      await bind({ argsz: 16 });
      const values = { flags: vfio.VFIO_DEVICE_ATTACH_PASID, pasid: 1, ptId: 99 };
      return program.err(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, values);
    },
  );
  changed(
    'linux-6.17',
    'BIND_IOMMUFD takes a token, and reads it',
    { from: 'linux-6.6', before: 'EINVAL', since: 'EFAULT' },
    async (release) => {
      const { bind } = await bound(release);
      return bind({ flags: vfio.VFIO_DEVICE_BIND_FLAG_TOKEN, tokenUuidPtr: 8n });
    },
  );
});
