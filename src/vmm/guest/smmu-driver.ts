/**
 * The guest's driver of its SMMUv3, with what a kernel's does: it finds out what the SMMU can do, gives it a stream table
 * and queues in guest RAM, switches it on, and follows every change of a table with the commands that it needs.
 */
import type { MmioDevice } from '../../hardware/iommu.ts';
import { EVENT_BYTES, EVENT_WORDS } from '../../hardware/smmuv3/spec/events.ts';
import { type Field, get, put } from '../../hardware/smmuv3/spec/field.ts';
import { EVENTQ_ABT_ERR, REGISTERS } from '../../hardware/smmuv3/spec/registers.ts';
import {
  ADDRESS_BITS,
  CONFIG_ABORT,
  CONFIG_BYPASS,
  STE,
  STE_BYTES,
  STE_WORDS,
} from '../../hardware/smmuv3/spec/ste.ts';
import type { AddressSpace } from './address-space.ts';
import type { GuestCmdqvDriver } from './cmdqv-driver.ts';
import type { Command } from './commands.ts';
import * as cmd from './commands.ts';
import { ContextTable } from './context-table.ts';
import { GuestQueue, type QueueRegisters } from './queue.ts';
import type { GuestRam } from './ram.ts';

const LOG2_STREAMS = 8;
const LOG2_COMMANDS = 6;
const LOG2_EVENTS = 5;
const COMMAND_BYTES = 16;

const { CR0, IDR0, IDR1, IDR3, IDR5, GBPA, IRQ_CTRL } = REGISTERS;
const bit = (field: Field): number => (field.mask << field.shift) >>> 0;

export interface AttachOptions {
  /** The device caches translations, and the SMMU lets it. */
  readonly ats?: boolean;
  /** log2 of the SSIDs, as far as the SMMU has them; all of them use the same address space at first. */
  readonly log2Ssids?: number;
}

/** Takes commands, and has them carried out at ring(). */
export type CommandQueue = Pick<GuestQueue, 'push' | 'ring'>;

interface Stream {
  readonly contexts: ContextTable;
  readonly spaces: AddressSpace[];
  readonly ats: boolean;
}

export class GuestSmmuDriver {
  readonly mmio: MmioDevice;
  readonly ram: GuestRam;
  readonly cmdqv: GuestCmdqvDriver | null;
  /** Event records so far, oldest first. */
  readonly events: Uint32Array[];
  /** How often the event queue has overflowed. */
  overflows: number;
  /** Of GERROR, whatever has been active. */
  errors: number;
  readonly streamTable: bigint;
  readonly commandQueue: GuestQueue;
  private readonly eventQueue: GuestQueue;
  private readonly streams: Map<number, Stream>;

  /** @param cmdqv in front of the SMMU, if one is */
  constructor(mmio: MmioDevice, ram: GuestRam, cmdqv: GuestCmdqvDriver | null = null) {
    this.mmio = mmio;
    this.ram = ram;
    this.cmdqv = cmdqv;
    this.events = [];
    this.overflows = 0;
    this.errors = 0;
    this.streams = new Map();
    this.streamTable = ram.allocate((2 ** LOG2_STREAMS * STE_BYTES) / 4096);
    this.commandQueue = new GuestQueue(mmio, ram, queueRegisters('CMDQ'), LOG2_COMMANDS, COMMAND_BYTES);
    this.eventQueue = new GuestQueue(mmio, ram, queueRegisters('EVENTQ'), LOG2_EVENTS, EVENT_BYTES);
  }

  get hasAts(): boolean {
    return this.field('IDR0', IDR0.fields.ATS) === 1;
  }

  /** Bits of address that tables may put out. */
  get outputBits(): number {
    return ADDRESS_BITS[this.outputSize]!;
  }

  /** IDR5.OAS. */
  get outputSize(): number {
    return this.field('IDR5', IDR5.fields.OAS);
  }

  /** Initialises the SMMU and switches it on; streams abort until they are attached. */
  start(): void {
    this.disable();
    this.streams.clear();
    this.ram.at(this.streamTable, 2 ** LOG2_STREAMS * STE_BYTES).fill(0);
    this.write64('STRTAB_BASE', this.streamTable);
    this.write('STRTAB_BASE_CFG', LOG2_STREAMS);
    this.commandQueue.start();
    this.write('CR0', bit(CR0.fields.CMDQEN));
    this.push(cmd.cfgiAll(), cmd.tlbiAll());
    this.eventQueue.start();
    this.write('CR0', bit(CR0.fields.CMDQEN) | bit(CR0.fields.EVENTQEN));
    this.cmdqv?.start(this.field('IDR1', IDR1.fields.CMDQS));
    this.write('IRQ_CTRL', bit(IRQ_CTRL.fields.EVENTQ_IRQEN) | bit(IRQ_CTRL.fields.GERROR_IRQEN));
    this.write('CR0', bit(CR0.fields.CMDQEN) | bit(CR0.fields.EVENTQEN) | bit(CR0.fields.SMMUEN));
  }

  /** Switches translation off: what devices do then is up to GBPA. */
  disable(): void {
    this.write('CR0', 0);
  }

  /** GBPA: what a disabled SMMU does with traffic. */
  setGlobalAbort(abort: boolean): void {
    const update = bit(GBPA.fields.Update);
    this.write('GBPA', update | (abort ? bit(GBPA.fields.ABORT) : 0));
  }

  /** Puts a stream behind `space`. */
  attach(sid: number, space: AddressSpace, { ats = false, log2Ssids = 0 }: AttachOptions = {}): void {
    const log2Entries = Math.min(log2Ssids, this.field('IDR1', IDR1.fields.SSIDSIZE));
    const contexts = new ContextTable(this.ram, this.outputSize, log2Entries);
    for (let ssid = 0; ssid < 2 ** log2Entries; ssid++) contexts.set(ssid, space);
    const cached = ats && this.hasAts;
    this.writeSte(sid, contexts.ste(cached));
    this.streams.set(sid, { contexts, spaces: [space], ats: cached });
  }

  /** Puts one SSID of an attached stream behind another address space. */
  attachSsid(sid: number, ssid: number, space: AddressSpace): void {
    const stream = this.streams.get(sid)!;
    stream.contexts.set(ssid, space);
    stream.spaces.push(space);
    this.push(cmd.cfgiCd(sid, ssid));
  }

  /** What the SMMU translates to itself, or refuses. */
  setPassing(sid: number, passing: boolean): void {
    const ste = new Uint32Array(STE_WORDS);
    put(ste, 0, STE.V, 1);
    put(ste, 0, STE.Config, passing ? CONFIG_BYPASS : CONFIG_ABORT);
    this.streams.delete(sid);
    this.writeSte(sid, ste);
  }

  /** Maps a page that was not mapped: nothing can be cached. */
  map(space: AddressSpace, iova: bigint, gpa: bigint): void {
    if (gpa >= 1n << BigInt(this.outputBits)) throw new Error(`0x${gpa.toString(16)} is beyond IDR5.OAS`);
    space.set(iova, gpa);
  }

  unmap(space: AddressSpace, iova: bigint): void {
    space.clear(iova);
    this.push(cmd.tlbiPage(space.asid, iova));
    this.invalidateAtcs(space, (sid) => cmd.atcInvPage(sid, iova));
  }

  /** Unmaps a number of pages with as few commands as the SMMU takes. */
  unmapPages(space: AddressSpace, iova: bigint, pages: number): void {
    for (let page = 0; page < pages; page++) space.clear(iova + BigInt(4096 * page));
    this.push(...this.tlbiPages(space.asid, iova, pages));
    this.invalidateAtcs(space, cmd.atcInvAll);
  }

  /** Forgets everything of an address space that goes. */
  flush(space: AddressSpace): void {
    this.push(cmd.tlbiAsid(space.asid));
    this.invalidateAtcs(space, cmd.atcInvAll);
  }

  /** Puts commands and a CMD_SYNC into the queue, and waits for them: they have been carried out afterwards. */
  push(...commands: readonly Command[]): void {
    let at = 0;
    do {
      const fast = at < commands.length && this.isFast(commands[at]!);
      let end = at;
      while (end < commands.length && this.isFast(commands[end]!) === fast) end++;
      this.pushTo(fast ? this.cmdqv! : this.commandQueue, commands.slice(at, end));
      at = end;
    } while (at < commands.length);
  }

  /** Goes past the VMM. */
  private isFast(command: Command): boolean {
    return this.cmdqv?.takes(command) === true;
  }

  private pushTo(queue: CommandQueue, commands: readonly Command[]): void {
    for (const command of [...commands, cmd.sync()]) queue.push(command);
    queue.ring();
  }

  /** CMDQ_CONS.ERR. */
  get commandError(): number {
    return this.field('CMDQ_CONS', REGISTERS.CMDQ_CONS.fields.ERR);
  }

  /** The interrupt of the event queue, and of global errors. */
  interrupt(): void {
    const active = this.read('GERROR') ^ this.read('GERRORN');
    this.errors |= active;
    // A command error waits for whoever looks into it; records go on being written only when this is acknowledged.
    if (active & EVENTQ_ABT_ERR) this.write('GERRORN', this.read('GERRORN') ^ EVENTQ_ABT_ERR);
    for (let words = this.eventQueue.pop(EVENT_WORDS); words; words = this.eventQueue.pop(EVENT_WORDS)) {
      this.events.push(words);
    }
    if (this.eventQueue.acknowledgeOverflow()) this.overflows++;
  }

  private tlbiPages(asid: number, iova: bigint, pages: number): Command[] {
    if (this.field('IDR3', IDR3.fields.RIL) === 0) {
      return Array.from({ length: pages }, (_, page) => cmd.tlbiPage(asid, iova + BigInt(4096 * page)));
    }
    const commands: Command[] = [];
    for (let done = 0; done < pages; ) {
      const left = pages - done;
      const scale = Math.log2(left & -left);
      const count = (left >>> scale) & 0x1f;
      const from = iova + BigInt(4096 * done);
      // NUM and SCALE of 0 with a granule are reserved without TTL (4.4.1).
      commands.push(count << scale === 1 ? cmd.tlbiPage(asid, from) : cmd.tlbiRange(asid, from, count - 1, scale));
      done += count << scale;
    }
    return commands;
  }

  private invalidateAtcs(space: AddressSpace, command: (sid: number) => Command): void {
    const cached = [...this.streams].filter(([, stream]) => stream.ats && stream.spaces.includes(space));
    if (cached.length > 0) this.push(...cached.map(([sid]) => command(sid)));
  }

  private writeSte(sid: number, ste: Uint32Array): void {
    this.ram.words(this.streamTable + BigInt(STE_BYTES * sid), STE_WORDS).set(ste);
    this.push(cmd.cfgiSte(sid));
  }

  private field(register: keyof typeof REGISTERS, field: Field): number {
    return get(Uint32Array.of(this.read(register)), 0, { ...field, word: 0 });
  }

  read(register: keyof typeof REGISTERS): number {
    return this.mmio.readRegister(REGISTERS[register].offset, 4);
  }

  write(register: keyof typeof REGISTERS, value: number): void {
    this.mmio.writeRegister(REGISTERS[register].offset, 4, value >>> 0);
  }

  write64(register: keyof typeof REGISTERS, value: bigint): void {
    this.write(register, Number(value & 0xffff_ffffn));
    this.mmio.writeRegister(REGISTERS[register].offset + 4, 4, Number(value >> 32n));
  }
}

const queueRegisters = (name: 'CMDQ' | 'EVENTQ'): QueueRegisters => ({
  base: REGISTERS[`${name}_BASE`].offset,
  prod: REGISTERS[`${name}_PROD`].offset,
  cons: REGISTERS[`${name}_CONS`].offset,
});
