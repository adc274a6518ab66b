/**
 * Layouts against numbers from elsewhere: the masks of the Linux driver's header (facts of the architecture, written
 * here as values), and event records that another model wrote.
 */
import { describe, expect, it } from 'vitest';
import { CD } from './cd.ts';
import { CMD } from './commands.ts';
import { EVENT } from './events.ts';
import { bits, type Field, type Fields, frameAt, get, getWide, offsetAt, put, putFrame } from './field.ts';
import { PAGE_REQUEST } from './page-requests.ts';
import { REGISTERS, type RegisterSpec } from './registers.ts';
import { L1STD, STE } from './ste.ts';

/** [64-bit word, high bit, low bit] as GENMASK_ULL writes it. */
function place(f: Field): [number, number, number] {
  const lsb = f.word * 32 + f.shift;
  return [Math.floor(lsb / 64), (lsb % 64) + f.width - 1, lsb % 64];
}

const GOLDEN: Array<[string, Field, [number, number, number]]> = [
  ['STE.Config', STE.Config, [0, 3, 1]],
  ['STE.S1Fmt', STE.S1Fmt, [0, 5, 4]],
  ['STE.S1ContextPtr', STE.S1ContextPtr, [0, 51, 6]],
  ['STE.S1CDMax', STE.S1CDMax, [0, 63, 59]],
  ['STE.S1DSS', STE.S1DSS, [1, 1, 0]],
  ['STE.MEV', STE.MEV, [1, 19, 19]],
  ['STE.S2FWB', STE.S2FWB, [1, 25, 25]],
  ['STE.S1STALLD', STE.S1STALLD, [1, 27, 27]],
  ['STE.EATS', STE.EATS, [1, 29, 28]],
  ['STE.STRW', STE.STRW, [1, 31, 30]],
  ['STE.SHCFG', STE.SHCFG, [1, 45, 44]],
  ['STE.S2VMID', STE.S2VMID, [2, 15, 0]],
  ['STE.S2T0SZ', STE.S2T0SZ, [2, 37, 32]],
  ['STE.S2SL0', STE.S2SL0, [2, 39, 38]],
  ['STE.S2TG', STE.S2TG, [2, 47, 46]],
  ['STE.S2PS', STE.S2PS, [2, 50, 48]],
  ['STE.S2AA64', STE.S2AA64, [2, 51, 51]],
  ['STE.S2ENDI', STE.S2ENDI, [2, 52, 52]],
  ['STE.S2PTW', STE.S2PTW, [2, 54, 54]],
  ['STE.S2S', STE.S2S, [2, 57, 57]],
  ['STE.S2R', STE.S2R, [2, 58, 58]],
  ['STE.S2TTB', STE.S2TTB, [3, 51, 4]],
  ['L1STD.Span', L1STD.Span, [0, 4, 0]],
  ['L1STD.L2Ptr', L1STD.L2Ptr, [0, 51, 6]],
  ['CD.T0SZ', CD.T0SZ, [0, 5, 0]],
  ['CD.TG0', CD.TG0, [0, 7, 6]],
  ['CD.EPD0', CD.EPD0, [0, 14, 14]],
  ['CD.EPD1', CD.EPD1, [0, 30, 30]],
  ['CD.V', CD.V, [0, 31, 31]],
  ['CD.IPS', CD.IPS, [0, 34, 32]],
  ['CD.TBI0', CD.TBI0, [0, 38, 38]],
  ['CD.AA64', CD.AA64, [0, 41, 41]],
  ['CD.HD', CD.HD, [0, 42, 42]],
  ['CD.HA', CD.HA, [0, 43, 43]],
  ['CD.S', CD.S, [0, 44, 44]],
  ['CD.R', CD.R, [0, 45, 45]],
  ['CD.A', CD.A, [0, 46, 46]],
  ['CD.ASET', CD.ASET, [0, 47, 47]],
  ['CD.ASID', CD.ASID, [0, 63, 48]],
  ['CD.TTB0', CD.TTB0, [1, 51, 4]],
  ['CD.TTB1', CD.TTB1, [2, 51, 4]],
  ['CMD.SSV', CMD.SSV, [0, 11, 11]],
  ['CMD.SubstreamID', CMD.SubstreamID, [0, 31, 12]],
  ['CMD.StreamID', CMD.StreamID, [0, 63, 32]],
  ['CMD.Leaf', CMD.Leaf, [1, 0, 0]],
  ['CMD.Range', CMD.Range, [1, 4, 0]],
  ['CMD.NUM', CMD.NUM, [0, 16, 12]],
  ['CMD.SCALE', CMD.SCALE, [0, 24, 20]],
  ['CMD.VMID', CMD.VMID, [0, 47, 32]],
  ['CMD.ASID', CMD.ASID, [0, 63, 48]],
  ['CMD.TTL', CMD.TTL, [1, 9, 8]],
  ['CMD.TG', CMD.TG, [1, 11, 10]],
  ['CMD.Address', CMD.Address, [1, 63, 12]],
  ['CMD.Global', CMD.Global, [0, 9, 9]],
  ['CMD.Size', CMD.Size, [1, 5, 0]],
  ['CMD.PRGIndex', CMD.PRGIndex, [1, 8, 0]],
  ['CMD.Resp', CMD.Resp, [1, 13, 12]],
  ['CMD.CS', CMD.CS, [0, 13, 12]],
  ['CMD.MSIData', CMD.MSIData, [0, 63, 32]],
  ['CMD.MSIAddress', CMD.MSIAddress, [1, 51, 2]],
  ['EVENT.STAG', EVENT.STAG, [1, 15, 0]],
  ['EVENT.Stall', EVENT.Stall, [1, 31, 31]],
  ['EVENT.PnU', EVENT.PnU, [1, 33, 33]],
  ['EVENT.InD', EVENT.InD, [1, 34, 34]],
  ['EVENT.RnW', EVENT.RnW, [1, 35, 35]],
  ['EVENT.S2', EVENT.S2, [1, 39, 39]],
  ['EVENT.CLASS', EVENT.CLASS, [1, 41, 40]],
  ['EVENT.TTRnW', EVENT.TTRnW, [1, 44, 44]],
  ['EVENT.InputAddr', EVENT.InputAddr, [2, 63, 0]],
  ['EVENT.IPA', EVENT.IPA, [3, 51, 12]],
  ['EVENT.FetchAddr', EVENT.FetchAddr, [3, 51, 3]],
  ['PAGE_REQUEST.SubstreamID', PAGE_REQUEST.SubstreamID, [0, 51, 32]],
  ['PAGE_REQUEST.Priv', PAGE_REQUEST.Priv, [0, 58, 58]],
  ['PAGE_REQUEST.Write', PAGE_REQUEST.Write, [0, 61, 61]],
  ['PAGE_REQUEST.Last', PAGE_REQUEST.Last, [0, 62, 62]],
  ['PAGE_REQUEST.SSV', PAGE_REQUEST.SSV, [0, 63, 63]],
  ['PAGE_REQUEST.PRGIndex', PAGE_REQUEST.PRGIndex, [1, 8, 0]],
  ['PAGE_REQUEST.Address', PAGE_REQUEST.Address, [1, 63, 12]],
];

const OFFSETS: Record<string, number> = {
  IDR0: 0x0,
  IDR5: 0x14,
  IIDR: 0x18,
  AIDR: 0x1c,
  CR0: 0x20,
  CR0ACK: 0x24,
  GBPA: 0x44,
  IRQ_CTRL: 0x50,
  GERROR: 0x60,
  GERRORN: 0x64,
  GERROR_IRQ_CFG0: 0x68,
  STRTAB_BASE: 0x80,
  STRTAB_BASE_CFG: 0x88,
  CMDQ_BASE: 0x90,
  CMDQ_PROD: 0x98,
  CMDQ_CONS: 0x9c,
  EVENTQ_BASE: 0xa0,
  EVENTQ_IRQ_CFG0: 0xb0,
  PRIQ_BASE: 0xc0,
  PRIQ_IRQ_CFG2: 0xdc,
  EVENTQ_PROD: 0x100a8,
  EVENTQ_CONS: 0x100ac,
  PRIQ_PROD: 0x100c8,
  PRIQ_CONS: 0x100cc,
};

describe('layouts', () => {
  it.each(GOLDEN)('%s stands where the driver has it', (_name, field, expected) => {
    expect(place(field)).toEqual(expected);
  });

  it.each(Object.entries(OFFSETS))('%s is at its offset', (name, offset) => {
    expect(REGISTERS[name as keyof typeof REGISTERS].offset).toBe(offset);
  });

  it('give no bit of a register to two fields', () => {
    for (const [name, spec] of Object.entries(REGISTERS) as Array<[string, RegisterSpec]>) {
      const seen = new Set<number>();
      for (const f of Object.values(spec.fields)) {
        for (let n = 0; n < f.width; n++) {
          const at = f.word * 32 + f.shift + n;
          expect(seen.has(at), `${name} bit ${at}`).toBe(false);
          expect(at, name).toBeLessThan(spec.words * 32);
          seen.add(at);
        }
      }
    }
  });

  it('read a recorded F_TRANSLATION record of stage 2', () => {
    // Written by another model: StreamID 8, read, IN, S2, InputAddr and IPA 0x10c4864270c.
    const raw = '100000000800000000000000880200000c2764480c0100000c2764480c010000';
    const words = new Uint32Array(Uint8Array.from(raw.match(/../g)!, (b) => Number.parseInt(b, 16)).buffer);
    const seen = Object.fromEntries(
      (['Type', 'StreamID', 'RnW', 'S2', 'CLASS'] as const).map((n) => [n, get(words, 0, EVENT[n])]),
    );
    expect(seen).toEqual({ Type: 0x10, StreamID: 8, RnW: 1, S2: 1, CLASS: 2 });
    expect(getWide(words, 0, EVENT.InputAddr)).toBe(0x10c4864270cn);
    expect(getWide(words, 0, EVENT.IPA)).toBe(0x10c48642000n);
  });
});

describe('fields', () => {
  it('of one word keep their neighbours', () => {
    const words = Uint32Array.of(0xffffffff, 0xffffffff);
    put(words, 0, bits(35, 33), 0b010);
    expect([...words]).toEqual([0xffffffff, 0xfffffff5]);
    expect(get(words, 0, bits(35, 33))).toBe(0b010);
    put(words, 1, bits(31, 0), 0x80000001);
    expect(get(words, 1, bits(31, 0))).toBe(0x80000001);
  });

  it('of 52-bit addresses are frames and offsets', () => {
    const words = new Uint32Array(4);
    const f: Fields = { a: bits(115, 68) };
    putFrame(words, 0, f.a!, 0xfedcba9876, 0xff0);
    expect([...words]).toEqual([0, 0, 0xa9876ff0, 0xfedcb]);
    expect([frameAt(words, 0, f.a!), offsetAt(words, 0, f.a!)]).toEqual([0xfedcba9876, 0xff0]);
    expect(getWide(words, 0, f.a!)).toBe(0xfedcba9876ff0n);
  });

  it('of 64-bit addresses reach bit 63', () => {
    const words = new Uint32Array(8);
    putFrame(words, 0, EVENT.InputAddr, 2 ** 52 - 1, 0x123);
    expect(getWide(words, 0, EVENT.InputAddr)).toBe(0xfffffffffffff123n);
    expect(frameAt(words, 0, EVENT.InputAddr)).toBe(2 ** 52 - 1);
  });
});
