/** An SMMU with a CMDQV in front of it, for tests and benchmarks: the SMMU's rig, and registers of the CMDQV by name. */
import { CMD, COMMAND_WORDS } from '../smmuv3/spec/commands.ts';
import { Rig, type Values } from '../smmuv3/test-rig.ts';
import { Cmdqv } from './cmdqv.ts';
import { type CmdqvSettings, DEFAULT_CMDQV_SETTINGS } from './settings.ts';

/** Offsets, written out: the tests do not take them from the model's own tables. */
export const CONFIG = 0x0;
export const ALLOC_MAP = 0x200;
export const vintf = (v: number): number => 0x1000 + 0x100 * v;
export const page0 = (q: number): number => 0x10000 + 0x80 * q;
export const page1 = (q: number): number => 0x20000 + 0x80 * q;
export const vintfPage0 = (v: number, l = 0): number => 0x30000 + 0x20000 * v + 0x80 * l;
export const vintfPage1 = (v: number, l = 0): number => 0x40000 + 0x20000 * v + 0x80 * l;
export const CONS = 0x0;
export const PROD = 0x4;
export const ENABLE = 0x8;
export const STATUS = 0xc;
export const GERROR = 0x10;
export const GERRORN = 0x14;
export const HYP_OWN = 1 << 17;

export const QUEUE_LOG2 = 3;

export class CmdqvRig extends Rig {
  readonly cmdqv: Cmdqv;

  constructor(tracing = false, cmdqs = 19, settings: Partial<CmdqvSettings> = {}) {
    super({ cmdqs, stallModel: 0 }, tracing);
    const { memory, clock, smmu, traced, interrupts } = this;
    this.cmdqv = new Cmdqv({
      name: smmu.name,
      memory,
      settings: { ...DEFAULT_CMDQV_SETTINGS, ...settings },
      executor: smmu.executor,
      commandQueueLog2: cmdqs,
      clock,
      tracer: { on: tracing, emit: (event) => void traced.push(event) },
      irq: () => void interrupts.push('cmdqv'),
    });
  }

  read(offset: number): number {
    return this.cmdqv.readRegister(offset, 4);
  }

  poke(offset: number, value: number): void {
    this.cmdqv.writeRegister(offset, 4, value >>> 0);
  }

  openVintf(v: number, vmid: number, owner = 0): void {
    this.poke(vintf(v), owner | (vmid << 1));
    this.poke(vintf(v), owner | (vmid << 1) | 1);
  }

  /** Gives VCMDQ `q` to a VINTF, without enabling it. Returns the first frame of its 2^QUEUE_LOG2 commands. */
  openQueue(v: number, l: number, q: number, frame = this.alloc(), log2 = QUEUE_LOG2): number {
    this.poke(ALLOC_MAP + 4 * q, 1 | (l << 1) | (v << 15));
    const high = Math.floor(frame / 2 ** 20);
    this.poke(page1(q), (frame - high * 2 ** 20) * 4096 + log2);
    this.poke(page1(q) + 4, high);
    return frame;
  }

  /** A VINTF with one queue, VCMDQ 2 * v, that runs. */
  guest(v: number, vmid: number): GuestQueue {
    this.openVintf(v, vmid);
    const frame = this.openQueue(v, 0, 2 * v);
    this.poke(vintfPage0(v) + ENABLE, 1);
    return new GuestQueue(this, vintfPage0(v), frame);
  }

  hypervisor(): GuestQueue {
    this.openVintf(0, 0, HYP_OWN);
    const frame = this.openQueue(0, 0, 0);
    this.poke(vintfPage0(0) + ENABLE, 1);
    return new GuestQueue(this, vintfPage0(0), frame);
  }

  /** Lets stream `virtual` of a VINTF be `physical`, in slot `n`. */
  match(v: number, n: number, virtual: number, physical: number): void {
    this.poke(vintf(v) + 0x40 + 4 * n, (virtual << 1) | 1);
    this.poke(vintf(v) + 0x80 + 4 * n, physical);
  }
}

/** A queue as its user has it: memory, and registers at `at`. */
export class GuestQueue {
  private readonly rig: CmdqvRig;
  private readonly at: number;
  readonly frame: number;

  constructor(rig: CmdqvRig, at: number, frame: number) {
    this.rig = rig;
    this.at = at;
    this.frame = frame;
  }

  /** Queues a command and lets it be consumed. Returns CONS.ERR, or 0 while no error is active. */
  give(opcode: number, values: Values<typeof CMD> = {}): number {
    const index = this.get(PROD);
    const size = 2 ** QUEUE_LOG2;
    this.rig.write(this.frame, (index % size) * 16, COMMAND_WORDS, CMD, { ...values, Opcode: opcode });
    this.set(PROD, (index + 1) % (2 * size));
    return this.get(GERROR) === this.get(GERRORN) ? 0 : this.get(CONS) >>> 24;
  }

  get(register: number): number {
    return this.rig.read(this.at + register);
  }

  set(register: number, value: number): void {
    this.rig.poke(this.at + register, value);
  }
}
