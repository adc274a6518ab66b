import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Harness } from './harness.ts';

const harness = new Harness();
let program: string;

beforeAll(async () => {
  await harness.server.start();
  program = harness.compile('files');
});
afterAll(() => harness.stop());
afterEach(() => harness.nothingIsLeft());

describe('a program under the shim', () => {
  it.each([
    ['opens device nodes on the lowest free descriptor, with the errnos of a real folder', 'simple'],
    ['opens them by every way to name them', 'ways-to-open'],
    ['may copy descriptors: the file lives as long as one of them', 'copies'],
    ['sees character devices with their numbers, by path, by descriptor and in directories', 'stats'],
    ['reads and writes at positions and through vectors', 'read-write'],
    ['reads and writes by the other names of these functions', 'large'],
    ['may do with a file what it was opened for, and map it as Linux allows', 'modes'],
    ['gets EFAULT for wild pointers, and never a signal', 'wild'],
    ['can have pinned what is mapped with the right protection, without a hole', 'pinnable'],
  ])('%s', (_, scenario) => harness.passes(program, scenario));

  it("has the machine's clock run after each of its calls", async () => {
    const before = harness.machine.settled;
    await harness.passes(program, 'copies');
    // An open, three ioctls, and the release of the file.
    expect(harness.machine.settled - before).toBe(5);
  });

  it('does not wait for a machine that has much to do, which does it between the calls', async () => {
    const { machine } = harness;
    machine.slices = 1000;
    await harness.passes(program, 'copies');
    await vi.waitFor(() => expect(machine.slices).toBe(0));
    const { settled } = machine;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(machine.settled).toBe(settled);
  });

  it('gets descriptors made, looked up and taken back by handlers', async () => {
    await harness.passes(program, 'handlers');
    expect(harness.errors.splice(0)).toEqual([new TypeError('an invariant of ours is broken')]);
  });
});
