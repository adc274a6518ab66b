/** Commands of an IOAS: allocate, map in all ways, copy, unmap, ranges, options. */
import type { ErrnoName } from '../../src/abi/errno.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import { MOCK_FLAGS_ACCESS_SYZ } from '../../src/abi/iommufd-test.ts';
import { type Caller, type Command, caller, hex, target } from './command.ts';
import {
  acceptable,
  alignmentOf,
  areasOf,
  byteOf,
  filled,
  insert,
  lengthOf,
  overlap,
  type Piece,
  pagesOf,
  parts,
  place,
  realign,
  take,
  unmapped,
  usable,
} from './mapping-rules.ts';
import { type Area, type Ioas, type Memory, PAGE, type Payer, type Span, U64_LAST } from './model.ts';
import type { Picker } from './picker.ts';
import type { GraphProcess } from './process.ts';
import type { Plan, World } from './world.ts';

const MIB = 2n ** 20n;
const SMALL = 16n * MIB;
const HUGE = 32n * MIB;

/** Few places, so that they meet; a huge page has room in three. */
export const IOVAS: readonly bigint[] = [
  ...Array.from({ length: 12 }, (_, n) => SMALL + BigInt(n) * PAGE),
  ...[HUGE, HUGE + 2n * MIB, HUGE + 4n * MIB],
  0x10_000n,
  2n ** 31n + 0x1000n,
  0x800_0000n,
  SMALL + 0x800n,
];
const LENGTHS = [1n, 2n, 1n, 3n, 4n, 512n, 8n, 512n].map((pages) => pages * PAGE);
const PROTS = [3, 3, 1, 3, 2, 3];

const flagsOf = (prot: number, fixed: boolean): number =>
  (fixed ? uapi.IOMMU_IOAS_MAP_FIXED_IOVA : 0) |
  (prot & 1 ? uapi.IOMMU_IOAS_MAP_READABLE : 0) |
  (prot & 2 ? uapi.IOMMU_IOAS_MAP_WRITEABLE : 0);

export const payerOf = (process: GraphProcess, { rlimitMode }: { rlimitMode: 0 | 1 }): Payer => ({
  process,
  mode: process.limit === Infinity ? 'none' : rlimitMode ? 'process' : 'user',
});

/** Memory of the process from a page (or the middle of one) on: the same few pages again and again. */
export function userPiece({ process, context }: Caller, pick: Picker, length: bigint): Piece & { address: bigint } {
  const page = length > 16n * PAGE ? BigInt(pick.below(2)) * 512n : BigInt(pick.below(16));
  const offset = pick.oneIn(12) ? 0x800n : 0n;
  const memory: Memory = {
    kind: 'user',
    object: process.memory,
    base: Number(process.base + page * PAGE),
    writable: true,
    bar: null,
    payer: payerOf(process, context),
    revoked: false,
  };
  return { memory, startByte: offset, length, address: process.base + page * PAGE + offset };
}

/** The plan of any call that maps `pieces`, by what `place` and the domains say. */
export function mapPlan(
  world: World,
  { context }: Caller,
  ioas: Ioas,
  pieces: readonly Piece[],
  options: { fixed: bigint | null; address: bigint; prot: number; before?: ErrnoName | ''; undone?: boolean },
  text: string,
  call: () => Promise<{ errno: ErrnoName | ''; iova: bigint }>,
): Plan {
  const { fixed, prot, address, undone = true } = options;
  const at = place(context, ioas, pieces, fixed, address);
  let expected: ErrnoName | '' = options.before ?? '';
  let areas: Area[] = [];
  if (!expected && typeof at === 'string') expected = at;
  if (!expected && typeof at === 'bigint') {
    areas = areasOf(pieces, at, prot);
    expected = acceptable(areas, alignmentOf(context, ioas));
    if (!expected && context.hwptsOf(ioas).length) {
      expected = world.pins().tryAll(areas.map((area) => pagesOf(area)));
    }
  }
  let answer = 0n;
  return {
    text,
    expected,
    undone,
    call: async () => {
      const { errno, iova } = await call();
      answer = iova;
      return errno;
    },
    apply: () => {
      if (answer !== at) throw new Error(`mapped at ${hex(answer)}, not at ${typeof at === 'bigint' ? hex(at) : at}`);
      insert(ioas, areas);
      for (const hwpt of context.hwptsOf(ioas)) filled(hwpt, areas, world.isMock);
    },
  };
}

export const ioasAlloc: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by || world.all('ioas').length >= 4) return null;
  const { context, process } = by;
  let id = 0;
  return {
    text: 'IOAS_ALLOC',
    expected: '',
    undone: true,
    call: async () => {
      const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc, {});
      id = s.outIoasId;
      return errno;
    },
    apply: () => {
      if (id !== context.freeId()) throw new Error(`ID ${id}, not ${context.freeId()}`);
      context.add({ kind: 'ioas', id, context, areas: [], huge: true, allowed: [], reserved: [] });
    },
  };
};

export const ioasMap: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by && pick.of(by.context.all('ioas'));
  if (!ioas || world.filesOnly) return null;
  const { context, process } = by;
  const iova = pick.from(IOVAS);
  let length = pick.from(LENGTHS);
  const prot = pick.from(PROTS);
  const fixed = pick.oneIn(4) ? null : iova;
  if (pick.oneIn(10)) length -= 0x800n;
  const piece = userPiece(by, pick, length);
  const { address } = piece;
  const flags = flagsOf(prot, fixed !== null);
  const where = fixed === null ? 'anywhere' : `at ${hex(iova)}`;
  const text = `IOAS_MAP ${hex(length)} of ${hex(address)} in IOAS ${ioas.id} ${where}, prot ${prot}`;
  const writable = (prot & 2) !== 0;
  const pieces = [{ ...piece, memory: { ...piece.memory, writable } }];
  return mapPlan(world, by, ioas, pieces, { fixed, address, prot }, text, async () => {
    const values = { flags, ioasId: ioas.id, userVa: address, length, iova };
    const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
    return { errno, iova: s.iova };
  });
};

export const ioasMapFile: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by && pick.of(by.context.all('ioas'));
  if (!ioas || !world.speaks('IOMMU_IOAS_MAP_FILE')) return null;
  const { context } = by;
  const buffer = !world.filesOnly && pick.oneIn(2) ? pick.of(world.descriptorsOf('dma-buf')) : undefined;
  const process = buffer?.process ?? by.process;
  const iova = pick.from(IOVAS);
  let [pages, first] = [1 + pick.below(4), pick.below(16)];
  if (buffer && !pick.oneIn(8)) {
    first %= buffer.what.pages;
    pages = Math.min(pages, buffer.what.pages - first);
  }
  const [length, start] = [BigInt(pages) * PAGE, BigInt(first) * PAGE];
  const prot = pick.from(PROTS);
  const fixed = pick.oneIn(4) ? null : iova;
  const bar = buffer?.what.bar;
  const memory: Memory = {
    kind: buffer ? 'dma-buf' : 'file',
    object: buffer?.what.object ?? world.memfd,
    base: Number(start),
    writable: (prot & 2) !== 0,
    bar: bar ? { ...bar, start: bar.start + Number(start), address: bar.address + Number(start) } : null,
    payer: buffer ? null : payerOf(process, context),
    revoked: false,
  };
  let before: ErrnoName | '' = '';
  if (buffer && start + length > BigInt(buffer.what.pages) * PAGE) before = 'EINVAL';
  else if (buffer && world.revoked.has(buffer.what.object)) before = 'ENODEV';
  else if (buffer?.what.inPieces) before = 'EOPNOTSUPP';
  const text = `IOAS_MAP_FILE ${hex(length)} at ${hex(start)} of a ${memory.kind} in IOAS ${ioas.id} at ${hex(iova)}`;
  const pieces = [{ memory, startByte: 0n, length }];
  return mapPlan(world, by, ioas, pieces, { fixed, address: start, prot, before }, text, async () => {
    const values = {
      flags: flagsOf(prot, fixed !== null),
      ioasId: ioas.id,
      fd: buffer?.fd ?? 100,
      start,
      length,
      iova,
    };
    const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, values);
    return { errno, iova: s.iova };
  });
};

export const ioasCopy: Command = (world, pick) => {
  const by = caller(world, pick);
  const source = by && pick.of(by.context.all('ioas').filter(({ areas }) => areas.length));
  const destination = by && pick.of(by.context.all('ioas'));
  if (!source || !destination) return null;
  const { context, process } = by;
  const foreign = source.areas.filter(({ memory }) => memory.kind === 'dma-buf' && !memory.revoked);
  const area = (pick.oneIn(3) ? pick.of(foreign) : undefined) ?? pick.from(source.areas);
  const nth = source.areas.indexOf(area);
  const offset = BigInt(pick.below(3)) * PAGE;
  const srcIova = area.start + (offset < lengthOf(area) ? offset : 0n);
  const length = pick.oneIn(3) ? area.last - srcIova + 1n : BigInt(1 + pick.below(4)) * PAGE;
  const iova = pick.from(IOVAS);
  const prot = pick.from(PROTS);
  const fixed = pick.oneIn(4) ? null : iova;
  const syz = world.isMock && pick.oneIn(8);
  const found = parts(source, { start: srcIova, last: srcIova + length - 1n });
  const pieces =
    found === 'ENOENT'
      ? []
      : found.map((part) => ({
          memory: part.area.memory,
          startByte: byteOf(part.area, part.start),
          length: lengthOf(part),
        }));
  const first = pieces[0];
  const address = first ? BigInt(first.memory.base) + first.startByte : 0n;
  const text = `IOAS_COPY ${hex(length)} of a ${area.memory.kind} at ${hex(srcIova)} of IOAS ${source.id} to IOAS ${destination.id} at ${hex(iova)}`;
  const options = { fixed, address, prot, before: found === 'ENOENT' ? ('ENOENT' as const) : ('' as const) };
  return mapPlan(world, by, destination, pieces, options, text, async () => {
    const values = {
      flags: flagsOf(prot, fixed !== null) | (syz ? MOCK_FLAGS_ACCESS_SYZ : 0),
      dstIoasId: destination.id,
      srcIoasId: source.id,
      length,
      dstIova: iova,
      srcIova: syz ? ((srcIova - area.start) << 32n) | BigInt(nth) : srcIova,
    };
    const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_COPY, uapi.IoasCopy, values);
    return { errno, iova: s.dstIova };
  });
};

/** Mostly one area, or some, or all; seldom a part. */
function unmapSpan(ioas: Ioas, pick: Picker): Span {
  const area = pick.of(ioas.areas);
  const choice = pick.below(8);
  if (choice === 7 || !area) return { start: 0n, last: U64_LAST };
  if (choice === 6) return { start: area.start, last: area.start + PAGE - 1n };
  if (choice === 5) return { start: SMALL, last: HUGE - 1n };
  if (choice === 4) return { start: pick.from(IOVAS), last: area.last };
  return area;
}

export const ioasUnmap: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by && pick.of(by.context.all('ioas').filter(({ areas }) => areas.length));
  if (!ioas) return null;
  const { context, process } = by;
  const span = unmapSpan(ioas, pick);
  if (span.start > span.last) return null;
  const all = span.last === U64_LAST;
  const result = unmapped(context, ioas, span);
  const expected = result.errno || (!all && result.gone.length === 0 ? 'ENOENT' : '');
  let bytes = 0n;
  return {
    text: `IOAS_UNMAP ${hex(span.start)} to ${hex(span.last)} of IOAS ${ioas.id}`,
    expected,
    call: async () => {
      const values = { ioasId: ioas.id, iova: span.start, length: all ? U64_LAST : lengthOf(span) };
      const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, values);
      bytes = s.length;
      return errno;
    },
    apply: () => {
      const gone = result.gone.reduce((sum, area) => sum + lengthOf(area), 0n);
      if (bytes !== gone) throw new Error(`${hex(bytes)} bytes unmapped, not ${hex(gone)}`);
      take(context, ioas, result.gone);
    },
    refused: () => take(context, ioas, result.gone),
  };
};

export const ioasAllowIovas: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by && pick.of(by.context.all('ioas'));
  if (!ioas) return null;
  const { context, process } = by;
  const count = pick.below(3);
  const spans = Array.from({ length: count }, () => {
    const start = pick.from(IOVAS);
    return { start, last: start + BigInt(pick.below(5)) * 8n * PAGE - 1n };
  });
  const backwards = spans.some(({ start, last }) => start >= last);
  const meet = spans.some((a, n) => spans.some((b, m) => n < m && overlap(a, b)));
  const taken = spans.some((span) => ioas.reserved.some((other) => overlap(span, other)));
  const expected = backwards || meet ? 'EINVAL' : taken ? 'EADDRINUSE' : '';
  return {
    text: `IOAS_ALLOW_IOVAS ${spans.map(({ start, last }) => `${hex(start)} to ${hex(last)}`)} of IOAS ${ioas.id}`,
    expected,
    undone: true,
    call: async () => {
      const bytes = BigUint64Array.from(spans.flatMap(({ start, last }) => [start, last]));
      const allowedIovas = process.put(new Uint8Array(bytes.buffer));
      const values = { ioasId: ioas.id, numIovas: count, allowedIovas };
      return (await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_ALLOW_IOVAS, uapi.IoasAllowIovas, values))
        .errno;
    },
    apply: () => {
      ioas.allowed = spans;
    },
  };
};

export const ioasIovaRanges: Command = (world, pick) => {
  const by = caller(world, pick);
  const ioas = by && pick.of(by.context.all('ioas'));
  if (!ioas) return null;
  const { context, process } = by;
  const room = pick.oneIn(3) ? 1 : 16;
  const spans = usable(ioas);
  let found: (number | bigint)[] = [];
  const check = () => {
    const shown = spans.slice(0, room).flatMap(({ start, last }) => [start, last]);
    const wanted = [spans.length, alignmentOf(context, ioas), ...shown];
    if (String(found) !== String(wanted)) throw new Error(`ranges ${found}, not ${wanted}`);
  };
  return {
    text: `IOAS_IOVA_RANGES of IOAS ${ioas.id}`,
    expected: spans.length > room ? 'EMSGSIZE' : '',
    call: async () => {
      const values = { ioasId: ioas.id, numIovas: room, allowedIovas: process.put(new Uint8Array(0)) };
      const { errno, s } = await world.ioctl(
        process,
        context.engine,
        uapi.IOMMU_IOAS_IOVA_RANGES,
        uapi.IoasIovaRanges,
        values,
      );
      const answers = new BigUint64Array(process.get(Math.min(room, spans.length) * 16).buffer);
      found = [s.numIovas, s.outIovaAlignment, ...answers];
      return errno;
    },
    apply: check,
    refused: check,
  };
};

export const optionHugePages: Command = (world, pick) => {
  const by = caller(world, pick);
  const meant = by && target(by.context, pick, 'ioas');
  if (!meant) return null;
  const { context, process } = by;
  const { thing: ioas, id } = meant;
  const on = pick.oneIn(2);
  let expected: ErrnoName | '' = '';
  if (!ioas) expected = 'ENOENT';
  else if (on !== ioas.huge && !on) {
    if (context.hwptsOf(ioas).length && ioas.areas.length) expected = 'EINVAL';
    else if (alignmentOf(context, ioas) < PAGE) expected = realign(ioas, PAGE);
  }
  return {
    text: `OPTION HUGE_PAGES ${on} of IOAS ${id}`,
    expected,
    undone: true,
    call: async () => {
      const values = { optionId: uapi.IOMMU_OPTION_HUGE_PAGES, objectId: id, val64: on ? 1n : 0n };
      return (await world.ioctl(process, context.engine, uapi.IOMMU_OPTION, uapi.Option, values)).errno;
    },
    apply: () => {
      ioas!.huge = on;
    },
  };
};

export const optionRlimitMode: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by) return null;
  const { context, process } = by;
  const busy = context.things.size + context.tombs.size > 0;
  const mode = pick.below(2) ? 0 : 1;
  return {
    text: `OPTION RLIMIT_MODE ${mode}`,
    expected: busy ? 'EBUSY' : '',
    undone: true,
    call: async () => {
      const values = { optionId: uapi.IOMMU_OPTION_RLIMIT_MODE, val64: BigInt(mode) };
      return (await world.ioctl(process, context.engine, uapi.IOMMU_OPTION, uapi.Option, values)).errno;
    },
    apply: () => {
      context.rlimitMode = mode;
    },
  };
};

/** The caller answers for all pinned memory of the iommufd from now on. */
export const ioasChangeProcess: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by || !world.speaks('IOMMU_IOAS_CHANGE_PROCESS')) return null;
  const { context, process } = by;
  const memories = new Set(context.all('ioas').flatMap(({ areas }) => areas.map(({ memory }) => memory)));
  const pins = world.pins();
  let expected: ErrnoName | '' = [...memories].some(({ kind }) => kind !== 'file') ? 'EINVAL' : '';
  const moving = [...memories].filter(({ payer }) => payer && payer.mode !== 'none' && payer.process !== process);
  const sum = (mode: string): number =>
    moving.filter(({ payer }) => payer!.mode === mode).reduce((pages, memory) => pages + pins.count(memory), 0);
  const beyond = (mode: 'user' | 'process', locked: number): boolean =>
    sum(mode) > 0 && locked + sum(mode) > process.limit;
  if (!expected && (beyond('user', pins.paidBy(null, 'user')) || beyond('process', pins.paidBy(process, 'process')))) {
    expected = 'ENOMEM';
  }
  return {
    text: `IOAS_CHANGE_PROCESS to ${process.pid}`,
    expected,
    undone: true,
    call: async () => {
      const { IOMMU_IOAS_CHANGE_PROCESS: number, IoasChangeProcess: layout } = uapi;
      return (await world.ioctl(process, context.engine, number, layout, {})).errno;
    },
    apply: () => {
      for (const { payer } of moving) payer!.process = process;
    },
  };
};
