/** Every command with its first, second, ... allocation failing, until it succeeds: ENOMEM each time, and nothing lost. */
import { describe, expect, it } from 'vitest';
import { DEFAULT_DIALECT, dialect } from '../abi/dialects.ts';
import * as uapi from '../abi/iommufd.ts';
import * as test from '../abi/iommufd-test.ts';
import * as vfio from '../abi/vfio-type1.ts';
import { FailurePoints } from '../drivers/failure-points.ts';
import { MockProgram } from './test-command/testing.ts';
import { FakeFile } from './testing.ts';
import { U64_MAX } from './u64.ts';

const IOVA = 0x100_0000n;
const PAGE = 0x1000n;
const ALLOC_PASID = uapi.IOMMU_HWPT_ALLOC_PASID;
const SELFTEST = { dataType: test.IOMMU_HWPT_DATA_SELFTEST, dataLen: test.HwptSelftest.size };
const VIRTUAL_ID = 7n;
const MEMFD = 50;

/** A program with one object of every kind. `device` is attached to the IOAS, `ioas2` and `parent` to nothing. */
async function world() {
  const program = new MockProgram();
  const ioas = program.ioas();
  const ioas2 = program.ioas();
  program.map(ioas, IOVA, 0x4000n);
  program.map(ioas2, IOVA, 0x2000n, 0x8000n);
  program.map(ioas2, IOVA + 0x2000n, 0x1000n, 0x1000n);
  const device = program.device(ioas, test.MOCK_FLAGS_DEVICE_PASID);
  const devId = device.idevId;
  const flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | ALLOC_PASID;
  const parent = program.hwpt(devId, ioas, flags);
  const tracking = program.hwpt(devId, ioas2, uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING | ALLOC_PASID);
  const dataUptr = program.put(new Uint8Array(64));
  const type = test.IOMMU_VIOMMU_TYPE_SELFTEST;
  const viommu = program.ok(uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, { devId, hwptId: parent, type }).outViommuId;
  const vdevice = { viommuId: viommu, devId, virtId: VIRTUAL_ID };
  const nested = program.ok(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, { devId, ptId: viommu, ...SELFTEST, dataUptr });
  const access = await program.access(ioas, test.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
  const dmabuf = { length: 0x2000, openFlags: 0 };
  return {
    program,
    ioas,
    ioas2,
    ...device,
    devId,
    parent,
    tracking,
    dataUptr,
    viommu,
    vdevice,
    nested,
    access,
    dmabuf,
  };
}

type World = Awaited<ReturnType<typeof world>>;
type Call = (w: World) => unknown;

/** A call, and what comes before it without failures. */
type Scenario = Call | { readonly given: Call; readonly fails: Call };

const replaceBy = (pt: (w: World) => number) => (w: World) =>
  w.program.test(test.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, w.stdevId, test.TestMockDomainReplace, { ptId: pt(w) });
const pasid = (op: number, pt: (w: World) => number) => (w: World) =>
  w.program.test(op, w.stdevId, test.TestPasidAttach, { pasid: 5, ptId: pt(w) });
const pasidAttach = pasid(test.IOMMU_TEST_OP_PASID_ATTACH, (w) => w.tracking);
const dmabufGet: Call = ({ program, dmabuf }) =>
  program.testAsync(test.IOMMU_TEST_OP_DMABUF_GET, 0, test.TestDmabufGet, dmabuf);
const vdeviceAlloc: Call = ({ program, vdevice }) => program.ok(uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, vdevice);
const rw = (flags: number) => (w: World) => {
  const values = { iova: IOVA, length: 0x1800n, uptr: w.program.base + 0x20000n, flags };
  w.program.test(test.IOMMU_TEST_OP_ACCESS_RW, w.access, test.TestAccessRw, values);
};

const COMMANDS: Readonly<Record<string, readonly Scenario[]>> = {
  IOMMU_DESTROY: [({ program, stdevId: id }) => program.ok(uapi.IOMMU_DESTROY, uapi.Destroy, { id })],
  IOMMU_IOAS_ALLOC: [({ program }) => program.ioas()],
  IOMMU_IOAS_ALLOW_IOVAS: [
    ({ program, ioas, dataUptr }) => {
      const range = new uapi.IovaRange();
      range.last = 2n ** 30n;
      range.start = IOVA;
      program.put(range.bytes);
      const values = { ioasId: ioas, numIovas: 1, allowedIovas: dataUptr };
      program.ok(uapi.IOMMU_IOAS_ALLOW_IOVAS, uapi.IoasAllowIovas, values);
    },
  ],
  IOMMU_IOAS_COPY: [
    ({ program, ioas, ioas2 }) =>
      program.ok(uapi.IOMMU_IOAS_COPY, uapi.IoasCopy, {
        flags: 6 | test.MOCK_FLAGS_ACCESS_SYZ,
        dstIoasId: ioas,
        srcIoasId: ioas2,
        length: 0x1000n,
        srcIova: 1n,
      }),
    ({ program, ioas, ioas2 }) =>
      program.ok(uapi.IOMMU_IOAS_COPY, uapi.IoasCopy, {
        flags: 6,
        dstIoasId: ioas,
        srcIoasId: ioas2,
        length: 0x3000n,
        srcIova: IOVA,
      }),
  ],
  IOMMU_IOAS_IOVA_RANGES: [
    ({ program, ioas: ioasId, dataUptr }) =>
      program.ok(uapi.IOMMU_IOAS_IOVA_RANGES, uapi.IoasIovaRanges, { ioasId, numIovas: 4, allowedIovas: dataUptr }),
  ],
  IOMMU_IOAS_MAP: [
    ({ program, ioas }) => program.map(ioas, IOVA + 0x8000n, 0x3000n, 0x3000n),
    {
      given: ({ program, ioas }) =>
        program.ok(uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, { ioasId: ioas, length: U64_MAX }),
      fails: ({ program, ioas }) => program.map(ioas, IOVA, 0x3000n),
    },
  ],
  IOMMU_IOAS_UNMAP: [
    ({ program, ioas: ioasId }) =>
      program.ok(uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, { ioasId, iova: IOVA, length: 0x4000n }),
  ],
  IOMMU_IOAS_MAP_FILE: [
    {
      given: dmabufGet,
      fails: ({ program, ioas: ioasId }) => {
        const fd = Math.max(...program.process.files.keys());
        const values = { flags: 6, ioasId, fd, start: 0n, length: 0x2000n };
        program.ok(uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, values);
      },
    },
  ],
  IOMMU_IOAS_CHANGE_PROCESS: [
    {
      // Only memory of files changes hands.
      given: ({ program, ioas, ioas2 }) => {
        for (const ioasId of [ioas, ioas2])
          program.ok(uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, { ioasId, length: U64_MAX });
        program.process.memoryFiles.set(MEMFD, new FakeFile());
        const values = { flags: 7, ioasId: ioas, fd: MEMFD, length: 0x2000n, iova: IOVA };
        program.ok(uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, values);
      },
      fails: ({ program }) => program.ok(uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IoasChangeProcess),
    },
  ],
  IOMMU_OPTION: [
    ({ program, ioas2 }) => program.ok(uapi.IOMMU_OPTION, uapi.Option, { optionId: 1, op: 1, objectId: ioas2 }),
  ],
  IOMMU_VFIO_IOAS: [({ program, ioas: ioasId }) => program.ok(uapi.IOMMU_VFIO_IOAS, uapi.VfioIoas, { ioasId, op: 1 })],
  IOMMU_GET_HW_INFO: [({ program, devId }) => program.ok(uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, { devId })],
  IOMMU_HWPT_ALLOC: [
    ({ program, devId, ioas2 }) => program.hwpt(devId, ioas2),
    ({ program, devId, parent, dataUptr }) =>
      program.ok(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, { devId, ptId: parent, ...SELFTEST, dataUptr }),
    ({ program, devId, viommu, dataUptr }) =>
      program.ok(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, { devId, ptId: viommu, ...SELFTEST, dataUptr }),
  ],
  IOMMU_HWPT_SET_DIRTY_TRACKING: [
    ({ program, tracking: hwptId }) =>
      program.ok(uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.HwptSetDirtyTracking, { flags: 1, hwptId }),
  ],
  IOMMU_HWPT_GET_DIRTY_BITMAP: [
    ({ program, tracking: hwptId, dataUptr: data }) => {
      const values = { hwptId, iova: IOVA, length: 0x2000n, pageSize: PAGE, data };
      program.ok(uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, uapi.HwptGetDirtyBitmap, values);
    },
  ],
  IOMMU_HWPT_INVALIDATE: [
    {
      given: vdeviceAlloc,
      fails: ({ program, viommu: hwptId, dataUptr }) => {
        const command = new test.ViommuInvalidateSelftest();
        command.vdevId = Number(VIRTUAL_ID);
        program.put(command.bytes);
        const dataType = test.IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST;
        const entryLen = test.ViommuInvalidateSelftest.size;
        const values = { hwptId, dataUptr, dataType, entryLen, entryNum: 1 };
        program.ok(uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate, values);
      },
    },
  ],
  IOMMU_FAULT_QUEUE_ALLOC: [({ program }) => program.okAsync(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.FaultAlloc, {})],
  IOMMU_VIOMMU_ALLOC: [
    ({ program, devId, parent: hwptId, dataUptr }) =>
      program.ok(uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, {
        devId,
        hwptId,
        type: test.IOMMU_VIOMMU_TYPE_SELFTEST,
        dataLen: test.ViommuSelftest.size,
        dataUptr,
      }),
  ],
  IOMMU_VDEVICE_ALLOC: [vdeviceAlloc],
  IOMMU_VEVENTQ_ALLOC: [
    ({ program, viommu: viommuId }) => {
      const values = { viommuId, type: test.IOMMU_VEVENTQ_TYPE_SELFTEST, veventqDepth: 2 };
      return program.okAsync(uapi.IOMMU_VEVENTQ_ALLOC, uapi.VeventqAlloc, values);
    },
  ],
  IOMMU_HW_QUEUE_ALLOC: [
    ({ program, viommu: viommuId }) => {
      const type = test.IOMMU_HW_QUEUE_TYPE_SELFTEST;
      const values = { viommuId, type, nestingParentIova: IOVA + 0x800n, length: 0x1000n };
      program.ok(uapi.IOMMU_HW_QUEUE_ALLOC, uapi.HwQueueAlloc, values);
    },
  ],
};

/** A compatibility IOAS, in which version 1 of type 1 may unmap parts. */
const type1: Call = ({ program, ioas2: ioasId }) => {
  program.ok(uapi.IOMMU_VFIO_IOAS, uapi.VfioIoas, { ioasId, op: 1 });
};
const type1v1: Call = (w) => {
  w.program.ok(uapi.IOMMU_DESTROY, uapi.Destroy, { id: w.tracking });
  type1(w);
  w.program.context.ioctl(w.program.process, vfio.VFIO_SET_IOMMU, BigInt(vfio.VFIO_TYPE1_IOMMU));
  w.tracking = w.program.hwpt(w.devId, w.ioas2);
};
const mapDma: Call = ({ program }) =>
  program.ok(vfio.VFIO_IOMMU_MAP_DMA, vfio.Type1DmaMap, {
    argsz: 32,
    flags: 3,
    vaddr: program.base,
    iova: IOVA + 0x8000n,
    size: 0x3000n,
  });
const unmapDma =
  (values: { iova?: bigint; size?: bigint; flags?: number }): Call =>
  ({ program }) =>
    program.ok(vfio.VFIO_IOMMU_UNMAP_DMA, vfio.Type1DmaUnmap, { argsz: 24, ...values });
const infoOf: Call = ({ program }) => program.ok(vfio.VFIO_IOMMU_GET_INFO, vfio.Type1Info, { argsz: 24 });

/** The VFIO type 1 ioctls, and how many allocations they make. */
const TYPE1: Readonly<Record<string, { readonly call: Scenario; readonly allocates: boolean }>> = {
  VFIO_IOMMU_MAP_DMA: { call: { given: type1, fails: mapDma }, allocates: true },
  'VFIO_IOMMU_UNMAP_DMA of whole mappings': {
    call: { given: type1, fails: unmapDma({ iova: IOVA, size: 0x2000n }) },
    allocates: false,
  },
  'VFIO_IOMMU_UNMAP_DMA of a part': {
    call: { given: type1v1, fails: unmapDma({ iova: IOVA, size: 0x1000n }) },
    allocates: true,
  },
  'VFIO_IOMMU_UNMAP_DMA of all': { call: { given: type1, fails: unmapDma({ size: 0n, flags: 2 }) }, allocates: false },
  VFIO_IOMMU_GET_INFO: { call: { given: type1, fails: infoOf }, allocates: false },
};

/** By operation of IOMMU_TEST_CMD: those that change something. */
const OPERATIONS: Readonly<Record<string, Scenario>> = {
  ADD_RESERVED: ({ program, ioas }) => {
    const values = { start: 0n, length: 0x1000n };
    program.test(test.IOMMU_TEST_OP_ADD_RESERVED, ioas, test.TestAddReserved, values);
  },
  'MOCK_DOMAIN to an IOAS without a domain': ({ program, ioas2 }) => program.device(ioas2),
  'MOCK_DOMAIN to one with a domain': ({ program, ioas }) => program.device(ioas),
  'MOCK_DOMAIN_REPLACE by an IOAS': replaceBy((w) => w.ioas2),
  'MOCK_DOMAIN_REPLACE by an HWPT': replaceBy((w) => w.parent),
  CREATE_ACCESS: ({ program, ioas2 }) => program.access(ioas2, 0),
  ACCESS_PAGES: ({ program, access }) => {
    const values = { iova: IOVA, length: 0x3000n, uptr: program.base };
    program.test(test.IOMMU_TEST_OP_ACCESS_PAGES, access, test.TestAccessPages, values);
  },
  'ACCESS_RW, reading': rw(0),
  'ACCESS_RW, writing': rw(test.MOCK_ACCESS_RW_WRITE),
  ACCESS_REPLACE_IOAS: ({ program, access, ioas2: ioasId }) =>
    program.test(test.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, access, test.TestAccessReplaceIoas, { ioasId }),
  PASID_ATTACH: { given: replaceBy((w) => w.parent), fails: pasidAttach },
  PASID_REPLACE: {
    given: (w) => {
      replaceBy(() => w.parent)(w);
      pasidAttach(w);
    },
    fails: pasid(test.IOMMU_TEST_OP_PASID_REPLACE, (w) => w.parent),
  },
  DMABUF_GET: dmabufGet,
};

/** All that a program holds: IDs, who uses whom, mappings, pins and the driver's objects. */
function holdings({ program: { context, pinned, mock, process } }: World): object {
  const objects = context.objects.all().map((object) => {
    const { kind, id, users } = object;
    const table = 'table' in object ? (object.table as TableView) : null;
    const areas = table && Array.from(table.areas, (area) => [area.start, area.last, area.isHeld]);
    return { kind, id, users, areas, usable: table?.usableRanges(), alignment: table?.alignment };
  });
  const { pinnedFrames, windowsInUse } = pinned;
  const ids = context.objects.size;
  const groups = [...context.groups.values()].map(({ attachments }) => attachments.size);
  return { objects, ids, groups, pinnedFrames, windowsInUse, ...mock.resources, files: process.files.size };
}

interface TableView {
  readonly areas: Iterable<{ start: bigint; last: bigint; isHeld: boolean }>;
  readonly alignment: bigint;
  usableRanges(): unknown;
}

/** A program's end: whatever it holds is given back. */
function expectNothingAfterClose({ program }: World): void {
  for (const fd of [...program.process.files.keys()]) program.process.closeFd(fd);
  program.close();
  expect(program.context.ended).toBe(true);
  expect(program.pinned.pinnedFrames).toBe(0);
  expect(program.mock.resources).toEqual({ devices: 0, domains: 0, viommus: 0 });
}

/** @returns what `call` throws, or null */
async function thrownBy(call: () => unknown): Promise<Error | null> {
  try {
    await call();
    return null;
  } catch (error) {
    return error as Error;
  }
}

/** @returns how many allocations the call makes */
async function sweep(scenario: Scenario): Promise<number> {
  const { given, fails: call } = typeof scenario === 'function' ? { given: () => {}, fails: scenario } : scenario;
  for (let n = 1; ; n++) {
    const w = await world();
    await given(w);
    const before = holdings(w);
    const failures = new FailurePoints();
    failures.failNth(n);
    const error = await thrownBy(() => failures.during(() => call(w)));
    if (failures.failed === null) {
      expect(error).toBeNull();
      expectNothingAfterClose(w);
      return n - 1;
    }
    expect([failures.failed, error?.message]).toEqual([failures.failed, expect.stringContaining('ENOMEM')]);
    expect([failures.failed, holdings(w)]).toEqual([failures.failed, before]);
    expect([failures.failed, await thrownBy(() => call(w))]).toEqual([failures.failed, null]);
    expectNothingAfterClose(w);
  }
}

/** Those that allocate nothing. */
const WITHOUT: readonly string[] = [
  'IOMMU_DESTROY',
  'IOMMU_IOAS_CHANGE_PROCESS',
  'IOMMU_HWPT_SET_DIRTY_TRACKING',
  'IOMMU_IOAS_IOVA_RANGES',
  'IOMMU_IOAS_UNMAP',
  'IOMMU_OPTION',
  'IOMMU_VFIO_IOAS',
];

describe('when an allocation fails, the call is refused with ENOMEM, loses nothing and works the next time', () => {
  for (const [name, calls] of Object.entries(COMMANDS)) {
    for (const [index, call] of calls.entries()) {
      it(`${name}${calls.length > 1 ? `, ${index + 1}` : ''}`, async () => {
        const allocations = await sweep(call);
        expect(allocations > 0).toBe(!WITHOUT.includes(name));
      });
    }
  }
  for (const [name, { call, allocates }] of Object.entries(TYPE1))
    it(name, async () => expect((await sweep(call)) > 0).toBe(allocates));

  for (const [name, call] of Object.entries(OPERATIONS))
    it(name, async () => expect(await sweep(call)).toBeGreaterThan(0));

  it('of every command there is', () => {
    const commands = Array.from(dialect(DEFAULT_DIALECT).commands.values(), ({ name }) => name);
    expect(Object.keys(COMMANDS).sort()).toEqual(commands.sort());
  });
});
