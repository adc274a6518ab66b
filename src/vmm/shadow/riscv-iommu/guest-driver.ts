/** The guest's hypervisor, as far as a device of its own guest goes: two stages of tables, and the commands after a change. */
import type { GuestRam } from '../../guest/ram.ts';
import * as spec from './spec.ts';
import type { VirtualRiscvIommu } from './virtual-riscv-iommu.ts';

const QUEUE_ENTRIES = 256n;
const LEAF = spec.PTE_V | spec.PTE_R | spec.PTE_W | spec.PTE_U | spec.PTE_A | spec.PTE_D;

/** Tables of one stage, at addresses that `real` leads from where they are to where their bytes are. */
export class Sv39Tables {
  readonly root: bigint;
  private readonly ram: GuestRam;
  private readonly allocate: () => bigint;
  private readonly real: (address: bigint) => bigint;

  constructor(ram: GuestRam, root: bigint, allocate: () => bigint, real = (address: bigint) => address) {
    this.ram = ram;
    this.root = root;
    this.allocate = allocate;
    this.real = real;
  }

  /** Writes one page's entry, whatever was there. */
  set(from: bigint, to: bigint): void {
    this.ram.store(this.entry(from), spec.withPpn(to) | LEAF);
  }

  clear(from: bigint): void {
    this.ram.store(this.entry(from), 0n);
  }

  private entry(address: bigint): bigint {
    let table = this.root;
    for (const [shift, mask] of [
      [30n, 0x7ffn],
      [21n, 0x1ffn],
    ] as const) {
      const at = this.real(table + 8n * ((address >> shift) & mask));
      if (!(this.ram.load(at) & spec.PTE_V)) this.ram.store(at, spec.withPpn(this.allocate()) | spec.PTE_V);
      table = spec.pteAddress(this.ram.load(at));
    }
    return this.real(table + 8n * ((address >> 12n) & 0x1ffn));
  }
}

export class GuestRiscvDriver {
  readonly iommu: VirtualRiscvIommu;
  private readonly ram: GuestRam;
  private readonly directory: bigint;
  private readonly queue: bigint;

  constructor(iommu: VirtualRiscvIommu, ram: GuestRam) {
    this.iommu = iommu;
    this.ram = ram;
    this.directory = ram.allocate();
    this.queue = ram.allocate();
  }

  start(): void {
    const { iommu } = this;
    iommu.write('CQB', spec.withPage(this.queue) | 7n);
    iommu.write('CQCSR', spec.CQEN);
    iommu.write('DDTP', spec.withPage(this.directory) | spec.DDTP_1LVL);
  }

  /** A second stage with nothing in it. */
  secondStage(): Sv39Tables {
    return new Sv39Tables(this.ram, this.ram.allocate(spec.G_ROOT_PAGES), () => this.ram.allocate());
  }

  /** Puts a device behind both stages, or behind the second one alone. */
  attach(id: number, second: Sv39Tables, gscid: number, first: Sv39Tables | null = null, pscid = 0): void {
    const at = this.directory + spec.CONTEXT_BYTES * BigInt(id);
    this.ram.store(at + 8n, spec.withMode(second.root) | (BigInt(gscid) << spec.GSCID_SHIFT));
    this.ram.store(at + 16n, BigInt(pscid) << spec.PSCID_SHIFT);
    this.ram.store(at + 24n, first ? spec.withMode(first.root) : 0n);
    this.ram.store(at, spec.TC_V);
    this.push(spec.IODIR | spec.DV | (BigInt(id) << spec.DID_SHIFT), 0n);
  }

  /** After a change of the second stage: of one page, or of any. */
  invalidateGuest(gscid: number, gpa: bigint | null): void {
    const low = spec.IOTINVAL | (spec.GVMA << spec.FUNC3_SHIFT) | spec.GV | (BigInt(gscid) << spec.GSCID_SHIFT);
    this.push(low | (gpa === null ? 0n : spec.AV), gpa === null ? 0n : spec.withAddress(gpa));
  }

  /** After a change of one page of a first stage. */
  invalidateProcess(gscid: number, pscid: number, iova: bigint): void {
    const tags = spec.GV | (BigInt(gscid) << spec.GSCID_SHIFT) | spec.PSCV | (BigInt(pscid) << spec.PSCID_SHIFT);
    this.push(spec.IOTINVAL | (spec.VMA << spec.FUNC3_SHIFT) | tags | spec.AV, spec.withAddress(iova));
  }

  push(low: bigint, high: bigint): void {
    const tail = this.iommu.read('CQT');
    this.ram.store(this.queue + tail * spec.COMMAND_BYTES, low);
    this.ram.store(this.queue + tail * spec.COMMAND_BYTES + 8n, high);
    this.iommu.write('CQT', (tail + 1n) % QUEUE_ENTRIES);
  }
}
