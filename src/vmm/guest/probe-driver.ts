/** The guest's driver of a dma-probe: single reads and writes of DMA, with any PASID. */
import { COMMAND_MASTER, COMMAND_MEMORY } from '../../hardware/pci/spec/config-space.ts';
import {
  COMMAND_READ,
  COMMAND_WRITE,
  DATA_AT,
  PASID_VALID,
  PROBE_REGISTERS,
  STATUS_DONE,
} from '../../hardware/pci/spec/dma-probe.ts';
import { type GuestFunction, readBytes, writeBytes } from './function.ts';

const TEXT_BYTES = 16;
const AT = Object.fromEntries(PROBE_REGISTERS.map(({ name, offset }) => [name, offset]));

export class ProbeDriver {
  private readonly fn: GuestFunction;

  constructor(fn: GuestFunction) {
    this.fn = fn;
    fn.setCommand(COMMAND_MEMORY | COMMAND_MASTER);
  }

  /** 16 bytes as text; null when refused. */
  read(iova: bigint, pasid?: number): string | null {
    if (!this.run(COMMAND_READ, iova, pasid)) return null;
    return new TextDecoder().decode(readBytes(this.fn, DATA_AT, TEXT_BYTES)).trimEnd();
  }

  /** @returns whether it was done */
  write(iova: bigint, text: string, pasid?: number): boolean {
    writeBytes(this.fn, DATA_AT, new TextEncoder().encode(text.padEnd(TEXT_BYTES)));
    return this.run(COMMAND_WRITE, iova, pasid);
  }

  private run(command: number, iova: bigint, pasid: number | undefined): boolean {
    this.fn.writeBar(AT.IOVA!, Number(iova & 0xffff_ffffn));
    this.fn.writeBar(AT.IOVA! + 4, Number(iova >> 32n));
    this.fn.writeBar(AT.PASID!, pasid === undefined ? 0 : (PASID_VALID | pasid) >>> 0);
    this.fn.writeBar(AT.LENGTH!, TEXT_BYTES);
    this.fn.writeBar(AT.COMMAND!, command);
    return this.fn.readBar(AT.STATUS!) === STATUS_DONE;
  }
}
