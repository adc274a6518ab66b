/** An eventfd of the program: what interrupts signal, or what it signals itself. */
import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { Errno } from '../../src/abi/errno.ts';
import { OpenedFile } from '../../src/client/index.ts';

/** Signals of a server come by a thread of the shim. */
const LONGEST_WAIT_MS = 5000;

export class EventFd extends OpenedFile {
  async signal(): Promise<void> {
    await this.write(new Uint8Array(BigUint64Array.of(1n).buffer));
  }

  /** What it counted since it was asked last: 0 when nothing. */
  async counted(): Promise<number> {
    try {
      return Number(new DataView((await this.read(8)).buffer).getBigUint64(0, true));
    } catch (error) {
      if (error instanceof Errno && error.code === 'EAGAIN') return 0;
      throw error;
    }
  }

  /** Waits until it has counted `wanted`, and fails when that is not so or more. */
  async expect(wanted: number): Promise<void> {
    let counted = 0;
    await until(async () => (counted += await this.counted()) >= wanted);
    assert.equal(counted, wanted);
  }
}

/** Waits for what a thread does on its own; fails when it does not. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + LONGEST_WAIT_MS;
  while (!(await holds())) {
    assert.ok(performance.now() < end, `not so within ${LONGEST_WAIT_MS} ms`);
    await setTimeout(1);
  }
}
