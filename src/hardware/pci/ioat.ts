/**
 * An IOAT-compatible DMA copy engine with one channel.
 *
 * DMACOUNT and an internal counter start at zero when CHAINADDR is written; while they differ, the channel fetches the
 * next descriptor and carries it out. All of that happens inside the write of DMACOUNT, unless an access has to wait, or
 * the chain is long, or the clock is busy: a driver that spins on CHANSTS right afterwards must not see the old state.
 *
 * The work on a descriptor is a row of steps with one access each, so that it can stop at any of them and go on later.
 */
import { NO_SUBSTREAM } from '../iommu.ts';
import { DMA_DONE, DMA_WAITING, type DmaChannel } from './dma-channel.ts';
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
  STATE_ARMED,
  STATE_DONE,
  STATE_HALTED,
  STATE_SUSPENDED,
  TRANSFER_LOG2,
} from './spec/ioat.ts';

/** The access that is next, or that waits. */
type Step =
  | 'idle'
  | 'begin'
  | 'last-descriptor'
  | 'descriptor'
  | 'source'
  | 'destination'
  | 'completion'
  | 'error-completion';

/** Accesses between two turns of the clock. */
const TURN = 1024;

const ATTNSTATUS_AT = 0x04;
const CHANSTS_AT = CHANNEL_AT + 0x08;
const CHAINADDR_AT = CHANNEL_AT + 0x10;
const CDAR_AT = CHANNEL_AT + 0x20;

export class IoatEngine implements FunctionModel {
  private readonly ports: FunctionPorts;
  private readonly dma: DmaChannel;
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
  private step: Step;
  /** What a halt on an error is yet to do. */
  private error: number;
  /** Counts what is queued on the clock: an old one finds another number. */
  private turn: number;

  constructor(ports: FunctionPorts) {
    this.ports = ports;
    this.dma = ports.dma.channel((outcome) => this.advance(outcome));
    this.registers = new RegisterFile(IOAT_BLOCK_BYTES, IOAT_REGISTERS);
    this.view = new DataView(this.registers.bytes.buffer);
    this.descriptor = new Uint8Array(DESCRIPTOR_BYTES);
    this.fields = new DataView(this.descriptor.buffer);
    this.buffer = new Uint8Array(2 ** TRANSFER_LOG2);
    this.status = this.registers.bytes.subarray(CHANSTS_AT, CHANSTS_AT + 8);
    this.effect = (name) => this.written(name);
    this.done = 0;
    this.armed = false;
    this.step = 'idle';
    this.error = 0;
    this.turn = 0;
  }

  reset(): void {
    this.drop();
    this.registers.reset();
    this.done = 0;
    this.armed = false;
    this.step = 'idle';
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

  /** Ends what is at work, too. The channel then waits for DMACOUNT, unless an error has to be cleared first. */
  private newChain(): void {
    this.drop();
    this.step = 'idle';
    this.state = this.registers.get('CHANERR') === 0 ? STATE_ARMED : STATE_HALTED;
    this.done = 0;
    this.registers.set('DMACOUNT', 0);
  }

  private command(): void {
    const command = this.registers.get('CHANCMD');
    this.registers.set('CHANCMD', 0);
    if (command & CHANCMD_RESET) this.resetChannel();
    else if (command === CHANCMD_SUSPEND) {
      if (this.state !== STATE_HALTED) this.state = STATE_SUSPENDED;
    } else if (command === CHANCMD_RESUME) this.resume();
    else if (command !== 0 && this.step !== 'error-completion') this.advance(this.halt(CHANERR_COMMAND));
  }

  private resetChannel(): void {
    this.drop();
    this.step = 'idle';
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

  /** Lets the channel work, if there is something to do and it is not at work. */
  private run(): void {
    if (this.step !== 'idle' || this.registers.get('CHANERR') !== 0) return;
    if (this.done === this.registers.get('DMACOUNT')) return;
    this.state = STATE_ACTIVE;
    this.step = 'begin';
    if (this.ports.clock.isBusy) this.pause(DMA_DONE);
    else this.advance(DMA_DONE);
  }

  private resume(): void {
    if (this.step !== 'idle') this.state = STATE_ACTIVE;
    else this.run();
  }

  /** Goes from step to step, beginning with the outcome of the present one, until the work is done or an access waits. */
  private advance(first: number): void {
    let outcome = first;
    for (let steps = 0; outcome !== DMA_WAITING && this.step !== 'idle'; steps++) {
      if (steps === TURN) {
        this.pause(outcome);
        return;
      }
      outcome = this.finish(outcome === DMA_DONE);
    }
  }

  /** Goes on in the clock's next turn. */
  private pause(outcome: number): void {
    const turn = ++this.turn;
    this.ports.clock.defer(() => {
      if (turn === this.turn) this.advance(outcome);
    });
  }

  /** Nothing waits any more, for an access or for its turn. */
  private drop(): void {
    this.dma.cancel();
    this.turn++;
  }

  /** Draws the conclusion of the present step and starts the next. @returns its outcome */
  private finish(done: boolean): number {
    switch (this.step) {
      case 'begin':
        // A channel that goes on after a rest reads the last descriptor again: drivers append by writing its next address.
        return this.done !== 0 ? this.start('last-descriptor') : this.fetch();
      case 'last-descriptor':
        return done ? this.fetch() : this.halt(CHANERR_NEXT_ADDRESS);
      case 'descriptor':
        if (!done) return this.halt(this.done === 0 ? CHANERR_CHAIN_ADDRESS : CHANERR_NEXT_ADDRESS);
        return this.execute();
      case 'source':
        return done ? this.start('destination') : this.halt(CHANERR_SOURCE_ADDRESS);
      case 'destination':
        return done ? this.complete() : this.halt(CHANERR_DESTINATION_ADDRESS);
      case 'completion':
        return done ? this.next() : this.halt(CHANERR_COMPLETION_ADDRESS);
      default:
        return this.halted();
    }
  }

  private start(step: Step): number {
    this.step = step;
    const { dma } = this;
    switch (step) {
      case 'last-descriptor':
      case 'descriptor':
        return dma.read(
          this.registers.frameOf('CDAR'),
          this.registers.frameOffsetOf('CDAR'),
          this.descriptor,
          NO_SUBSTREAM,
        );
      case 'source':
        return dma.read(this.frame(DESC_SOURCE), this.offset(DESC_SOURCE), this.data, NO_SUBSTREAM);
      case 'destination':
        return dma.write(this.frame(DESC_DESTINATION), this.offset(DESC_DESTINATION), this.data, NO_SUBSTREAM);
      default:
        return this.writeStatus();
    }
  }

  /** The first descriptor is at CHAINADDR, the others where their predecessor points. */
  private fetch(): number {
    const first = this.done === 0;
    const lo = first ? this.view.getUint32(CHAINADDR_AT, true) : this.fields.getUint32(DESC_NEXT, true);
    const hi = first ? this.view.getUint32(CHAINADDR_AT + 4, true) : this.fields.getUint32(DESC_NEXT + 4, true);
    if (lo % DESCRIPTOR_BYTES) return this.halt(first ? CHANERR_CHAIN_ADDRESS : CHANERR_NEXT_ALIGNMENT);
    this.view.setUint32(CDAR_AT, lo, true);
    this.view.setUint32(CDAR_AT + 4, hi, true);
    return this.start('descriptor');
  }

  private execute(): number {
    const size = this.fields.getUint32(DESC_SIZE, true);
    const control = this.fields.getUint32(DESC_CONTROL, true);
    if (control & CONTROL_NULL) return this.complete();
    const operation = control >>> 24;
    if (operation !== OPERATION_COPY && operation !== OPERATION_FILL) return this.halt(CHANERR_CONTROL);
    if (size === 0 || size > this.buffer.length) return this.halt(CHANERR_LENGTH);
    if (operation === OPERATION_COPY) return this.start('source');
    this.fillPattern(this.data);
    return this.start('destination');
  }

  /** The part of the buffer that the descriptor fills. */
  private get data(): Uint8Array {
    const size = this.fields.getUint32(DESC_SIZE, true);
    return size === this.buffer.length ? this.buffer : this.buffer.subarray(0, size);
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
  private complete(): number {
    const state = this.state === STATE_SUSPENDED ? STATE_SUSPENDED : this.nextState();
    this.view.setUint32(CHANSTS_AT, this.view.getUint32(CDAR_AT, true) | state, true);
    this.view.setUint32(CHANSTS_AT + 4, this.view.getUint32(CDAR_AT + 4, true), true);
    if (this.fields.getUint32(DESC_CONTROL, true) & CONTROL_COMPLETION_WRITE) return this.start('completion');
    return this.next();
  }

  private nextState(): number {
    return ((this.done + 1) & 0xffff) === this.registers.get('DMACOUNT') ? STATE_DONE : STATE_ACTIVE;
  }

  /** The end of a descriptor: the one after it, or a rest. */
  private next(): number {
    if (this.fields.getUint32(DESC_CONTROL, true) & CONTROL_INTERRUPT) this.interrupt();
    this.done = (this.done + 1) & 0xffff;
    if (this.state === STATE_SUSPENDED) return this.rest(STATE_SUSPENDED);
    if (this.done === this.registers.get('DMACOUNT')) return this.rest(STATE_DONE);
    this.state = STATE_ACTIVE;
    return this.fetch();
  }

  private rest(state: number): number {
    this.state = state;
    this.step = 'idle';
    return DMA_DONE;
  }

  private writeStatus(): number {
    const frame = this.registers.frameOf('CHANCMP');
    const offset = this.registers.frameOffsetOf('CHANCMP');
    if (frame === 0 && offset === 0) return DMA_DONE;
    return this.dma.write(frame, offset, this.status, NO_SUBSTREAM);
  }

  private halt(error: number): number {
    this.drop();
    this.state = STATE_HALTED;
    this.error = error;
    this.registers.set('CHANERR', this.registers.get('CHANERR') | error);
    const { config } = this.ports;
    config.set('CHANERR_INT', config.get('CHANERR_INT') | (error & ~config.get('CHANERRMSK_INT')));
    if (this.registers.get('CHANCTRL') & CHANCTRL_ERROR_COMPLETION) return this.start('error-completion');
    return this.halted();
  }

  private halted(): number {
    const control = this.registers.get('CHANCTRL');
    if (control & CHANCTRL_ERROR_INTERRUPT && this.error & ~this.registers.get('CHANERRMSK')) this.interrupt();
    return this.rest(STATE_HALTED);
  }

  private interrupt(): void {
    if (!this.armed) return;
    this.armed = false;
    this.registers.set('ATTNSTATUS', 1);
    this.refreshInterruptStatus();
    const control = this.registers.get('INTRCTRL');
    if (this.ports.enabledVectors) {
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
