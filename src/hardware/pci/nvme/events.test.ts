/** Log pages and asynchronous events. */
import { describe, expect, it } from 'vitest';
import { ALL, blocks, type NvmeDriver, PAGE, startedRig } from './testing.ts';

const EVENT_REQUEST = { opcode: 0x0c };
/** Writes to doorbells that are not there, and values that cannot be. */
const WRONG_DOORBELL = 0x1000 + 8 * 9;
const [INVALID_DOORBELL, INVALID_VALUE] = [0x0001_0000, 0x0001_0100];

function request(driver: NvmeDriver): number {
  const id = driver.queue(0, EVENT_REQUEST);
  driver.ring(0);
  return id;
}

describe('an asynchronous event', () => {
  it('of a doorbell that does not exist completes a request that waits', () => {
    const { driver, host } = startedRig();
    const id = request(driver);
    expect(driver.take(0)).toBeNull();
    host.write32(WRONG_DOORBELL, 1);
    host.settle();
    expect(driver.take(0)).toMatchObject({ id, status: 0, result: INVALID_DOORBELL });
  });

  it.each([
    ['a tail beyond the queue', 0x1008, 16],
    ['the tail that is there already', 0x1008, 0],
    ['a head beyond the queue', 0x100c, 16],
    ['a head that takes entries that are not there', 0x100c, 1],
  ])('tells of %s', (_what, doorbell, value) => {
    const { driver, host } = startedRig();
    request(driver);
    host.write32(doorbell, value);
    host.settle();
    expect(driver.take(0)!.result).toBe(INVALID_VALUE);
  });

  it('waits for a request', () => {
    const { driver, host } = startedRig();
    host.write32(WRONG_DOORBELL, 1);
    expect(driver.run(0, EVENT_REQUEST)).toMatchObject({ status: 0, result: INVALID_DOORBELL });
  });

  it('that waits for a request is cleared by reading its log page: however often that is repeated, one waits at most', () => {
    const { driver, host } = startedRig();
    for (let i = 0; i < 3; i++) {
      host.write32(WRONG_DOORBELL, 1);
      driver.log(1, 64);
    }
    host.write32(WRONG_DOORBELL, 1);
    expect(driver.run(0, EVENT_REQUEST)).toMatchObject({ status: 0, result: INVALID_DOORBELL });
    driver.log(1, 64);
    request(driver);
    host.settle();
    expect(driver.take(0)).toBeNull();
  });

  it('is the only one of its type until its log page is read, unless that is to be retained', () => {
    const { driver, host } = startedRig();
    host.write32(WRONG_DOORBELL, 1);
    driver.run(0, EVENT_REQUEST);
    const id = request(driver);
    host.write32(WRONG_DOORBELL, 1);
    host.settle();
    expect(driver.take(0)).toBeNull();
    driver.log(1, 64, 0x8000);
    host.write32(WRONG_DOORBELL, 1);
    host.settle();
    expect(driver.take(0)).toBeNull();
    driver.log(1, 64);
    host.write32(WRONG_DOORBELL, 1);
    host.settle();
    expect(driver.take(0)).toMatchObject({ id, result: INVALID_DOORBELL });
  });

  it('of the temperature comes when a threshold is reached and the host wants it', () => {
    const { driver } = startedRig();
    const threshold = (kelvin: number) => driver.admin({ opcode: 0x09, dwords: [0x04, kelvin] });
    const warning = () => driver.log(2, 512).getUint8(0);
    expect(warning()).toBe(0);
    threshold(300);
    expect(warning()).toBe(2);
    driver.admin({ opcode: 0x09, dwords: [0x0b, 0x02] });
    expect(driver.run(0, EVENT_REQUEST)).toMatchObject({ status: 0, result: 0x0002_0101 });
    threshold(340);
    expect(warning()).toBe(0);
  });

  it('has room for four requests', () => {
    const { driver } = startedRig();
    for (let i = 0; i < 4; i++) request(driver);
    expect(driver.take(0)).toBeNull();
    expect(driver.run(0, EVENT_REQUEST).status).toBe(0x105);
  });

  it('request can be aborted, and then there is room again', () => {
    const { driver } = startedRig();
    const ids = [1, 2, 3, 4].map(() => request(driver));
    const abort = driver.queue(0, { opcode: 8, dwords: [ids[1]! * 2 ** 16] });
    driver.ring(0);
    expect(driver.take(0)).toMatchObject({ id: ids[1], status: 0x007 });
    expect(driver.take(0)).toMatchObject({ id: abort, status: 0, result: 0 });
    request(driver);
    expect(driver.take(0)).toBeNull();
  });

  it('does not outlive a controller reset', () => {
    const { driver, host } = startedRig();
    host.write32(WRONG_DOORBELL, 1);
    driver.start();
    request(driver);
    expect(driver.take(0)).toBeNull();
  });
});

describe('a log page', () => {
  it('of errors has the newest first', () => {
    const { driver } = startedRig();
    driver.run(1, { opcode: 2, nsid: 1, prp1: PAGE, dwords: blocks(5000, 1) });
    const last = driver.run(1, { opcode: 0x55, nsid: 1 });
    const log = driver.log(1, 1024);
    const entry = (at: number) => ({
      count: log.getBigUint64(at, true),
      queue: log.getUint16(at + 8, true),
      command: log.getUint16(at + 10, true),
      status: log.getUint16(at + 12, true) >>> 1,
      lba: log.getBigUint64(at + 16, true),
      nsid: log.getUint32(at + 24, true),
    });
    expect(entry(0)).toMatchObject({ count: 2n, queue: 1, command: last.id, status: 0x001, nsid: 1 });
    expect(entry(64)).toMatchObject({ count: 1n, queue: 1, status: 0x080, lba: 5000n, nsid: 1 });
    expect(entry(128).count).toBe(0n);
  });

  it('of health counts what was read and written', () => {
    const { driver } = startedRig();
    for (let i = 0; i < 3; i++) driver.run(1, { opcode: 1, nsid: 1, prp1: PAGE, dwords: blocks(0, 8) });
    driver.run(1, { opcode: 2, nsid: 1, prp1: PAGE, dwords: blocks(0, 1) });
    driver.run(1, { opcode: 2, nsid: 1, prp1: PAGE, dwords: blocks(9999, 1) });
    const log = driver.log(2, 512);
    expect([log.getUint16(1, true), log.getUint8(3)]).toEqual([308, 100]);
    expect([log.getBigUint64(32, true), log.getBigUint64(48, true)]).toEqual([1n, 1n]);
    expect([log.getBigUint64(64, true), log.getBigUint64(80, true)]).toEqual([1n, 3n]);
    expect(log.getBigUint64(176, true)).toBe(1n);
  });

  it('of firmware has one slot', () => {
    const { driver } = startedRig();
    const log = driver.log(3, 512);
    expect([log.getUint8(0), new TextDecoder().decode(new Uint8Array(log.buffer, 8, 8))]).toEqual([1, '1.0     ']);
  });

  it('of effects names the commands that there are', () => {
    const { driver } = startedRig();
    const log = driver.log(5, 4096);
    const supported = (from: number, to: number) =>
      Array.from({ length: 256 }, (_, opcode) => opcode).filter(
        (opcode) => opcode >= from && opcode < to && log.getUint32(1024 + 4 * opcode, true) & 1,
      );
    expect(supported(0, 256)).toEqual([0, 1, 2, 5, 8, 9]);
    expect([log.getUint32(4 * 6, true), log.getUint32(4 * 0x10, true)]).toEqual([1, 0]);
  });

  it('of changed namespaces is empty', () => {
    const { driver } = startedRig();
    expect(new Uint8Array(driver.log(4, 4096).buffer).every((byte) => byte === 0)).toBe(true);
  });

  it('is read from an offset, with zeros behind its end', () => {
    const { driver, host } = startedRig();
    host.poke(PAGE, new Uint8Array(4096).fill(0xff));
    const dwords = [3 + (255 << 16), 0, 8, 0];
    expect(driver.admin({ opcode: 2, nsid: ALL, prp1: PAGE, dwords }).status).toBe(0);
    expect(new TextDecoder().decode(host.peek(PAGE, 8))).toBe('1.0     ');
    expect(host.peek(PAGE + 504, 520).every((byte) => byte === 0)).toBe(true);
  });

  it.each([
    ['there is none of that number', [0x7f, 0, 0, 0], ALL, 0x109],
    ['the offset lies behind its end', [3, 0, 516, 0], ALL, 0x002],
    ['the offset lies far behind its end', [3, 0, 0, 1], ALL, 0x002],
    ['health of one namespace is asked for', [2, 0, 0, 0], 1, 0x002],
    ['more is asked for than a command transfers', [2, 0x10, 0, 0], ALL, 0x002],
  ])('is refused when %s', (_what, dwords, nsid, status) => {
    expect(startedRig().driver.admin({ opcode: 2, nsid, prp1: PAGE, dwords }).status).toBe(status);
  });
});
