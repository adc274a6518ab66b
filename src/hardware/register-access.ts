/** Accesses of any length to registers: in naturally aligned pieces of up to 4 bytes, low addresses first. */
import type { MmioDevice } from './iommu.ts';

export function readRegisters(device: MmioDevice, offset: number, into: Uint8Array): void {
  for (let done = 0; done < into.length; ) {
    const size = sizeOf(offset + done, into.length - done);
    const value = device.readRegister(offset + done, size);
    for (let i = 0; i < size; i++) into[done + i] = (value >>> (8 * i)) & 0xff;
    done += size;
  }
}

/** @param requester as of MmioDevice.writeRegister */
export function writeRegisters(device: MmioDevice, offset: number, from: Uint8Array, requester?: number): void {
  for (let done = 0; done < from.length; ) {
    const size = sizeOf(offset + done, from.length - done);
    let value = 0;
    for (let i = 0; i < size; i++) value |= from[done + i]! << (8 * i);
    device.writeRegister(offset + done, size, value >>> 0, requester);
    done += size;
  }
}

const sizeOf = (at: number, left: number): number =>
  left >= 4 && at % 4 === 0 ? 4 : left >= 2 && at % 2 === 0 ? 2 : 1;
