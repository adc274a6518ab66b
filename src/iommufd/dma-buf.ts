/**
 * dma-buf: physically contiguous memory of a device behind a descriptor. Whoever exports it can take it back at any time:
 * it then leaves every domain at once, and those who mapped it never get it again, though others may after a restore.
 */
import { fail } from '../abi/errno.ts';
import { ownPages, type PageSource } from '../memory/process-memory.ts';
import { type OpenFile, POLLIN, POLLOUT } from './file.ts';
import type { Pages } from './pages.ts';

/** Addresses are offsets into it. */
export class DmaBuf implements PageSource {
  readonly name: string;
  private readonly bytes: Uint8Array;
  private revoked: boolean;
  private importers: Set<Pages>;

  /** @param length a multiple of a page */
  constructor(length: number) {
    this.name = 'dma-buf';
    this.bytes = new Uint8Array(length);
    this.revoked = false;
    this.importers = new Set();
  }

  get length(): number {
    return this.bytes.length;
  }

  /** `pages` of it are mapped from now on. ENODEV while it is taken back. */
  import(pages: Pages): void {
    if (this.revoked) throw fail('ENODEV', 'the dma-buf is taken back by its exporter');
    this.importers.add(pages);
  }

  /** Takes it back, or (`revoked` false) lets it be mapped again. Either way, who has it now loses it. */
  setRevoked(revoked: boolean): void {
    this.revoked = revoked;
    for (const pages of this.importers) pages.revoke();
    this.importers.clear();
  }

  read(address: number, into: Uint8Array): boolean {
    if (!this.has(address, into.length)) return false;
    into.set(this.bytes.subarray(address, address + into.length));
    return true;
  }

  write(address: number, from: Uint8Array): boolean {
    if (!this.has(address, from.length)) return false;
    this.bytes.set(from, address);
    return true;
  }

  resolve(address: number, length: number) {
    return this.has(address, length) ? ownPages(this, address, length) : null;
  }

  private has(address: number, length: number): boolean {
    return address + length <= this.bytes.length;
  }
}

/** Its descriptor. Programs do nothing with it but pass it on. */
export class DmaBufFile implements OpenFile {
  readonly device: null;
  readonly pollMask: number;
  onPollChange: (() => void) | null;
  readonly buffer: DmaBuf;

  constructor(buffer: DmaBuf) {
    this.device = null;
    this.pollMask = POLLIN | POLLOUT;
    this.onPollChange = null;
    this.buffer = buffer;
  }

  get kind(): 'dma-buf' {
    return 'dma-buf';
  }

  ioctl(): never {
    throw fail('ENOTTY', 'this dma-buf has no ioctls');
  }

  read(): never {
    throw fail('EINVAL', 'a dma-buf cannot be read');
  }

  write(): never {
    throw fail('EINVAL', 'a dma-buf cannot be written');
  }

  mmap(): never {
    throw fail('EINVAL', 'this dma-buf cannot be mapped by programs');
  }

  /** Mappings of it stay. */
  release(): void {}
}
