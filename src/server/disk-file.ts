/** A file as what a namespace keeps its blocks in. Its size is what it was when it was opened. */
import { fdatasyncSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import type { BlockStore } from '../hardware/pci/nvme/disk.ts';

const ZEROS = new Uint8Array(2 ** 20);

export class DiskFile implements BlockStore {
  readonly bytes: number;
  private readonly fd: number;

  /** @throws what open(2) says */
  constructor(path: string) {
    this.fd = openSync(path, 'r+');
    this.bytes = fstatSync(this.fd).size;
  }

  read(position: number, into: Uint8Array): boolean {
    return inFull(into.length, (done) => readSync(this.fd, into, done, into.length - done, position + done));
  }

  write(position: number, from: Uint8Array): boolean {
    return inFull(from.length, (done) => writeSync(this.fd, from, done, from.length - done, position + done));
  }

  zero(position: number, bytes: number): boolean {
    return inFull(bytes, (done) => writeSync(this.fd, ZEROS, 0, Math.min(ZEROS.length, bytes - done), position + done));
  }

  /** The blocks stay: Node has no call that makes holes. */
  discard(): void {}

  flush(): boolean {
    return inFull(1, () => {
      fdatasyncSync(this.fd);
      return 1;
    });
  }
}

/** Repeats a partial transfer until `length` are moved; false when the host's kernel refuses, or the file ends. */
function inFull(length: number, move: (done: number) => number): boolean {
  try {
    for (let done = 0; done < length; ) {
      const moved = move(done);
      if (moved === 0) return false;
      done += moved;
    }
    return true;
  } catch {
    return false;
  }
}
