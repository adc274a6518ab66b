/**
 * An IOAT-compatible DMA copy engine with one channel.
 *
 * DMACOUNT and an internal counter start at zero when CHAINADDR is written; while they differ, the channel fetches the
 * next descriptor and carries it out. All of that happens inside the write of DMACOUNT: a driver that spins on CHANSTS
 * right afterwards must not see the old state.
 */
import { NO_SUBSTREAM } from '../iommu.ts';
import type { FunctionKind, FunctionModel, FunctionPorts } from './function-model.ts';
import { RegisterFile } from './register-file.ts';
import {
  CHANCMD_RESET,
  CHANCMD_RESUME,
  CHANCMD_SUSPEND,
  CHANCTRL_ERROR_COMPLETION,
  CHANCTRL_ERROR_INTERRUPT,
  CHANCTRL_REARM,
  CHANERR_CHAIN_ADDRESS,
  CHANERR_COMMAND,
  CHANERR_COMPLETION_ADDRESS,
  CHANERR_CONTROL,
  CHANERR_DESTINATION_ADDRESS,
  CHANERR_LENGTH,
  CHANERR_NEXT_ADDRESS,
  CHANERR_NEXT_ALIGNMENT,
  CHANERR_SOURCE_ADDRESS,
  CHANNEL_AT,
  CONTROL_COMPLETION_WRITE,
  CONTROL_INTERRUPT,
  CONTROL_NULL,
  DESC_CONTROL,
  DESC_DESTINATION,
  DESC_NEXT,
  DESC_SIZE,
  DESC_SOURCE,
  DESCRIPTOR_BYTES,
  INTRCTRL_INTERRUPT,
  INTRCTRL_MASTER_ENABLE,
  INTRCTRL_MSIX_ENABLE,
  INTRCTRL_STATUS,
  IOAT_BLOCK_BYTES,
  IOAT_CONFIG_REGISTERS,
  IOAT_REGISTERS,
  OPERATION_COPY,
  OPERATION_FILL,
  STATE_ACTIVE,
  STATE_DONE,
  STATE_HALTED,
  STATE_SUSPENDED,
  TRANSFER_LOG2,
} from './spec/ioat.ts';

const ATTNSTATUS_AT = 0x04;
const CHANSTS_AT = CHANNEL_AT + 0x08;
const CHAINADDR_AT = CHANNEL_AT + 0x10;
const CDAR_AT = CHANNEL_AT + 0x20;

export class IoatEngine implements FunctionModel {
  private readonly ports: FunctionPorts;
  private readonly registers: RegisterFile;
  private readonly view: DataView;
  private readonly descriptor: Uint8Array;
  private readonly fields: DataView;
  private readonly buffer: Uint8Array;
  private readonly status: Uint8Array;
  private readonly effect: (name: string) => void;
  /** Descriptors done since CHAINADDR was written, modulo 2^16 as DMACOUNT. */
  private done: number;
  private armed: boolean;
  private running: boolean;

  constructor(ports: FunctionPorts) {
    this.ports = ports;
    this.registers = new RegisterFile(IOAT_BLOCK_BYTES, IOAT_REGISTERS);
    this.view = new DataView(this.registers.bytes.buffer);
    this.descriptor = new Uint8Array(DESCRIPTOR_BYTES);
    this.fields = new DataView(this.descriptor.buffer);
    this.buffer = new Uint8Array(2 ** TRANSFER_LOG2);
    this.status = this.registers.bytes.subarray(CHANSTS_AT, CHANSTS_AT + 8);
    this.effect = (name) => this.written(name);
    this.done = 0;
    this.armed = false;
    this.running = false;
  }

  reset(): void {
    this.registers.reset();
    this.done = 0;
    this.armed = false;
  }

  readRegister(offset: number, size: number): number {
    const value = this.registers.read(offset, size);
    if (offset === ATTNSTATUS_AT) this.lowerPin();
    return value;
  }

  writeRegister(offset: number, size: number, value: number): void {
    this.registers.write(offset, size, value, this.effect);
  }

  private get state(): number {
    return this.status[0]! & 0x7;
  }

  private set state(state: number) {
    this.status[0] = (this.status[0]! & 0xc0) | state;
  }

  private written(register: string): void {
    if (register === 'DMACOUNT') this.run();
    else if (register === 'CHAINADDR') this.newChain();
    else if (register === 'CHANCMD') this.command();
    else if (register === 'CHANCTRL') this.rearm();
    else if (register === 'INTRCTRL') this.refreshInterruptStatus();
  }

  private newChain(): void {
    this.done = 0;
    this.registers.set('DMACOUNT', 0);
  }

  private command(): void {
    const command = this.registers.get('CHANCMD');
    this.registers.set('CHANCMD', 0);
    if (command & CHANCMD_RESET) this.resetChannel();
    else if (command === CHANCMD_SUSPEND) {
      if (this.state !== STATE_HALTED) this.state = STATE_SUSPENDED;
    } else if (command === CHANCMD_RESUME) this.run();
    else if (command !== 0) this.halt(CHANERR_COMMAND);
  }

  private resetChannel(): void {
    const { bytes } = this.registers;
    bytes.fill(0, CHANNEL_AT + 0x04, CHANNEL_AT + 0x2c);
    this.state = STATE_HALTED;
    this.done = 0;
  }

  /** Interrupt disable: set by the interrupt, cleared by writing 1. */
  private rearm(): void {
    const control = this.registers.get('CHANCTRL');
    if (control & CHANCTRL_REARM) this.armed = true;
    this.registers.set('CHANCTRL', control & ~CHANCTRL_REARM);
  }

  private run(): void {
    if (this.running || this.registers.get('CHANERR') !== 0) return;
    this.running = true;
    try {
      let resumed = this.done !== 0;
      while (this.done !== this.registers.get('DMACOUNT')) {
        this.state = STATE_ACTIVE;
        if (!this.step(resumed)) return;
        this.done = (this.done + 1) & 0xffff;
        resumed = false;
      }
      if (this.state === STATE_ACTIVE) this.state = STATE_DONE;
    } finally {
      this.running = false;
    }
  }

  /** Carries out one descriptor; false when the channel halted. */
  private step(resumed: boolean): boolean {
    if (!this.fetch(resumed)) return false;
    const error = this.execute();
    if (error) return this.halt(error);
    this.complete();
    const control = this.fields.getUint32(DESC_CONTROL, true);
    if (control & CONTROL_COMPLETION_WRITE && !this.writeStatus()) return this.halt(CHANERR_COMPLETION_ADDRESS);
    if (control & CONTROL_INTERRUPT) this.interrupt();
    return true;
  }

  /**
   * The first descriptor is at CHAINADDR, the others where their predecessor points. A channel that goes on after a pause
   * reads the last one again, because drivers append by writing its next address.
   */
  private fetch(resumed: boolean): boolean {
    const first = this.done === 0;
    if (resumed && !this.readDescriptor()) return this.halt(CHANERR_NEXT_ADDRESS);
    const lo = first ? this.view.getUint32(CHAINADDR_AT, true) : this.fields.getUint32(DESC_NEXT, true);
    const hi = first ? this.view.getUint32(CHAINADDR_AT + 4, true) : this.fields.getUint32(DESC_NEXT + 4, true);
    if (lo % DESCRIPTOR_BYTES) return this.halt(first ? CHANERR_CHAIN_ADDRESS : CHANERR_NEXT_ALIGNMENT);
    this.view.setUint32(CDAR_AT, lo, true);
    this.view.setUint32(CDAR_AT + 4, hi, true);
    return this.readDescriptor() || this.halt(first ? CHANERR_CHAIN_ADDRESS : CHANERR_NEXT_ADDRESS);
  }

  /** Reads the descriptor at CDAR. */
  private readDescriptor(): boolean {
    const frame = this.registers.frameOf('CDAR');
    return this.ports.dma.read(frame, this.registers.frameOffsetOf('CDAR'), this.descriptor, NO_SUBSTREAM);
  }

  /** @returns CHANERR bits, 0 when the operation is done */
  private execute(): number {
    const size = this.fields.getUint32(DESC_SIZE, true);
    const control = this.fields.getUint32(DESC_CONTROL, true);
    if (control & CONTROL_NULL) return 0;
    const operation = control >>> 24;
    if (operation !== OPERATION_COPY && operation !== OPERATION_FILL) return CHANERR_CONTROL;
    if (size === 0 || size > this.buffer.length) return CHANERR_LENGTH;
    const data = size === this.buffer.length ? this.buffer : this.buffer.subarray(0, size);
    if (operation === OPERATION_FILL) this.fillPattern(data);
    else if (!this.ports.dma.read(this.frame(DESC_SOURCE), this.offset(DESC_SOURCE), data, NO_SUBSTREAM)) {
      return CHANERR_SOURCE_ADDRESS;
    }
    const arrived = this.ports.dma.write(
      this.frame(DESC_DESTINATION),
      this.offset(DESC_DESTINATION),
      data,
      NO_SUBSTREAM,
    );
    return arrived ? 0 : CHANERR_DESTINATION_ADDRESS;
  }

  private fillPattern(data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) data[i] = this.descriptor[DESC_SOURCE + (i & 7)]!;
  }

  private frame(field: number): number {
    return this.fields.getUint32(field + 4, true) * 2 ** 20 + (this.fields.getUint32(field, true) >>> 12);
  }

  private offset(field: number): number {
    return this.fields.getUint32(field, true) & 0xfff;
  }

  /** CHANSTS 63:6 names the descriptor completed last. */
  private complete(): void {
    this.view.setUint32(CHANSTS_AT, this.view.getUint32(CDAR_AT, true) | this.nextState(), true);
    this.view.setUint32(CHANSTS_AT + 4, this.view.getUint32(CDAR_AT + 4, true), true);
  }

  private nextState(): number {
    return ((this.done + 1) & 0xffff) === this.registers.get('DMACOUNT') ? STATE_DONE : STATE_ACTIVE;
  }

  private writeStatus(): boolean {
    const frame = this.registers.frameOf('CHANCMP');
    const offset = this.registers.frameOffsetOf('CHANCMP');
    if (frame === 0 && offset === 0) return true;
    return this.ports.dma.write(frame, offset, this.status, NO_SUBSTREAM);
  }

  private halt(error: number): false {
    this.state = STATE_HALTED;
    this.registers.set('CHANERR', this.registers.get('CHANERR') | error);
    const { config } = this.ports;
    config.set('CHANERR_INT', config.get('CHANERR_INT') | (error & ~config.get('CHANERRMSK_INT')));
    const control = this.registers.get('CHANCTRL');
    if (control & CHANCTRL_ERROR_COMPLETION) this.writeStatus();
    if (control & CHANCTRL_ERROR_INTERRUPT && error & ~this.registers.get('CHANERRMSK')) this.interrupt();
    return false;
  }

  private interrupt(): void {
    if (!this.armed) return;
    this.armed = false;
    this.registers.set('ATTNSTATUS', 1);
    this.refreshInterruptStatus();
    const control = this.registers.get('INTRCTRL');
    if (this.ports.msixEnabled) {
      if (control & (INTRCTRL_MSIX_ENABLE | INTRCTRL_MASTER_ENABLE)) this.ports.sendMessage(0);
    } else if (control & INTRCTRL_MASTER_ENABLE) this.ports.setPin(true);
  }

  private refreshInterruptStatus(): void {
    const control = this.registers.get('INTRCTRL') & (INTRCTRL_MASTER_ENABLE | INTRCTRL_MSIX_ENABLE);
    const status = this.registers.get('ATTNSTATUS') ? INTRCTRL_STATUS : 0;
    const interrupt = status && control & INTRCTRL_MASTER_ENABLE ? INTRCTRL_INTERRUPT : 0;
    this.registers.set('INTRCTRL', control | status | interrupt);
  }

  /** Reading ATTNSTATUS acknowledges it. */
  private lowerPin(): void {
    this.registers.set('ATTNSTATUS', 0);
    this.refreshInterruptStatus();
    this.ports.setPin(false);
  }
}

/** The engine of Skylake servers: vendor 8086, device 2021, a system peripheral. */
export const IOAT: FunctionKind = {
  name: 'ioat',
  identity: {
    vendorId: 0x8086,
    deviceId: 0x2021,
    subsystemVendorId: 0x8086,
    subsystemId: 0x0000,
    classCode: 0x088000,
    revision: 0x04,
    bar0Bytes: 0x4000,
    msix: { vectors: 1, tableOffset: 0x2000, pendingOffset: 0x3000 },
    interruptPin: 1,
    registers: IOAT_CONFIG_REGISTERS,
  },
  create: (ports) => new IoatEngine(ports),
};
