/**
 * The root port of a bus, as its configuration space tells of it (PCIe base 5.0: 7.5.1.3 type 1 header, 7.5.3, 7.7.8 ACS).
 * It makes no DMA and no interrupts of its own.
 */
import { portLink, secondaryExpress } from './link.ts';
import { fixed, RegisterFile } from './register-file.ts';
import {
  ACS_REDIRECTS,
  CAP_EXPRESS,
  CAP_PM,
  COMMAND_MASTER,
  COMMAND_MEMORY,
  CONFIG_BYTES,
  DEVCAP2_ONE_PREFIX,
  EXPRESS_ROOT_PORT,
  EXT_CAP_ACS,
  HEADER_BRIDGE,
  HEADER_MULTIFUNCTION,
  PMCSR_NO_SOFT_RESET,
  STATUS_CAP_LIST,
} from './spec/config-space.ts';

/** The generic root port of PCI IDs 1b36 (Red Hat). */
export const ROOT_PORT_IDENTITY = {
  vendorId: 0x1b36,
  deviceId: 0x000c,
  subsystemVendorId: 0,
  subsystemId: 0,
  classCode: 0x060400,
  revision: 0,
} as const;

export interface RootPort {
  /** The bus below it. */
  readonly bus: number;
  /** One of several ports of a device. */
  readonly multifunction: boolean;
  /** Addresses below 4 GiB that it passes on, in whole MiB: those of the BARs below it. */
  readonly window: { readonly start: number; readonly last: number };
}

const EXPRESS_AT = 0x40;
const PM_AT = 0x80;
const ACS_AT = 0x100;
const SECONDARY_AT = 0x110;
/** A window whose base lies above its limit is none. */
const CLOSED = 0x0000_fff0;
/** P7 on every lane, for both ends. */
const LANE_PRESETS = 0x0707;

/** The configuration space of a port, as the kernel has set it up. */
export function rootPortConfig({ bus, multifunction, window: { start, last } }: RootPort): RegisterFile {
  const { vendorId, deviceId, classCode, revision } = ROOT_PORT_IDENTITY;
  return new RegisterFile(CONFIG_BYTES, [
    fixed('VENDOR_ID', 0x00, 2, vendorId),
    fixed('DEVICE_ID', 0x02, 2, deviceId),
    fixed('COMMAND', 0x04, 2, COMMAND_MEMORY | COMMAND_MASTER),
    fixed('STATUS', 0x06, 2, STATUS_CAP_LIST),
    fixed('REVISION_ID', 0x08, 1, revision),
    fixed('PROGRAMMING_INTERFACE', 0x09, 1, classCode & 0xff),
    fixed('CLASS', 0x0a, 2, classCode >>> 8),
    fixed('HEADER_TYPE', 0x0e, 1, HEADER_BRIDGE | (multifunction ? HEADER_MULTIFUNCTION : 0)),
    fixed('PRIMARY_BUS', 0x18, 1, 0),
    fixed('SECONDARY_BUS', 0x19, 1, bus),
    fixed('SUBORDINATE_BUS', 0x1a, 1, bus),
    fixed('MEMORY_BASE', 0x20, 2, (start >>> 16) & 0xfff0),
    fixed('MEMORY_LIMIT', 0x22, 2, (last >>> 16) & 0xfff0),
    fixed('PREFETCHABLE_WINDOW', 0x24, 4, CLOSED),
    fixed('CAPABILITY_POINTER', 0x34, 1, EXPRESS_AT),
    fixed('EXPRESS_CAP', EXPRESS_AT, 2, CAP_EXPRESS | (PM_AT << 8)),
    /** Version 2. */
    fixed('EXPRESS_FLAGS', EXPRESS_AT + 0x02, 2, (EXPRESS_ROOT_PORT << 4) | 2),
    /** Payload 256, extended tags, role-based errors. */
    fixed('DEVCAP', EXPRESS_AT + 0x04, 4, 0x8021),
    fixed('DEVCTL', EXPRESS_AT + 0x08, 2, 0x2810),
    ...portLink(EXPRESS_AT),
    fixed('DEVCAP2', EXPRESS_AT + 0x24, 4, DEVCAP2_ONE_PREFIX),
    fixed('PM_CAP', PM_AT, 2, CAP_PM),
    fixed('PMC', PM_AT + 2, 2, 0x0003),
    fixed('PMCSR', PM_AT + 4, 2, PMCSR_NO_SOFT_RESET),
    fixed('ACS_CAP', ACS_AT, 4, EXT_CAP_ACS + (1 << 16) + SECONDARY_AT * 2 ** 20),
    fixed('ACS_FLAGS', ACS_AT + 4, 2, ACS_REDIRECTS),
    fixed('ACS_CONTROL', ACS_AT + 6, 2, ACS_REDIRECTS),
    ...secondaryExpress(SECONDARY_AT, 0, LANE_PRESETS),
  ]);
}
