import { describe, expect, it } from 'vitest';
import { ADMIN_CQ, ADMIN_SQ, blocks, type NvmeDriver, nvmeRig, PAGE, startedRig } from './testing.ts';

describe('the registers of an NVMe controller', () => {
  it('show version 1.4, queues of 4 Ki entries, contiguous ones only, the NVM command set, pages of 4 to 64 KiB', () => {
    const { host } = nvmeRig();
    expect(host.read32(0x08)).toBe(0x0001_0400);
    expect(host.read32(0x00) & 0xffff).toBe(0x0fff);
    expect((host.read32(0x00) >>> 16) & 1).toBe(1);
    expect(host.read32(0x00) >>> 24).toBeGreaterThan(0);
    expect(host.read32(0x04) & 0xf).toBe(0);
    expect((host.read32(0x04) >>> 5) & 0xff).toBe(1);
    expect((host.read32(0x04) >>> 16) & 0xff).toBe(0x40);
    expect([host.read32(0x38), host.read32(0x3c)]).toEqual([0, 0]);
  });

  it('have a class that drivers look for, and MSI-X', () => {
    const { fn } = nvmeRig();
    expect(fn.readConfig(0x08, 4) >>> 8).toBe(0x010802);
    expect(fn.readConfig(0x82, 2) & 0x7ff).toBe(32);
  });

  it('become ready with CC.EN, and not ready without', () => {
    const { driver, host } = nvmeRig();
    expect(host.read32(0x1c)).toBe(0);
    expect(driver.start()).toBe(1);
    driver.disable();
    expect(host.read32(0x1c)).toBe(0);
  });

  it.each([
    ['an admin submission queue of one entry', (d: NvmeDriver) => d.start(1)],
    ['a page size above MPSMAX', (d: NvmeDriver) => d.start(8, 0x0046_0281)],
    ['another command set', (d: NvmeDriver) => d.start(8, 0x0046_0061)],
    ['another arbitration', (d: NvmeDriver) => d.start(8, 0x0046_0801)],
  ])('show a fatal status for %s, until the controller is disabled', (_what, start) => {
    const { driver, host } = nvmeRig();
    expect(start(driver)).toBe(2);
    driver.disable();
    expect(host.read32(0x1c)).toBe(0);
    expect(driver.start()).toBe(1);
  });

  it('keep the addresses of the admin queue through a controller reset, but not through a function level reset', () => {
    const { driver, host, fn } = nvmeRig();
    driver.start();
    driver.disable();
    expect([host.read32(0x24), host.read32(0x28), host.read32(0x30)]).toEqual([0x70007, ADMIN_SQ, ADMIN_CQ]);
    driver.start();
    fn.reset();
    fn.writeConfig(4, 2, 6);
    expect([host.read32(0x14), host.read32(0x1c), host.read32(0x24), host.read32(0x28)]).toEqual([0, 0, 0, 0]);
  });

  it('tell that a shutdown is complete; a reset makes the controller usable again', () => {
    const { driver, host } = nvmeRig();
    driver.start();
    host.write32(0x14, 0x0046_4001);
    expect(host.read32(0x1c)).toBe(0x9);
    driver.queue(0, { opcode: 0x06, prp1: PAGE, dwords: [1] });
    driver.ring(0);
    expect(driver.take(0)).toBeNull();
    expect(driver.start()).toBe(1);
    expect(driver.identify(1).getUint16(0, true)).toBe(0x1b36);
  });

  it('set and clear bits of the interrupt mask', () => {
    const { host } = nvmeRig();
    host.write32(0x0c, 0x5);
    host.write32(0x0c, 0x2);
    expect([host.read32(0x0c), host.read32(0x10)]).toEqual([7, 7]);
    host.write32(0x10, 0x6);
    expect([host.read32(0x0c), host.read32(0x10)]).toEqual([1, 1]);
  });
});

describe('fatal errors', () => {
  it.each([
    ['an admin command cannot be fetched', ADMIN_SQ],
    ['an admin completion cannot be written', ADMIN_CQ],
  ])('are shown when %s, and nothing goes on until a reset', (_what, address) => {
    const { driver, host, iommu } = nvmeRig();
    driver.start();
    const frame = address / 4096;
    iommu.mapping.delete(frame);
    driver.queue(0, { opcode: 0x06, prp1: PAGE, dwords: [1] });
    driver.ring(0);
    expect(host.read32(0x1c)).toBe(3);
    iommu.map(frame, frame);
    driver.ring(0);
    expect(driver.take(0)).toBeNull();
    expect(driver.start()).toBe(1);
    expect(driver.identify(1).getUint16(0, true)).toBe(0x1b36);
  });

  it('are shown without bus mastering', () => {
    const { driver, host, fn } = nvmeRig();
    driver.start();
    fn.writeConfig(4, 2, 2);
    driver.queue(0, { opcode: 0x06, prp1: PAGE, dwords: [1] });
    driver.ring(0);
    expect(host.read32(0x1c)).toBe(3);
  });
});

describe('a command whose memory is the registers of its own controller', () => {
  /** BAR0 at 1 GiB, IOVA 0x800000 leads there; block 0 holds zeros but for a doorbell. */
  function reflecting() {
    const rig = startedRig();
    const { memory, fn, iommu } = rig;
    const words = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    memory.placeBacking(1, 1, {
      name: 'BAR0',
      read: (frame, offset, into) => {
        for (let at = 0; at < into.length; at += 4) {
          words(into).setUint32(at, fn.readRegister((frame & 3) * 4096 + offset + at, 4), true);
        }
        return true;
      },
      write: (frame, offset, from) => {
        fn.postWrite((frame & 3) * 4096 + offset, from);
        return true;
      },
    });
    for (let frame = 0; frame < 4; frame++) iommu.map(0x800 + frame, 2 ** 18 + frame);
    return rig;
  }

  it('disables it once the command has moved on', () => {
    const { driver, host } = reflecting();
    driver.queue(1, { opcode: 2, nsid: 1, prp1: 0x80_0000, dwords: blocks(0, 1) });
    driver.queue(1, { opcode: 0, nsid: 1 });
    driver.ring(1);
    expect(host.read32(0x14)).toBe(0);
    expect(host.read32(0x1c)).toBe(0);
    expect(driver.start()).toBe(1);
    expect(driver.createPair(1)).toEqual([0, 0]);
    expect(driver.run(1, { opcode: 0, nsid: 1 }).status).toBe(0);
  });

  it('rings its doorbells, which take no harm', () => {
    const { driver, disks } = reflecting();
    disks[0]!.store.write(8, Uint8Array.of(5));
    const read = driver.queue(1, { opcode: 2, nsid: 1, prp1: 0x80_1000, dwords: blocks(0, 1) });
    driver.ring(1);
    expect(driver.take(1)!.id).toBe(read);
    // The queue's tail is 5 now, and 4 entries of zeros were flushes of namespace 0.
    expect(Array.from({ length: 4 }, () => driver.take(1)!.status)).toEqual([0xb, 0xb, 0xb, 0xb]);
  });
});
