/** A guest's side of a CMDQV for tests: page 0 of its virtual interface, and a queue in its RAM. */
import { ViommuTegra241Cmdqv } from '../../../abi/iommufd.ts';
import type { MappableRegion, MappableRegisters, UserData } from '../../iommu-driver.ts';
import { type Bench, userData } from '../testing.ts';

export const VIOMMU_TYPE = 2;
export const V2_VIOMMU_TYPE = 1;
export const HW_QUEUE_TYPE = 1;

/** Registers of a queue in page 0. */
export const CONS = 0x00;
export const PROD = 0x04;
export const CONFIG = 0x08;
export const STATUS = 0x0c;
export const GERROR = 0x10;
export const GERRORN = 0x14;

/** The data of VIOMMU_ALLOC, which remembers what was answered. */
export class AnswerData implements UserData {
  readonly type = VIOMMU_TYPE;
  readonly length = ViommuTegra241Cmdqv.size;
  readonly answers: Array<{ offset: bigint; length: bigint }> = [];

  copy(minimum: number, size: number): Uint8Array {
    return userData(VIOMMU_TYPE, [1, 2, 3, 4]).copy(minimum, size);
  }

  writeBack(bytes: Uint8Array): void {
    const { outVintfMmapOffset: offset, outVintfMmapLength: length } = new ViommuTegra241Cmdqv(bytes);
    this.answers.push({ offset, length });
  }
}

/** Page 0 as the guest has it mapped. */
export class GuestPage {
  readonly region: MappableRegisters;

  constructor(region: MappableRegion | null | undefined) {
    if (!region || !('mmio' in region)) throw new Error('the vIOMMU has no registers to map');
    this.region = region;
  }

  read(queue: number, register: number): number {
    return this.region.mmio.readRegister(this.region.offset + 0x80 * queue + register, 4);
  }

  write(queue: number, register: number, value: number): void {
    this.region.mmio.writeRegister(this.region.offset + 0x80 * queue + register, 4, value);
  }
}

/** What a guest's driver does with one queue: commands into its RAM, then PROD. */
export class GuestQueue {
  private readonly bench: Bench;
  private readonly page: GuestPage;
  private readonly index: number;
  private readonly frame: number;
  private readonly entries: number;
  private prod: number;

  /** @param frame physical frame of the queue, which is 2^log2Entries commands long */
  constructor(bench: Bench, page: GuestPage, index: number, frame: number, log2Entries: number) {
    this.bench = bench;
    this.page = page;
    this.index = index;
    this.frame = frame;
    this.entries = 2 ** log2Entries;
    this.prod = 0;
    page.write(index, CONFIG, 1);
  }

  /** Issues commands without waiting. @returns where CONS is then */
  issue(...commands: ReadonlyArray<readonly number[]>): number {
    for (const [w0, w1, w2, w3] of commands) {
      const at = (this.prod % this.entries) * 16;
      const [frame, offset] = [this.frame + Math.floor(at / 4096), at % 4096];
      this.bench.memory.store64(frame, offset, w0!, w1!);
      this.bench.memory.store64(frame, offset + 8, w2!, w3!);
      this.prod = (this.prod + 1) % (2 * this.entries);
    }
    this.page.write(this.index, PROD, this.prod);
    this.bench.clock.settle();
    return this.page.read(this.index, CONS);
  }
}

export const SYNC: readonly number[] = [0x46, 0, 0, 0];
