/** pread and pwrite of a device: a region index in the offset's high bits, configuration space and BAR0 behind it. */
import { fail } from '../abi/errno.ts';
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_REGIONS } from '../abi/vfio.ts';
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import { CONFIG_BYTES } from '../hardware/pci/spec/config-space.ts';
import type { VirtualConfig } from './virtual-config.ts';

export const REGION_SHIFT = 40n;
const REGION_MASK = (1n << REGION_SHIFT) - 1n;

/** Where region `index` begins in the file. */
export const regionOffset = (index: number): bigint => BigInt(index) << REGION_SHIFT;

/** A part of a region: moves whole naturally aligned accesses between it and `bytes`. */
export interface RegionAccess {
  /** How many of the bytes asked for are there. */
  readonly length: number;
  read(into: Uint8Array): void;
  write(from: Uint8Array): void;
}

/** What lies at `position` of the device's file. EINVAL where there is no region, EFAULT beyond configuration space. */
export function regionAt(fn: PciFunction, config: VirtualConfig, position: bigint, count: number): RegionAccess {
  const index = position >> REGION_SHIFT;
  if (position < 0n || index >= VFIO_PCI_NUM_REGIONS) throw fail('EINVAL', `offset ${position} lies in no region`);
  const offset = Number(position & REGION_MASK);
  if (index === BigInt(VFIO_PCI_CONFIG_REGION_INDEX)) return configAccess(config, offset, count);
  const size = regionBytes(fn, Number(index));
  if (offset >= size) throw fail('EINVAL', `offset ${offset} lies beyond the ${size} bytes of region ${index}`);
  return barAccess(fn, config, offset, Math.min(count, size - offset));
}

/** Size of a region; 0: there is none. */
export function regionBytes(fn: PciFunction, index: number): number {
  if (index === VFIO_PCI_CONFIG_REGION_INDEX) return CONFIG_BYTES;
  return index === VFIO_PCI_BAR0_REGION_INDEX ? fn.kind.identity.bar0Bytes : 0;
}

/** Offset in BAR0 of `position` of the device's file. EINVAL unless all `count` bytes are in the BAR. */
export function barOffset(fn: PciFunction, position: bigint, count: number): number {
  const index = position >> REGION_SHIFT;
  const offset = Number(position & REGION_MASK);
  const size = index === BigInt(VFIO_PCI_BAR0_REGION_INDEX) ? regionBytes(fn, VFIO_PCI_BAR0_REGION_INDEX) : 0;
  if (offset + count > size) throw fail('EINVAL', `${count} bytes at ${position} are not all in a BAR`);
  return offset;
}

function configAccess(config: VirtualConfig, offset: number, length: number): RegionAccess {
  if (offset + length > CONFIG_BYTES) {
    throw fail('EFAULT', `${length} bytes at ${offset} leave configuration space of ${CONFIG_BYTES} bytes`);
  }
  return {
    length,
    read: (into) => inUnits(offset, length, (at, size, done) => store(into, done, size, config.read(at, size))),
    write: (from) => inUnits(offset, length, (at, size, done) => config.write(at, size, load(from, done, size))),
  };
}

function checkDecoding(config: VirtualConfig): void {
  if (!config.memoryEnabled) throw fail('EIO', 'memory decode is off, or the device is in D3hot');
}

/** BAR0 as a program finds it that has mapped it: the MSI-X table is the hardware's. */
export function accessRegisters(fn: PciFunction, config: VirtualConfig, offset: number): Omit<RegionAccess, 'length'> {
  return {
    read(into) {
      checkDecoding(config);
      inUnits(offset, into.length, (at, size, done) => store(into, done, size, fn.readRegister(at, size)));
    },
    write(from) {
      checkDecoding(config);
      inUnits(offset, from.length, (at, size, done) => fn.writeRegister(at, size, load(from, done, size)));
    },
  };
}

/** BAR0. The MSI-X table within is the host's: reads see ones, writes are dropped. */
export function barAccess(fn: PciFunction, config: VirtualConfig, offset: number, length: number): RegionAccess {
  const check = (): void => checkDecoding(config);
  return {
    length,
    read(into) {
      inUnits(offset, length, (at, size, done) => {
        check();
        store(into, done, size, isMsixTable(fn, at) ? 0xffff_ffff : fn.readRegister(at, size));
      });
    },
    write(from) {
      inUnits(offset, length, (at, size, done) => {
        check();
        if (!isMsixTable(fn, at)) fn.writeRegister(at, size, load(from, done, size));
      });
    },
  };
}

/** [at, at + size) of BAR0 touches the MSI-X table. */
export function isMsixTable(fn: PciFunction, at: number, size = 1): boolean {
  const table = fn.kind.identity.msix;
  return table !== null && at + size > table.tableOffset && at < table.tableOffset + fn.msix!.tableBytes;
}

/** The largest naturally aligned accesses of up to 4 bytes; 8-byte ones go over the bus as two, low word first. */
function inUnits(offset: number, length: number, unit: (at: number, size: number, done: number) => void): void {
  for (let done = 0; done < length; ) {
    const at = offset + done;
    const left = length - done;
    const size = left >= 4 && at % 4 === 0 ? 4 : left >= 2 && at % 2 === 0 ? 2 : 1;
    unit(at, size, done);
    done += size;
  }
}

function load(bytes: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let i = 0; i < size; i++) value |= bytes[at + i]! << (8 * i);
  return value >>> 0;
}

function store(bytes: Uint8Array, at: number, size: number, value: number): void {
  for (let i = 0; i < size; i++) bytes[at + i] = (value >>> (8 * i)) & 0xff;
}
