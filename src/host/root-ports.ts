/** The root ports of a machine, one above each bus that has functions: where on bus 00 each is, and what it passes on. */
import type { RootPort } from '../hardware/pci/root-port.ts';
import type { PciAddress } from '../vfio/device.ts';

/** Windows of bridges start and end at multiples of it. */
export const WINDOW_BYTES = 2 ** 20;

export interface PlacedPort extends RootPort {
  readonly address: PciAddress;
}

/** A function below a port. */
interface Below {
  readonly address: PciAddress;
  readonly barAddress: number;
  readonly barBytes: number;
}

/** The port of each function: the same object for all of one bus. */
export function rootPorts(functions: readonly Below[]): PlacedPort[] {
  const buses = new Map<string, Below[]>();
  for (const fn of functions) buses.set(keyOf(fn), [...(buses.get(keyOf(fn)) ?? []), fn]);
  const heads = [...buses.values()].map(([first]) => first!.address);
  const ports = new Map([...buses].map(([key, below]) => [key, portAbove(below, heads)]));
  return functions.map((fn) => ports.get(keyOf(fn))!);
}

const keyOf = ({ address: { segment, bus } }: Below): string => `${segment}:${bus}`;

/** Bus 00 has 32 devices: ports of buses whose numbers are the same modulo 32 are functions of one, from function 0 on. */
function portAbove(below: readonly Below[], heads: readonly PciAddress[]): PlacedPort {
  const { segment, bus } = below[0]!.address;
  const device = bus & 0x1f;
  const sharing = heads.filter((head) => head.segment === segment && (head.bus & 0x1f) === device);
  const start = Math.min(...below.map(({ barAddress }) => barAddress));
  const end = Math.max(...below.map(({ barAddress, barBytes }) => barAddress + barBytes));
  return {
    address: { segment, bus: 0, device, function: sharing.filter((head) => head.bus < bus).length },
    bus,
    multifunction: sharing.length > 1,
    window: {
      start: Math.floor(start / WINDOW_BYTES) * WINDOW_BYTES,
      last: Math.ceil(end / WINDOW_BYTES) * WINDOW_BYTES - 1,
    },
  };
}
