/** From a change of a page table to TLBI commands by address (4.4.1) and ATC_INV ranges (4.5.1). */
import { CMD, TLBI_TG_LOG2 } from '../../hardware/smmuv3/spec/commands.ts';
import { put } from '../../hardware/smmuv3/spec/field.ts';
import type { CommandBatch } from './commands.ts';
import type { TableFormat } from './table-format.ts';

/** An unmapped range and what of the table went with it. Frames are 4 KiB. */
export interface TableChange {
  readonly format: TableFormat;
  readonly frame: number;
  readonly count: number;
  /** Levels of the leaves that went; 4 and -1 when there were none. */
  readonly lowestLevel: number;
  readonly highestLevel: number;
  /** Tables went too: cached pointers to them must go, not only leaves. */
  readonly tables: boolean;
}

/** Commands by address for one range and tag, before dropping the whole tag is cheaper. */
const MOST_COMMANDS = 512;
/** NUM of a range command has 5 bits, so a range is written in base 32: a command per digit, SCALE its weight. */
const DIGIT_BITS = 5;
const MOST_SCALE = 31;

/**
 * Adds commands that drop the range under one tag.
 * @returns false (nothing added) when there would be too many
 */
export function addRange(
  batch: CommandBatch,
  ranges: boolean,
  opcode: number,
  vmid: number,
  asid: number,
  change: TableChange,
): boolean {
  const { format, count, highestLevel, tables } = change;
  if (ranges) return addDigits(batch, opcode, vmid, asid, change);
  const step = 2 ** format.frameShifts[highestLevel < 0 ? 3 : highestLevel]!;
  if (count / step > MOST_COMMANDS) return false;
  for (let done = 0; done < count; done += step) batch.byAddress(opcode, vmid, asid, change.frame + done, !tables);
  return true;
}

function addDigits(batch: CommandBatch, opcode: number, vmid: number, asid: number, change: TableChange): boolean {
  const { format, lowestLevel, highestLevel, tables } = change;
  const granuleFrames = 2 ** (format.granuleLog2 - 12);
  // The level hint is right only when every leaf was of that level, and says nothing of tables.
  const level = lowestLevel === highestLevel && !tables ? highestLevel : 0;
  let { frame } = change;
  let left = change.count / granuleFrames;
  if (left >= 2 ** (MOST_SCALE + 1)) return false;
  for (let scale = 0; left > 0; scale += DIGIT_BITS) {
    const digit = left % 2 ** DIGIT_BITS;
    left = Math.floor(left / 2 ** DIGIT_BITS);
    if (digit === 0) continue;
    const base = batch.byAddress(opcode, vmid, asid, frame, !tables);
    frame += digit * 2 ** scale * granuleFrames;
    // One granule: the plain form. With TG set, NUM = SCALE = TTL = 0 is not allowed.
    if (digit === 1 && scale === 0) continue;
    put(batch.words, base, CMD.TG, TLBI_TG_LOG2.indexOf(format.granuleLog2));
    put(batch.words, base, CMD.NUM, digit - 1);
    put(batch.words, base, CMD.SCALE, scale);
    put(batch.words, base, CMD.TTL, level);
  }
  return true;
}

/** Adds the one ATC_INV that covers the range: the smallest power of two, aligned, around it. */
export function addAtcRange(
  batch: CommandBatch,
  stream: number,
  substream: number,
  frame: number,
  count: number,
): void {
  const last = frame + count - 1;
  let log2 = 0;
  while (Math.floor(frame / 2 ** log2) !== Math.floor(last / 2 ** log2)) log2++;
  batch.invalidateAtcRange(stream, substream, Math.floor(frame / 2 ** log2) * 2 ** log2, log2);
}
