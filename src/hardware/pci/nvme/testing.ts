/** A small NVMe driver for tests, with numbers of its own: what Linux's and UEFI's drivers do, and mistakes on purpose. */
import { type FunctionRig, functionRig, peek, poke } from '../testing.ts';
import { type Disk, MemoryStore } from './disk.ts';
import { NVME } from './nvme.ts';

/** The way to a controller and to the memory that it reaches. */
export interface NvmeHost {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  peek(address: number, length: number): Uint8Array;
  poke(address: number, bytes: Uint8Array): void;
  /** Lets the machine's clock run. */
  settle(): void;
}

export interface Completion {
  readonly id: number;
  readonly result: number;
  /** Status code with its type, without the bits around it. */
  readonly status: number;
  readonly doNotRetry: boolean;
  readonly more: boolean;
  readonly queue: number;
  readonly head: number;
}

export interface Entry {
  readonly opcode: number;
  readonly flags?: number;
  readonly nsid?: number;
  readonly prp1?: number;
  readonly prp2?: number;
  /** Dwords 10 to 15. */
  readonly dwords?: readonly number[];
}

interface Ring {
  readonly submissions: number;
  readonly completions: number;
  readonly submissionSize: number;
  readonly completionSize: number;
  tail: number;
  head: number;
  phase: number;
}

/** What the driver uses itself, aligned for pages of up to 16 KiB. From 0x20000 on is the test's. */
export const ADMIN_SQ = 0x4000;
export const ADMIN_CQ = 0x8000;
/** For data of admin commands. */
export const PAGE = 0xc000;
const RINGS = 0x10000;
const RING_BYTES = 0x8000;

export class NvmeDriver {
  readonly host: NvmeHost;
  readonly rings: Map<number, Ring>;
  private nextId: number;

  constructor(host: NvmeHost) {
    this.host = host;
    this.rings = new Map();
    this.nextId = 1;
  }

  /** Resets the controller and enables it with an admin queue of `entries`. @returns CSTS */
  start(entries = 8, configuration = 0x0046_0001): number {
    const { host } = this;
    this.disable();
    host.poke(ADMIN_CQ, new Uint8Array(16 * entries));
    host.write32(0x24, (entries - 1) * 0x1_0001);
    host.write32(0x28, ADMIN_SQ);
    host.write32(0x2c, 0);
    host.write32(0x30, ADMIN_CQ);
    host.write32(0x34, 0);
    host.write32(0x14, configuration);
    host.settle();
    this.rings.clear();
    this.rings.set(0, ring(ADMIN_SQ, ADMIN_CQ, entries, entries));
    return host.read32(0x1c);
  }

  disable(): void {
    this.host.write32(0x14, this.host.read32(0x14) & ~1);
    this.host.settle();
  }

  /** Makes I/O queue pair `id`. @param vector -1 without interrupts  @returns the statuses of both commands */
  createPair(id: number, entries = 16, vector = -1, completionEntries = entries): [number, number] {
    const at = RINGS + (id - 1) * RING_BYTES;
    const made = ring(at, at + 0x4000, entries, completionEntries);
    this.host.poke(made.completions, new Uint8Array(16 * completionEntries));
    const flags = vector < 0 ? 1 : 3 + vector * 0x1_0000;
    const size = (entries - 1) * 0x1_0000;
    const completionSize = (completionEntries - 1) * 0x1_0000;
    const first = this.admin({ opcode: 0x05, prp1: made.completions, dwords: [completionSize + id, flags] });
    const second = this.admin({ opcode: 0x01, prp1: made.submissions, dwords: [size + id, 1 + id * 0x1_0000] });
    this.rings.set(id, made);
    return [first.status, second.status];
  }

  /** Puts a command into a queue. @returns its identifier */
  queue(id: number, entry: Entry): number {
    const to = this.rings.get(id)!;
    const command = this.nextId++ & 0xffff;
    this.host.poke(to.submissions + 64 * to.tail, entryBytes(command, entry));
    to.tail = (to.tail + 1) % to.submissionSize;
    return command;
  }

  /** Tells the controller how far a queue goes. */
  ring(id: number): void {
    this.host.write32(0x1000 + 8 * id, this.rings.get(id)!.tail);
    this.host.settle();
  }

  /** The next completion of a queue, or null; the doorbell is rung for it. */
  take(id: number): Completion | null {
    const from = this.rings.get(id)!;
    const view = new DataView(this.host.peek(from.completions + 16 * from.head, 16).buffer);
    const status = view.getUint16(14, true);
    if ((status & 1) !== from.phase) return null;
    from.head = (from.head + 1) % from.completionSize;
    if (from.head === 0) from.phase ^= 1;
    this.host.write32(0x1000 + 8 * id + 4, from.head);
    this.host.settle();
    return {
      id: view.getUint16(12, true),
      result: view.getUint32(0, true),
      status: (status >>> 1) & 0x7ff,
      doNotRetry: (status & 0x8000) !== 0,
      more: (status & 0x4000) !== 0,
      queue: view.getUint16(10, true),
      head: view.getUint16(8, true),
    };
  }

  /** One command from doorbell to completion. */
  run(id: number, entry: Entry): Completion {
    const command = this.queue(id, entry);
    this.ring(id);
    const completion = this.take(id);
    if (!completion) throw new Error(`command ${command} (opcode ${entry.opcode}) is not complete`);
    if (completion.id !== command) throw new Error(`command ${completion.id} is complete, expected ${command}`);
    return completion;
  }

  admin(entry: Entry): Completion {
    return this.run(0, entry);
  }

  /** Identify into PAGE. */
  identify(cns: number, nsid = 0): DataView {
    const { status } = this.admin({ opcode: 0x06, nsid, prp1: PAGE, dwords: [cns] });
    if (status) throw new Error(`Identify ${cns} ends with status ${status.toString(16)}`);
    return new DataView(this.host.peek(PAGE, 4096).buffer);
  }

  /** Get Log Page into PAGE, up to 4096 bytes. */
  log(page: number, bytes: number, flags = 0): DataView {
    const { status } = this.admin({
      opcode: 0x02,
      nsid: ALL,
      prp1: PAGE,
      dwords: [page + flags + (bytes / 4 - 1) * 0x1_0000],
    });
    if (status) throw new Error(`Get Log Page ${page} ends with status ${status.toString(16)}`);
    return new DataView(this.host.peek(PAGE, bytes).buffer);
  }
}

export const ALL = 0xffff_ffff;

export function entryBytes(
  id: number,
  { opcode, flags = 0, nsid = 0, prp1 = 0, prp2 = 0, dwords = [] }: Entry,
): Uint8Array {
  const view = new DataView(new ArrayBuffer(64));
  view.setUint8(0, opcode);
  view.setUint8(1, flags);
  view.setUint16(2, id, true);
  view.setUint32(4, nsid, true);
  view.setBigUint64(24, BigInt(prp1), true);
  view.setBigUint64(32, BigInt(prp2), true);
  for (const [i, dword] of dwords.entries()) view.setUint32(40 + 4 * i, dword, true);
  return new Uint8Array(view.buffer);
}

/** Dwords 10 to 12 of a command on blocks. */
export const blocks = (first: number, count: number): number[] => [first, 0, count - 1];

function ring(submissions: number, completions: number, submissionSize: number, completionSize: number): Ring {
  return { submissions, completions, submissionSize, completionSize, tail: 0, head: 0, phase: 1 };
}

export interface NvmeRig extends FunctionRig {
  readonly host: NvmeHost;
  readonly disks: readonly Disk[];
  readonly driver: NvmeDriver;
}

/** A controller with a namespace of 1 MiB in blocks of 512 bytes, unless told otherwise, that is not enabled yet. */
export function nvmeRig(options: { readonly disks?: readonly Disk[]; readonly canStall?: boolean } = {}): NvmeRig {
  const { disks = [{ store: new MemoryStore(2 ** 20), blockBytes: 512 }], canStall = false } = options;
  const made = functionRig(NVME, { disks, canStall });
  const { fn, memory, clock } = made;
  const host: NvmeHost = {
    read32: (offset) => fn.readRegister(offset, 4),
    write32: (offset, value) => fn.writeRegister(offset, 4, value >>> 0),
    peek: (address, length) => peek(memory, address, length),
    poke: (address, bytes) => poke(memory, address, bytes),
    settle: () => clock.settle(),
  };
  return { ...made, host, disks, driver: new NvmeDriver(host) };
}

/** The same, enabled, with I/O queue pair 1. */
export function startedRig(options: Parameters<typeof nvmeRig>[0] = {}): NvmeRig {
  const made = nvmeRig(options);
  made.driver.start();
  const statuses = made.driver.createPair(1);
  if (statuses.some((status) => status !== 0)) throw new Error(`no I/O queues: ${statuses}`);
  return made;
}
