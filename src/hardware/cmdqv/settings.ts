/** What a CMDQV is, and its PARAM register. */
import { put } from '../smmuv3/spec/field.ts';
import {
  CONFIG_REGISTERS,
  MOST_LOG2_SIDS,
  MOST_LOG2_VCMDQS,
  MOST_LOG2_VINTFS,
  PAGE_BYTES,
  VINTF_PAGES,
} from './spec/registers.ts';

export interface CmdqvSettings {
  /** PARAM.CMDQV_VER */
  readonly version: number;
  /** log2 of the virtual interfaces, at most 6; of the VCMDQs of all of them, at most 7; of the StreamIDs of each, at most 4. */
  readonly log2Vintfs: number;
  readonly log2Vcmdqs: number;
  readonly log2Sids: number;
}

/** That of Grace: 64 VINTFs, 128 VCMDQs, 16 StreamIDs for each VINTF. */
export const DEFAULT_CMDQV_SETTINGS: CmdqvSettings = Object.freeze({
  version: 1,
  log2Vintfs: MOST_LOG2_VINTFS,
  log2Vcmdqs: MOST_LOG2_VCMDQS,
  log2Sids: MOST_LOG2_SIDS,
});

/** Size of the register block. */
export const cmdqvBytes = (settings: CmdqvSettings): number => VINTF_PAGES + 2 * PAGE_BYTES * 2 ** settings.log2Vintfs;

/** PARAM. Throws with one sentence that names the setting when it is out of range. */
export function paramRegister(settings: CmdqvSettings): number {
  checkSettings(settings);
  const { fields } = CONFIG_REGISTERS.PARAM;
  const word = new Uint32Array(1);
  put(word, 0, fields.CMDQV_VER, settings.version);
  put(word, 0, fields.CMDQV_NUM_CMDQ_LOG2, settings.log2Vcmdqs);
  put(word, 0, fields.CMDQV_NUM_VI_LOG2, settings.log2Vintfs);
  put(word, 0, fields.CMDQV_NUM_SID_PER_VI_LOG2, settings.log2Sids);
  return word[0]!;
}

function checkSettings(settings: CmdqvSettings): void {
  const range = (key: keyof CmdqvSettings, low: number, high: number): void => {
    const value = settings[key];
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new Error(`CMDQV setting ${key} is ${value}; expected an integer from ${low} to ${high}`);
    }
  };
  range('version', 0, 15);
  range('log2Vintfs', 0, MOST_LOG2_VINTFS);
  // A VINTF without a queue is of no use.
  range('log2Vcmdqs', settings.log2Vintfs, MOST_LOG2_VCMDQS);
  range('log2Sids', 0, MOST_LOG2_SIDS);
}
