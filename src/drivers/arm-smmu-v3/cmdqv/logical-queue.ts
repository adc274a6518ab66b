/**
 * One VCMDQ of a virtual interface, as the host sets it up. While it is allocated, its registers are in the pages of the
 * interface, at its logical index. The hardware wants queues of an interface allocated in ascending order of that index,
 * and taken back in descending order.
 */
import { put, putFrame } from '../../../hardware/smmuv3/spec/field.ts';
import { FRAME_BYTES } from '../../../memory/physical-memory.ts';
import type { DriverHwQueue } from '../../iommu-driver.ts';
import { CommandBatch } from '../commands.ts';
import type { Cmdqv } from './cmdqv.ts';
import { queueRegisters } from './places.ts';

export class LogicalQueue implements DriverHwQueue {
  readonly dependsOn: LogicalQueue | null;
  readonly at: ReturnType<typeof queueRegisters>;
  private readonly cmdqv: Cmdqv;
  private readonly vintf: number;
  private readonly index: number;
  private readonly freed: () => void;

  /** Allocates the VCMDQ; it is stopped, and empty. */
  constructor(cmdqv: Cmdqv, vintf: number, index: number, dependsOn: LogicalQueue | null, freed: () => void) {
    this.dependsOn = dependsOn;
    this.at = queueRegisters(vintf, index);
    this.cmdqv = cmdqv;
    this.vintf = vintf;
    this.index = index;
    this.freed = freed;
    cmdqv.allocate(vintf, index, true);
    this.reset();
  }

  /** Where its 2^log2Entries commands are: contiguous, from `pa` on. Whoever has the interface then starts it. */
  setBase(pa: number, log2Entries: number): void {
    const { base } = this.at;
    const words = new Uint32Array(2);
    putFrame(words, 0, base.fields.ADDR, Math.floor(pa / FRAME_BYTES), pa % FRAME_BYTES);
    put(words, 0, base.fields.LOG2SIZE, log2Entries);
    this.cmdqv.registers.write64(base, words);
  }

  start(): void {
    this.cmdqv.registers.switch(this.at.config, this.at.status, 1);
  }

  free(): void {
    this.reset();
    this.cmdqv.allocate(this.vintf, this.index, false);
    this.freed();
  }

  private reset(): void {
    const { registers, smmuQueue } = this.cmdqv;
    registers.switch(this.at.config, this.at.status, 0);
    // The CMD_SYNC behind this reports an ATC_INV that timed out, which else the queue's next owner would hear of.
    smmuQueue.submit(new CommandBatch());
    const zero = new Uint32Array(2);
    registers.write(this.at.prod, 0);
    registers.write(this.at.cons, 0);
    registers.write64(this.at.base, zero);
    registers.write64(this.at.consBase, zero);
    registers.write(this.at.gerrorn, registers.read(this.at.gerror));
  }
}
