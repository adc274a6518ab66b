import { describe, expect, it } from 'vitest';
import { DMA_PROBE } from './dma-probe.ts';
import { bytes, functionRig, peek, poke } from './testing.ts';

function rig() {
  const made = functionRig(DMA_PROBE, { pasidBits: 20 }, true);
  const { fn } = made;
  fn.enablePasid(true);
  const run = (command: number, iova: number, length: number, pasid = 0) => {
    fn.writeRegister(0x08, 4, iova);
    fn.writeRegister(0x0c, 4, 0);
    fn.writeRegister(0x10, 4, pasid);
    fn.writeRegister(0x14, 4, length);
    fn.writeRegister(0x18, 4, command);
    return fn.readRegister(0x1c, 4);
  };
  return { ...made, run };
}

describe('the DMA probe', () => {
  it('writes its data window to the IOVA', () => {
    const { fn, run, memory } = rig();
    fn.writeRegister(0x100, 4, 0x04030201);
    fn.writeRegister(0x104, 1, 5);
    expect(run(2, 0x5000, 5)).toBe(1);
    expect(peek(memory, 0x5000, 6)).toEqual(bytes(1, 2, 3, 4, 5, 0));
  });

  it('reads the IOVA into its data window', () => {
    const { fn, run, memory } = rig();
    poke(memory, 0x5ffe, bytes(1, 2, 3, 4));
    expect(run(1, 0x5ffe, 4)).toBe(1);
    expect(fn.readRegister(0x100, 4)).toBe(0x04030201);
  });

  it('puts the PASID on the bus when it is valid, and none otherwise', () => {
    const { run, events } = rig();
    run(1, 0x5000, 1, 0x8000_0007);
    run(1, 0x5000, 1, 0x7);
    expect(events.filter((event) => event.type === 'dma').map((event) => event.substream)).toEqual([7, -1]);
  });

  it.each([
    ['refused', 1, 0x900000, 4, 2],
    ['of length 0', 1, 0x5000, 0, 3],
    ['longer than the window', 1, 0x5000, 257, 3],
    ['unknown', 3, 0x5000, 4, 3],
  ])('tells that a command was %s', (_what, command, iova, length, status) => {
    expect(rig().run(command, iova, length)).toBe(status);
  });

  it('sends the message of the vector that is written to INTERRUPT, if it has vectors', () => {
    const { fn, interrupts, clock } = rig();
    const raise = (...vectors: number[]): number[] => {
      for (const vector of vectors) fn.writeRegister(0x20, 4, vector);
      clock.settle();
      return interrupts.splice(0);
    };
    expect(raise(3)).toEqual([]);
    fn.writeConfig(fn.config.offsetOf('MSIX_CONTROL'), 2, 0x8000);
    expect(fn.config.get('MSIX_CONTROL') & 0x7ff).toBe(7);
    for (let vector = 0; vector < 8; vector++) fn.maskVector(vector, false);
    expect(raise(3, 0, 7, 8)).toEqual([3, 0, 7, 0]);
    fn.reset();
    expect(raise(3)).toEqual([]);
  });
});
