/**
 * The root port of a bus, as its configuration space tells of it (PCIe base 5.0: 7.5.1.3 type 1 header, 7.5.3, 7.7.8 ACS).
 * Nothing behind it is routed by it: its windows are closed, and it makes no DMA and no interrupts of its own.
 */
import { RegisterFile } from './register-file.ts';
import {
  ACS_REDIRECTS,
  CAP_EXPRESS,
  CONFIG_BYTES,
  EXPRESS_ROOT_PORT,
  EXT_CAP_ACS,
  HEADER_BRIDGE,
  STATUS_CAP_LIST,
} from './spec/config-space.ts';
import type { Register } from './spec/register.ts';

/** The generic root port of PCI IDs 1b36 (Red Hat). */
export const ROOT_PORT_IDENTITY = {
  vendorId: 0x1b36,
  deviceId: 0x000c,
  subsystemVendorId: 0,
  subsystemId: 0,
  classCode: 0x060400,
  revision: 0,
} as const;

const EXPRESS_AT = 0x40;
const ACS_AT = 0x100;
/** A window whose base lies above its limit is none. */
const CLOSED = 0x0000_fff0;

/** The configuration space of the port above `bus`. */
export function rootPortConfig(bus: number): Uint8Array {
  const { vendorId, deviceId, classCode, revision } = ROOT_PORT_IDENTITY;
  return new RegisterFile(CONFIG_BYTES, [
    fixed('VENDOR_ID', 0x00, 2, vendorId),
    fixed('DEVICE_ID', 0x02, 2, deviceId),
    fixed('STATUS', 0x06, 2, STATUS_CAP_LIST),
    fixed('REVISION_ID', 0x08, 1, revision),
    fixed('PROGRAMMING_INTERFACE', 0x09, 1, classCode & 0xff),
    fixed('CLASS', 0x0a, 2, classCode >>> 8),
    fixed('HEADER_TYPE', 0x0e, 1, HEADER_BRIDGE),
    fixed('PRIMARY_BUS', 0x18, 1, 0),
    fixed('SECONDARY_BUS', 0x19, 1, bus),
    fixed('SUBORDINATE_BUS', 0x1a, 1, bus),
    fixed('MEMORY_WINDOW', 0x20, 4, CLOSED),
    fixed('PREFETCHABLE_WINDOW', 0x24, 4, CLOSED),
    fixed('CAPABILITY_POINTER', 0x34, 1, EXPRESS_AT),
    fixed('EXPRESS_CAP', EXPRESS_AT, 2, CAP_EXPRESS),
    /** Version 2. */
    fixed('EXPRESS_FLAGS', EXPRESS_AT + 0x02, 2, (EXPRESS_ROOT_PORT << 4) | 2),
    /** The link of the functions behind it: 8 GT/s, 16 lanes. */
    fixed('LNKCAP', EXPRESS_AT + 0x0c, 4, 0x103),
    fixed('LNKSTA', EXPRESS_AT + 0x12, 2, 0x1103),
    fixed('ACS_CAP', ACS_AT, 4, EXT_CAP_ACS + (1 << 16)),
    fixed('ACS_FLAGS', ACS_AT + 4, 2, ACS_REDIRECTS),
    fixed('ACS_CONTROL', ACS_AT + 6, 2, ACS_REDIRECTS),
  ]).bytes;
}

const fixed = (name: string, offset: number, bytes: 1 | 2 | 4, value: number): Register => ({
  name,
  offset,
  bytes,
  reset: BigInt(value),
});
