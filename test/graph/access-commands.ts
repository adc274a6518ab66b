/** Accesses: made on an IOAS, pinning and copying, moved to another; and the pages that they pin. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as test from '../../src/abi/iommufd-test.ts';
import { type Command, caller, hex, target } from './command.ts';
import { alignmentOf, byteOf, lengthOf, parts, realign } from './mapping-rules.ts';
import { type Access, PAGE, type Span } from './model.ts';
import type { Picker } from './picker.ts';
import { firstRefusal } from './viommu-commands.ts';
import type { World } from './world.ts';

export const createAccess: Command = (world, pick) => {
  const by = caller(world, pick);
  const meant = by && target(by.context, pick, 'ioas');
  if (!meant || !world.isMock || by.context.all('access').length >= 4) return null;
  const { context, process } = by;
  const ioas = meant.thing;
  const flags = pick.oneIn(4) ? 0 : test.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES;
  const id = context.freeId();
  const expected = !ioas ? 'ENOENT' : flags && alignmentOf(context, ioas) < PAGE ? realign(ioas, PAGE) : '';
  // The access has its ID when the IOAS is looked up.
  let fd = 0;
  return {
    text: `CREATE_ACCESS to IOAS ${meant.id}, flags ${flags}`,
    expected,
    undone: true,
    call: async () => {
      const { IOMMU_TEST_OP_CREATE_ACCESS: op, TestCreateAccess: layout } = test;
      const { errno, s } = await world.test(process, context, op, meant.id, layout, { flags });
      fd = s.outAccessFd;
      return errno;
    },
    apply: () => {
      const rest = { pins: flags !== 0, internal: false, items: [], nextItem: 0 };
      world.opened(process, fd, context.add<Access>({ kind: 'access', id, context, ioas: ioas!, ...rest }));
    },
  };
};

/** A descriptor of an access whose iommufd can be called by its process. */
function accessOf(world: World, pick: Picker) {
  const descriptor = pick.of(world.descriptorsOf('access'));
  const isOpen = world.descriptorsOf('iommufd').some(({ what }) => what.context === descriptor?.what.context);
  return descriptor && isOpen ? descriptor : null;
}

/** Some of what is mapped, seldom more than that. */
function spanOf(access: Access, pick: Picker): (Span & { readonly nth: number }) | null {
  const { areas } = access.ioas;
  if (areas.length === 0) return null;
  const nth = pick.below(areas.length);
  const area = areas[nth]!;
  const skip = BigInt(pick.below(2)) * PAGE;
  const start = area.start + (skip < lengthOf(area) ? skip : 0n);
  return { start, last: pick.oneIn(3) ? start + 3n * PAGE - 1n : area.last, nth };
}

export const accessPages: Command = (world, pick) => {
  const descriptor = accessOf(world, pick);
  const access = descriptor?.what;
  const span = access && spanOf(access, pick);
  if (!span) return null;
  const { process, fd } = descriptor!;
  const { context, ioas } = access;
  const flags = pick.below(2) ? test.MOCK_FLAGS_ACCESS_WRITE : 0;
  const syz = pick.oneIn(8);
  const found = parts(ioas, span);
  let expected: ErrnoName | '' = access.pins ? firstRefusal(world, ioas, span, flags !== 0) : 'EOPNOTSUPP';
  if (!expected && found === 'ENOENT') expected = 'ENOENT';
  let item = 0;
  return {
    text: `ACCESS_PAGES ${hex(span.start)} to ${hex(span.last)} of IOAS ${ioas.id} by access ${access.id}`,
    expected,
    undone: true,
    call: async () => {
      const { IOMMU_TEST_OP_ACCESS_PAGES: op, TestAccessPages: layout } = test;
      const offset = span.start - ioas.areas[span.nth]!.start;
      const where = syz
        ? { iova: (offset << 32n) | BigInt(span.nth), flags: flags | test.MOCK_FLAGS_ACCESS_SYZ }
        : { iova: span.start, flags };
      const { errno, s } = await world.test(process, context, op, fd, layout, { ...where, length: lengthOf(span) });
      item = s.outAccessPagesId;
      return errno;
    },
    apply: () => {
      if (item !== access.nextItem) throw new Error(`item ${item}, not ${access.nextItem}`);
      access.items.push({ start: span.start, last: span.last, id: access.nextItem++ });
    },
  };
};

export const destroyAccessPages: Command = (world, pick) => {
  const descriptor = accessOf(world, pick);
  if (!descriptor) return null;
  const access = descriptor.what;
  const item = pick.of(access.items);
  if (!item && !pick.oneIn(8)) return null;
  return {
    text: `DESTROY_ACCESS_PAGES ${item?.id} of access ${access.id}`,
    expected: item ? '' : 'ENOENT',
    call: async () => {
      const { IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: op, TestDestroyAccessPages: layout } = test;
      const values = { accessPagesId: item?.id ?? 999 };
      return (await world.test(descriptor.process, access.context, op, descriptor.fd, layout, values)).errno;
    },
    apply: () => {
      access.items = access.items.filter((each) => each !== item);
    },
  };
};

/** Reads what is there, or writes the same back. */
export const accessRw: Command = (world, pick) => {
  const descriptor = accessOf(world, pick);
  const access = descriptor?.what;
  const area = access && pick.of(access.ioas.areas);
  if (!area || byteOf(area, area.start) % PAGE) return null;
  const { process, fd } = descriptor!;
  const { memory } = area;
  const gone = memory.kind === 'user' && (memory.object as typeof process.memory).gone;
  const pinned = world.pins().has(memory, Number(area.startByte / PAGE));
  let expected: ErrnoName | '' = '';
  if (memory.kind === 'dma-buf') expected = 'EINVAL';
  else if (!(area.prot & 1)) expected = 'EPERM';
  else if (gone && !pinned) expected = 'EFAULT';
  else if (memory.kind === 'file' && memory.base + Number(area.startByte) >= world.memfd.bytes.length)
    expected = 'EINVAL';
  let found = 0n;
  return {
    text: `ACCESS_RW at ${hex(area.start)} of IOAS ${access.ioas.id}`,
    expected,
    undone: true,
    call: async () => {
      const { IOMMU_TEST_OP_ACCESS_RW: op, TestAccessRw: layout } = test;
      const uptr = process.put(new Uint8Array(8));
      const values = { iova: area.start, length: 8n, uptr };
      const { errno } = await world.test(process, access.context, op, fd, layout, values);
      found = new BigUint64Array(process.get(8).buffer)[0]!;
      return errno;
    },
    apply: () => {
      if (gone) return;
      const bytes = new Uint8Array(8);
      memory.object.read(memory.base + Number(area.startByte), bytes);
      const there = new BigUint64Array(bytes.buffer)[0]!;
      if (found !== there) throw new Error(`read ${found}, and ${there} is there`);
    },
  };
};

export const accessReplaceIoas: Command = (world, pick) => {
  const descriptor = accessOf(world, pick);
  const meant = descriptor && target(descriptor.what.context, pick, 'ioas');
  if (!meant) return null;
  const access = descriptor.what;
  const { context } = access;
  const ioas = meant.thing;
  let expected: ErrnoName | '' = ioas ? '' : 'ENOENT';
  if (ioas && ioas !== access.ioas && access.pins && alignmentOf(context, ioas) < PAGE) expected = realign(ioas, PAGE);
  return {
    text: `ACCESS_REPLACE_IOAS of access ${access.id} by ${meant.id}`,
    expected,
    undone: true,
    call: async () => {
      const { IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: op, TestAccessReplaceIoas: layout } = test;
      const values = { ioasId: meant.id };
      return (await world.test(descriptor.process, context, op, descriptor.fd, layout, values)).errno;
    },
    apply: () => {
      if (ioas === access.ioas) return;
      access.items = [];
      access.ioas = ioas!;
    },
  };
};
