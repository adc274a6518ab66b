/** Mock devices: made, attached with and without PASIDs, replaced; what tests do to them. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import type { DmaBufFile } from '../../src/iommufd/dma-buf.ts';
import { attached, attaching } from './attach-rules.ts';
import { type Caller, type Command, caller, hex, target } from './command.ts';
import { IOVAS } from './ioas-commands.ts';
import { reservable } from './mapping-rules.ts';
import { attachedOf, awake, type Device, PAGE, type Thing } from './model.ts';
import type { Picker } from './picker.ts';

/** What devices are attached to: an IOAS or an HWPT, seldom something else. */
export function tableOf({ context }: Caller, pick: Picker): { id: number; thing: Thing | null } | null {
  if (pick.oneIn(16)) {
    const id = pick.below(24);
    return { id, thing: context.things.get(id) ?? null };
  }
  const hwpts = context.all('hwpt-nested', 'hwpt-paging');
  // Those with a fault queue and nested ones are few, and lead far.
  const deep = hwpts.filter(({ fault, kind }) => fault || kind === 'hwpt-nested');
  const thing = pick.of<Thing>([...hwpts, ...deep, ...deep, ...context.all('ioas')]);
  return thing ? { id: thing.id, thing } : null;
}

export const mockDomain: Command = (world, pick) => {
  const by = caller(world, pick);
  const pt = by && tableOf(by, pick);
  if (!by || !pt || !world.isMock || world.all('device').length >= 4) return null;
  const { context, process } = by;
  const known = world.release === 'linux-7.1' ? [0, 4, 4, 1] : [0, 1];
  const devFlags = pick.from(known);
  const [objectId, deviceId] = [context.freeId(), context.freeId(1)];
  const device: Device = {
    kind: 'device',
    id: deviceId,
    context,
    iommu: 0,
    group: { members: [], attachments: new Map() },
    virtual: null,
    reserves: [],
    pasidBits: 0,
    asksBy: null,
    hasAts: false,
    tracksDirty: !(devFlags & test.MOCK_FLAGS_DEVICE_NO_DIRTY),
    index: -1,
    byGroup: false,
    state: awake(),
  };
  // The IDs of the object and the device are taken before those of a table are looked up.
  const thing = pt.id === objectId || pt.id === deviceId ? null : pt.thing;
  const taken = pt.id === deviceId ? 'EINVAL' : '';
  const result = attaching(world, device, thing, 0, false);
  let answer: readonly number[] = [];
  return {
    text: `MOCK_DOMAIN_FLAGS ${devFlags} attached to ${pt.id} (${thing?.kind})`,
    expected: taken || result.expected,
    undone: true,
    call: async () => {
      const op = test.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS;
      const { errno, s } = await world.test(process, context, op, pt.id, test.TestMockDomain, { devFlags });
      answer = [s.outStdevId, s.outIdevId, s.outHwptId];
      return errno;
    },
    apply: () => {
      context.add({ kind: 'mock-device', id: objectId, context, device });
      context.add(device);
      const hwpt = attached(world, device, thing!, 0, result);
      if (String(answer) !== String([objectId, deviceId, hwpt.id])) throw new Error(`IDs ${answer}`);
    },
  };
};

export const mockReplace: Command = (world, pick) => {
  const by = caller(world, pick);
  const pt = by && tableOf(by, pick);
  const object = by && target(by.context, pick, 'mock-device');
  if (!object || !pt || !world.isMock) return null;
  const { context, process } = by;
  const device = object.thing?.device ?? null;
  const result = device && attaching(world, device, pt.thing, 0, true);
  let answer = 0;
  return {
    text: `MOCK_DOMAIN_REPLACE of ${object.id} by ${pt.id} (${pt.thing?.kind})`,
    expected: result?.expected ?? 'ENOENT',
    undone: true,
    call: async () => {
      const { IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: op, TestMockDomainReplace: layout } = test;
      const { errno, s } = await world.test(process, context, op, object.id, layout, { ptId: pt.id });
      answer = s.ptId;
      return errno;
    },
    apply: () => {
      const hwpt = attached(world, device!, pt.thing!, 0, result!);
      if (answer !== hwpt.id) throw new Error(`HWPT ${answer}, not ${hwpt.id}`);
    },
  };
};

const PASIDS = [1, 2];

/** Is it attached so that a PASID can be beside it, or be replaced? */
const isFit = (device: Device, pasid: number): boolean => attachedOf(device, pasid)?.pasid ?? false;

function pasidCommand(name: string, op: number): Command {
  const replace = op === test.IOMMU_TEST_OP_PASID_REPLACE;
  return (world, pick) => {
    const by = caller(world, pick);
    if (!by || world.release !== 'linux-7.1') return null;
    const { context, process } = by;
    const hwpts = context.all('hwpt-paging', 'hwpt-nested').filter((hwpt) => hwpt.pasid);
    const pasid = pick.from(PASIDS);
    const fit = context.all('mock-device').filter(({ device }) => isFit(device, replace ? pasid : 0));
    const usual = !pick.oneIn(4);
    const object = pick.of(usual ? fit : context.all('mock-device'));
    const thing = usual ? pick.of(hwpts) : undefined;
    const pt = thing ? { id: thing.id, thing } : tableOf(by, pick);
    if (!pt || !object) return null;
    const result = attaching(world, object.device, pt.thing, pasid, replace);
    return {
      text: `${name} ${pasid} of ${object.id} to ${pt.id} (${pt.thing?.kind})`,
      expected: result.expected,
      undone: true,
      call: async () => {
        return (await world.test(process, context, op, object.id, test.TestPasidAttach, { pasid, ptId: pt.id })).errno;
      },
      apply: () => void attached(world, object.device, pt.thing!, pasid, result),
    };
  };
}

export const pasidAttach = pasidCommand('PASID_ATTACH', test.IOMMU_TEST_OP_PASID_ATTACH);
export const pasidReplace = pasidCommand('PASID_REPLACE', test.IOMMU_TEST_OP_PASID_REPLACE);

export const pasidDetach: Command = (world, pick) => {
  const by = caller(world, pick);
  const object = by && pick.of(by.context.all('mock-device'));
  if (!object || world.release !== 'linux-7.1') return null;
  const { context, process } = by;
  const pasid = pick.from(PASIDS);
  return {
    text: `PASID_DETACH ${pasid} of ${object.id}`,
    expected: '',
    undone: true,
    call: async () => {
      const { IOMMU_TEST_OP_PASID_DETACH: op, TestPasidDetach: layout } = test;
      return (await world.test(process, context, op, object.id, layout, { pasid })).errno;
    },
    apply: () => world.detach(object.device, pasid),
  };
};

export const pasidCheck: Command = (world, pick) => {
  const by = caller(world, pick);
  const object = by && pick.of(by.context.all('mock-device'));
  if (!object || world.release !== 'linux-7.1') return null;
  const { context, process } = by;
  const pasid = pick.from([0, ...PASIDS]);
  const hwptId = attachedOf(object.device, pasid)?.id ?? 0;
  return {
    text: `PASID_CHECK_HWPT ${pasid} of ${object.id}`,
    expected: '',
    call: async () => {
      const { IOMMU_TEST_OP_PASID_CHECK_HWPT: op, TestPasidCheck: layout } = test;
      return (await world.test(process, context, op, object.id, layout, { pasid, hwptId })).errno;
    },
    apply: () => {},
  };
};

export const addReserved: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by && pick.of(by.context.all('ioas'));
  if (!ioas || !world.isMock) return null;
  const { context, process } = by;
  const start = pick.from(IOVAS) + 16n * PAGE;
  const length = BigInt(1 + pick.below(4)) * PAGE;
  const span = { start, last: start + length - 1n };
  return {
    text: `ADD_RESERVED ${hex(start)} + ${hex(length)} in IOAS ${ioas.id}`,
    expected: reservable(ioas, [span]),
    undone: true,
    call: async () => {
      const { IOMMU_TEST_OP_ADD_RESERVED: op, TestAddReserved: layout } = test;
      return (await world.test(process, context, op, ioas.id, layout, { start, length })).errno;
    },
    apply: () => void ioas.reserved.push({ ...span, owner: ioas }),
  };
};

export const dmabufGet: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by || !world.isMock || world.release !== 'linux-7.1' || world.descriptorsOf('dma-buf').length >= 3) return null;
  const { context, process } = by;
  const pages = 1 + pick.below(20);
  let before: ReadonlySet<number> = new Set();
  return {
    text: `DMABUF_GET of ${pages} pages`,
    expected: '',
    undone: true,
    call: async () => {
      before = new Set(process.files.keys());
      const { IOMMU_TEST_OP_DMABUF_GET: op, TestDmabufGet: layout } = test;
      return (await world.test(process, context, op, 0, layout, { length: pages * 4096 })).errno;
    },
    apply: () => {
      const fd = [...process.files.keys()].find((each) => !before.has(each))!;
      const object = (process.fileOf(fd) as DmaBufFile).buffer.memory!;
      world.opened(process, fd, { kind: 'dma-buf', object, pages, bar: null, inPieces: false });
    },
  };
};

export const dmabufRevoke: Command = (world, pick) => {
  const by = caller(world, pick);
  const buffer = pick.of(world.descriptorsOf('dma-buf'));
  if (!by || !buffer || !world.isMock) return null;
  const { object } = buffer.what;
  const revoked = pick.below(2);
  return {
    text: `DMABUF_REVOKE ${revoked} of descriptor ${buffer.fd}`,
    expected: '',
    call: async () => {
      const { IOMMU_TEST_OP_DMABUF_REVOKE: op, TestDmabufRevoke: layout } = test;
      const values = { dmabufFd: buffer.fd, revoked };
      return (await world.test(buffer.process, by.context, op, 0, layout, values)).errno;
    },
    apply: () => {
      // Whoever has it mapped loses it either way.
      world.takeBack(object);
      if (revoked) world.revoked.add(object);
      else world.revoked.delete(object);
    },
  };
};

/** MD_CHECK_MAP: the kernel's own look at what a domain translates. */
export const checkMap: Command = (world, pick) => {
  const by = caller(world, pick);
  const hwpt = by && pick.of(by.context.all('hwpt-paging'));
  const area = hwpt && pick.of(hwpt.ioas.areas);
  if (!area || !world.isMock || area.memory.kind !== 'user' || by.process.memory !== area.memory.object) return null;
  const { context, process } = by;
  const wrong = pick.oneIn(4);
  const uptr = BigInt(area.memory.base) + area.startByte + (wrong ? PAGE : 0n);
  const length = wrong ? PAGE : area.last - area.start + 1n;
  const step = hwpt.alignment - 1n;
  const expected: ErrnoName | '' = wrong || (area.start | length | uptr) & step ? 'EINVAL' : '';
  return {
    text: `MD_CHECK_MAP of HWPT ${hwpt.id} at ${hex(area.start)}`,
    expected,
    call: async () => {
      const { IOMMU_TEST_OP_MD_CHECK_MAP: op, TestCheckMap: layout } = test;
      return (await world.test(process, context, op, hwpt.id, layout, { iova: area.start, length, uptr })).errno;
    },
    apply: () => {},
  };
};
