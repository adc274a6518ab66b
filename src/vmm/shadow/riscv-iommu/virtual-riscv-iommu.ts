/**
 * A RISC-V IOMMU as the guest sees it, with an address translation cache of its own (IOATC). A device of the host is to
 * reach what the cache and the tables together say, and so its mirror is made by translating page by page, as a replay of
 * QEMU's is: what is stale in the cache is stale in the host.
 */
import type { GuestRam } from '../../guest/ram.ts';
import type { ShadowFaults } from '../faults.ts';
import { load64 } from '../guest-memory.ts';
import { READ, WRITE } from '../host-space.ts';
import type { Leaf, ShadowSpace } from '../shadow-space.ts';
import { Ioatc, type Tag } from './ioatc.ts';
import { bothStages, firstStagePages, secondStagePages, type Through } from './page-walk.ts';
import type { RiscvRegister } from './spec.ts';
import * as spec from './spec.ts';

export interface RiscvDevice {
  /** device_id, below 128. */
  readonly id: number;
  readonly space: ShadowSpace;
}

/** A device context, as of the last IODIR.INVAL_DDT. */
interface Context {
  readonly iosatp: bigint;
  readonly iohgatp: bigint;
  readonly tag: Tag;
  readonly walk: Through;
}

const PAGE = 4096n;

export class VirtualRiscvIommu {
  private readonly ram: GuestRam;
  private readonly devices: readonly RiscvDevice[];
  private readonly registers: Record<RiscvRegister, bigint>;
  private readonly ioatc: Ioatc;
  private readonly contexts: Map<number, Context | 'blocked' | 'passing'>;

  constructor(ram: GuestRam, devices: readonly RiscvDevice[], faults: ShadowFaults) {
    this.ram = ram;
    this.devices = devices;
    this.registers = { DDTP: 0n, CQB: 0n, CQH: 0n, CQT: 0n, CQCSR: 0n };
    this.ioatc = new Ioatc(faults);
    this.contexts = new Map();
  }

  read(register: RiscvRegister): bigint {
    return this.registers[register];
  }

  write(register: RiscvRegister, value: bigint): void {
    if (register === 'CQH') return;
    this.registers[register] = value;
    if (register === 'DDTP') for (const device of this.devices) this.configure(device);
    if (register === 'CQT') this.consume();
  }

  private consume(): void {
    const { registers } = this;
    const entries = spec.queueEntries(registers.CQB);
    registers.CQT %= entries;
    while (registers.CQCSR & spec.CQEN && !(registers.CQCSR & spec.CMD_ILL) && registers.CQH !== registers.CQT) {
      const at = spec.pageOf(registers.CQB) + registers.CQH * spec.COMMAND_BYTES;
      const [low, high] = [load64(this.ram.space, at), load64(this.ram.space, at + 8n)];
      if (low === null || high === null || !this.execute(low, high)) registers.CQCSR |= spec.CMD_ILL;
      else registers.CQH = (registers.CQH + 1n) % entries;
    }
  }

  /** @returns whether the command is one */
  private execute(low: bigint, high: bigint): boolean {
    switch (spec.opcode(low)) {
      case spec.IOTINVAL:
        return this.invalidate(low, high);
      case spec.IODIR:
        for (const device of this.devices) {
          if (!(low & spec.DV) || device.id === spec.deviceId(low)) this.configure(device);
        }
        return true;
      case spec.IOFENCE:
        return true;
      default:
        return false;
    }
  }

  private invalidate(low: bigint, high: bigint): boolean {
    const gscid = low & spec.GV ? spec.gscid(low) : null;
    const pscid = low & spec.PSCV ? spec.pscid(low) : null;
    const address = low & spec.AV ? spec.commandAddress(high) : null;
    if (spec.func3(low) === spec.VMA) this.ioatc.invalidateVma(gscid, pscid, address);
    else if (spec.func3(low) === spec.GVMA && pscid === null) this.ioatc.invalidateGvma(gscid, address);
    else return false;
    for (const device of this.devices) this.replay(device);
    return true;
  }

  private configure(device: RiscvDevice): void {
    this.contexts.set(device.id, this.context(device.id));
    this.replay(device);
  }

  private context(id: number): Context | 'blocked' | 'passing' {
    const { DDTP } = this.registers;
    if (spec.ddtpMode(DDTP) === spec.DDTP_BARE) return 'passing';
    if (spec.ddtpMode(DDTP) !== spec.DDTP_1LVL || id >= spec.CONTEXTS) return 'blocked';
    const memory = this.ram.space;
    const at = spec.pageOf(DDTP) + spec.CONTEXT_BYTES * BigInt(id);
    const word = (offset: bigint): bigint => load64(memory, at + offset) ?? 0n;
    const [iohgatp, ta, iosatp] = [word(8n), word(16n), word(24n)];
    if (!(word(0n) & spec.TC_V)) return 'blocked';
    const tag = {
      pscid: spec.atpMode(iosatp) === spec.MODE_BARE ? null : spec.pscid(ta),
      gscid: spec.atpMode(iohgatp) === spec.MODE_BARE ? null : spec.gscid(iohgatp),
    };
    if (tag.pscid === null && tag.gscid === null) return 'passing';
    return { iosatp, iohgatp, tag, walk: bothStages(memory, iosatp, iohgatp) };
  }

  /** Has the mirror of a device say what translation gives, page by page. */
  private replay({ id, space }: RiscvDevice): void {
    const context = this.contexts.get(id) ?? 'blocked';
    if (context === 'passing') space.only([space.ramItself(READ | WRITE)]);
    else space.only(context === 'blocked' ? [] : this.leaves(context));
  }

  private leaves(context: Context): Leaf[] {
    return this.pages(context).flatMap((iova) => {
      const found = this.translate(context, iova);
      return found ? [{ iova, gpa: found.pa, length: PAGE, prot: found.prot }] : [];
    });
  }

  /** Cached, or else found in the tables and cached. */
  private translate({ tag, walk }: Context, iova: bigint) {
    const cached = this.ioatc.find(tag, iova);
    if (cached) return cached;
    const found = walk(iova);
    if (!found) return null;
    const entry = { tag, iova, pa: found.address, prot: found.prot };
    this.ioatc.fill(entry);
    return entry;
  }

  /** Pages that may be mapped: in the tables of the stage that comes first, or in the cache. */
  private pages({ tag, iosatp, iohgatp }: Context): bigint[] {
    const memory = this.ram.space;
    const inTables = tag.pscid === null ? secondStagePages(memory, iohgatp) : firstStagePages(memory, iosatp, iohgatp);
    return [...new Set([...inTables, ...this.ioatc.of(tag).map(({ iova }) => iova)])];
  }
}
