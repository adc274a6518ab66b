/**
 * Registers of a device from a table: storage, reset values, sanitising of writes. Little-endian; any access of 1, 2 or
 * 4 bytes may touch several registers or a part of one, as byte lanes do on the bus.
 */
import type { Register } from './spec/register.ts';

/** Called after a write with each register that it touched, in order of offset. */
export type WriteEffect = (name: string) => void;

const NONE = 0xffff;

/** A register that only the device itself can change. */
export const fixed = (name: string, offset: number, bytes: 1 | 2 | 4, value: number): Register => ({
  name,
  offset,
  bytes,
  reset: BigInt(value >>> 0),
});

export class RegisterFile {
  readonly bytes: Uint8Array;
  private readonly registers: readonly Register[];
  private readonly byName: ReadonlyMap<string, Register>;
  private readonly owner: Uint16Array;
  private readonly resetBytes: Uint8Array;
  private readonly writable: Uint8Array;
  private readonly clearing: Uint8Array;
  private readonly sticky: Uint8Array;
  private readonly view: DataView;

  /** @param size bytes of the block; bytes of no register read as zero and ignore writes */
  constructor(size: number, registers: readonly Register[]) {
    this.registers = registers;
    this.byName = new Map(registers.map((register) => [register.name, register]));
    this.owner = new Uint16Array(size).fill(NONE);
    this.resetBytes = new Uint8Array(size);
    this.writable = new Uint8Array(size);
    this.clearing = new Uint8Array(size);
    this.sticky = new Uint8Array(size);
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
    for (const [index, register] of registers.entries()) this.place(index, register);
    this.bytes.set(this.resetBytes);
  }

  /** All but sticky bits. */
  reset(): void {
    const { bytes, resetBytes, sticky } = this;
    for (let i = 0; i < bytes.length; i++) bytes[i] = (bytes[i]! & sticky[i]!) | (resetBytes[i]! & ~sticky[i]!);
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  offsetOf(name: string): number {
    return this.find(name).offset;
  }

  bytesOf(name: string): number {
    return this.find(name).bytes;
  }

  /** Value of a register of up to 4 bytes. */
  get(name: string): number {
    const { offset, bytes } = this.find(name);
    return this.load(offset, bytes);
  }

  /** Sets a register of up to 4 bytes from inside the device: read-only bits too. */
  set(name: string, value: number): void {
    const { offset, bytes } = this.find(name);
    this.store(offset, bytes, value);
  }

  /** 4 KiB frame number of the address in an 8-byte register. */
  frameOf(name: string): number {
    const { offset } = this.find(name);
    return this.view.getUint32(offset + 4, true) * 2 ** 20 + (this.view.getUint32(offset, true) >>> 12);
  }

  /** Offset within the frame of the address in an 8-byte register. */
  frameOffsetOf(name: string): number {
    return this.view.getUint32(this.find(name).offset, true) & 0xfff;
  }

  /** @param size 1, 2 or 4, naturally aligned */
  read(offset: number, size: number): number {
    return offset + size <= this.bytes.length ? this.load(offset, size) : 0;
  }

  /** A write from the bus: masks applied, then `effect` for each register touched. */
  write(offset: number, size: number, value: number, effect: WriteEffect): void {
    if (offset + size > this.bytes.length) return;
    for (let i = 0; i < size; i++) this.writeByte(offset + i, (value >>> (8 * i)) & 0xff);
    let previous = NONE;
    for (let i = 0; i < size; i++) {
      const index = this.owner[offset + i]!;
      if (index !== previous && index !== NONE) effect(this.registers[index]!.name);
      previous = index;
    }
  }

  private writeByte(at: number, value: number): void {
    const mask = this.writable[at]!;
    this.bytes[at] = ((this.bytes[at]! & ~mask) | (value & mask)) & ~(value & this.clearing[at]!);
  }

  private load(offset: number, size: number): number {
    if (size === 4) return this.view.getUint32(offset, true);
    return size === 2 ? this.view.getUint16(offset, true) : this.bytes[offset]!;
  }

  private store(offset: number, size: number, value: number): void {
    if (size === 4) this.view.setUint32(offset, value, true);
    else if (size === 2) this.view.setUint16(offset, value, true);
    else this.bytes[offset] = value;
  }

  private find(name: string): Register {
    const register = this.byName.get(name);
    if (!register) throw new Error(`no register ${name}`);
    return register;
  }

  private place(index: number, register: Register): void {
    const { name, offset, bytes, reset = 0n, writable = 0n, writeOneToClear = 0n, sticky = 0n } = register;
    if (offset + bytes > this.bytes.length) throw new Error(`register ${name} lies outside its block`);
    for (let i = 0; i < bytes; i++) {
      if (this.owner[offset + i] !== NONE) throw new Error(`register ${name} overlaps another one`);
      const shift = BigInt(8 * i);
      this.owner[offset + i] = index;
      this.resetBytes[offset + i] = Number((reset >> shift) & 0xffn);
      this.writable[offset + i] = Number((writable >> shift) & 0xffn);
      this.clearing[offset + i] = Number((writeOneToClear >> shift) & 0xffn);
      this.sticky[offset + i] = Number((sticky >> shift) & 0xffn);
    }
  }
}
