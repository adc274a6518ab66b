/**
 * A device that reads or writes up to 256 bytes of one IOVA on command, with a chosen PASID, and sends a message of
 * MSI-X or MSI on command. See spec/dma-probe.ts.
 */
import { NO_SUBSTREAM } from '../iommu.ts';
import { DMA_DONE, DMA_REFUSED, DMA_WAITING, type DmaChannel } from './dma-channel.ts';
import type { FunctionKind, FunctionModel, FunctionPorts } from './function-model.ts';
import { RegisterFile } from './register-file.ts';
import {
  COMMAND_READ,
  COMMAND_WRITE,
  DATA_AT,
  DATA_BYTES,
  PASID_VALID,
  PASID_VALUE,
  PROBE_BLOCK_BYTES,
  PROBE_REGISTERS,
  PROBE_VECTORS,
  STATUS_DONE,
  STATUS_INVALID,
  STATUS_REFUSED,
  STATUS_WAITING,
} from './spec/dma-probe.ts';

const STATUS_BY_OUTCOME = { [DMA_DONE]: STATUS_DONE, [DMA_REFUSED]: STATUS_REFUSED, [DMA_WAITING]: STATUS_WAITING };

/** The data window as registers, so that byte lanes work there too. */
const DATA_REGISTERS = Array.from({ length: DATA_BYTES / 4 }, (_, word) => ({
  name: `DATA${word}`,
  offset: DATA_AT + 4 * word,
  bytes: 4 as const,
  writable: 0xffff_ffffn,
}));

export class DmaProbe implements FunctionModel {
  private readonly dma: DmaChannel;
  private readonly registers: RegisterFile;
  /** What a write sends: as the window was when the command came. */
  private readonly sent: Uint8Array;
  private readonly effect: (name: string) => void;

  constructor(ports: FunctionPorts) {
    this.dma = ports.dma.channel((outcome) => this.show(outcome));
    this.sent = new Uint8Array(DATA_BYTES);
    this.registers = new RegisterFile(PROBE_BLOCK_BYTES, [...PROBE_REGISTERS, ...DATA_REGISTERS]);
    this.effect = (name) => {
      if (name === 'COMMAND' && !this.dma.waiting) this.execute();
      if (name === 'INTERRUPT') ports.sendMessage(this.registers.get('INTERRUPT'));
    };
  }

  reset(): void {
    this.registers.reset();
  }

  readRegister(offset: number, size: number): number {
    return this.registers.read(offset, size);
  }

  writeRegister(offset: number, size: number, value: number): void {
    this.registers.write(offset, size, value, this.effect);
  }

  private execute(): void {
    const command = this.registers.get('COMMAND');
    const length = this.registers.get('LENGTH');
    const known = command === COMMAND_READ || command === COMMAND_WRITE;
    if (!known || length < 1 || length > DATA_BYTES) {
      this.registers.set('STATUS', STATUS_INVALID);
      return;
    }
    const window = this.registers.bytes.subarray(DATA_AT, DATA_AT + length);
    const frame = this.registers.frameOf('IOVA');
    const offset = this.registers.frameOffsetOf('IOVA');
    this.sent.set(window);
    const outcome =
      command === COMMAND_READ
        ? this.dma.read(frame, offset, window, this.substream)
        : this.dma.write(frame, offset, this.sent.subarray(0, length), this.substream);
    this.show(outcome);
  }

  private show(outcome: number): void {
    this.registers.set('STATUS', STATUS_BY_OUTCOME[outcome as keyof typeof STATUS_BY_OUTCOME]);
  }

  private get substream(): number {
    const pasid = this.registers.get('PASID');
    return pasid >= PASID_VALID ? pasid & PASID_VALUE : NO_SUBSTREAM;
  }
}

/** No vendor assigned these numbers: 1b36 is the vendor of emulated devices, the device number is ours. */
export const DMA_PROBE: FunctionKind = {
  name: 'dma-probe',
  identity: {
    vendorId: 0x1b36,
    deviceId: 0x0d3a,
    subsystemVendorId: 0x1b36,
    subsystemId: 0x0d3a,
    classCode: 0x088000,
    revision: 0x01,
    bar0Bytes: 0x4000,
    msix: { vectors: PROBE_VECTORS, tableOffset: 0x2000, pendingOffset: 0x3000 },
    interruptPin: 0,
    registers: [],
  },
  create: (ports) => new DmaProbe(ports),
};
