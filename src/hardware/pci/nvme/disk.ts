/** What a namespace keeps its blocks in. Byte positions are JS numbers below 2^53. */

/** Answers are false when the medium fails: the host's disk is full, or broken. */
export interface BlockStore {
  readonly bytes: number;
  read(position: number, into: Uint8Array): boolean;
  write(position: number, from: Uint8Array): boolean;
  /** The range reads as zeros from now on. */
  zero(position: number, bytes: number): boolean;
  /** The contents of the range do not matter any more: they stay, or become zeros. */
  discard(position: number, bytes: number): void;
  /** All that was written survives what comes. */
  flush(): boolean;
}

/** A store that is a namespace in blocks of 512 or 4096 bytes. */
export interface Disk {
  readonly store: BlockStore;
  readonly blockBytes: 512 | 4096;
}

const CHUNK = 2 ** 16;

/** A store in memory, allocated in chunks as it is written. */
export class MemoryStore implements BlockStore {
  readonly bytes: number;
  private readonly chunks: Map<number, Uint8Array>;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.chunks = new Map();
  }

  /** Bytes of memory that it takes. */
  get allocated(): number {
    return this.chunks.size * CHUNK;
  }

  read(position: number, into: Uint8Array): boolean {
    for (let done = 0; done < into.length; ) {
      const at = (position + done) % CHUNK;
      const length = Math.min(CHUNK - at, into.length - done);
      const chunk = this.chunks.get(Math.floor((position + done) / CHUNK));
      if (!chunk) into.fill(0, done, done + length);
      else into.set(new Uint8Array(chunk.buffer, at, length), done);
      done += length;
    }
    return true;
  }

  write(position: number, from: Uint8Array): boolean {
    for (let done = 0; done < from.length; ) {
      const at = (position + done) % CHUNK;
      const length = Math.min(CHUNK - at, from.length - done);
      this.ownChunk(Math.floor((position + done) / CHUNK)).set(
        length === from.length ? from : from.subarray(done, done + length),
        at,
      );
      done += length;
    }
    return true;
  }

  zero(position: number, bytes: number): boolean {
    const first = Math.floor(position / CHUNK);
    const last = Math.floor((position + bytes - 1) / CHUNK);
    // Whichever is less: a command may name all of a large disk, many times over, that holds little.
    if (last - first < this.chunks.size) for (let i = first; i <= last; i++) this.zeroChunk(i, position, bytes);
    else for (const i of this.chunks.keys()) if (i >= first && i <= last) this.zeroChunk(i, position, bytes);
    return true;
  }

  discard(position: number, bytes: number): void {
    this.zero(position, bytes);
  }

  flush(): boolean {
    return true;
  }

  /** The part of a chunk that lies in the range. */
  private zeroChunk(index: number, position: number, bytes: number): void {
    const from = Math.max(position - index * CHUNK, 0);
    const end = Math.min(position + bytes - index * CHUNK, CHUNK);
    if (end - from === CHUNK) this.chunks.delete(index);
    else this.chunks.get(index)?.fill(0, from, end);
  }

  private ownChunk(index: number): Uint8Array {
    let chunk = this.chunks.get(index);
    if (!chunk) this.chunks.set(index, (chunk = new Uint8Array(CHUNK)));
    return chunk;
  }
}
