/**
 * The translation procedure of one transaction (IHI 0070, chapter 15): configuration, IOTLB, walk, permissions. It says
 * what happens and leaves the answer in fields; recording an event or completing an ATS request is the caller's.
 */
import { EXECUTE, PRIVILEGED, READ, WRITE } from '../iommu.ts';
import {
  MAY_EXECUTE,
  MAY_READ,
  MAY_WRITE,
  MAY_WRITE_ALL,
  PRIVILEGED_SHIFT,
  WALK_ABORT,
  WALK_OK,
} from '../pagetable/leaf.ts';
import type { Vmsav8Walker } from '../pagetable/vmsav8.ts';
import type { Configuration } from './configuration.ts';
import type { ContextConfig } from './context-config.ts';
import { type Fault, SILENT_ABORT } from './fault.ts';
import { type Iotlb, STAGE2_ONLY } from './iotlb.ts';
import type { SmmuSettings } from './settings.ts';
import {
  C_BAD_SUBSTREAMID,
  CLASS_IN,
  CLASS_TT,
  F_ADDR_SIZE,
  F_PERMISSION,
  F_STREAM_DISABLED,
  F_TRANSLATION,
  F_WALK_EABT,
} from './spec/events.ts';
import { CONFIG_BYPASS, OVERRIDE_CLEAR, OVERRIDE_SET, S1DSS_BYPASS, S1DSS_SSID0 } from './spec/ste.ts';
import type { StreamConfig } from './stream-config.ts';
import { WALK_EVENT } from './walk-events.ts';

/** Both permission sets, all granted: what a stage that is not there contributes. */
const ALL = 0b111111;
/** Frames of the 64-bit input space, and of what lies below VA[56]. */
const VA_FRAMES = 2 ** 52;
const TBI_FRAMES = 2 ** 44;
/** VA[55], which selects TTB1. */
const UPPER_HALF = 2 ** 43;

export class Translator {
  /** Answer of the last call that returned 0. */
  outFrame: number;
  outLog2Frames: number;
  /** MAY_* of both stages together, for the privilege of the request. */
  outPermissions: number;
  /** A cached translation answered, under these tags (-1: none). */
  hit: boolean;
  vmid: number;
  asid: number;
  private readonly fault: Fault;
  private readonly configuration: Configuration;
  private readonly iotlb: Iotlb;
  private readonly walker: Vmsav8Walker;
  private readonly oasFrames: number;
  private readonly oasLog2Frames: number;
  /** READ, WRITE, EXECUTE and PRIVILEGED after STE.{PRIVCFG, INSTCFG}. */
  private access: number;
  /** MAY_* that must be granted; 0 for a request that takes what there is (ATS). */
  private need: number;
  /** The last stream that stage 1 translated, with its configuration, while the caches still hold it. */
  private lastStream: number;
  private lastSubstream: number;
  private lastGeneration: number;
  private lastConfig: StreamConfig | null;
  private lastContext: ContextConfig | null;

  constructor(configuration: Configuration, iotlb: Iotlb, walker: Vmsav8Walker, fault: Fault, settings: SmmuSettings) {
    this.configuration = configuration;
    this.iotlb = iotlb;
    this.walker = walker;
    this.fault = fault;
    this.oasLog2Frames = settings.oas - 12;
    this.oasFrames = 2 ** this.oasLog2Frames;
    this.outFrame = 0;
    this.outLog2Frames = 0;
    this.outPermissions = 0;
    this.hit = false;
    this.vmid = -1;
    this.asid = -1;
    this.access = 0;
    this.need = 0;
    this.lastStream = -1;
    this.lastSubstream = -1;
    this.lastGeneration = -1;
    this.lastConfig = null;
    this.lastContext = null;
  }

  /** Translates for an ordinary transaction. Returns 0, or the fault's type with `fault` filled in. */
  transaction(stream: number, substream: number, frame: number, access: number): number {
    if (
      stream === this.lastStream &&
      substream === this.lastSubstream &&
      this.configuration.generation === this.lastGeneration
    ) {
      this.begin(this.lastConfig!, access);
      return this.withStage1(this.lastConfig!, this.lastContext!, frame);
    }
    this.access = access;
    const config = this.configuration.stream(stream);
    if (config === null) return this.fault.type;
    this.begin(config, access);
    return this.route(config, stream, substream, frame);
  }

  /** Attributes of the last request after the STE's overrides. A write is data (13.1.2). */
  get privileged(): boolean {
    return (this.access & PRIVILEGED) !== 0;
  }

  get instruction(): boolean {
    return (this.access & (EXECUTE | WRITE)) === EXECUTE;
  }

  /** The last answer passed no stage: the output is the input. */
  get identity(): boolean {
    return this.vmid < 0;
  }

  /** The same for an ATS translation request: permissions are reported in `outPermissions`, never missing. */
  request(config: StreamConfig, stream: number, substream: number, frame: number, access: number): number {
    this.begin(config, access);
    this.need = 0;
    return this.route(config, stream, substream, frame);
  }

  /** A read of an instruction needs execute permission and no other. */
  private begin(config: StreamConfig, access: number): void {
    this.access = (access & config.incomingAccess) | config.setAccess;
    this.need = this.instruction ? MAY_EXECUTE : access & (MAY_READ | MAY_WRITE);
  }

  private get writes(): boolean {
    return (this.access & WRITE) !== 0;
  }

  /** Which stages translate, and with which CD (5.2: Config, S1CDMax, S1DSS). */
  private route(config: StreamConfig, stream: number, substream: number, frame: number): number {
    if ((config.config & CONFIG_BYPASS) === 0) return this.fault.configuration(SILENT_ABORT, false);
    if (!config.stage1) {
      if (substream >= 0) return this.fault.configuration(C_BAD_SUBSTREAMID);
      return this.withoutStage1(config, frame);
    }
    let index = 0;
    if (substream >= 0) {
      if (config.s1CdMax === 0 || substream >= 2 ** config.s1CdMax) return this.fault.configuration(C_BAD_SUBSTREAMID);
      if (substream === 0 && config.s1Dss === S1DSS_SSID0) return this.fault.configuration(F_STREAM_DISABLED);
      index = substream;
    } else if (config.s1CdMax > 0) {
      if (config.s1Dss === S1DSS_BYPASS) return this.withoutStage1(config, frame);
      if (config.s1Dss !== S1DSS_SSID0) return this.fault.configuration(F_STREAM_DISABLED);
    }
    const context = this.configuration.context(stream, index, config);
    if (context === null) return this.fault.type;
    this.lastStream = stream;
    this.lastSubstream = substream;
    this.lastConfig = config;
    this.lastContext = context;
    this.lastGeneration = this.configuration.generation;
    return this.withStage1(config, context, frame);
  }

  /** Bypass of stage 1: the input address is the IPA, and must be one (3.4). */
  private withoutStage1(config: StreamConfig, frame: number): number {
    if (frame >= this.oasFrames) {
      this.fault.configuration(F_ADDR_SIZE);
      this.fault.class = CLASS_IN;
      return F_ADDR_SIZE;
    }
    if (!config.stage2) {
      this.hit = false;
      this.vmid = -1;
      this.asid = -1;
      return this.answer(frame, this.oasLog2Frames, ALL, ALL);
    }
    this.vmid = config.vmid;
    this.asid = -1;
    const at = this.iotlb.find(config.vmid, STAGE2_ONLY, STAGE2_ONLY, frame);
    if (at >= 0 && !(this.writes && this.iotlb.clean(at))) return this.cached(at, config, null, frame);
    this.hit = false;
    const walker = this.walker;
    const outcome = walker.stage2(config.second, frame);
    if (outcome !== WALK_OK) return this.walkFault2(outcome, config, frame);
    let permissions = walker.s2Permissions;
    if (!this.granted(permissions)) return this.fault.second(F_PERMISSION, config, CLASS_IN, frame);
    let clean = walker.s2Clean;
    if (clean && this.writes) {
      const marked = walker.markDirty2();
      if (marked !== WALK_OK) return this.walkFault2(marked, config, frame);
      clean = false;
    }
    if (clean) permissions &= ~MAY_WRITE_ALL;
    const log2 = walker.s2Log2Frames;
    const granule = config.second.granule.log2Bytes;
    this.iotlb.fill(
      config.vmid,
      STAGE2_ONLY,
      frame,
      log2,
      walker.s2Frame,
      frame,
      ALL,
      permissions,
      log2,
      walker.s2Level,
      granule,
      clean,
    );
    return this.answer(walker.s2Frame, log2, ALL, permissions);
  }

  private withStage1(config: StreamConfig, context: ContextConfig, frame: number): number {
    const upper = frame >= UPPER_HALF && (Math.floor(frame / UPPER_HALF) & 1) === 1;
    // With TBI, VA[63:56] count as copies of VA[55] (3.4.1): the IOTLB never sees the top byte.
    const va = (upper ? context.tbi1 : context.tbi0) ? withoutTopByte(frame, upper) : frame;
    this.vmid = config.vmid;
    this.asid = context.asid;
    const at = this.iotlb.find(config.vmid, context.asid, context.globalTag, va);
    if (at >= 0 && !(this.writes && this.iotlb.clean(at))) return this.cached(at, config, context, va);
    return this.walk(config, context, upper, va);
  }

  private walk(config: StreamConfig, context: ContextConfig, upper: boolean, va: number): number {
    this.hit = false;
    const root = upper ? context.upper : context.lower;
    if (root === null) return this.fault.stage1(F_TRANSLATION, context);
    const input = upper ? va - (VA_FRAMES - root.inputFrames) : va;
    if (input < 0 || input >= root.inputFrames) return this.fault.stage1(F_TRANSLATION, context);
    const walker = this.walker;
    const outcome = walker.stage1(root, config.stage2 ? config.second : null, input);
    if (outcome !== WALK_OK) return this.walkFault1(outcome, config, context);
    let first = walker.s1Permissions;
    if (!this.granted(first)) return this.fault.stage1(F_PERMISSION, context);
    let out = walker.s1Frame;
    let log2 = walker.s1Log2Frames;
    let second = ALL;
    if (config.stage2) {
      // A request that stage 1 grants nothing goes no further (3.9.1.2).
      if (this.need === 0 && this.forPrivilege(first) === 0) return this.answer(0, 0, 0, 0);
      const outcome2 = walker.stage2OfOutput(config.second);
      if (outcome2 !== WALK_OK) return this.walkFault2(outcome2, config, walker.s1Frame);
      second = walker.s2Permissions;
      if (!this.granted(second)) return this.fault.second(F_PERMISSION, config, CLASS_IN, walker.s1Frame);
      out = walker.s2Frame;
      log2 = Math.min(log2, walker.s2Log2Frames);
    }
    let clean = (walker.s1Clean || walker.s2Clean) && (first & second & MAY_WRITE_ALL) !== 0;
    if (clean && this.writes && (this.forPrivilege(first & second) & MAY_WRITE) !== 0) {
      const type = this.markDirty(config, context);
      if (type !== 0) return type;
      clean = false;
    }
    if (clean && walker.s1Clean) first &= ~MAY_WRITE_ALL;
    if (clean && walker.s2Clean) second &= ~MAY_WRITE_ALL;
    this.iotlb.fill(
      config.vmid,
      walker.s1Global ? context.globalTag : context.asid,
      va,
      log2,
      out,
      walker.s1Frame,
      first,
      second,
      walker.s1Log2Frames,
      walker.s1Level,
      root.granule.log2Bytes,
      clean,
    );
    return this.answer(out, log2, first, second);
  }

  /** A write that both stages permit is recorded in their leaves (3.13.5). Returns 0, or the fault's type. */
  private markDirty(config: StreamConfig, context: ContextConfig): number {
    const walker = this.walker;
    if (walker.s1Clean) {
      const outcome = walker.markDirty1(config.stage2 ? config.second : null);
      if (outcome !== WALK_OK) return this.walkFault1(outcome, config, context);
    }
    if (walker.s2Clean) {
      const outcome = walker.markDirty2();
      if (outcome !== WALK_OK) return this.walkFault2(outcome, config, walker.s1Frame);
    }
    return 0;
  }

  /** Judges by the entry alone: what memory says now does not matter until the entry is invalidated. */
  private cached(at: number, config: StreamConfig, context: ContextConfig | null, frame: number): number {
    const iotlb = this.iotlb;
    this.hit = true;
    const first = iotlb.s1Permissions(at);
    const second = iotlb.s2Permissions(at);
    if (!this.granted(first & second)) {
      if (context !== null && !this.granted(first)) return this.fault.stage1(F_PERMISSION, context);
      return this.fault.second(F_PERMISSION, config, CLASS_IN, iotlb.ipaFrame(at, frame));
    }
    return this.answer(iotlb.outputFrame(at, frame), iotlb.log2Frames(at), first, second);
  }

  private answer(frame: number, log2Frames: number, first: number, second: number): number {
    this.outFrame = frame;
    this.outLog2Frames = log2Frames;
    this.outPermissions = this.forPrivilege(first & second);
    return 0;
  }

  private forPrivilege(permissions: number): number {
    return (this.privileged ? permissions >>> PRIVILEGED_SHIFT : permissions) & 7;
  }

  private granted(permissions: number): boolean {
    return (this.forPrivilege(permissions) & this.need) === this.need;
  }

  private walkFault1(outcome: number, config: StreamConfig, context: ContextConfig): number {
    const walker = this.walker;
    if (outcome === WALK_ABORT) {
      const { faultInStage2, fetchFrame, fetchOffset } = walker;
      return this.fault.walkAbort(F_WALK_EABT, faultInStage2, CLASS_TT, fetchFrame, fetchOffset);
    }
    if (walker.faultInStage2)
      return this.fault.second(WALK_EVENT[outcome]!, config, CLASS_TT, walker.faultFrame, walker.faultWrite);
    return this.fault.stage1(WALK_EVENT[outcome]!, context);
  }

  private walkFault2(outcome: number, config: StreamConfig, frame: number): number {
    if (outcome === WALK_ABORT) {
      return this.fault.walkAbort(F_WALK_EABT, true, CLASS_IN, this.walker.fetchFrame, this.walker.fetchOffset);
    }
    return this.fault.second(WALK_EVENT[outcome]!, config, CLASS_IN, frame);
  }
}

/** VA[63:56] replaced by copies of VA[55]. */
export function withoutTopByte(frame: number, upper: boolean): number {
  const low = frame - Math.floor(frame / TBI_FRAMES) * TBI_FRAMES;
  return upper ? low + (VA_FRAMES - TBI_FRAMES) : low;
}

/**
 * R, W and Exe of an ATS completion (13.7.1) from the `permissions` of the translation. Execute comes with read only, and
 * only when asked for; so does write, as only a request for it (NW = 0) marks a page dirty. INSTCFG decides what a read needs.
 */
export function atsPermissions(permissions: number, access: number, instCfg: number): number {
  const readable = (permissions & (instCfg === OVERRIDE_SET ? MAY_EXECUTE : MAY_READ)) !== 0;
  const executable = readable && (instCfg === OVERRIDE_CLEAR || (permissions & MAY_EXECUTE) !== 0);
  const writable = (permissions & access & MAY_WRITE) !== 0;
  return (readable ? READ : 0) | (writable ? WRITE : 0) | (executable ? access & EXECUTE : 0);
}
