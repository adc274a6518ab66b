/** IOAS: an IOVA space. User memory is mapped into it, and it keeps the domains of its paging HWPTs equal to itself. */
import { fail } from '../abi/errno.ts';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IoasAlloc,
  IoasAllowIovas,
  IoasCopy,
  IoasIovaRanges,
  IoasMap,
  IoasUnmap,
  IovaRange,
} from '../abi/iommufd.ts';
import { MOCK_FLAGS_ACCESS_SYZ } from '../abi/iommufd-test.ts';
import { PROT_READ, PROT_WRITE } from '../drivers/iommu-driver.ts';
import type { Command } from './command.ts';
import { hex, range } from './format.ts';
import type { HwptPaging } from './hwpt-paging.ts';
import { Interval, IntervalTree } from './interval.ts';
import { IoPageTable } from './io-pagetable.ts';
import { nthArea } from './nth-area.ts';
import { IommufdObject } from './objects.ts';
import { U64_MAX } from './u64.ts';
import { readUser, writeUser } from './user-memory.ts';
import { userPiece } from './user-piece.ts';

export class Ioas extends IommufdObject {
  readonly table: IoPageTable;
  /** Its paging HWPTs, oldest first. */
  readonly hwpts: Set<HwptPaging>;

  constructor() {
    super();
    this.table = new IoPageTable();
    this.hwpts = new Set();
  }

  get kind(): 'ioas' {
    return 'ioas';
  }

  destroy(): void {
    this.table.unmapAll();
  }
}

/** IOMMU_IOAS_ALLOC */
export function ioasAlloc(command: Command): void {
  const c = new IoasAlloc(command.bytes);
  if (c.flags) throw fail('EOPNOTSUPP', `flags ${hex(c.flags)} must be 0`);
  c.outIoasId = command.create(new Ioas()).id;
  command.respond();
}

/** IOMMU_IOAS_MAP */
export function ioasMap(command: Command): void {
  const c = new IoasMap(command.bytes);
  if (c.reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(c.reserved)} must be 0`);
  const { prot, fixed } = mapFlags(c.flags, c.length, c.iova);
  const ioas = getIoas(command, c.ioasId);
  const { context, caller } = command;
  const piece = userPiece(context, caller, c.userVa, c.length, (prot & PROT_WRITE) !== 0);
  c.iova = ioas.table.mapNew(piece, fixed ? c.iova : null, prot);
  command.respond();
}

/** IOMMU_IOAS_COPY */
export function ioasCopy(command: Command): void {
  const c = new IoasCopy(command.bytes);
  if (command.context.host.testCommand) takeNthArea(command, c);
  const { prot, fixed } = mapFlags(c.flags, c.length, c.srcIova, c.dstIova);
  const pieces = getIoas(command, c.srcIoasId, 'src_ioas_id').table.pieces(c.srcIova, c.length);
  const destination = getIoas(command, c.dstIoasId, 'dst_ioas_id').table;
  c.dstIova = destination.map(pieces, fixed ? c.dstIova : null, prot);
  command.respond();
}

/** Kernels with the test driver take its flag here. It is not looked at again, whatever IOAS is named. */
function takeNthArea({ context }: Command, c: InstanceType<typeof IoasCopy>): void {
  if (!(c.flags & MOCK_FLAGS_ACCESS_SYZ)) return;
  c.flags = (c.flags & ~MOCK_FLAGS_ACCESS_SYZ) >>> 0;
  const source = context.objects.find(c.srcIoasId);
  if (source instanceof Ioas) c.srcIova = nthArea(source.table.areas, c.srcIova);
}

/** IOMMU_IOAS_UNMAP */
export function ioasUnmap(command: Command): void {
  const c = new IoasUnmap(command.bytes);
  const { table } = getIoas(command, c.ioasId);
  if (c.iova === 0n && c.length === U64_MAX) {
    c.length = table.unmapAll();
  } else {
    checkBelowMax(c.iova, c.length);
    const unmapped = table.unmap(c.iova, c.length);
    if (unmapped === 0n) throw fail('ENOENT', `nothing is mapped in ${range(c.iova, c.iova + c.length - 1n)}`);
    c.length = unmapped;
  }
  command.respond();
}

/** IOMMU_IOAS_IOVA_RANGES */
export function ioasIovaRanges(command: Command): void {
  const c = new IoasIovaRanges(command.bytes);
  if (c.reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(c.reserved)} must be 0`);
  const { table } = getIoas(command, c.ioasId);
  const room = c.numIovas;
  const ranges = table.usableRanges();
  const item = new IovaRange();
  for (const [index, { start, last }] of ranges.slice(0, room).entries()) {
    item.start = start;
    item.last = last;
    writeUser(command.caller.memory, c.allowedIovas + BigInt(index * IovaRange.size), item.bytes);
  }
  c.numIovas = ranges.length;
  c.outIovaAlignment = table.alignment;
  command.respond();
  if (ranges.length > room) throw fail('EMSGSIZE', `num_iovas ${room} is too small for ${ranges.length} ranges`);
}

/** IOMMU_IOAS_ALLOW_IOVAS */
export function ioasAllowIovas(command: Command): void {
  const c = new IoasAllowIovas(command.bytes);
  if (c.reserved) throw fail('EOPNOTSUPP', `__reserved ${hex(c.reserved)} must be 0`);
  const { table } = getIoas(command, c.ioasId);
  const allowed = new IntervalTree<Interval>();
  const item = new IovaRange();
  for (let index = 0; index < c.numIovas; index++) {
    readUser(command.caller.memory, c.allowedIovas + BigInt(index * IovaRange.size), item.bytes);
    const { start, last } = item;
    if (start >= last) throw fail('EINVAL', `range ${index}: start ${hex(start)} is not below last ${hex(last)}`);
    const other = allowed.first(start, last);
    if (other)
      throw fail('EINVAL', `range ${index}, ${range(start, last)}, overlaps ${range(other.start, other.last)}`);
    allowed.insert(new Interval(start, last));
  }
  table.allow([...allowed]);
}

const getIoas = (command: Command, id: number, field = 'ioas_id'): Ioas => command.context.objects.get(id, Ioas, field);

/** The checks that MAP, MAP_FILE and COPY make before they look for an IOAS. */
export function mapFlags(flags: number, ...numbers: bigint[]): { prot: number; fixed: boolean } {
  const known = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;
  if (flags & ~known) throw fail('EOPNOTSUPP', `flags ${hex(flags)} has bits beyond ${hex(known)}`);
  checkBelowMax(...numbers);
  const prot = (flags & IOMMU_IOAS_MAP_READABLE ? PROT_READ : 0) | (flags & IOMMU_IOAS_MAP_WRITEABLE ? PROT_WRITE : 0);
  if (!prot) throw fail('EINVAL', `flags ${hex(flags)} has neither READABLE nor WRITEABLE`);
  return { prot, fixed: (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0 };
}

function checkBelowMax(...numbers: bigint[]): void {
  if (numbers.includes(U64_MAX)) throw fail('EOVERFLOW', `an IOVA or length is ${hex(U64_MAX)}`);
}
