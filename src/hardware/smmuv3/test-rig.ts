/**
 * A small machine for tests and benchmarks: one SMMU, RAM, a linear stream table, queues, and a writer of 4 KiB-granule
 * tables. Software's side is plain: fields by name into memory, registers by name, commands by opcode.
 */
import { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { TraceEvent } from '../../trace/events.ts';
import { Clock } from '../clock.ts';
import { NO_SUBSTREAM, READ, TRANSLATED } from '../iommu.ts';
import { DEFAULT_SETTINGS, type SmmuSettings } from './settings.ts';
import { Smmu } from './smmu.ts';
import { CD, CD_WORDS } from './spec/cd.ts';
import { CMD, COMMAND_WORDS } from './spec/commands.ts';
import { EVENT_LAYOUTS, EVENT_WORDS } from './spec/events.ts';
import { type Field, type Fields, getWide, put, putFrame } from './spec/field.ts';
import { REGISTERS, type RegisterName } from './spec/registers.ts';
import { STE, STE_WORDS } from './spec/ste.ts';

export type Values<F extends Fields> = { readonly [K in keyof F]?: number };

/** RAM is [0, 512 MiB); structures have fixed places in its first MiBs, `alloc` hands out frames above them. */
const RAM_FRAMES = 0x20000;
const STRTAB = 0x200;
const CMDQ = 0x300;
const EVENTQ = 0x310;
const PRIQ = 0x320;
const FIRST_FREE = 0x1000;
export const QUEUE_LOG2 = 4;
export const STREAMS_LOG2 = 8;

/** An address where nothing answers: 1 TiB. */
export const HOLE_FRAME = 2 ** 28;

/** Leaf attributes: AF, read and write for everybody, not global. */
export const S1_LEAF = 0xc40n;
/** AF, read and write, Normal memory. */
export const S2_LEAF = 0x4fcn;

export const CD_4K: Values<typeof CD> = { V: 1, AA64: 1, A: 1, R: 1, T0SZ: 16, TG0: 0, IPS: 5, EPD1: 1, ASID: 1 };
export const STE_S1: Values<typeof STE> = { V: 1, Config: 0b101, S2VMID: 1 };
export const STE_S2: Values<typeof STE> = {
  V: 1,
  Config: 0b110,
  S2VMID: 1,
  S2T0SZ: 16,
  S2SL0: 2,
  S2TG: 0,
  S2PS: 5,
  S2AA64: 1,
  S2R: 1,
};
export const STE_NESTED: Values<typeof STE> = { ...STE_S2, Config: 0b111 };

export class Rig {
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readonly smmu: Smmu;
  /** Interrupts that reached their lines, in order. */
  readonly interrupts: string[];
  readonly traced: TraceEvent[];
  private next: number;

  constructor(settings: Partial<SmmuSettings> = {}, tracing = false) {
    this.memory = new PhysicalMemory();
    this.memory.addRam(0, RAM_FRAMES);
    this.clock = new Clock();
    this.interrupts = [];
    this.traced = [];
    this.next = FIRST_FREE;
    const line = (name: string) => () => void this.interrupts.push(name);
    this.smmu = new Smmu({
      name: 'smmu0',
      memory: this.memory,
      settings: { ...DEFAULT_SETTINGS, ...settings },
      clock: this.clock,
      tracer: { on: tracing, emit: (event) => void this.traced.push(event) },
      irq: { eventq: line('eventq'), priq: line('priq'), cmdqSync: line('cmdqSync'), gerror: line('gerror') },
    });
    this.setWide('STRTAB_BASE', STRTAB, 0);
    this.set('STRTAB_BASE_CFG', STREAMS_LOG2);
    this.setWide('CMDQ_BASE', CMDQ, QUEUE_LOG2);
    this.setWide('EVENTQ_BASE', EVENTQ, QUEUE_LOG2);
    if (this.smmu.settings.pri) this.setWide('PRIQ_BASE', PRIQ, QUEUE_LOG2);
    this.set('IRQ_CTRL', 0b111);
    this.set('CR2', 0b10);
    this.set('CR0', 0b11111);
  }

  get(name: RegisterName): number {
    return this.smmu.readRegister(REGISTERS[name].offset, 4);
  }

  set(name: RegisterName, value: number): void {
    this.smmu.writeRegister(REGISTERS[name].offset, 4, value >>> 0);
  }

  /** A 64-bit register: a frame, and what stands in the bits below its address. */
  setWide(name: RegisterName, frame: number, low: number): void {
    const high = Math.floor(frame / 2 ** 20);
    this.set(name, (frame - high * 2 ** 20) * 4096 + low);
    this.smmu.writeRegister(REGISTERS[name].offset + 4, 4, high);
  }

  alloc(frames = 1): number {
    const first = Math.ceil(this.next / frames) * frames;
    this.next = first + frames;
    return first;
  }

  read64(frame: number, offset: number): bigint {
    if (!this.memory.load64(frame, offset)) throw new Error(`no memory at frame ${frame}`);
    return BigInt(this.memory.lo >>> 0) | (BigInt(this.memory.hi >>> 0) << 32n);
  }

  write64(frame: number, offset: number, value: bigint): void {
    if (!this.memory.store64(frame, offset, Number(value & 0xffffffffn), Number(value >> 32n))) {
      throw new Error(`no memory at frame ${frame}`);
    }
  }

  /** Writes a structure of `words` 32-bit words; address fields take frame numbers. */
  write<F extends Fields>(frame: number, offset: number, words: number, layout: F, values: Values<F>): void {
    const bytes = new Uint8Array(encode(words, layout, values).buffer);
    if (!this.memory.write(frame, offset, bytes)) throw new Error(`no memory at frame ${frame}`);
  }

  ste(stream: number, values: Values<typeof STE>): void {
    this.write(STRTAB + (stream >>> 6), (stream & 63) * 64, STE_WORDS, STE, values);
  }

  /** Writes a CD at `index` of the table that starts at `frame`. */
  cd(frame: number, values: Values<typeof CD>, index = 0): void {
    this.write(frame + (index >>> 6), (index & 63) * 64, CD_WORDS, CD, values);
  }

  /** A 4-level table of the 4 KiB granule: makes what is missing and stores `leaf` at `level`. Returns its descriptor's place. */
  map(root: number, input: number, leaf: bigint, level = 3): { frame: number; offset: number } {
    let table = root;
    for (let at = 0; at < level; at++) {
      const place = this.place(table, input, at);
      let descriptor = this.read64(place.frame, place.offset);
      if ((descriptor & 1n) === 0n) {
        descriptor = (BigInt(this.alloc()) << 12n) | 3n;
        this.write64(place.frame, place.offset, descriptor);
      }
      table = Number((descriptor & 0xfffffffff000n) >> 12n);
    }
    const place = this.place(table, input, level);
    this.write64(place.frame, place.offset, leaf | (level === 3 ? 3n : 1n));
    return place;
  }

  /** A stream that translates by stage 1 alone. Returns where its tables and CD are. */
  stage1Stream(stream: number, cd: Values<typeof CD> = {}, ste: Values<typeof STE> = {}): { root: number; cd: number } {
    const root = this.alloc();
    const context = this.alloc();
    this.cd(context, { ...CD_4K, TTB0: root, ...cd });
    this.ste(stream, { ...STE_S1, S1ContextPtr: context, ...ste });
    return { root, cd: context };
  }

  stage2Stream(stream: number, ste: Values<typeof STE> = {}): { root: number } {
    const root = this.alloc();
    this.ste(stream, { ...STE_S2, S2TTB: root, ...ste });
    return { root };
  }

  /** Both stages; stage 2 maps the structures of stage 1 to themselves, in one block of 1 GiB. */
  nestedStream(
    stream: number,
    cd: Values<typeof CD> = {},
    ste: Values<typeof STE> = {},
  ): { root: number; cd: number; second: number } {
    const { root, cd: context } = this.stage1Stream(stream, cd);
    const second = this.alloc();
    this.map(second, 0, S2_LEAF, 1);
    this.ste(stream, { ...STE_NESTED, S1ContextPtr: context, S2TTB: second, ...ste });
    return { root, cd: context, second };
  }

  /** Queues one command and lets the SMMU consume it. */
  command(opcode: number, values: Values<typeof CMD> = {}): void {
    const index = this.get('CMDQ_PROD');
    const size = 2 ** QUEUE_LOG2;
    this.write(CMDQ, (index % size) * 16, COMMAND_WORDS, CMD, { ...values, Opcode: opcode });
    this.set('CMDQ_PROD', (index + 1) % (2 * size));
  }

  /** Takes the records out of the event queue: name and fields, numbers for those of one word, bigint for addresses. */
  events(): Array<Record<string, unknown>> {
    const size = 2 ** QUEUE_LOG2;
    const out: Array<Record<string, unknown>> = [];
    for (; this.pending('EVENTQ') > 0; this.set('EVENTQ_CONS', advance(this.get('EVENTQ_CONS'), size))) {
      const words = new Uint32Array(EVENT_WORDS);
      this.memory.read(EVENTQ, (this.get('EVENTQ_CONS') % size) * 32, new Uint8Array(words.buffer));
      const layout = EVENT_LAYOUTS[words[0]! & 0xff]!;
      out.push({ name: layout.name, stream: words[1], ...decode(words, layout.fields) });
    }
    return out;
  }

  /** Entries between CONS and PROD of an output queue. */
  pending(queue: 'EVENTQ' | 'PRIQ'): number {
    const mask = 2 ** (QUEUE_LOG2 + 1) - 1;
    return ((this.get(`${queue}_PROD`) & mask) - (this.get(`${queue}_CONS`) & mask)) & mask;
  }

  priEntry(index: number): Uint32Array {
    const words = new Uint32Array(4);
    this.memory.read(PRIQ, index * 16, new Uint8Array(words.buffer));
    return words;
  }

  /** Physical frame behind `frame` of the stream, or -1 when refused. */
  translate(stream: number, frame: number, access = READ, substream = NO_SUBSTREAM): number {
    return this.smmu.translate(stream, substream, frame, 0x123, access) === TRANSLATED ? this.smmu.outFrame : -1;
  }

  private place(table: number, input: number, level: number): { frame: number; offset: number } {
    return { frame: table, offset: (Math.floor(input / 512 ** (3 - level)) % 512) * 8 };
  }
}

/** Address part of a leaf descriptor. */
export const at = (frame: number): bigint => BigInt(frame) << 12n;

export function encode<F extends Fields>(count: number, layout: F, values: Values<F>): Uint32Array {
  const words = new Uint32Array(count);
  for (const [name, value] of Object.entries(values)) {
    const field = layout[name]!;
    if (value === undefined) continue;
    if (isAddress(field)) putFrame(words, 0, field, value);
    else put(words, 0, field, value);
  }
  return words;
}

const isAddress = (field: Field): boolean => field.width > 32 || field.highMask !== 0;

function decode(words: Uint32Array, fields: Fields): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => {
      const value = getWide(words, 0, field);
      return [name, isAddress(field) ? value : Number(value)];
    }),
  );
}

/** CONS after one more entry; the overflow acknowledgement stays. */
function advance(cons: number, size: number): number {
  return ((cons & 0x80000000) | ((cons + 1) & (2 * size - 1))) >>> 0;
}
