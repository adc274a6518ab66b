/**
 * A virtual interface: the queues of one owner, and what their commands may reach. The hypervisor's (HYP_OWN) give any
 * command. A guest's give invalidations of stage 1 and of ATCs, under the VMID of the VINTF and for its StreamIDs.
 */
import {
  CERROR_ILL,
  CMD,
  CMD_ATC_INV,
  CMD_SYNC,
  CMD_TLBI_NH_ASID,
  CMD_TLBI_NH_VA,
  CS_NONE,
} from '../smmuv3/spec/commands.ts';
import { fieldBits, get, put } from '../smmuv3/spec/field.ts';
import { namedWords } from './named-words.ts';
import { CERROR_ILL_ACCESS, VINTF, VINTF_NO_ERROR, VINTF_VCMDQ_ERROR } from './spec/registers.ts';
import type { Vcmdq } from './vcmdq.ts';

const CONFIG = VINTF.CONFIG.fields;
const STATUS = VINTF.STATUS.fields;
const MATCH = VINTF.SID_MATCH.fields;

const NAMES = namedWords(VINTF);

export class Vintf {
  readonly index: number;
  /** By logical index. */
  readonly queues: Vcmdq[];
  private readonly unit: { readonly enabled: boolean };
  private readonly config: Uint32Array;
  private readonly sidMatch: Uint32Array;
  private readonly sidReplace: Uint32Array;

  /**
   * @param unit the CMDQV, which has to be enabled, too
   * @param sids pairs of SID_MATCH and SID_REPLACE
   */
  constructor(index: number, unit: { readonly enabled: boolean }, sids: number) {
    this.index = index;
    this.queues = [];
    this.unit = unit;
    this.config = new Uint32Array(1);
    this.sidMatch = new Uint32Array(sids);
    this.sidReplace = new Uint32Array(sids);
  }

  reset(): void {
    this.queues.length = 0;
    this.config.fill(0);
    this.sidMatch.fill(0);
    this.sidReplace.fill(0);
  }

  /** Takes a queue as the one of `logicalIndex`, if it is the next. */
  take(queue: Vcmdq, logicalIndex: number): boolean {
    if (logicalIndex !== this.queues.length) return false;
    this.queues.push(queue);
    queue.vintf = this;
    return true;
  }

  /** Gives a queue of this VINTF back, if it is the last. */
  giveBack(queue: Vcmdq): boolean {
    if (this.queues.at(-1) !== queue) return false;
    this.queues.pop();
    queue.vintf = null;
    return true;
  }

  get enabled(): boolean {
    return this.unit.enabled && this.switchedOn;
  }

  get failing(): boolean {
    return this.queues.some((queue) => queue.failing);
  }

  /** Value of the register at `offset` of the VINTF, or -1 where there is none. */
  read(offset: number): number {
    const name = NAMES[offset / 4];
    if (name === undefined) return -1;
    const n = (offset - VINTF[name].offset) / 4;
    switch (name) {
      case 'CONFIG':
        return this.config[0]!;
      case 'STATUS':
        return this.status();
      case 'SID_MATCH':
        return this.sidMatch[n] ?? -1;
      case 'SID_REPLACE':
        return this.sidReplace[n] ?? -1;
      case 'LVCMDQ_ERR_MAP':
        return failures(this.queues, n);
    }
  }

  write(offset: number, value: number): void {
    const name = NAMES[offset / 4];
    if (name === undefined) return;
    const n = (offset - VINTF[name].offset) / 4;
    const sanitised = value & fieldBits(VINTF[name].fields, 0);
    if (name === 'CONFIG') this.configure(sanitised);
    else if (name === 'SID_MATCH') this.sidMatch[n] = sanitised;
    else if (name === 'SID_REPLACE') this.sidReplace[n] = sanitised;
  }

  /** May a queue of this VINTF give `command`? Returns 0, with VMID and StreamID now the physical ones, or the error. */
  admit(command: Uint32Array): number {
    const opcode = get(command, 0, CMD.Opcode);
    // A CMDQV completes by CONS alone: no interrupt, no message, no event.
    if (opcode === CMD_SYNC) return get(command, 0, CMD.CS) === CS_NONE ? 0 : CERROR_ILL;
    if (get(this.config, 0, CONFIG.HYP_OWN) === 1) return 0;
    switch (opcode) {
      case CMD_TLBI_NH_ASID:
      case CMD_TLBI_NH_VA:
        put(command, 0, CMD.VMID, get(this.config, 0, CONFIG.VMID));
        return 0;
      case CMD_ATC_INV:
        return this.replaceStream(command);
      default:
        return CERROR_ILL_ACCESS;
    }
  }

  private replaceStream(command: Uint32Array): number {
    const stream = get(command, 0, CMD.StreamID);
    for (let n = 0; n < this.sidMatch.length; n++) {
      if (get(this.sidMatch, n, MATCH.ENABLE) === 0 || get(this.sidMatch, n, MATCH.VIRT_SID) !== stream) continue;
      put(command, 0, CMD.StreamID, this.sidReplace[n]!);
      return 0;
    }
    return CERROR_ILL_ACCESS;
  }

  /** Whose the queues are, and their VMID, is settled while the VINTF is off. */
  private configure(value: number): void {
    if (this.switchedOn) put(this.config, 0, CONFIG.ENABLE, value);
    else this.config[0] = value;
  }

  private status(): number {
    const word = new Uint32Array(1);
    put(word, 0, STATUS.ENABLE_OK, Number(this.enabled));
    put(word, 0, STATUS.STATUS, this.failing ? VINTF_VCMDQ_ERROR : VINTF_NO_ERROR);
    put(word, 0, STATUS.VI_NUM_LVCMDQ, this.queues.length);
    return word[0]!;
  }

  private get switchedOn(): boolean {
    return get(this.config, 0, CONFIG.ENABLE) === 1;
  }
}

/** 32 bits of an error map: those from 32 * `word` on. */
export function failures(parts: ReadonlyArray<{ readonly failing: boolean }>, word: number): number {
  let map = 0;
  for (let n = 0; n < 32; n++) if (parts[32 * word + n]?.failing) map |= 1 << n;
  return map >>> 0;
}
