import { describe, expect, it } from 'vitest';
import { IOAT } from './ioat.ts';
import { bytes, functionRig, peek, poke } from './testing.ts';

/** Register numbers as a driver has them, written out again here on purpose. */
const CHANNEL = 0x80;
const CHANCTRL = CHANNEL + 0x00;
const CHANCMD = CHANNEL + 0x04;
const DMACOUNT = CHANNEL + 0x06;
const CHANSTS = CHANNEL + 0x08;
const CHAINADDR = CHANNEL + 0x10;
const CHANCMP = CHANNEL + 0x18;
const CHANERR = CHANNEL + 0x28;
const [ACTIVE, DONE, SUSPENDED, HALTED, ARMED] = [0, 1, 2, 3, 4];

interface Copy {
  readonly source: number;
  readonly destination: number;
  readonly size: number;
  readonly control?: number;
  readonly next?: number;
}

function rig() {
  const made = functionRig(IOAT);
  const { fn, memory } = made;
  const write = (offset: number, size: number, value: number) => fn.writeRegister(offset, size, value);
  return {
    ...made,
    write,
    status: () => fn.readRegister(CHANSTS, 4) & 7,
    descriptor(at: number, { source, destination, size, control = 0, next = at }: Copy) {
      const view = new DataView(new ArrayBuffer(64));
      view.setUint32(0, size, true);
      view.setUint32(4, control, true);
      view.setBigUint64(8, BigInt(source), true);
      view.setBigUint64(16, BigInt(destination), true);
      view.setBigUint64(24, BigInt(next), true);
      poke(memory, at, new Uint8Array(view.buffer));
    },
    start(chain: number, count: number) {
      write(CHAINADDR, 4, chain);
      write(CHAINADDR + 4, 4, 0);
      write(CHANCTRL, 2, 0x0009);
      write(DMACOUNT, 2, count);
    },
  };
}

describe('the IOAT engine', () => {
  it('shows version 3.2, one channel and its transfer limit', () => {
    const { fn } = rig();
    expect(fn.readRegister(0x08, 1)).toBe(0x32);
    expect(fn.readRegister(0x00, 1)).toBe(1);
    expect(1 << fn.readRegister(0x01, 1)).toBe(4096);
  });

  it('is halted after reset, and the reset bit reads as zero', () => {
    const { fn, write, status } = rig();
    write(CHANCMD, 1, 0x20);
    expect(fn.readRegister(CHANCMD, 1)).toBe(0);
    expect(status()).toBe(HALTED);
  });

  it('copies across frames before the write of DMACOUNT returns', () => {
    const engine = rig();
    poke(engine.memory, 0x10ffc, bytes(1, 2, 3, 4, 5, 6, 7, 8));
    engine.descriptor(0x20000, { source: 0x10ffc, destination: 0x30ffe, size: 8 });
    engine.start(0x20000, 1);
    expect(engine.status()).toBe(DONE);
    expect(peek(engine.memory, 0x30ffe, 8)).toEqual(bytes(1, 2, 3, 4, 5, 6, 7, 8));
  });

  it('names the descriptor that it completed last in CHANSTS', () => {
    const engine = rig();
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4, next: 0x20040 });
    engine.descriptor(0x20040, { source: 0x10000, destination: 0x30100, size: 4 });
    engine.start(0x20000, 2);
    expect(engine.fn.readRegister(CHANSTS, 4)).toBe(0x20040 | DONE);
  });

  it('runs a descriptor as often as DMACOUNT says when it points to itself', () => {
    const engine = rig();
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4, control: 1 });
    engine.start(0x20000, 65535);
    engine.clock.settle();
    expect(engine.status()).toBe(DONE);
  });

  it('is armed by a new chain, without a completed descriptor to show after a reset, unless an error stands', () => {
    const { fn, write, descriptor, start } = rig();
    write(CHANCMD, 1, 0x20);
    write(CHAINADDR, 4, 0x1000);
    expect([fn.readRegister(CHANSTS, 4), fn.readRegister(CHANSTS + 4, 4)]).toEqual([ARMED, 0]);
    descriptor(0x1000, { source: 0x2000, destination: 0x3000, size: 0 });
    start(0x1000, 1);
    expect(fn.readRegister(CHANERR, 4)).not.toBe(0);
    write(CHAINADDR, 4, 0x1000);
    expect(fn.readRegister(CHANSTS, 4) & 7).toBe(HALTED);
  });

  it('is active between the turns of a long chain, which a reset ends', () => {
    const engine = rig();
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4 });
    engine.start(0x20000, 65535);
    expect([engine.status(), engine.clock.settle(2), engine.status()]).toEqual([ACTIVE, false, ACTIVE]);
    engine.write(CHANCMD, 1, 0x20);
    expect([engine.clock.settle(1), engine.status()]).toEqual([true, HALTED]);
    engine.start(0x20000, 600);
    engine.start(0x20000, 600);
    // The first chain's turn is nobody's now.
    expect([engine.clock.settle(1), engine.status()]).toEqual([false, ACTIVE]);
    expect([engine.clock.settle(1), engine.status()]).toEqual([true, DONE]);
  });

  it('may keep itself at work for ever by its own registers, and the rest of the machine goes on', () => {
    const engine = rig();
    const { fn, memory, iommu, clock } = engine;
    const write = (_frame: number, offset: number, from: Uint8Array) => fn.postWrite(offset, from) === undefined;
    memory.placeBacking(1, 1, { name: 'BAR0', read: () => false, write });
    iommu.map(0x800, 2 ** 18);
    // Two descriptors by turns: DMACOUNT is never what has been done.
    for (const [at, count] of [
      [0x20000, 2],
      [0x20040, 1],
    ] as const) {
      poke(memory, at + 0x1000, bytes(count, 0));
      engine.descriptor(at, { source: at + 0x1000, destination: 0x80_0000 + DMACOUNT, size: 2, next: at ^ 0x40 });
    }
    engine.start(0x20000, 3);
    let turns = 0;
    clock.defer(() => turns++);
    for (let i = 0; i < 10; i++) clock.settle(100);
    expect([clock.settle(100), turns]).toEqual([false, 1]);
    fn.reset();
    expect(clock.settle(1000)).toBe(true);
  });

  it('has a bounded number of writes on their way, however often they, or a driver, start it anew', () => {
    const engine = rig();
    const { fn, memory, iommu, clock } = engine;
    let posted = 0;
    const write = (_frame: number, offset: number, from: Uint8Array) => {
      posted++;
      fn.postWrite(offset, from);
      clock.defer(() => posted--);
      return true;
    };
    memory.placeBacking(1, 1, { name: 'BAR0', read: () => false, write });
    iommu.map(0x800, 2 ** 18);
    // What is written begins a chain, which a write of DMACOUNT before has let begin: each of them writes the same again.
    const registers = new DataView(new ArrayBuffer(0x1000));
    registers.setUint16(DMACOUNT, 65535, true);
    registers.setUint32(CHAINADDR, 0x20000, true);
    const image = new Uint8Array(registers.buffer);
    poke(memory, 0x10000, image);
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x80_0000, size: 0x1000 });
    engine.start(0x20000, 65535);
    for (let call = 0; call < 20; call++) {
      clock.settle(128);
      for (let at = DMACOUNT; at < CHAINADDR + 8; at += 2) fn.writeRegister(at, 2, registers.getUint16(at, true));
      expect(posted).toBeLessThan(1024);
    }
    fn.reset();
    clock.settle();
    expect(posted).toBe(0);
  });

  it('goes on with what was appended when DMACOUNT grows', () => {
    const engine = rig();
    poke(engine.memory, 0x10000, bytes(7, 8));
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 1, next: 0 });
    engine.start(0x20000, 1);
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 1, next: 0x20040 });
    engine.descriptor(0x20040, { source: 0x10001, destination: 0x30001, size: 1 });
    engine.write(DMACOUNT, 2, 2);
    expect(peek(engine.memory, 0x30000, 2)).toEqual(bytes(7, 8));
  });

  it('runs again after SUSPEND when a new chain is written', () => {
    const engine = rig();
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4 });
    engine.start(0x20000, 1);
    engine.write(CHANCMD, 1, 0x04);
    expect(engine.status()).toBe(SUSPENDED);
    poke(engine.memory, 0x10000, bytes(9));
    engine.start(0x20000, 1);
    expect(engine.status()).toBe(DONE);
    expect(peek(engine.memory, 0x30000, 1)).toEqual(bytes(9));
  });

  it.each([
    ['an unmapped source', { source: 0x900000, destination: 0x30000, size: 4 }, 0x0001],
    ['an unmapped destination', { source: 0x10000, destination: 0x900000, size: 4 }, 0x0002],
    ['no size', { source: 0x10000, destination: 0x30000, size: 0 }, 0x0800],
    ['more than XFERCAP allows', { source: 0x10000, destination: 0x30000, size: 4097 }, 0x0800],
    ['an unknown operation', { source: 0x10000, destination: 0x30000, size: 4, control: 0x8700_0000 }, 0x0400],
  ])('halts on %s and tells it in CHANERR', (_what, copy, error) => {
    const engine = rig();
    engine.descriptor(0x20000, copy);
    engine.start(0x20000, 1);
    expect(engine.status()).toBe(HALTED);
    expect(engine.fn.readRegister(CHANERR, 4)).toBe(error);
    expect(engine.fn.readConfig(0x180, 4)).toBe(error);
  });

  it.each([
    ['a chain address that is not mapped', 0x900000, 0x0010],
    ['a chain address that is not aligned', 0x20020, 0x0010],
  ])('halts on %s', (_what, chain, error) => {
    const engine = rig();
    engine.start(chain, 1);
    expect([engine.status(), engine.fn.readRegister(CHANERR, 4)]).toEqual([HALTED, error]);
  });

  it.each([
    ['not mapped', 0x900000, 0x0004],
    ['not aligned', 0x20041, 0x0008],
  ])('halts on a next address that is %s, after the first copy', (_what, next, error) => {
    const engine = rig();
    poke(engine.memory, 0x10000, bytes(3));
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 1, next });
    engine.start(0x20000, 2);
    expect([engine.status(), engine.fn.readRegister(CHANERR, 4)]).toEqual([HALTED, error]);
    expect(peek(engine.memory, 0x30000, 1)).toEqual(bytes(3));
  });

  it('starts nothing while an error stands, and works again once it is cleared and the channel reset', () => {
    const engine = rig();
    engine.start(0x900000, 1);
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4 });
    engine.start(0x20000, 1);
    expect(engine.status()).toBe(HALTED);
    engine.write(CHANERR, 4, 0xffff_ffff);
    engine.fn.writeConfig(0x180, 4, 0xffff_ffff);
    expect(engine.fn.readConfig(0x180, 4)).toBe(0);
    engine.write(CHANCMD, 1, 0x20);
    engine.start(0x20000, 1);
    expect(engine.status()).toBe(DONE);
  });

  it('writes its status to CHANCMP for descriptors that ask for it', () => {
    const engine = rig();
    engine.write(CHANCMP, 4, 0x40000);
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4, control: 0x8 });
    engine.start(0x20000, 1);
    expect(peek(engine.memory, 0x40000, 8)).toEqual(bytes(DONE, 0, 2, 0, 0, 0, 0, 0));
  });

  it('fills with the 8 bytes of the source field', () => {
    const engine = rig();
    engine.descriptor(0x20000, { source: 0, destination: 0x30000, size: 10, control: 0x0100_0000 });
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, 0x0807060504030201n, true);
    poke(engine.memory, 0x20008, new Uint8Array(view.buffer));
    engine.start(0x20000, 1);
    expect(peek(engine.memory, 0x30000, 10)).toEqual(bytes(1, 2, 3, 4, 5, 6, 7, 8, 1, 2));
  });

  it('does nothing for a null descriptor but completes it', () => {
    const engine = rig();
    engine.descriptor(0x20000, { source: 0x900000, destination: 0x900000, size: 4, control: 0x20 });
    engine.start(0x20000, 1);
    expect(engine.status()).toBe(DONE);
  });

  it('sends vector 0 once per rearm for descriptors with int_en', () => {
    const engine = rig();
    engine.fn.writeConfig(0x82, 2, 0x8000);
    engine.fn.maskVector(0, false);
    engine.write(0x03, 1, 0x08);
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4, control: 1 });
    engine.start(0x20000, 3);
    engine.clock.settle();
    expect(engine.interrupts).toEqual([0]);
    engine.start(0x20000, 1);
    engine.clock.settle();
    expect(engine.interrupts).toEqual([0, 0]);
  });

  it('holds the pin until ATTNSTATUS is read when MSI-X is off', () => {
    const engine = rig();
    engine.write(0x03, 1, 0x01);
    engine.descriptor(0x20000, { source: 0x10000, destination: 0x30000, size: 4, control: 1 });
    engine.start(0x20000, 1);
    engine.clock.settle();
    expect(engine.interrupts).toEqual([-1]);
    expect(engine.fn.readRegister(0x03, 1)).toBe(0x07);
    expect(engine.fn.readRegister(0x04, 4)).toBe(1);
    expect(engine.fn.readConfig(0x06, 2) & 8).toBe(0);
  });
});
