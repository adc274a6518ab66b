import { describe, expect, it } from 'vitest';
import { NO_SUBSTREAM } from '../iommu.ts';
import { DMA_PROBE } from './dma-probe.ts';
import { IOAT } from './ioat.ts';
import type { PciFunction } from './pci-function.ts';
import { bytes, functionRig } from './testing.ts';

/** Offsets of PCI 3.0 and PCIe 5.0, written out again here on purpose. */
const STATUS = 0x06;
const COMMAND = 0x04;

function capabilities(fn: PciFunction): Map<number, number> {
  const found = new Map<number, number>();
  for (let at = fn.readConfig(0x34, 1); at; at = fn.readConfig(at + 1, 1)) found.set(fn.readConfig(at, 1), at);
  return found;
}

function extendedCapabilities(fn: PciFunction): Map<number, number> {
  const found = new Map<number, number>();
  for (let at = 0x100; at; at = fn.readConfig(at, 4) >>> 20) found.set(fn.readConfig(at, 2), at);
  return found;
}

describe('configuration space', () => {
  it('shows the identity of the function', () => {
    const { fn } = functionRig(IOAT);
    expect(fn.readConfig(0, 4)).toBe(0x2021_8086);
    expect(fn.readConfig(8, 4)).toBe(0x0880_0004);
    expect(fn.readConfig(STATUS, 2) & 0x10).toBe(0x10);
  });

  it('sizes BAR0 as 64-bit memory of 16 KiB, and has no other BAR', () => {
    const { fn } = functionRig(IOAT);
    for (let bar = 0; bar < 6; bar++) fn.writeConfig(0x10 + 4 * bar, 4, 0xffff_ffff);
    expect(fn.readConfig(0x10, 4)).toBe(0xffff_c004);
    expect(fn.readConfig(0x14, 4)).toBe(0xffff_ffff);
    for (let bar = 2; bar < 6; bar++) expect(fn.readConfig(0x10 + 4 * bar, 4)).toBe(0);
  });

  it('chains PM, Express and MSI-X, and ATS, PRI, PASID as described', () => {
    const { fn } = functionRig(IOAT, { ats: true, pri: true, pasidBits: 16 });
    expect([...capabilities(fn).keys()].sort((a, b) => a - b)).toEqual([0x01, 0x10, 0x11]);
    expect([...extendedCapabilities(fn).keys()]).toEqual([0x01, 0x0f, 0x13, 0x1b, 0x19]);
    const pasid = extendedCapabilities(fn).get(0x1b)!;
    expect((fn.readConfig(pasid + 4, 2) >>> 8) & 0x1f).toBe(16);
    const plain = functionRig({ ...DMA_PROBE, identity: { ...DMA_PROBE.identity, msix: null } }).fn;
    expect([...capabilities(plain).keys()].sort((a, b) => a - b)).toEqual([0x01, 0x10]);
    expect([...extendedCapabilities(plain).keys()]).toEqual([0x01, 0x19]);
  });

  it('ignores writes to identity and capability headers', () => {
    const { fn } = functionRig(IOAT);
    fn.writeConfig(0, 4, 0);
    fn.writeConfig(0x80, 2, 0xffff);
    expect(fn.readConfig(0, 4)).toBe(0x2021_8086);
    expect(fn.readConfig(0x80, 1)).toBe(0x11);
  });
});

describe('power management', () => {
  it('discards states that the function does not have, and keeps the one it is in', () => {
    const { fn } = functionRig(DMA_PROBE);
    const control = capabilities(fn).get(0x01)! + 4;
    const states = [1, 2, 3, 1, 2, 0].map((state) => {
      fn.writeConfig(control, 2, state);
      return fn.readConfig(control, 2);
    });
    expect(states).toEqual([8, 8, 11, 11, 11, 8]);
    fn.writeConfig(control, 2, 3);
    fn.reset();
    fn.writeConfig(control, 2, 2);
    expect(fn.readConfig(control, 2)).toBe(8);
  });
});

describe('BAR0', () => {
  it('reads all ones and ignores writes while memory decode is off', () => {
    const { fn } = functionRig(DMA_PROBE);
    fn.writeRegister(0x14, 4, 5);
    fn.writeConfig(COMMAND, 2, 0);
    expect(fn.readRegister(0x14, 4)).toBe(0xffff_ffff);
    expect(fn.readRegister(0x14, 1)).toBe(0xff);
    fn.writeRegister(0x14, 4, 9);
    fn.writeConfig(COMMAND, 2, 2);
    expect(fn.readRegister(0x14, 4)).toBe(5);
  });

  it('takes a write by DMA in the next turn of the clock, whatever becomes of the bytes that it came from', () => {
    const { fn, clock } = functionRig(DMA_PROBE);
    const from = bytes(5, 0, 0, 0, 6);
    fn.postWrite(0x14, from);
    from.fill(9);
    expect(fn.readRegister(0x14, 4)).toBe(0);
    clock.settle();
    expect([fn.readRegister(0x14, 4), fn.readRegister(0x18, 1)]).toEqual([5, 6]);
  });

  it('takes no write that was sent before a function level reset', () => {
    const { fn, clock } = functionRig(DMA_PROBE);
    fn.postWrite(0x14, bytes(5, 0, 0, 0));
    fn.reset();
    fn.writeConfig(COMMAND, 2, 2);
    clock.settle();
    expect(fn.readRegister(0x14, 4)).toBe(0);
  });

  it('holds the MSI-X table, masked at reset', () => {
    const { fn } = functionRig(IOAT);
    expect(fn.readRegister(0x200c, 4)).toBe(1);
    fn.writeRegister(0x2000, 4, 0xfee0_0000);
    expect(fn.readRegister(0x2000, 4)).toBe(0xfee0_0000);
  });
});

describe('interrupts', () => {
  const withMsix = () => {
    const made = functionRig(IOAT);
    made.fn.writeConfig(0x82, 2, 0x8000);
    return made;
  };

  it('reach the target on the clock, not inside the access', () => {
    const { fn, clock, interrupts } = withMsix();
    fn.maskVector(0, false);
    fn.sendMessage(0);
    expect(interrupts).toEqual([]);
    clock.settle();
    expect(interrupts).toEqual([0]);
  });

  it('of a masked vector stay pending until it is unmasked, and come once', () => {
    const { fn, clock, interrupts } = withMsix();
    fn.sendMessage(0);
    fn.sendMessage(0);
    clock.settle();
    expect(fn.readRegister(0x3000, 4)).toBe(1);
    expect(interrupts).toEqual([]);
    fn.writeRegister(0x200c, 4, 0);
    clock.settle();
    expect(interrupts).toEqual([0]);
    expect(fn.readRegister(0x3000, 4)).toBe(0);
  });

  it('wait for the function mask, too', () => {
    const { fn, clock, interrupts } = withMsix();
    fn.maskVector(0, false);
    fn.writeConfig(0x82, 2, 0xc000);
    fn.sendMessage(0);
    clock.settle();
    expect(interrupts).toEqual([]);
    fn.writeConfig(0x82, 2, 0x8000);
    clock.settle();
    expect(interrupts).toEqual([0]);
  });

  it('by the pin show in STATUS and obey INTx disable', () => {
    const { fn, clock, interrupts } = functionRig(IOAT);
    fn.writeConfig(COMMAND, 2, 0x0406);
    fn.setPin(true);
    clock.settle();
    expect(fn.readConfig(STATUS, 2) & 0x8).toBe(0x8);
    expect(interrupts).toEqual([]);
    fn.writeConfig(COMMAND, 2, 0x0006);
    clock.settle();
    expect(interrupts).toEqual([-1]);
    fn.setPin(false);
    expect(fn.readConfig(STATUS, 2) & 0x8).toBe(0);
  });
});

describe('function level reset', () => {
  it('by DEVCTL bit 15 clears registers, model, ATC and enables', () => {
    const { fn, dma } = functionRig(DMA_PROBE, { ats: true });
    fn.enableAts(true);
    dma.read(1, 0, new Uint8Array(1), NO_SUBSTREAM);
    fn.writeRegister(0x14, 4, 5);
    fn.writeConfig(0x10, 4, 0x1000_0000);
    const express = capabilities(fn).get(0x10)!;
    expect(fn.readConfig(express + 4, 4) & (1 << 28)).not.toBe(0);
    fn.writeConfig(express + 8, 2, 0x8000);
    expect(fn.readConfig(express + 8, 2) & 0x8000).toBe(0);
    expect(fn.readConfig(COMMAND, 2)).toBe(0);
    expect(fn.readConfig(0x10, 4)).toBe(4);
    expect(fn.atc.used).toBe(0);
    fn.writeConfig(COMMAND, 2, 2);
    expect(fn.readRegister(0x14, 4)).toBe(0);
  });
});
