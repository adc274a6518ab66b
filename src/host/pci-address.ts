/** PCI addresses as Linux writes them. */
import type { PciAddress } from '../vfio/device.ts';

/** '0000:01:00.0' */
export function parseBdf(bdf: string): PciAddress {
  const [, segment, bus, device, number] = /^([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/.exec(bdf)!;
  return {
    segment: Number.parseInt(segment!, 16),
    bus: Number.parseInt(bus!, 16),
    device: Number.parseInt(device!, 16),
    function: Number.parseInt(number!, 16),
  };
}

/** The requester ID (bus, device, function) below the segment. */
export const requesterOf = ({ segment, bus, device, function: number }: PciAddress): number =>
  segment * 2 ** 16 + ((bus << 8) | (device << 3) | number);

export function formatBdf({ segment, bus, device, function: number }: PciAddress): string {
  return `${hexDigits(segment, 4)}:${hexDigits(bus, 2)}:${hexDigits(device, 2)}.${number}`;
}

export const hexDigits = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
