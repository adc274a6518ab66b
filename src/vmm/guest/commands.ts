/** Commands of the guest's driver (IHI 0070, chapter 4), as four words each. */
import * as spec from '../../hardware/smmuv3/spec/commands.ts';
import { CMD, COMMAND_WORDS } from '../../hardware/smmuv3/spec/commands.ts';
import { type Field, put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { frameOf } from './ram.ts';

export type Command = Uint32Array;

/** CMD_CFGI_STE_RANGE with this Range is CMD_CFGI_ALL. */
const EVERYTHING = 31;
const TG_4K = 1;
/** CMD_ATC_INV.Size: every address. */
const ATC_ALL = 52;

function command(opcode: number, ...fields: readonly (readonly [Field, number])[]): Command {
  const words = new Uint32Array(COMMAND_WORDS);
  put(words, 0, CMD.Opcode, opcode);
  for (const [field, value] of fields) put(words, 0, field, value);
  return words;
}

function at(words: Command, address: bigint): Command {
  putFrame(words, 0, CMD.Address, frameOf(address));
  return words;
}

export const sync = (): Command => command(spec.CMD_SYNC);

export const cfgiAll = (): Command => command(spec.CMD_CFGI_STE_RANGE, [CMD.Range, EVERYTHING]);

/** 2^log2Streams streams around `sid`; at least two. */
export const cfgiSteRange = (sid: number, log2Streams: number): Command =>
  command(spec.CMD_CFGI_STE_RANGE, [CMD.StreamID, sid], [CMD.Range, log2Streams - 1]);

export const cfgiSte = (sid: number): Command => command(spec.CMD_CFGI_STE, [CMD.StreamID, sid], [CMD.Leaf, 1]);

export const cfgiCd = (sid: number, ssid: number): Command =>
  command(spec.CMD_CFGI_CD, [CMD.StreamID, sid], [CMD.SubstreamID, ssid], [CMD.Leaf, 1]);

export const tlbiAll = (): Command => command(spec.CMD_TLBI_NSNH_ALL);

export const tlbiNhAll = (): Command => command(spec.CMD_TLBI_NH_ALL);

export const tlbiAsid = (asid: number): Command => command(spec.CMD_TLBI_NH_ASID, [CMD.ASID, asid]);

export const tlbiPage = (asid: number, iova: bigint): Command =>
  at(command(spec.CMD_TLBI_NH_VA, [CMD.ASID, asid], [CMD.Leaf, 1]), iova);

/** (num + 1) * 2^scale pages from `iova` on, which need be aligned to nothing but a page. */
export const tlbiRange = (asid: number, iova: bigint, num: number, scale: number): Command => {
  const range = [CMD.NUM, num] as const;
  return at(
    command(spec.CMD_TLBI_NH_VA, [CMD.ASID, asid], [CMD.Leaf, 1], range, [CMD.SCALE, scale], [CMD.TG, TG_4K]),
    iova,
  );
};

export const atcInvPage = (sid: number, iova: bigint): Command =>
  at(command(spec.CMD_ATC_INV, [CMD.StreamID, sid]), iova);

export const atcInvAll = (sid: number): Command => command(spec.CMD_ATC_INV, [CMD.StreamID, sid], [CMD.Size, ATC_ALL]);
