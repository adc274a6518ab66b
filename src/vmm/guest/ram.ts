/** Guest RAM: bytes of the VMM's process behind guest-physical addresses, as the guest's CPUs and the VMM see them. */
import { type Backing, FRAME_BYTES, PhysicalMemory } from '../../memory/physical-memory.ts';

export const PAGE = 4096;

/** Where RAM begins: clear of the window that hosts set aside for MSIs, and at the start of a slot. */
export const GUEST_BASE = 0x4000_0000n;
const GUEST_SLOT = 1;
const GUEST_FRAME = 0x4_0000;

export class GuestRam implements Backing {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** The guest-physical address space, with nothing in it but this. */
  readonly space: PhysicalMemory;
  private readonly view: DataView;
  private nextFree: number;

  constructor(bytes: Uint8Array) {
    this.name = 'guest RAM';
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.space = new PhysicalMemory();
    this.space.placeBacking(GUEST_SLOT, 1, this);
    this.nextFree = 0;
  }

  /** Guest-physical address of fresh zeroed pages, aligned to their number rounded up to a power of two. */
  allocate(pages = 1): bigint {
    const align = 2 ** Math.ceil(Math.log2(pages)) * PAGE;
    const at = Math.ceil(this.nextFree / align) * align;
    this.nextFree = at + pages * PAGE;
    if (this.nextFree > this.bytes.length) throw new Error(`guest RAM of ${this.bytes.length} bytes is used up`);
    this.bytes.fill(0, at, this.nextFree);
    return GUEST_BASE + BigInt(at);
  }

  load(gpa: bigint): bigint {
    return this.view.getBigUint64(this.offset(gpa), true);
  }

  store(gpa: bigint, value: bigint): void {
    this.view.setBigUint64(this.offset(gpa), value, true);
  }

  /** A view, not a copy. */
  at(gpa: bigint, length: number): Uint8Array {
    return this.bytes.subarray(this.offset(gpa), this.offset(gpa) + length);
  }

  /** The same as words; `gpa` is a multiple of 4. */
  words(gpa: bigint, count: number): Uint32Array {
    return new Uint32Array(this.bytes.buffer, this.bytes.byteOffset + this.offset(gpa), count);
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    const at = (frame - GUEST_FRAME) * FRAME_BYTES + offset;
    if (at + into.length > this.bytes.length) return false;
    into.set(this.bytes.subarray(at, at + into.length));
    return true;
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    const at = (frame - GUEST_FRAME) * FRAME_BYTES + offset;
    if (at + from.length > this.bytes.length) return false;
    this.bytes.set(from, at);
    return true;
  }

  private offset(gpa: bigint): number {
    return Number(gpa - GUEST_BASE);
  }
}

/** Frame number of an address. */
export const frameOf = (address: bigint): number => Number(address >> 12n);
