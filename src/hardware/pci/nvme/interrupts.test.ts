import { describe, expect, it } from 'vitest';
import { type NvmeRig, nvmeRig, startedRig } from './testing.ts';

const FLUSH = { opcode: 0, nsid: 1 };
const pinStatus = ({ fn }: NvmeRig): boolean => (fn.readConfig(6, 2) & 8) !== 0;

/** Only interrupts from now on. */
function fresh(rig: NvmeRig): NvmeRig {
  rig.clock.settle();
  rig.interrupts.length = 0;
  return rig;
}

function withMsix(): NvmeRig {
  const rig = nvmeRig();
  rig.fn.writeConfig(0x82, 2, 0x8000);
  for (let vector = 0; vector < 4; vector++) rig.fn.maskVector(vector, false);
  rig.driver.start();
  return rig;
}

describe('MSI-X of an NVMe controller', () => {
  it('sends vector 0 for the admin queue, and for an I/O queue the vector that it was made with', () => {
    const rig = fresh(withMsix());
    rig.driver.queue(0, { opcode: 0x0a, dwords: [7] });
    rig.driver.ring(0);
    expect(rig.interrupts).toEqual([0]);
    rig.driver.take(0);
    rig.driver.createPair(1, 16, 3);
    fresh(rig);
    rig.driver.queue(1, FLUSH);
    rig.driver.ring(1);
    expect(rig.interrupts).toEqual([3]);
  });

  it('sends nothing for a queue that was made without interrupts', () => {
    const rig = withMsix();
    rig.driver.createPair(1);
    fresh(rig);
    rig.driver.run(1, FLUSH);
    expect(rig.interrupts).toEqual([]);
  });

  it('sends one message for completions of one turn', () => {
    const rig = withMsix();
    rig.driver.createPair(1, 16, 1);
    fresh(rig);
    for (let i = 0; i < 5; i++) rig.driver.queue(1, FLUSH);
    rig.driver.ring(1);
    expect(rig.interrupts).toEqual([1]);
  });

  it('does not touch the pin', () => {
    const rig = fresh(withMsix());
    rig.driver.queue(0, { opcode: 0x0a, dwords: [7] });
    rig.driver.ring(0);
    expect(pinStatus(rig)).toBe(false);
  });
});

describe('the pin of an NVMe controller', () => {
  it('is asserted until the host has taken every entry', () => {
    const rig = fresh(startedRig());
    for (let i = 0; i < 2; i++) rig.driver.queue(0, { opcode: 0x0a, dwords: [7] });
    rig.driver.ring(0);
    expect([pinStatus(rig), rig.interrupts]).toEqual([true, [-1]]);
    rig.driver.take(0);
    expect(pinStatus(rig)).toBe(true);
    rig.driver.take(0);
    expect(pinStatus(rig)).toBe(false);
  });

  it('is masked by bit 0 of INTMS, and asserted when INTMC clears that', () => {
    const rig = fresh(startedRig());
    rig.host.write32(0x0c, 1);
    rig.driver.queue(0, { opcode: 0x0a, dwords: [7] });
    rig.driver.ring(0);
    expect([pinStatus(rig), rig.interrupts]).toEqual([false, []]);
    rig.host.write32(0x10, 1);
    rig.clock.settle();
    expect([pinStatus(rig), rig.interrupts]).toEqual([true, [-1]]);
  });

  it.each([
    ['a controller reset', ({ driver }: NvmeRig) => driver.disable()],
    ['a function level reset', ({ fn }: NvmeRig) => fn.reset()],
  ])('falls with %s', (_what, reset) => {
    const rig = startedRig();
    rig.driver.queue(0, { opcode: 0x0a, dwords: [7] });
    rig.driver.ring(0);
    expect(pinStatus(rig)).toBe(true);
    reset(rig);
    expect(pinStatus(rig)).toBe(false);
  });

  it('stays low for a queue without interrupts', () => {
    const rig = fresh(startedRig());
    rig.driver.queue(1, FLUSH);
    rig.driver.ring(1);
    expect([pinStatus(rig), rig.interrupts]).toEqual([false, []]);
  });
});
