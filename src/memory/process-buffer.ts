/** Memory of a process that lives in this one: a buffer at user addresses. */
import { type MemoryRun, ownPages, type PageSource } from './process-memory.ts';

export class ProcessBuffer implements PageSource {
  readonly name: string;
  /** Address of the first byte, page-aligned. */
  readonly base: number;
  readonly bytes: Uint8Array;

  constructor(base: number, size: number, name: string) {
    this.name = name;
    this.base = base;
    this.bytes = new Uint8Array(size);
  }

  read(address: number, into: Uint8Array): boolean {
    if (!this.has(address, into.length)) return false;
    into.set(this.bytes.subarray(address - this.base, address - this.base + into.length));
    return true;
  }

  write(address: number, from: Uint8Array): boolean {
    if (!this.has(address, from.length)) return false;
    this.bytes.set(from, address - this.base);
    return true;
  }

  resolve(address: number, length: number, _writable: boolean): readonly MemoryRun[] | null {
    return this.has(address, length) ? ownPages(this, address, length) : null;
  }

  private has(address: number, length: number): boolean {
    return address >= this.base && address + length <= this.base + this.bytes.length;
  }
}
