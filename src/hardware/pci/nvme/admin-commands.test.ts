import { describe, expect, it } from 'vitest';
import { type Disk, MemoryStore } from './disk.ts';
import { ALL, nvmeRig, PAGE, startedRig } from './testing.ts';

const MIB = 2 ** 20;

const text = (view: DataView, at: number, length: number): string =>
  new TextDecoder().decode(new Uint8Array(view.buffer, at, length));

describe('Identify', () => {
  it('describes the controller as drivers need it', () => {
    const { driver } = nvmeRig();
    driver.start();
    const id = driver.identify(1);
    expect(text(id, 4, 20)).toBe('000001000000        ');
    expect(text(id, 24, 40).trimEnd()).toBe('uiommufd NVMe');
    expect(text(id, 64, 8)).toBe('1.0     ');
    expect(id.getUint8(77)).toBe(7);
    expect(id.getUint32(80, true)).toBe(0x0001_0400);
    expect(id.getUint8(111)).toBe(1);
    expect([id.getUint8(512), id.getUint8(513)]).toEqual([0x66, 0x44]);
    expect(id.getUint32(516, true)).toBe(1);
    expect(id.getUint16(520, true)).toBe(0x1d);
    expect(id.getUint8(525) & 1).toBe(1);
    expect(id.getUint32(536, true)).toBe(0);
    expect(text(id, 768, 256).replaceAll('\0', '')).toMatch(/^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f-]{36}$/);
  });

  it('describes namespaces: size, block size, a name of their own', () => {
    const disks: Disk[] = [
      { store: new MemoryStore(MIB), blockBytes: 512 },
      { store: new MemoryStore(2 * MIB), blockBytes: 4096 },
    ];
    const { driver } = nvmeRig({ disks });
    driver.start();
    const [first, second] = [driver.identify(0, 1), driver.identify(0, 2)];
    expect([first.getBigUint64(0, true), first.getBigUint64(8, true)]).toEqual([2048n, 2048n]);
    expect([first.getUint8(25), first.getUint8(26), first.getUint32(128, true)]).toEqual([0, 0, 9 << 16]);
    expect([second.getBigUint64(0, true), second.getUint32(128, true)]).toEqual([512n, 12 << 16]);
    const names = [first, second].map((view) => view.getBigUint64(120));
    expect(new Set([...names, 0n]).size).toBe(3);
    const descriptors = driver.identify(3, 2);
    expect([descriptors.getUint8(0), descriptors.getUint8(1), descriptors.getBigUint64(4)]).toEqual([1, 8, names[1]]);
    expect(descriptors.getUint32(12, true)).toBe(0);
  });

  it('lists the active namespaces above a number', () => {
    const disk: Disk = { store: new MemoryStore(MIB), blockBytes: 512 };
    const { driver } = nvmeRig({ disks: [disk, disk, disk] });
    driver.start();
    const list = (after: number) => Array.from(new Uint32Array(driver.identify(2, after).buffer, 0, 4));
    expect(list(0)).toEqual([1, 2, 3, 0]);
    expect(list(2)).toEqual([3, 0, 0, 0]);
  });

  it.each([
    ['a structure that does not exist', 0x06, 0, 0x002],
    ['a namespace that does not exist', 0x00, 2, 0x00b],
    ['all namespaces', 0x00, ALL, 0x00b],
    ['descriptors of no namespace', 0x03, 0, 0x00b],
    ['active namespaces above the last number', 0x02, ALL, 0x00b],
  ])('refuses %s', (_what, cns, nsid, status) => {
    const { driver } = nvmeRig();
    driver.start();
    expect(driver.admin({ opcode: 6, nsid, prp1: PAGE, dwords: [cns] })).toMatchObject({ status, doNotRetry: true });
  });
});

describe('admin commands', () => {
  it.each([0x0d, 0x10, 0x11, 0x14, 0x18, 0x80, 0x81, 0xc0])('end with Invalid Opcode for %i', (opcode) => {
    const { driver } = nvmeRig();
    driver.start();
    expect(driver.admin({ opcode, nsid: 1 })).toMatchObject({ status: 0x001, doNotRetry: true, more: true });
  });

  it.each([0x40, 0x80, 0x01, 0x02])(
    'end with Invalid Field when SGLs or a fused operation are asked for: %i',
    (flags) => {
      const { driver } = nvmeRig();
      driver.start();
      expect(driver.admin({ opcode: 6, flags, prp1: PAGE, dwords: [1] }).status).toBe(0x002);
    },
  );

  it('wrap around both rings, phase by phase', () => {
    const { driver } = nvmeRig();
    driver.start(3);
    for (let i = 0; i < 10; i++)
      expect(driver.admin({ opcode: 0x0a, dwords: [0x07] })).toMatchObject({ status: 0, head: (i + 1) % 3 });
  });

  it('are refused the place of a command that is not at work: Abort says so', () => {
    const { driver } = startedRig();
    expect(driver.admin({ opcode: 8, dwords: [1 + 77 * 2 ** 16] })).toMatchObject({ status: 0, result: 1 });
  });
});
