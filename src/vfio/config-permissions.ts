/**
 * Who owns each bit of a function's configuration space while a program has the device: `virtual` bits live in a copy
 * that the program sees, `writable` bits may be written. What is in no capability is raw: devices hide registers there.
 */
import type { PciFunction } from '../hardware/pci/pci-function.ts';
import {
  ACS_BYTES,
  ATS_BYTES,
  BAR0,
  CAP_EXPRESS,
  CAP_MSI,
  CAP_MSIX,
  CAP_PM,
  CAPABILITY_POINTER,
  COMMAND_INTX_DISABLE,
  CONFIG_BYTES,
  DEVCTL_FLR,
  DEVCTL_PAYLOAD,
  DEVCTL_PHANTOM,
  DEVCTL_READRQ,
  DEVCTL2_ARI,
  EXPRESS_BYTES,
  EXT_CAP_ACS,
  EXT_CAP_AER,
  EXT_CAP_ATS,
  EXT_CAP_PRI,
  INTERRUPT_LINE,
  INTERRUPT_PIN,
  MSI_BYTES,
  MSIX_BYTES,
  PM_BYTES,
  PMCSR_POWER_STATE,
  PRI_BYTES,
  ROM_ADDRESS,
  STANDARD_CONFIG_BYTES,
  STANDARD_HEADER_BYTES,
  STATUS,
  STATUS_CAP_LIST,
} from '../hardware/pci/spec/config-space.ts';

export interface ConfigLayout {
  /** Per byte: bits that are answered from the program's copy. */
  readonly virtual: Uint8Array;
  /** Per byte: bits that the program may change. */
  readonly writable: Uint8Array;
  /** Offsets of visible capabilities by ID. */
  readonly capabilities: ReadonlyMap<number, number>;
  /** Offset of an extended capability's header, and the next pointer that the program shall see there instead. */
  readonly nextPointers: ReadonlyMap<number, number>;
}

const CAPABILITY_BYTES = new Map([
  [CAP_PM, PM_BYTES],
  [CAP_EXPRESS, EXPRESS_BYTES],
  [CAP_MSI, MSI_BYTES],
  [CAP_MSIX, MSIX_BYTES],
]);

/** Extended capabilities that are not here, PASID among them, are taken out of the chain. */
const EXTENDED_BYTES = new Map([
  [EXT_CAP_ACS, ACS_BYTES],
  [EXT_CAP_AER, 0x2c],
  [EXT_CAP_ATS, ATS_BYTES],
  [EXT_CAP_PRI, PRI_BYTES],
]);

const PME_CAPABLE = 0xf800;
const PME_CONTROL = 0x8100;

export function configLayout(fn: PciFunction): ConfigLayout {
  const virtual = new Uint8Array(CONFIG_BYTES);
  const writable = new Uint8Array(CONFIG_BYTES).fill(0xff);
  const permit: Permit = (offset, bytes, virtualBits, writableBits) => {
    for (let i = 0; i < bytes; i++) {
      virtual[offset + i] = (virtualBits >>> (8 * i)) & 0xff;
      writable[offset + i] = (writableBits >>> (8 * i)) & 0xff;
    }
  };
  permitHeader(permit);
  const capabilities = permitCapabilities(fn, permit);
  const nextPointers = permitExtended(fn, permit);
  return { virtual, writable, capabilities, nextPointers };
}

type Permit = (offset: number, bytes: number, virtualBits: number, writableBits: number) => void;

const ALL = 0xffff_ffff;

function permitHeader(permit: Permit): void {
  for (let at = 0; at < STANDARD_HEADER_BYTES; at += 4) permit(at, 4, 0, 0);
  permit(0x00, 4, ALL, 0);
  permit(0x04, 2, COMMAND_INTX_DISABLE, ALL);
  permit(STATUS, 2, STATUS_CAP_LIST, 0);
  /** Cache line size, latency timer; the header type between it and BIST stays fixed. */
  permit(0x0c, 2, 0, ALL);
  permit(0x0f, 1, 0, ALL);
  for (let bar = 0; bar < 6; bar++) permit(BAR0 + 4 * bar, 4, ALL, ALL);
  permit(ROM_ADDRESS, 4, ALL, ALL);
  permit(CAPABILITY_POINTER, 1, ALL, 0);
  permit(INTERRUPT_LINE, 1, ALL, ALL);
  permit(INTERRUPT_PIN, 1, ALL, 0);
}

function permitCapabilities(fn: PciFunction, permit: Permit): Map<number, number> {
  const found = new Map<number, number>();
  for (let at = fn.readConfig(CAPABILITY_POINTER, 1); at !== 0; at = fn.readConfig(at + 1, 1)) {
    const id = fn.readConfig(at, 1);
    const bytes = CAPABILITY_BYTES.get(id);
    if (bytes === undefined) throw new Error(`capability ${id} of ${fn.name} has no permissions`);
    found.set(id, at);
    for (let i = 0; i < bytes; i += 4) permit(at + i, 4, 0, 0);
    permit(at + 1, 1, ALL, 0);
    if (id === CAP_PM) {
      permit(at + 2, 2, PME_CAPABLE, 0);
      permit(at + 4, 4, PME_CONTROL, ~(PME_CONTROL | PMCSR_POWER_STATE));
    } else if (id === CAP_MSI) {
      permit(at + 2, 1, ALL, ALL);
      permit(at + 4, 4, ALL, ALL);
      permit(at + 8, 4, ALL, ALL);
      permit(at + 12, 2, ALL, ALL);
      permit(at + 16, 4, 0, ALL);
      permit(at + 20, 4, 0, ALL);
    } else if (id === CAP_EXPRESS) {
      permit(at + 8, 2, DEVCTL_FLR | DEVCTL_PAYLOAD | DEVCTL_READRQ, ~DEVCTL_PHANTOM);
      permit(at + 0x28, 2, 0, ~DEVCTL2_ARI);
    }
  }
  return found;
}

function permitExtended(fn: PciFunction, permit: Permit): Map<number, number> {
  const next = new Map<number, number>();
  let previous = 0;
  for (let at = STANDARD_CONFIG_BYTES; at !== 0; at = fn.readConfig(at, 4) >>> 20) {
    const id = fn.readConfig(at, 2);
    const bytes = EXTENDED_BYTES.get(id);
    if (bytes === undefined) continue;
    for (let i = 0; i < bytes; i += 4) permit(at + i, 4, 0, 0);
    permit(at, 4, ALL, 0);
    if (id === EXT_CAP_AER) for (let i = 4; i < 0x1c; i += 4) permit(at + i, 4, 0, ALL);
    if (previous) next.set(previous, at);
    next.set(at, 0);
    previous = at;
  }
  return next;
}
