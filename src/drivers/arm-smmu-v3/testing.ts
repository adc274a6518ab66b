/** A bench for tests: real SMMUs under real drivers, devices with an ATC, and guests that write their own tables. */
import { dialect } from '../../abi/dialects.ts';
import { fail } from '../../abi/errno.ts';
import { Clock } from '../../hardware/clock.ts';
import { Cmdqv } from '../../hardware/cmdqv/cmdqv.ts';
import { type CmdqvSettings, DEFAULT_CMDQV_SETTINGS } from '../../hardware/cmdqv/settings.ts';
import { ATS_SUCCESS, type AtcHolder, NO_SUBSTREAM, READ, TRANSLATED, WRITE } from '../../hardware/iommu.ts';
import { Atc } from '../../hardware/pci/atc.ts';
import { DEFAULT_SETTINGS, type SmmuSettings } from '../../hardware/smmuv3/settings.ts';
import { Smmu } from '../../hardware/smmuv3/smmu.ts';
import { PhysicalMemory } from '../../memory/physical-memory.ts';
import { SILENT, type TraceEvent, type Tracer } from '../../trace/events.ts';
import { FrameAllocator } from '../frame-allocator.ts';
import type { UserData, UserDataArray } from '../iommu-driver.ts';
import type { SmmuDevice } from './device.ts';
import { ArmSmmuV3 } from './driver.ts';
import type { NestingBehaviour, Policy } from './unit.ts';

const HOST_RAM = { firstFrame: 0x40000, frames: 0x8000 };
/** RAM of guests: IPA n of guest g is this frame + g * GUEST_FRAMES + n. */
const GUEST_RAM = 0x100000;
const GUEST_FRAMES = 0x1000;

export interface BenchOptions {
  smmus?: number;
  /** Of all of them, or one for each. */
  settings?: Partial<SmmuSettings> | ReadonlyArray<Partial<SmmuSettings>>;
  policy?: Policy;
  behaviour?: NestingBehaviour;
  /** A CMDQV in front of each. */
  cmdqv?: Partial<CmdqvSettings>;
}

export class Bench {
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  readonly clock: Clock;
  /** Everything that was traced. */
  readonly trace: TraceEvent[];
  readonly smmus: Smmu[];
  readonly cmdqvs: Cmdqv[];
  readonly drivers: ArmSmmuV3[];

  constructor(options: BenchOptions = {}) {
    this.memory = new PhysicalMemory();
    this.memory.addRam(HOST_RAM.firstFrame, HOST_RAM.frames);
    this.memory.addRam(GUEST_RAM, 4 * GUEST_FRAMES);
    this.frames = new FrameAllocator(this.memory, HOST_RAM.firstFrame, HOST_RAM.frames);
    this.clock = new Clock();
    this.trace = [];
    this.smmus = [];
    this.cmdqvs = [];
    this.drivers = [];
    const tracer = { on: true, emit: (event: TraceEvent) => void this.trace.push(event) };
    const { memory, frames, clock } = this;
    for (let i = 0; i < (options.smmus ?? 1); i++) {
      const name = `smmu${i}`;
      const irq = {
        eventq: () => this.drivers[i]!.handleEventInterrupt(),
        priq: () => this.drivers[i]!.handlePageRequestInterrupt(),
        gerror: () => this.drivers[i]!.handleGlobalErrorInterrupt(),
        cmdqSync: () => {},
      };
      const own = Array.isArray(options.settings) ? options.settings[i] : options.settings;
      const settings = { ...DEFAULT_SETTINGS, sidSize: 16, pri: own?.ats ?? true, ...own };
      const mmio = new Smmu({ name, memory, settings, clock, tracer, irq });
      const policy = options.policy ?? { vmid: 'per-viommu' };
      const behaviour = options.behaviour ? { behaviour: options.behaviour } : {};
      this.smmus.push(mmio);
      const cmdqv = options.cmdqv ? { cmdqv: { mmio: this.addCmdqv(mmio, options.cmdqv, tracer) } } : {};
      this.drivers.push(new ArmSmmuV3({ name, mmio, memory, frames, tracer, policy, ...behaviour, ...cmdqv }).probe());
    }
  }

  private addCmdqv(smmu: Smmu, own: Partial<CmdqvSettings>, tracer: Tracer): Cmdqv {
    const index = this.cmdqvs.length;
    const {
      name,
      executor,
      settings: { cmdqs: commandQueueLog2 },
    } = smmu;
    const { memory, clock } = this;
    const settings = { ...DEFAULT_CMDQV_SETTINGS, ...own };
    const irq = () => this.drivers[index]!.handleCmdqvInterrupt();
    const cmdqv = new Cmdqv({ name, memory, settings, executor, commandQueueLog2, clock, tracer, irq });
    this.cmdqvs.push(cmdqv);
    return cmdqv;
  }

  device(smmu: number, streamId: number): TestDevice {
    return new TestDevice(this, smmu, streamId);
  }

  /** Opcodes of the commands that `smmu` consumed since the last call, in order. */
  commands(smmu = 0): string[] {
    const name = `smmu${smmu}`;
    const opcodes = this.trace.flatMap((event) =>
      event.type === 'command' && event.iommu === name ? [`0x${(event.words[0]! & 0xff).toString(16)}`] : [],
    );
    this.trace.length = 0;
    return opcodes;
  }

  notes(): string[] {
    return this.trace.flatMap((event) => (event.type === 'note' ? [event.text] : []));
  }
}

/** A device that translates one frame at a time: by its ATC and translation requests while its ATS is on. */
export class TestDevice implements AtcHolder {
  readonly driven: SmmuDevice;
  readonly streamId: number;
  atsOn: boolean;
  pasidOn: boolean;
  priOn: boolean;
  /** Page responses that arrived: substream, group, code. */
  readonly responses: number[][];
  private readonly bench: Bench;
  private readonly smmu: Smmu;
  private readonly atc: Atc;

  constructor(bench: Bench, smmu: number, streamId: number) {
    const name = `dev${streamId}`;
    this.bench = bench;
    this.smmu = bench.smmus[smmu]!;
    this.streamId = streamId;
    this.atsOn = false;
    this.pasidOn = false;
    this.priOn = false;
    this.responses = [];
    this.atc = new Atc(name, SILENT);
    const ats = { enable: (on: boolean) => this.enableAts(on) };
    const pri = { enable: (on: boolean) => void (this.priOn = on) };
    const pasid = { bits: 16, enable: (on: boolean) => void (this.pasidOn = on) };
    this.driven = bench.drivers[smmu]!.probeDevice({ streamId, name, ats, pri, pasid, canStall: true });
    this.smmu.attachAtc(streamId, this);
  }

  /** Frame that a DMA to `frame` reaches, or null when it is refused. */
  reach(frame: number, access = READ, substream = NO_SUBSTREAM): number | null {
    const translated = this.atsOn ? this.translated(frame, access, substream) : frame;
    if (translated < 0) return null;
    const result = this.atsOn
      ? this.smmu.translated(this.streamId, substream, translated, 0, access)
      : this.smmu.translate(this.streamId, substream, frame, 0, access);
    this.bench.clock.settle();
    return result === TRANSLATED ? this.smmu.outFrame : null;
  }

  write(frame: number): number | null {
    return this.reach(frame, WRITE);
  }

  invalidateAtc(substream: number, frame: number, log2Frames: number, global: boolean): void {
    this.atc.invalidateAtc(substream, frame, log2Frames, global);
  }

  pageResponse(...response: number[]): void {
    this.responses.push(response);
  }

  private translated(frame: number, access: number, substream: number): number {
    const cached = this.atc.lookup(substream, frame, access);
    if (cached >= 0) return cached;
    const { smmu } = this;
    if (smmu.atsRequest(this.streamId, substream, frame, access) !== ATS_SUCCESS) return -1;
    if (!(smmu.outPermissions & access)) return -1;
    const { outFrame } = smmu;
    this.atc.fill(substream, frame, outFrame, smmu.outLog2Frames, smmu.outPermissions);
    return outFrame;
  }

  private enableAts(on: boolean): void {
    this.atsOn = on;
    if (!on) this.atc.clear();
  }
}

/** A guest: RAM at IPA 0, stage 1 tables of 39 bits with the 4 KiB granule, context descriptors, all written by hand. */
export class Guest {
  readonly bench: Bench;
  /** Physical frame of IPA 0. */
  readonly base: number;
  readonly frames = GUEST_FRAMES;
  private free: number;

  constructor(bench: Bench, number = 0) {
    this.bench = bench;
    this.base = GUEST_RAM + number * GUEST_FRAMES;
    this.free = 0x800;
  }

  /** An empty stage 1 root: IPA frame. */
  newTable(): number {
    return this.free++;
  }

  /** Makes `iova` lead to `ipa` (frames) in the table at `root`; null takes it away. */
  setPage(root: number, iova: number, ipa: number | null): void {
    let table = root;
    for (const shift of [18, 9]) {
      const at = (Math.floor(iova / 2 ** shift) % 512) * 8;
      this.bench.memory.load64(this.base + table, at);
      if (!(this.bench.memory.lo & 1)) this.store(table, at, (this.free++ << 12) | 3, 0);
      this.bench.memory.load64(this.base + table, at);
      table = this.bench.memory.lo >>> 12;
    }
    // Page, AF, inner shareable, unprivileged read and write, nG.
    this.store(table, (iova % 512) * 8, ipa === null ? 0 : (ipa << 12) | 0xf43, 0);
  }

  /** A context descriptor table: IPA frame. */
  newContexts(): number {
    return this.free++;
  }

  setContext(contexts: number, ssid: number, asid: number, root: number): void {
    const at = ssid * 64;
    // T0SZ 25, EPD1, V; IPS 48 bits, AA64, R, A, ASET, ASID. TTB0. MAIR.
    this.store(contexts, at, (25 | (1 << 30) | (1 << 31)) >>> 0, (5 | 0xe200 | (asid << 16)) >>> 0);
    this.store(contexts, at + 8, root << 12, 0);
    this.store(contexts, at + 24, 0xff, 0);
  }

  private store(frame: number, offset: number, lo: number, hi: number): void {
    this.bench.memory.store64(this.base + frame, offset, lo, hi);
  }
}

export const NESTED_TYPE = 2;

export function userData(type: number, words: readonly number[]): UserData {
  const bytes = new Uint8Array(Uint32Array.from(words).buffer);
  return {
    type,
    length: bytes.length,
    copy: (minimum, size) => {
      if (bytes.length < minimum) throw fail('EINVAL', `data_len is ${bytes.length}, expected ${minimum}`);
      const copy = new Uint8Array(size);
      copy.set(bytes.subarray(0, size));
      return copy;
    },
    writeBack: () => {},
  };
}

/** V = 1 STE with these fields: what a guest gives for its nested HWPT. */
export const guestSte = (config: number, contexts = 0, options: { ats?: boolean; log2Contexts?: number } = {}) =>
  userData(NESTED_TYPE, [
    1 | (config << 1) | (contexts << 12),
    ((options.log2Contexts ?? 0) << 27) >>> 0,
    // S1DSS: CD 0 for transactions without SSID; write-back, inner shareable.
    2 | (1 << 2) | (1 << 4) | (3 << 6) | (options.ats ? 1 << 28 : 0),
    0,
  ]);

export const ABORT = 0;
export const BYPASS = 4;
export const STAGE1 = 5;

export function commands(...entries: ReadonlyArray<readonly number[]>): UserDataArray {
  return {
    type: 1,
    entryLength: 16,
    entryCount: entries.length,
    copy: (index) => new Uint8Array(Uint32Array.from(entries[index]!).buffer),
  };
}

/** Guest commands as words: what a guest's driver puts in its command queue, with whatever VMID it believes in. */
export const tlbiVa = (asid: number, frame: number) => [0x12, (asid << 16) >>> 0, ((frame << 12) | 1) >>> 0, 0];
export const tlbiAsid = (asid: number) => [0x11, (asid << 16) >>> 0, 0, 0];
export const tlbiAll = () => [0x10, 0, 0, 0];
export const nsnhAll = () => [0x30, 0, 0, 0];
export const cfgiCd = (stream: number, ssid = 0) => [0x05 | (ssid << 12), stream, 1, 0];
export const cfgiCdAll = (stream: number) => [0x06, stream, 0, 0];
export const atcInv = (stream: number, frame: number) => [0x40, stream, (frame << 12) >>> 0, 0];

export const NEST_PARENT = 1;
export const RW = 3;
export const V2 = { behaviour: dialect('viommu-v2').behaviour };

/** A guest whose RAM is mapped in a nesting parent, with a vIOMMU on the SMMU of each device. */
export function vm(bench: Bench, devices: TestDevice[], number = 0) {
  const guest = new Guest(bench, number);
  const parent = devices[0]!.driven.allocPaging(NEST_PARENT, null);
  parent.map(0n, guest.base * 4096, guest.frames * 4096, RW);
  const type = devices[0]!.driven.unit.behaviour.viommuTypeDefaultAllowed ? 0 : 1;
  const viommus = devices.map((device) => device.driven.allocViommu(type, parent, null));
  return { guest, parent, viommus, type };
}

/** One device of one VM with a stage 1 that maps IOVA frame 0x10 to IPA 0x100, ASID 7, vSID 0x55. */
export function simple(options: ConstructorParameters<typeof Bench>[0] = {}, ats = false) {
  const bench = new Bench(options);
  const device = bench.device(0, 0x100);
  const { guest, parent, viommus } = vm(bench, [device]);
  const viommu = viommus[0]!;
  const root = guest.newTable();
  const contexts = guest.newContexts();
  guest.setPage(root, 0x10, 0x100);
  guest.setContext(contexts, 0, 7, root);
  viommu.setVirtualDevice(device.driven, 0x55n);
  const nested = viommu.allocNested(0, guestSte(STAGE1, contexts, { ats, log2Contexts: 2 }));
  device.driven.attach(nested, 0);
  const pa = (ipa: number) => guest.base + ipa;
  return { bench, device, guest, parent, viommu, root, contexts, nested, pa };
}
