/**
 * Software and devices that mean an SMMU no good: STEs, CDs and tables of noise, or plausible ones with some fields
 * turned; commands likewise; registers written at random while it runs. One seed, one sequence.
 */
import { ATS_SUCCESS, NO_SUBSTREAM, type Requester, STALLED, TRANSLATED } from '../../src/hardware/iommu.ts';
import { DEFAULT_SETTINGS, type SmmuSettings } from '../../src/hardware/smmuv3/settings.ts';
import * as spec from '../../src/hardware/smmuv3/spec/commands.ts';
import { REGISTER_BYTES, REGISTERS, type RegisterSpec } from '../../src/hardware/smmuv3/spec/registers.ts';
import { at, Rig, S1_LEAF, STE_NESTED } from '../../src/hardware/smmuv3/test-rig.ts';
import { Dice } from './dice.ts';

/** Where the rig keeps its stream table and command queue, and hands out frames for tables. */
const STREAM_TABLE = 0x200;
const COMMANDS = 0x300;
const TABLES = { first: 0x1000, frames: 0x100 };
const STREAMS = 16;
const PAGES = 16;
const CONTIGUOUS = 1n << 52n;

const OPCODES = [
  spec.CMD_CFGI_STE,
  spec.CMD_CFGI_STE_RANGE,
  spec.CMD_CFGI_CD,
  spec.CMD_CFGI_CD_ALL,
  spec.CMD_TLBI_NH_ALL,
  spec.CMD_TLBI_NH_ASID,
  spec.CMD_TLBI_NH_VA,
  spec.CMD_TLBI_NH_VAA,
  spec.CMD_TLBI_S12_VMALL,
  spec.CMD_TLBI_S2_IPA,
  spec.CMD_TLBI_NSNH_ALL,
  spec.CMD_ATC_INV,
  spec.CMD_PRI_RESP,
  spec.CMD_RESUME,
  spec.CMD_STALL_TERM,
  spec.CMD_SYNC,
];

const OFFSETS = Object.values(REGISTERS).flatMap(({ offset, words }: RegisterSpec) =>
  words === 2 ? [offset, offset + 4] : [offset],
);

/** A device that sends its stalled transaction again when it is told to. */
class Client implements Requester {
  private readonly rig: Rig;
  private readonly call: readonly [number, number, number, number, number];
  private stalled: boolean;

  constructor(rig: Rig, call: Client['call']) {
    this.rig = rig;
    this.call = call;
    this.stalled = false;
  }

  send(): number {
    const outcome = this.rig.smmu.translate(...this.call, this);
    this.stalled = outcome === STALLED;
    return outcome;
  }

  stallEnded(retry: boolean): void {
    if (!this.stalled) throw new Error('a transaction that is not stalled was ended');
    this.stalled = false;
    if (retry) this.rig.clock.defer(() => void this.send());
  }
}

export class HostileSmmu {
  /** What is being done, for the message when it ends in what nothing may end in. */
  current: string;
  /** Translations that were granted and refused. */
  granted: number;
  refused: number;
  private readonly dice: Dice;
  private readonly settings: SmmuSettings;
  private readonly rig: Rig;
  /** Those that streams map. */
  private readonly pages: readonly number[];

  constructor(seed: number) {
    this.current = 'nothing';
    this.granted = 0;
    this.refused = 0;
    this.dice = new Dice(seed);
    this.pages = Array.from({ length: PAGES }, () => this.lowFrame());
    this.settings = this.randomSettings();
    this.rig = new Rig(this.settings, this.dice.chance(50));
    for (let stream = 0; stream < STREAMS; stream++) this.configure(stream);
    this.spoilTables();
  }

  /** One thing that software or a device does. Throws on an answer that no SMMU may give, and passes on what the model throws. */
  step(): void {
    const roll = this.dice.below(100);
    if (roll < 50) this.translate();
    else if (roll < 60) this.request();
    else if (roll < 65) this.rig.smmu.translated(this.stream(), this.substream(), this.frame(), 0, 1);
    else if (roll < 85) this.command();
    else if (roll < 95) this.register();
    else this.pageRequest();
  }

  private randomSettings(): SmmuSettings {
    const { dice } = this;
    const flag = (): boolean => dice.chance(50);
    return {
      ...DEFAULT_SETTINGS,
      oas: dice.pick([44, 48, 52]),
      granules: dice.pick([[4], [4, 64], [4, 16, 64]]),
      iotlbEntries: 2 ** dice.below(7),
      steEntries: 2 ** dice.below(4),
      cdEntries: 2 ** dice.below(4),
      asid16: flag(),
      vmid16: flag(),
      had: flag(),
      xnx: flag(),
      ril: flag(),
      attrPermsOvr: flag(),
      stallModel: dice.pick([0, 1, 2]),
      stallMax: 1 + dice.below(8),
      termModel: dice.pick([0, 1]),
    };
  }

  /** Most streams nest, some of them with a field turned; the others are noise over a valid STE. */
  private configure(stream: number): void {
    const { dice, rig } = this;
    const s2T0sz = { S2T0SZ: 64 - Math.min(48, this.settings.oas) };
    if (dice.chance(25)) {
      rig.ste(stream, { ...STE_NESTED, ...s2T0sz });
      for (let word = 0; word < 8; word++) {
        if (dice.chance(33)) rig.write64(STREAM_TABLE, stream * 64 + word * 8, this.noise());
      }
      return;
    }
    const seldom = (limit: number, usual: number): number => (dice.chance(10) ? dice.below(limit) : usual);
    const cd = { ASID: dice.below(4), ASET: dice.below(2), TBI0: dice.below(2), PAN: seldom(2, 0), WXN: seldom(2, 0) };
    const overrides = { PRIVCFG: dice.below(4), INSTCFG: dice.below(4), EATS: seldom(4, 1), S2VMID: dice.below(4) };
    const substreams = { S1CDMax: dice.below(6), S1DSS: seldom(4, 2), S1Fmt: seldom(4, 0) };
    const { stallModel } = this.settings;
    const stalls = (): number => (stallModel === 0 ? dice.below(2) : stallModel / 2);
    const ste = { ...s2T0sz, ...substreams, ...overrides, S2S: stalls(), S1STALLD: stallModel ? 0 : seldom(2, 0) };
    const { root } = rig.nestedStream(stream, { ...cd, S: stalls(), A: this.settings.termModel || dice.below(2) }, ste);
    const level = dice.pick([2, 3]);
    for (let n = 0; n < PAGES; n++) {
      const page = dice.pick(this.pages);
      rig.map(root, page, S1_LEAF | at(this.lowFrame()) | (dice.chance(30) ? CONTIGUOUS : 0n), level);
    }
  }

  /** Descriptors here and there, most of which lead to other tables. */
  private spoilTables(): void {
    const { dice, rig } = this;
    for (let frame = TABLES.first; frame < TABLES.first + TABLES.frames; frame++) {
      for (let n = 0; n < 6; n++) {
        const target = (BigInt(TABLES.first + dice.below(TABLES.frames)) << 12n) | BigInt(dice.below(4096));
        const high = dice.chance(75) ? 0n : this.noise() & ~0xffffffffn;
        rig.write64(frame, dice.below(512) * 8, high | target);
      }
    }
  }

  private translate(): void {
    const call = [
      this.stream(),
      this.substream(),
      this.frame(),
      this.dice.below(4096),
      1 + this.dice.below(15),
    ] as const;
    this.current = `translate ${call}`;
    if (new Client(this.rig, call).send() !== TRANSLATED) this.refused++;
    else this.checkAnswer();
  }

  private request(): void {
    const { smmu } = this.rig;
    const call = [this.stream(), this.substream(), this.frame(), 1 + this.dice.below(15)] as const;
    this.current = `translation request ${call}`;
    if (smmu.atsRequest(...call) !== ATS_SUCCESS || smmu.outPermissions === 0) this.refused++;
    else this.checkAnswer();
  }

  /** An address of this SMMU, of a size whose alignment it shares with nothing outside. */
  private checkAnswer(): void {
    const { outFrame, outLog2Frames } = this.rig.smmu;
    this.granted++;
    const inside = Number.isInteger(outFrame) && outFrame >= 0 && outFrame < 2 ** (this.settings.oas - 12);
    if (!inside || !(outLog2Frames >= 0 && outLog2Frames <= 52)) {
      throw new Error(`the answer is frame ${outFrame} of 2^${outLog2Frames} frames`);
    }
  }

  private command(): void {
    const { dice, rig } = this;
    const opcode = dice.chance(90) ? dice.pick(OPCODES) : dice.below(256);
    const prod = rig.get('CMDQ_PROD');
    this.current = `command 0x${opcode.toString(16)}`;
    const head = dice.chance(50) ? BigInt(dice.below(STREAMS)) << 32n : this.noise() & ~0xffn;
    rig.write64(COMMANDS, (prod % 16) * 16, head | BigInt(opcode));
    rig.write64(COMMANDS, (prod % 16) * 16 + 8, dice.chance(50) ? BigInt(this.frame()) << 12n : this.noise());
    rig.set('CMDQ_PROD', (prod + 1) % 32);
    rig.set('GERRORN', rig.get('GERROR'));
    rig.clock.settle();
  }

  /** CR0 is left alone most of the time: an SMMU that is off shows nothing. */
  private register(): void {
    const { dice, rig } = this;
    const offset = dice.chance(80) ? dice.pick(OFFSETS) : dice.below(REGISTER_BYTES / 4) * 4;
    const value = dice.word();
    this.current = `register 0x${offset.toString(16)} = 0x${value.toString(16)}`;
    if (offset !== REGISTERS.CR0.offset) rig.smmu.writeRegister(offset, 4, value);
    else rig.smmu.writeRegister(offset, 4, dice.chance(90) ? 0b11111 : value);
    rig.smmu.readRegister(offset, dice.pick([1, 2, 4]));
  }

  private pageRequest(): void {
    const { dice, rig } = this;
    const flag = (): boolean => dice.chance(50);
    const flags = { read: flag(), write: flag(), execute: flag(), privileged: flag(), last: flag() };
    this.current = 'page request';
    const place = { stream: this.stream(), substream: this.substream(), frame: this.frame() };
    rig.smmu.pageRequest({ ...place, groupIndex: dice.below(512), ...flags });
    rig.clock.settle();
  }

  private stream(): number {
    return this.dice.below(STREAMS + 4);
  }

  private substream(): number {
    return this.dice.chance(66) ? NO_SUBSTREAM : this.dice.below(64);
  }

  /** A page that some stream maps, as a rule. */
  private frame(): number {
    const { dice } = this;
    if (dice.chance(75)) return dice.pick(this.pages);
    return dice.chance(50) ? this.lowFrame() : dice.word() * 2 ** 20 + dice.below(2 ** 20);
  }

  /** In the lowest GiB, which stage 2 maps to itself. */
  private lowFrame(): number {
    return this.dice.below(2 ** 18);
  }

  private noise(): bigint {
    return (BigInt(this.dice.word()) << 32n) | BigInt(this.dice.word());
  }
}
