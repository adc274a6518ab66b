/** Runs a recorded case against a fresh Smmu, through registers, memory and queues only. */
import { Clock } from '../../src/hardware/clock.ts';
import { NO_SUBSTREAM, READ, TRANSLATED, WRITE } from '../../src/hardware/iommu.ts';
import { DEFAULT_SETTINGS, type SmmuSettings } from '../../src/hardware/smmuv3/settings.ts';
import { Smmu } from '../../src/hardware/smmuv3/smmu.ts';
import { EVENT, EVENT_LAYOUTS } from '../../src/hardware/smmuv3/spec/events.ts';
import { type Field, getWide } from '../../src/hardware/smmuv3/spec/field.ts';
import { REGISTERS, type RegisterName } from '../../src/hardware/smmuv3/spec/registers.ts';
import { type Backing, PhysicalMemory, SLOT_FRAMES } from '../../src/memory/physical-memory.ts';
import { SILENT } from '../../src/trace/events.ts';
import type { Case, DmaStep, Outcome } from './cases.ts';

/** The SMMU that the cases were recorded on. */
export const RECORDED_SETTINGS: SmmuSettings = {
  ...DEFAULT_SETTINGS,
  oas: 44,
  sidSize: 16,
  ssidSize: 0,
  twoLevelCdTable: false,
  attrPermsOvr: false,
  ats: false,
  pri: false,
  msi: false,
  archMinorRev: 1,
};

/** Memory by 64-bit words, zero where nothing was stored. */
class SparseWords implements Backing {
  readonly name = 'recorded memory';
  private readonly words = new Map<bigint, bigint>();

  store(address: bigint, word: bigint): void {
    this.words.set(address, word);
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    const bytes = new DataView(new ArrayBuffer(8));
    for (let n = 0; n < into.length; n++) {
      const address = BigInt(frame) * 4096n + BigInt(offset + n);
      bytes.setBigUint64(0, this.words.get(address & ~7n) ?? 0n, true);
      into[n] = bytes.getUint8(Number(address & 7n));
    }
    return true;
  }

  write(): boolean {
    throw new Error('the SMMU wrote into recorded memory');
  }
}

/** Queues lie below the recorded memory, where no case looks. */
const EVENTQ_FRAME = 0x200;
const CMDQ_FRAME = 0x210;
const QUEUE_LOG2 = 7;

/** What holds the recorded words: RAM, which walks read as arrays, or a backing, which they ask byte by byte. */
export type RecordedMemory = 'ram' | 'backing';

export class Replay {
  private readonly memory = new PhysicalMemory();
  private readonly words: SparseWords | null;
  private readonly smmu: Smmu;

  constructor(recorded: Case, ram: Array<[string, string]>, kind: RecordedMemory) {
    this.words = kind === 'backing' ? new SparseWords() : null;
    const slotBytes = SLOT_FRAMES * 4096;
    for (const [start, end] of ram) {
      const first = Number.parseInt(start, 16) / slotBytes;
      const slots = Number.parseInt(end, 16) / slotBytes - first;
      if (this.words) this.memory.placeBacking(first, slots, this.words);
      else this.memory.addRam(first * SLOT_FRAMES, slots * SLOT_FRAMES);
    }
    this.memory.addRam(EVENTQ_FRAME, 0x200);
    const quiet = (): void => {};
    this.smmu = new Smmu({
      name: 'smmu',
      memory: this.memory,
      settings: RECORDED_SETTINGS,
      clock: new Clock(),
      tracer: SILENT,
      irq: { eventq: quiet, priq: quiet, cmdqSync: quiet, gerror: quiet },
    });
    this.store(recorded.mem);
    this.write('EVENTQ_BASE', BigInt(EVENTQ_FRAME) * 4096n + BigInt(QUEUE_LOG2));
    this.write('CMDQ_BASE', BigInt(CMDQ_FRAME) * 4096n + BigInt(QUEUE_LOG2));
    const { CR0, GBPA, ...others } = recorded.regs;
    for (const [name, value] of Object.entries(others)) this.write(name as RegisterName, BigInt(`0x${value}`));
    this.write('GBPA', BigInt(`0x${GBPA}`) | 0x80000000n);
    this.write('CR0', BigInt(`0x${CR0}`));
  }

  /** ID register as software reads it. */
  identity(name: RegisterName): number {
    return this.smmu.readRegister(REGISTERS[name].offset, 4);
  }

  store(words: Array<[string, string]>): void {
    for (const [address, word] of words) {
      const at = BigInt(`0x${address}`);
      const value = BigInt(`0x${word}`);
      if (this.words) this.words.store(at, value);
      else this.store64(at, value);
    }
  }

  /** Queues commands; returns whether all were consumed without error. */
  command(commands: Array<[string, string]>): boolean {
    for (const [low, high] of commands) {
      const prod = this.read('CMDQ_PROD');
      const at = BigInt(CMDQ_FRAME * 4096 + (prod % 2 ** QUEUE_LOG2) * 16);
      this.store64(at, BigInt(`0x${low}`));
      this.store64(at + 8n, BigInt(`0x${high}`));
      this.write('CMDQ_PROD', BigInt((prod + 1) % 2 ** (QUEUE_LOG2 + 1)));
    }
    return this.read('CMDQ_CONS') === this.read('CMDQ_PROD') && this.read('GERROR') === 0;
  }

  dma(step: DmaStep): Outcome {
    const iova = BigInt(`0x${step.iova}`);
    const before = this.read('EVENTQ_PROD');
    const stream = Number.parseInt(step.sid, 16);
    const frame = Number(iova >> 12n);
    const offset = Number(iova & 0xfffn);
    if (this.smmu.translate(stream, NO_SUBSTREAM, frame, offset, step.w === 1 ? WRITE : READ) === TRANSLATED) {
      // Addresses without memory answer like a refusal without a record.
      if (!this.memory.load32(this.smmu.outFrame, offset & ~3)) return { r: 'abort' };
      return { r: 'ok', pa: (BigInt(this.smmu.outFrame) * 4096n + BigInt(offset)).toString(16) };
    }
    return this.read('EVENTQ_PROD') === before ? { r: 'abort' } : this.event(before);
  }

  private store64(at: bigint, value: bigint): void {
    const stored = this.memory.store64(
      Number(at >> 12n),
      Number(at & 0xfffn),
      Number(value & 0xffffffffn),
      Number(value >> 32n),
    );
    if (!stored) throw new Error(`no memory at 0x${at.toString(16)}`);
  }

  private event(index: number): Outcome {
    const words = new Uint32Array(8);
    const at = EVENTQ_FRAME * 4096 + (index % 2 ** QUEUE_LOG2) * 32;
    this.memory.read(Math.floor(at / 4096), at % 4096, new Uint8Array(words.buffer));
    const layout = EVENT_LAYOUTS[Number(getWide(words, 0, EVENT.Type))];
    if (!layout) throw new Error(`unknown event ${words[0]}`);
    const number = (field: Field): number => Number(getWide(words, 0, field));
    const hex = (field: Field): string => getWide(words, 0, field).toString(16);
    return {
      r: 'fault',
      t: layout.name,
      sid: hex(EVENT.StreamID),
      ...('CLASS' in layout.fields && {
        s2: number(EVENT.S2),
        cls: ['CD', 'TT', 'IN'][number(EVENT.CLASS)]!,
        rnw: number(EVENT.RnW),
        addr: hex(EVENT.InputAddr),
      }),
      ...('IPA' in layout.fields && number(EVENT.S2) === 1 && { ipa: hex(EVENT.IPA) }),
      ...('FetchAddr' in layout.fields && { fetch: hex(EVENT.FetchAddr) }),
    };
  }

  private read(name: RegisterName): number {
    return this.smmu.readRegister(REGISTERS[name].offset, 4);
  }

  private write(name: RegisterName, value: bigint): void {
    const { offset, words } = REGISTERS[name];
    this.smmu.writeRegister(offset, 4, Number(value & 0xffffffffn));
    if (words === 2) this.smmu.writeRegister(offset + 4, 4, Number(value >> 32n));
  }
}

/** The outcome with those bits only that the record has: IPA[51:12], FetchAddr[51:3]. */
export function comparable(outcome: Outcome): string {
  if (outcome.r !== 'fault') return JSON.stringify(outcome);
  const { t, sid, s2, cls, rnw, addr, ipa, fetch } = outcome;
  const masked = (value: string | undefined, mask: bigint): string | undefined =>
    value === undefined ? undefined : (BigInt(`0x${value}`) & mask).toString(16);
  return JSON.stringify({
    t,
    sid,
    s2,
    cls,
    rnw,
    addr,
    ipa: masked(ipa, 0xffffffffff000n),
    fetch: masked(fetch, 0xffffffffffff8n),
  });
}
