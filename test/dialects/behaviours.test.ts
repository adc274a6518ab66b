/** What a release does otherwise with a call that the one before knows too. */
import { describe } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import * as mock from '../../src/abi/iommufd-test.ts';
import * as vfio from '../../src/abi/vfio.ts';
import * as type1 from '../../src/abi/vfio-type1.ts';
import { DmaBuf, DmaBufFile } from '../../src/iommufd/dma-buf.ts';
import { KernelMemory } from '../../src/iommufd/test-command/dmabuf.ts';
import { MockProgram } from '../../src/iommufd/test-command/testing.ts';
import { errnoName, errnoOf } from '../../src/iommufd/testing.ts';
import { ContextTable, STE_ABORT, STE_BYPASS, Stage1 } from '../host/guest.ts';
import { testMachine } from '../host/program.ts';
import { type Slice, Vm } from '../host/vm.ts';
import { type Answer, changed } from './changes.ts';

const SELFTEST = 0xdeadbeef;

/** A mock device in a vIOMMU, which knows it by 0x99. */
async function mockVm(release: string) {
  const program = new MockProgram(release);
  const ioasId = program.ioas();
  const { stdevId, idevId } = program.device(ioasId);
  const hwptId = program.hwpt(idevId, ioasId, uapi.IOMMU_HWPT_ALLOC_NEST_PARENT);
  const viommu = { size: 24, type: SELFTEST, devId: idevId, hwptId };
  const { outViommuId } = program.ok(uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, viommu);
  const vdevice = { viommuId: outViommuId, devId: idevId, virtId: 0x99n };
  return { program, ioasId, stdevId, idevId, hwptId, viommuId: outViommuId, vdevice };
}

/** A VM on an SMMUv3 with a slice of it. */
async function smmuVm(release: string) {
  const vm = await Vm.start(testMachine({ abi: release }).machine);
  const device = await vm.device(0);
  const slice: Slice = await vm.slice(device);
  return { vm, device, slice };
}

describe('which errno', () => {
  changed(
    'linux-6.7',
    'HWPT_ALLOC looks at what pt_id is: not at IOASes alone',
    { from: 'linux-6.6', before: 'ENOENT', since: 'EINVAL' },
    (release) => {
      const program = new MockProgram(release);
      const { idevId } = program.device(program.ioas());
      return program.err(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, { size: 24, devId: idevId, ptId: 0 });
    },
  );
  changed(
    'linux-6.13',
    'HWPT_INVALIDATE looks at what hwpt_id is: not at nested HWPTs alone',
    { from: 'linux-6.8', before: 'ENOENT', since: 'EINVAL' },
    (release) => {
      const program = new MockProgram(release);
      return program.err(uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate, { hwptId: program.ioas() });
    },
  );
  changed(
    'linux-6.18',
    'VFIO_IOMMU_UNMAP_DMA of a range with nothing in it succeeds, as on a container of VFIO',
    { before: 'ENOENT', since: '' },
    (release) => {
      const program = new MockProgram(release);
      program.ok(uapi.IOMMU_VFIO_IOAS, uapi.VfioIoas, { op: uapi.IOMMU_VFIO_IOAS_SET, ioasId: program.ioas() });
      const unmap = Object.assign(new type1.Type1DmaUnmap(), { argsz: 24, iova: 0x1000n, size: 0x1000n });
      const address = program.put(unmap.bytes);
      const call = () => program.context.ioctl(program.process, type1.VFIO_IOMMU_UNMAP_DMA, address) as number;
      return errnoName(errnoOf(call));
    },
  );
});

describe('SMMUv3', () => {
  const info = async (release: string) => {
    const vm = await Vm.start(testMachine({ abi: release }).machine);
    const { id } = await vm.device(0);
    return vm.program.ok(vm.iommufd, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, { size: 32, devId: id });
  };

  changed(
    'linux-6.13',
    'the registers of an SMMUv3 are in GET_HW_INFO',
    { from: 'linux-6.6', before: 'type 0, 0 bytes', since: 'type 2, 40 bytes' },
    async (release) => {
      const { outDataType, dataLen } = await info(release);
      return `type ${outDataType}, ${dataLen} bytes`;
    },
  );
  changed(
    'linux-6.13',
    'an SMMUv3 has nesting parents',
    { from: 'linux-6.7', before: 'EOPNOTSUPP', since: '' },
    async (release) => {
      const vm = await Vm.start(testMachine({ abi: release }).machine);
      const { id } = await vm.device(0);
      const values = { size: 40, flags: uapi.IOMMU_HWPT_ALLOC_NEST_PARENT, devId: id, ptId: vm.ioasId };
      return vm.program.err(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
    },
  );

  changed(
    'linux-6.11',
    'an SMMUv3 with HTTU tracks writes',
    { from: 'linux-6.7', before: 'EOPNOTSUPP', since: '' },
    async (release) => {
      const vm = await Vm.start(testMachine({ abi: release, preset: 'one-smmu' }).machine);
      const { id } = await vm.device(0);
      const values = { size: 40, flags: uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING, devId: id, ptId: vm.ioasId };
      return vm.program.err(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
    },
  );

  changed(
    'linux-6.17',
    'a vIOMMU can have a virtual interface of a CMDQV, and wants data for it',
    { from: 'linux-6.13', before: 'EOPNOTSUPP', since: 'EINVAL' },
    async (release) => {
      const vm = await Vm.start(testMachine({ abi: release, preset: 'grace' }).machine);
      const device = await vm.device(0);
      const type = uapi.IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV;
      const values = { size: 24, type, devId: device.id, hwptId: await vm.parent(device) };
      return vm.program.err(vm.iommufd, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, values);
    },
  );

  /** Attaches a device that has no vDEVICE to a nested HWPT. */
  const attachUnnamed = (ste: (vm: Vm) => readonly [bigint, bigint]) => async (release: string) => {
    const { vm, device, slice } = await smmuVm(release);
    return device.attachErr(await slice.nested(device, ste(vm)));
  };
  const bypass = attachUnnamed(() => STE_BYPASS);
  const abort = attachUnnamed(() => STE_ABORT);
  const translating = attachUnnamed((vm) => {
    const contexts = new ContextTable(vm.ram);
    contexts.set(0, new Stage1(vm.ram, 7));
    return contexts.ste(false);
  });

  for (const [what, attach] of [
    ['bypass', bypass],
    ['abort', abort],
  ] as const) {
    changed(
      'linux-6.15',
      `a nested ${what} HWPT takes no device without a vDEVICE`,
      { from: 'linux-6.13', until: 'linux-6.18', before: '', since: 'ENOENT' },
      attach,
    );
    changed(
      'linux-6.19',
      `a nested ${what} HWPT takes a device without a vDEVICE`,
      { from: 'linux-6.15', before: 'ENOENT', since: '' },
      attach,
    );
  }
  changed(
    'linux-6.16',
    'an HWPT with a fault queue takes a device that never asks for pages',
    { from: 'linux-6.13', before: 'EINVAL', since: '' },
    async (release) => {
      const { vm, device, slice } = await smmuVm(release);
      const { program, iommufd } = vm;
      await slice.setVirtualId(device, 1);
      const { outFaultId } = await program.ok(iommufd, uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.FaultAlloc);
      const dataUptr = program.put(new Uint8Array(BigUint64Array.from(STE_BYPASS).buffer));
      const faults = { flags: uapi.IOMMU_HWPT_FAULT_ID_VALID, faultId: outFaultId };
      const values = { ...faults, devId: device.id, ptId: slice.id, dataType: 2, dataLen: 16, dataUptr };
      return device.attachErr((await program.ok(iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values)).outHwptId);
    },
  );
  changed(
    'linux-6.15',
    'a nested HWPT that translates takes no device without a vDEVICE',
    { from: 'linux-6.13', before: '', since: 'ENOENT' },
    translating,
  );
});

describe('vDEVICEs', () => {
  changed(
    'linux-6.15',
    'the mock driver, too, attaches no device without a vDEVICE to a nested HWPT',
    { from: 'linux-6.13', before: '', since: 'ENOENT' },
    async (release) => {
      const { program, stdevId, idevId, viommuId } = await mockVm(release);
      const data = program.put(new Uint8Array(mock.HwptSelftest.size));
      const nested = {
        devId: idevId,
        ptId: viommuId,
        dataType: mock.IOMMU_HWPT_DATA_SELFTEST,
        dataLen: 4,
        dataUptr: data,
      };
      const { outHwptId } = program.ok(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, nested);
      const op = mock.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE;
      return program.testErr(op, stdevId, mock.TestMockDomainReplace, { ptId: outHwptId });
    },
  );
  changed(
    'linux-6.17',
    'a device has one vDEVICE at most',
    { from: 'linux-6.13', before: '', since: 'EEXIST' },
    async (release) => {
      const { program, vdevice } = await mockVm(release);
      program.ok(uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, vdevice);
      return program.err(uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, { ...vdevice, virtId: 0x9an });
    },
  );

  /** A vDEVICE whose device has gone. */
  const orphan = async (release: string) => {
    const { vm, device, slice } = await smmuVm(release);
    const id = await slice.setVirtualId(device, 0x10);
    vm.program.close(device.fd);
    return { vm, id };
  };
  changed(
    'linux-6.17',
    'a vDEVICE ends with its device',
    { from: 'linux-6.13', before: '', since: 'ENOENT' },
    async (release) => {
      const { vm, id } = await orphan(release);
      return vm.destroy(id);
    },
  );
  changed(
    'linux-6.17',
    'its ID stays taken then, and before it is free once the program destroys it',
    { from: 'linux-6.13', before: 'the same ID', since: 'another ID' },
    async (release) => {
      const { vm, id } = await orphan(release);
      await vm.destroy(id);
      await vm.program.ok(vm.iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc); // takes what the device left
      const next = await vm.program.ok(vm.iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc);
      return next.outIoasId === id ? 'the same ID' : 'another ID';
    },
  );
});

describe('files', () => {
  changed(
    'linux-6.17',
    '/dev/iommu has an mmap, which knows no offset 0',
    { before: 'ENODEV', since: 'ENXIO' },
    (release) => {
      const { context, process } = new MockProgram(release);
      const MAP_SHARED = 1;
      return errnoName(errnoOf(() => context.mmap(process, 4096n, 3, MAP_SHARED, 0n) as unknown as number));
    },
  );
  changed(
    'linux-6.19',
    'IOAS_MAP_FILE takes a dma-buf',
    { from: 'linux-6.13', before: 'EINVAL', since: '' },
    (release) => {
      const program = new MockProgram(release);
      const ioasId = program.ioas();
      program.device(ioasId);
      const file = new DmaBufFile(new DmaBuf({ length: 0x4000, memory: new KernelMemory(0x4000) }));
      const fd = program.process.openFd(file) as number;
      const values = { flags: 7, ioasId, fd, length: 0x4000n, iova: 0x100_0000n };
      return program.err(uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, values);
    },
  );
});

describe('VFIO devices', () => {
  changed(
    'linux-6.19',
    'DEVICE_FEATURE gives a BAR as a dma-buf',
    { from: 'linux-6.6', before: 'ENOTTY', since: '' },
    async (release) => {
      const vm = await Vm.start(testMachine({ abi: release }).machine);
      const { fd } = await vm.device(0);
      const flags = vfio.VFIO_DEVICE_FEATURE_PROBE | vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_DMA_BUF;
      return vm.program.err(fd, vfio.VFIO_DEVICE_FEATURE, vfio.DeviceFeature, { argsz: 8, flags });
    },
  );
});

describe('read counts', () => {
  const EVENT_BYTES = uapi.VeventHeader.size + 4;

  /** Reads `count` bytes from a vEVENTQ with `events` in it. */
  const readEvents =
    (events: number, count: number) =>
    async (release: string): Promise<Answer> => {
      const { program, stdevId, idevId, viommuId, vdevice } = await mockVm(release);
      program.ok(uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, vdevice);
      const queue = { viommuId, type: mock.IOMMU_VEVENTQ_TYPE_SELFTEST, veventqDepth: 4 };
      const { outVeventqFd } = await program.okAsync(uapi.IOMMU_VEVENTQ_ALLOC, uapi.VeventqAlloc, queue);
      const data = program.put(new Uint8Array(mock.HwptSelftest.size));
      const nested = {
        devId: idevId,
        ptId: viommuId,
        dataType: mock.IOMMU_HWPT_DATA_SELFTEST,
        dataLen: 4,
        dataUptr: data,
      };
      const { outHwptId } = program.ok(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, nested);
      program.test(mock.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, stdevId, mock.TestMockDomainReplace, { ptId: outHwptId });
      for (let i = 0; i < events; i++) {
        program.test(mock.IOMMU_TEST_OP_TRIGGER_VEVENT, 0, mock.TestTriggerVevent, { devId: idevId });
      }
      return shown(program.read(outVeventqFd, count));
    };

  /** Reads `count` bytes from a fault queue with a group of one request. */
  const readFaults =
    (count: number) =>
    async (release: string): Promise<Answer> => {
      const program = new MockProgram(release);
      const ioasId = program.ioas();
      const { stdevId, idevId } = program.device(ioasId);
      const queue = await program.okAsync(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.FaultAlloc, {});
      const hwpt = { devId: idevId, ptId: ioasId, flags: uapi.IOMMU_HWPT_FAULT_ID_VALID, faultId: queue.outFaultId };
      const { outHwptId } = program.ok(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, hwpt);
      program.test(mock.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, stdevId, mock.TestMockDomainReplace, { ptId: outHwptId });
      program.test(mock.IOMMU_TEST_OP_TRIGGER_IOPF, 0, mock.TestTriggerIopf, { devId: idevId, addr: 0xcafe000n });
      return shown(program.read(queue.outFaultFd, count));
    };

  changed(
    'linux-7.2',
    'read() of a vEVENTQ into less than a header is refused',
    { from: 'linux-6.15', before: 0, since: 'EINVAL' },
    readEvents(0, uapi.VeventHeader.size - 1),
  );
  changed(
    'linux-7.2',
    'read() of a vEVENTQ into less than its first event is refused',
    { from: 'linux-6.15', before: 0, since: 'EINVAL' },
    readEvents(1, EVENT_BYTES - 1),
  );
  changed(
    'linux-7.2',
    'read() of 0 bytes of a fault queue is refused',
    { from: 'linux-6.13', before: 0, since: 'EINVAL' },
    readFaults(0),
  );
});

const shown = (read: Uint8Array | string): Answer => (typeof read === 'string' ? read : read.length);
