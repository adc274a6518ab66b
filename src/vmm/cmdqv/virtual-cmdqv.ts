/**
 * A CMDQV with one VINTF, as the guest sees it: the page of its configuration and page 1, where the addresses of queues
 * are, are trapped; page 0, with what a running queue needs, is the host's own, mapped into the guest twice.
 */
import * as spec from '../../hardware/cmdqv/spec/registers.ts';
import type { InterruptLine, MmioDevice } from '../../hardware/iommu.ts';
import { fieldBits, get, getWide, put } from '../../hardware/smmuv3/spec/field.ts';
import type { Faults } from '../faults.ts';
import type { EventSink } from '../host-events.ts';
import type { CmdqvInfo } from '../slice-calls.ts';
import type { HostQueues } from './host-queues.ts';

const { CONFIG, PARAM, STATUS, VI_ERR_MAP, VI_INT_MASK, CMDQ_ERR_MAP, CMDQ_ALLOC_MAP } = spec.CONFIG_REGISTERS;
const { VINTF, PAGE0, PAGE1 } = spec;

/** The trapped registers of a queue. */
const PAGE1_WORDS = 4;
const PAGE_MASK = spec.PAGE_BYTES - 1;
const CONFIG_WORDS = 0x1100 / 4;
const BASE_HIGH = PAGE1.BASE.offset + 4;

export interface VirtualCmdqvParts {
  readonly info: CmdqvInfo;
  readonly host: HostQueues;
  readonly faults: Faults;
  /** A queue has met an error. */
  readonly interrupt: InterruptLine;
}

export class VirtualCmdqv implements MmioDevice, EventSink {
  private readonly parts: VirtualCmdqvParts;
  private readonly queues: number;
  /** The configuration page, without the maps of errors. */
  private readonly config: Uint32Array;
  private readonly page1: Uint32Array;
  /** Page 0 of queues that only seem to run. */
  private readonly pretended: Uint32Array;

  constructor(parts: VirtualCmdqvParts) {
    this.parts = parts;
    this.queues = 2 ** parts.info.log2Queues;
    this.config = new Uint32Array(CONFIG_WORDS);
    this.page1 = new Uint32Array(this.queues * PAGE1_WORDS);
    this.pretended = new Uint32Array((this.queues * spec.VCMDQ_BYTES) / 4);
    this.initialise();
  }

  /** As after power-on: nothing of the guest's memory is a queue any more. */
  reset(): void {
    this.parts.host.reset();
    this.initialise();
  }

  readRegister(offset: number, size: number): number {
    if (size !== 4) return 0;
    const at = offset & PAGE_MASK;
    switch (offset - at) {
      case spec.CONFIG_PAGE:
        return this.readConfig(at);
      case spec.VCMDQ_PAGE0:
      case spec.VINTF_PAGES:
        return this.pretends(at) ? this.pretended[at >>> 2]! : this.parts.host.load(at);
      case spec.VCMDQ_PAGE1:
      case spec.VINTF_PAGES + spec.PAGE_BYTES:
        return this.page1[this.page1Word(at)] ?? 0;
      default:
        return 0;
    }
  }

  writeRegister(offset: number, size: number, value: number): void {
    if (size !== 4) return;
    const at = offset & PAGE_MASK;
    switch (offset - at) {
      case spec.CONFIG_PAGE:
        this.writeConfig(at, value);
        break;
      case spec.VCMDQ_PAGE0:
      case spec.VINTF_PAGES:
        if (this.pretends(at)) this.pretend(at, value);
        else this.parts.host.store(at, value);
        break;
      case spec.VCMDQ_PAGE1:
      case spec.VINTF_PAGES + spec.PAGE_BYTES:
        this.writePage1(at, value);
        break;
      default:
        break;
    }
  }

  /** The host tells of queues in error. Which they are stands in their registers, too, and is looked up there. */
  record(): void {
    if ((this.config[VI_INT_MASK.offset / 4]! & 1) === 0) this.parts.interrupt();
  }

  lost(): void {
    this.record();
  }

  private initialise(): void {
    const { version, log2Queues, log2Sids } = this.parts.info;
    this.config.fill(0);
    this.page1.fill(0);
    this.pretended.fill(0);
    this.config[CONFIG.offset / 4] = CONFIG.reset;
    put(this.config, PARAM.offset / 4, PARAM.fields.CMDQV_VER, version);
    put(this.config, PARAM.offset / 4, PARAM.fields.CMDQV_NUM_CMDQ_LOG2, log2Queues);
    put(this.config, PARAM.offset / 4, PARAM.fields.CMDQV_NUM_SID_PER_VI_LOG2, log2Sids);
    this.update();
  }

  private readConfig(at: number): number {
    switch (at) {
      case VI_ERR_MAP.offset:
        return this.errorMap() === 0 ? 0 : 1;
      case CMDQ_ERR_MAP.offset:
      case spec.VINTF_REGISTERS + VINTF.LVCMDQ_ERR_MAP.offset:
        return this.errorMap();
      default:
        return this.config[at >>> 2] ?? 0;
    }
  }

  private writeConfig(at: number, value: number): void {
    if (at === CONFIG.offset) this.config[at / 4] = value & fieldBits(CONFIG.fields, 0);
    else if (at === VI_INT_MASK.offset) this.config[at / 4] = value & 1;
    else if (at >= CMDQ_ALLOC_MAP.offset && at < CMDQ_ALLOC_MAP.offset + 4 * this.queues) {
      this.config[at >>> 2] = value & fieldBits(CMDQ_ALLOC_MAP.fields, 0);
    } else if (at === spec.VINTF_REGISTERS + VINTF.CONFIG.offset) {
      this.config[at / 4] = value & fieldBits(VINTF.CONFIG.fields, 0);
      // A guest owns no hypervisor's interface, whatever it asks for: it finds out by reading this back.
      if (!this.parts.faults.exposeHypOwn) put(this.config, at / 4, VINTF.CONFIG.fields.HYP_OWN, 0);
    } else return;
    this.update();
  }

  /** Whatever is enabled is ready at once; what is not has no queues, which end in the reverse of their order. */
  private update(): void {
    const { config } = this;
    const vintf = spec.VINTF_REGISTERS / 4;
    const enabled = get(config, CONFIG.offset / 4, CONFIG.fields.CMDQV_EN);
    if (!enabled) config.fill(0, CMDQ_ALLOC_MAP.offset / 4, CMDQ_ALLOC_MAP.offset / 4 + this.queues);
    put(config, STATUS.offset / 4, STATUS.fields.CMDQV_ENABLED, enabled);
    const ready = enabled & get(config, vintf + VINTF.CONFIG.offset / 4, VINTF.CONFIG.fields.ENABLE);
    put(config, vintf + VINTF.STATUS.offset / 4, VINTF.STATUS.fields.ENABLE_OK, ready);
    put(config, vintf + VINTF.STATUS.offset / 4, VINTF.STATUS.fields.VI_NUM_LVCMDQ, this.queues);
    for (let index = this.queues - 1; index >= 0; index--) if (!this.allocated(index)) this.parts.host.stop(index);
  }

  /** A store of 64 bits comes as two, the low half first: with the high one the address is there. */
  private writePage1(at: number, value: number): void {
    const word = this.page1Word(at);
    if (word < 0) return;
    this.page1[word] = value;
    if (at % spec.VCMDQ_BYTES === BASE_HIGH) this.place(Math.floor(at / spec.VCMDQ_BYTES));
  }

  private place(index: number): void {
    const { host } = this.parts;
    const base = index * PAGE1_WORDS;
    const log2Entries = get(this.page1, base, PAGE1.BASE.fields.LOG2SIZE);
    if (log2Entries > 0 && this.allocated(index)) {
      host.start(index, getWide(this.page1, base, PAGE1.BASE.fields.ADDR), log2Entries);
    } else host.stop(index);
  }

  private allocated(index: number): boolean {
    const ready = get(this.config, spec.VINTF_REGISTERS / 4 + VINTF.STATUS.offset / 4, VINTF.STATUS.fields.ENABLE_OK);
    return ready === 1 && get(this.config, CMDQ_ALLOC_MAP.offset / 4 + index, CMDQ_ALLOC_MAP.fields.ALLOC) === 1;
  }

  /** A bit for each queue whose GERROR and GERRORN differ. */
  private errorMap(): number {
    const { host } = this.parts;
    let map = 0;
    for (let index = 0; index < this.queues; index++) {
      const at = index * spec.VCMDQ_BYTES;
      if (host.load(at + PAGE0.GERROR.offset) !== host.load(at + PAGE0.GERRORN.offset)) map |= 1 << index;
    }
    return map;
  }

  private page1Word(at: number): number {
    const [index, offset] = [Math.floor(at / spec.VCMDQ_BYTES), at % spec.VCMDQ_BYTES];
    return index < this.queues && offset < PAGE1_WORDS * 4 ? index * PAGE1_WORDS + (offset >>> 2) : -1;
  }

  private pretends(at: number): boolean {
    const { faults, host } = this.parts;
    const index = Math.floor(at / spec.VCMDQ_BYTES);
    return faults.pretendQueues === true && index < this.queues && !host.runs(index);
  }

  private pretend(at: number, value: number): void {
    this.pretended[at >>> 2] = value;
    if (at % spec.VCMDQ_BYTES === PAGE0.CONFIG.offset) {
      this.pretended[(at - PAGE0.CONFIG.offset + PAGE0.STATUS.offset) >>> 2] = value & 1;
    }
  }
}
