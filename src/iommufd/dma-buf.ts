/**
 * dma-buf: memory of a device behind a descriptor. Whoever exports it can take it back at any time: it then leaves every
 * domain at once, and those who mapped it never get it again, though others may after a restore.
 */
import { fail } from '../abi/errno.ts';
import type { PinnedMemory } from '../memory/pinned-memory.ts';
import type { PageSource } from '../memory/process-memory.ts';
import { type OpenFile, POLLIN, POLLOUT } from './file.ts';
import { hex } from './format.ts';
import { type Pages, type Piece, pieceOf } from './pages.ts';

export interface DmaBufOptions {
  /** Bytes: a multiple of a page. */
  readonly length: number;
  /** Its memory at addresses from 0; null when that is several pieces, which an iommufd does not take. */
  readonly memory: PageSource | null;
  /** It is taken back from the start. */
  readonly revoked?: boolean;
  /** Its descriptor is closed, and nothing maps it any more. */
  readonly ended?: () => void;
}

export class DmaBuf {
  readonly length: number;
  readonly memory: PageSource | null;
  private readonly ended: (() => void) | null;
  private taken: boolean;
  private closed: boolean;
  /** What was made of it, taken back or not. */
  private readonly importers: Set<Pages>;

  constructor({ length, memory, revoked = false, ended }: DmaBufOptions) {
    this.length = length;
    this.memory = memory;
    this.ended = ended ?? null;
    this.taken = revoked;
    this.closed = false;
    this.importers = new Set();
  }

  get revoked(): boolean {
    return this.taken;
  }

  /**
   * [start, start + length) of it, to be mapped. EINVAL when it has not so much, ENODEV while it is taken back,
   * EOPNOTSUPP when it is several pieces.
   */
  piece(pinned: PinnedMemory, start: bigint, length: bigint, writable: boolean): Piece {
    if (start + length > BigInt(this.length)) {
      const part = `start ${hex(start)} + length ${hex(length)}`;
      throw fail('EINVAL', `${part} is beyond the ${hex(this.length)} of the dma-buf`);
    }
    if (this.taken) throw fail('ENODEV', 'the dma-buf is taken back by its exporter');
    if (!this.memory) throw fail('EOPNOTSUPP', 'the dma-buf has several ranges, and an iommufd takes one');
    const left = (pages: Pages): void => this.left(pages);
    const piece = pieceOf({ pinned, kind: 'dma-buf', source: this.memory, writable, ended: left }, start, length);
    this.importers.add(piece.pages);
    return piece;
  }

  /** Takes it back, or (`revoked` false) lets it be mapped again. Either way, who has it now loses it. */
  setRevoked(revoked: boolean): void {
    this.taken = revoked;
    for (const pages of this.importers) pages.revoke();
  }

  /** Its descriptor is closed: what is mapped stays. */
  close(): void {
    this.closed = true;
    this.endIfUnused();
  }

  private left(pages: Pages): void {
    this.importers.delete(pages);
    this.endIfUnused();
  }

  private endIfUnused(): void {
    if (this.closed && this.importers.size === 0) this.ended?.();
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

  release(): void {
    this.buffer.close();
  }
}
