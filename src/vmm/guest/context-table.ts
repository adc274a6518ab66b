/** The guest's context descriptors of one stream, one for each SSID, in a linear table. */
import { CD, CD_BYTES, CD_WORDS } from '../../hardware/smmuv3/spec/cd.ts';
import { put, putFrame } from '../../hardware/smmuv3/spec/field.ts';
import { CONFIG_S1, EATS_ABORT, EATS_FULL, S1DSS_SSID0, STE, STE_WORDS } from '../../hardware/smmuv3/spec/ste.ts';
import type { AddressSpace } from './address-space.ts';
import { frameOf, type GuestRam } from './ram.ts';

/** 48 bits of IOVA. */
const T0SZ = 16;
const NORMAL_WRITE_BACK = 0xff;

export class ContextTable {
  private readonly ram: GuestRam;
  private readonly base: bigint;
  private readonly log2Entries: number;
  /** CD.IPS, as IDR5.OAS has it. */
  private readonly outputSize: number;

  constructor(ram: GuestRam, outputSize: number, log2Entries = 0) {
    this.ram = ram;
    this.base = ram.allocate();
    this.log2Entries = log2Entries;
    this.outputSize = outputSize;
  }

  set(ssid: number, space: AddressSpace): void {
    const words = new Uint32Array(CD_WORDS);
    put(words, 0, CD.T0SZ, T0SZ);
    put(words, 0, CD.EPD1, 1);
    put(words, 0, CD.V, 1);
    put(words, 0, CD.IPS, this.outputSize);
    for (const flag of [CD.AA64, CD.R, CD.A, CD.ASET]) put(words, 0, flag, 1);
    put(words, 0, CD.ASID, space.asid);
    putFrame(words, 0, CD.TTB0, frameOf(space.root));
    put(words, 0, CD.MAIR0, NORMAL_WRITE_BACK);
    this.ram.words(this.base + BigInt(CD_BYTES * ssid), CD_WORDS).set(words);
  }

  /** The STE that leads here. Requests without a PASID use SSID 0. */
  ste(ats: boolean): Uint32Array {
    const words = new Uint32Array(STE_WORDS);
    put(words, 0, STE.V, 1);
    put(words, 0, STE.Config, CONFIG_S1);
    putFrame(words, 0, STE.S1ContextPtr, frameOf(this.base));
    put(words, 0, STE.S1CDMax, this.log2Entries);
    put(words, 0, STE.S1DSS, this.log2Entries > 0 ? S1DSS_SSID0 : 0);
    put(words, 0, STE.EATS, ats ? EATS_FULL : EATS_ABORT);
    return words;
  }
}
