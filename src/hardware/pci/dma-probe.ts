/** A device that reads or writes up to 256 bytes of one IOVA on command, with a chosen PASID. See spec/dma-probe.ts. */
import { NO_SUBSTREAM } from '../iommu.ts';
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
  STATUS_DONE,
  STATUS_INVALID,
  STATUS_REFUSED,
} from './spec/dma-probe.ts';

/** The data window as registers, so that byte lanes work there too. */
const DATA_REGISTERS = Array.from({ length: DATA_BYTES / 4 }, (_, word) => ({
  name: `DATA${word}`,
  offset: DATA_AT + 4 * word,
  bytes: 4 as const,
  writable: 0xffff_ffffn,
}));

export class DmaProbe implements FunctionModel {
  private readonly ports: FunctionPorts;
  private readonly registers: RegisterFile;
  private readonly effect: (name: string) => void;

  constructor(ports: FunctionPorts) {
    this.ports = ports;
    this.registers = new RegisterFile(PROBE_BLOCK_BYTES, [...PROBE_REGISTERS, ...DATA_REGISTERS]);
    this.effect = (name) => {
      if (name === 'COMMAND') this.registers.set('STATUS', this.execute());
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

  private execute(): number {
    const command = this.registers.get('COMMAND');
    const length = this.registers.get('LENGTH');
    if (length < 1 || length > DATA_BYTES) return STATUS_INVALID;
    const data = this.registers.bytes.subarray(DATA_AT, DATA_AT + length);
    const frame = this.registers.frameOf('IOVA');
    const offset = this.registers.frameOffsetOf('IOVA');
    const { dma } = this.ports;
    if (command === COMMAND_READ) return dma.read(frame, offset, data, this.substream) ? STATUS_DONE : STATUS_REFUSED;
    if (command === COMMAND_WRITE) return dma.write(frame, offset, data, this.substream) ? STATUS_DONE : STATUS_REFUSED;
    return STATUS_INVALID;
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
    bar0Bytes: 0x1000,
    msix: null,
    interruptPin: 0,
    registers: [],
  },
  create: (ports) => new DmaProbe(ports),
};
