/** Batches of SMMU commands under construction: the words of chapter 4, one command after another. */

import { NO_SUBSTREAM } from '../../hardware/iommu.ts';
import * as spec from '../../hardware/smmuv3/spec/commands.ts';
import { CMD, COMMAND_WORDS } from '../../hardware/smmuv3/spec/commands.ts';
import { put, putFrame } from '../../hardware/smmuv3/spec/field.ts';

/** CMD_ATC_INV: Size of everything (4.5.1). */
const ATC_ALL = 52;

export class CommandBatch {
  /** Commands in the batch. */
  length: number;
  words: Uint32Array;

  constructor() {
    this.length = 0;
    this.words = new Uint32Array(16 * COMMAND_WORDS);
  }

  raw(w0: number, w1: number, w2: number, w3: number): void {
    const base = this.grow();
    this.words[base] = w0;
    this.words[base + 1] = w1;
    this.words[base + 2] = w2;
    this.words[base + 3] = w3;
  }

  invalidateAllConfiguration(): void {
    const base = this.start(spec.CMD_CFGI_STE_RANGE);
    put(this.words, base, CMD.Range, 31);
  }

  /** The STE only: the level 1 descriptors above it do not change while they are valid. */
  invalidateSte(stream: number): void {
    const base = this.start(spec.CMD_CFGI_STE);
    put(this.words, base, CMD.StreamID, stream);
    put(this.words, base, CMD.Leaf, 1);
  }

  /** A context descriptor; without `leaf` also what points to it. */
  invalidateContext(stream: number, substream: number, leaf: boolean): void {
    const base = this.start(spec.CMD_CFGI_CD);
    put(this.words, base, CMD.StreamID, stream);
    put(this.words, base, CMD.SubstreamID, substream);
    put(this.words, base, CMD.Leaf, leaf ? 1 : 0);
  }

  /** Every Non-secure EL1 entry, whatever its VMID. */
  invalidateAllTranslations(): void {
    this.start(spec.CMD_TLBI_NSNH_ALL);
  }

  /** Stage 1 and nested entries of a VMID. */
  invalidateStage1(vmid: number): void {
    put(this.words, this.start(spec.CMD_TLBI_NH_ALL), CMD.VMID, vmid);
  }

  /** Every entry of a VMID. */
  invalidateVmid(vmid: number): void {
    put(this.words, this.start(spec.CMD_TLBI_S12_VMALL), CMD.VMID, vmid);
  }

  /** Host stage 1 (VMID 0) entries of an ASID. */
  invalidateAsid(asid: number): void {
    put(this.words, this.start(spec.CMD_TLBI_NH_ASID), CMD.ASID, asid);
  }

  /** Starts a TLBI by address at `frame`. @returns where its words begin, for the range fields */
  byAddress(opcode: number, vmid: number, asid: number, frame: number, leaf: boolean): number {
    const base = this.start(opcode);
    put(this.words, base, CMD.VMID, vmid);
    put(this.words, base, CMD.ASID, asid);
    put(this.words, base, CMD.Leaf, leaf ? 1 : 0);
    putFrame(this.words, base, CMD.Address, frame);
    return base;
  }

  /** A device's ATC: with NO_SUBSTREAM everything, as it takes the entries of every PASID, too (PCIe 5.0, 10.3). */
  invalidateAtc(stream: number, substream: number): void {
    this.invalidateAtcRange(stream, substream, 0, ATC_ALL);
  }

  /** [frame, frame + 2^log2Frames), naturally aligned. */
  invalidateAtcRange(stream: number, substream: number, frame: number, log2Frames: number): void {
    const base = this.start(spec.CMD_ATC_INV);
    put(this.words, base, CMD.StreamID, stream);
    if (substream !== NO_SUBSTREAM) {
      put(this.words, base, CMD.SSV, 1);
      put(this.words, base, CMD.SubstreamID, substream);
    }
    put(this.words, base, CMD.Size, log2Frames);
    putFrame(this.words, base, CMD.Address, frame);
  }

  clear(): void {
    this.length = 0;
  }

  private start(opcode: number): number {
    this.raw(opcode, 0, 0, 0);
    return (this.length - 1) * COMMAND_WORDS;
  }

  private grow(): number {
    const base = this.length++ * COMMAND_WORDS;
    if (base === this.words.length) {
      const words = new Uint32Array(this.words.length * 2);
      words.set(this.words);
      this.words = words;
    }
    return base;
  }
}
