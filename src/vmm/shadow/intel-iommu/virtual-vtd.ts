/**
 * An Intel IOMMU as the guest sees it, in caching mode: the guest invalidates whatever it changes, entries that were not
 * present too, and so the host's mappings can follow its tables. Legacy mode, second-level tables, queued invalidation.
 */
import type { GuestRam } from '../../guest/ram.ts';
import type { ShadowFaults } from '../faults.ts';
import { load64, store32 } from '../guest-memory.ts';
import { READ, type Span, WRITE } from '../host-space.ts';
import type { Leaf, ShadowSpace } from '../shadow-space.ts';
import { lastAddress, type Tables, walk } from './page-walk.ts';
import type { VtdRegister } from './spec.ts';
import * as spec from './spec.ts';

export interface VtdDevice {
  /** Source ID: bus, device and function. */
  readonly id: number;
  readonly space: ShadowSpace;
}

/** What a context entry says. */
type Context = 'blocked' | 'passing' | { readonly domain: number; readonly tables: Tables };

/** Pages of the largest page-selective invalidation, as a power of two. */
const MAMV = 18;
const EVERYTHING: Span = { start: 0n, last: 2n ** 64n - 1n };
const WRITABLE = ['RTADDR', 'IQA', 'GCMD', 'IQT'];

export class VirtualVtd {
  private readonly ram: GuestRam;
  private readonly devices: readonly VtdDevice[];
  private readonly faults: ShadowFaults;
  private readonly registers: Record<VtdRegister, bigint>;
  /** RTADDR as it was when the guest said so. */
  private root: bigint;
  /** By source ID, as of the last invalidation. */
  private readonly contexts: Map<number, Context>;

  constructor(ram: GuestRam, devices: readonly VtdDevice[], faults: ShadowFaults) {
    this.ram = ram;
    this.devices = devices;
    this.faults = faults;
    this.contexts = new Map();
    this.registers = resetValues();
    this.root = 0n;
    for (const device of devices) this.configure(device);
  }

  /** As at power on: devices reach guest RAM untranslated. */
  reset(): void {
    Object.assign(this.registers, resetValues());
    this.root = 0n;
    for (const device of this.devices) {
      device.space.clearAll();
      this.configure(device);
    }
  }

  read(register: VtdRegister): bigint {
    return this.registers[register];
  }

  write(register: VtdRegister, value: bigint): void {
    if (register === 'FSTS') this.registers.FSTS &= ~value;
    if (!WRITABLE.includes(register)) return;
    this.registers[register] = register === 'IQT' ? spec.queueOffset(value) : value;
    if (register === 'GCMD') this.command(value);
    if (register === 'IQT') this.consume();
  }

  private command(value: bigint): void {
    const { registers, devices } = this;
    const before = registers.GSTS;
    if (value & spec.SRTP) this.root = spec.tableAddress(registers.RTADDR);
    registers.GSTS = (value & (spec.TE | spec.QIE)) | ((value | before) & spec.SRTP);
    if ((before ^ value) & spec.TE) for (const device of devices) this.configure(device);
    if (value & ~before & spec.QIE) registers.IQH = 0n;
  }

  private consume(): void {
    const { registers } = this;
    const bytes = 4096n << (registers.IQA & 7n);
    while (registers.GSTS & spec.QIE && !(registers.FSTS & spec.FSTS_IQE) && registers.IQH !== registers.IQT) {
      const at = spec.tableAddress(registers.IQA) + registers.IQH;
      const [low, high] = [load64(this.ram.space, at), load64(this.ram.space, at + 8n)];
      const valid = registers.IQT < bytes && low !== null && high !== null && this.execute(low, high);
      if (!valid) registers.FSTS |= spec.FSTS_IQE;
      else registers.IQH = (registers.IQH + spec.DESCRIPTOR_BYTES) % bytes;
    }
  }

  /** @returns whether the descriptor is one */
  private execute(low: bigint, high: bigint): boolean {
    switch (spec.descriptorType(low)) {
      case spec.CONTEXT_INVALIDATE:
        return this.invalidateContexts(low);
      case spec.IOTLB_INVALIDATE:
        return this.invalidateIotlb(low, high);
      case spec.INVALIDATION_WAIT:
        if (low & spec.WAIT_STATUS_WRITE) store32(this.ram.space, spec.waitAddress(high), spec.waitStatus(low));
        return true;
      default:
        return false;
    }
  }

  private invalidateContexts(low: bigint): boolean {
    const granularity = spec.granularity(low);
    if (granularity === 0n) return false;
    const [source, mask] = [spec.descriptorSource(low), spec.functionMask(low)];
    for (const device of this.devices) {
      // Its old domain is what counts for a device whose entry has changed.
      if (granularity === spec.DOMAIN && !this.isIn(device, spec.descriptorDomain(low))) continue;
      if (granularity === spec.DEVICE && (device.id & ~mask) !== (source & ~mask)) continue;
      this.configure(device);
    }
    return true;
  }

  private invalidateIotlb(low: bigint, high: bigint): boolean {
    const granularity = spec.granularity(low);
    const mask = spec.addressMask(high);
    if (granularity === 0n || (granularity === spec.PAGES && mask > MAMV)) return false;
    for (const device of this.devices) {
      if (granularity !== spec.GLOBAL && !this.isIn(device, spec.descriptorDomain(low))) continue;
      this.follow(device, granularity === spec.PAGES ? pages(high, mask) : EVERYTHING);
    }
    return true;
  }

  private isIn(device: VtdDevice, domain: number): boolean {
    const context = this.contexts.get(device.id);
    return typeof context === 'object' && context.domain === domain;
  }

  private configure(device: VtdDevice): void {
    this.contexts.set(device.id, this.context(device.id));
    this.follow(device, EVERYTHING);
  }

  /** Has the mirror of a device equal what the guest's tables say in `span`. */
  private follow({ id, space }: VtdDevice, span: Span): void {
    const context = this.contexts.get(id)!;
    if (typeof context === 'object') {
      const visitor = {
        // What the host refuses stays away: there is no way to tell the guest.
        leaf: (leaf: Leaf) => void space.set(leaf),
        absent: (gone: Span) => space.clear(gone),
      };
      walk(this.ram.space, context.tables, space.withWholeLeaves(span), visitor, this.faults);
      space.clear({ start: lastAddress(context.tables) + 1n, last: EVERYTHING.last });
    } else if (context === 'blocked') {
      space.clear(EVERYTHING);
    } else {
      space.only([space.ramItself(READ | WRITE)]);
    }
  }

  private context(id: number): Context {
    const { space } = this.ram;
    if (!(this.registers.GSTS & spec.TE)) return 'passing';
    const root = load64(space, this.root + spec.ENTRY_BYTES * BigInt(id >> 8)) ?? 0n;
    if (!(root & spec.PRESENT)) return 'blocked';
    const entry = spec.tableAddress(root) + spec.ENTRY_BYTES * BigInt(id & 0xff);
    const [low, high] = [load64(space, entry) ?? 0n, load64(space, entry + 8n) ?? 0n];
    if (!(low & spec.PRESENT)) return 'blocked';
    const type = spec.contextType(low);
    if (type === spec.TT_PASS_THROUGH) return 'passing';
    const levels = spec.contextWidth(high) + 2;
    if (type !== spec.TT_UNTRANSLATED || (levels !== 3 && levels !== 4)) return 'blocked';
    return { domain: spec.contextDomain(high), tables: { root: spec.tableAddress(low), levels } };
  }
}

/** The low bits of the address, as many as the mask says, are any (6.5.2.3). */
function pages(high: bigint, mask: number): Span {
  const bytes = 4096n << BigInt(mask);
  const start = high & ~0xfffn & -bytes;
  return { start, last: start + bytes - 1n };
}

function resetValues(): Record<VtdRegister, bigint> {
  const sizes = spec.CAP_SAGAW_39_48 | spec.CAP_MGAW_48 | spec.CAP_SLLPS_2M_1G;
  const CAP = sizes | spec.CAP_CM | spec.CAP_PSI | (BigInt(MAMV) << spec.CAP_MAMV_SHIFT);
  const ECAP = spec.ECAP_QI | spec.ECAP_PT;
  return { CAP, ECAP, GCMD: 0n, GSTS: 0n, RTADDR: 0n, FSTS: 0n, IQH: 0n, IQT: 0n, IQA: 0n };
}
