/** The configuration space of a function as a register table: header, capability chain, device-specific registers. */
import type { FunctionIdentity } from './function-model.ts';
import { functionLink, secondaryExpress } from './link.ts';
import { fixed } from './register-file.ts';
import {
  ACS_PEER_REDIRECTS,
  BAR_MEMORY_64,
  CAP_EXPRESS,
  CAP_MSI,
  CAP_MSIX,
  CAP_PM,
  DEVCAP_FLR,
  DEVCAP2_ONE_PREFIX,
  DEVCTL_PAYLOAD,
  EXT_CAP_ACS,
  EXT_CAP_AER,
  EXT_CAP_ATS,
  EXT_CAP_PASID,
  EXT_CAP_PRI,
  HEADER_MULTIFUNCTION,
  MSI_CONTROL_64BIT,
  MSI_CONTROL_ENABLE,
  MSI_CONTROL_ENABLED_LOG2,
  MSI_CONTROL_MASKABLE,
  PRI_STATUS_FAILURE,
  PRI_STATUS_PASID_REQUIRED,
  PRI_STATUS_STOPPED,
  PRI_STATUS_UNEXPECTED,
  STATUS_CAP_LIST,
} from './spec/config-space.ts';
import type { Register } from './spec/register.ts';

/** What the machine's description adds to a kind of function. */
export interface FunctionFeatures {
  readonly ats: boolean;
  readonly pri: boolean;
  /** Width of PASIDs in bits; 0 for none. */
  readonly pasidBits: number;
  /** Vectors of its MSI capability, a power of two up to 32; 0 for none. */
  readonly msi?: number;
  /** One of several functions of a device. */
  readonly multifunction?: boolean;
  /** Such a one has ACS: what it sends to another of them goes up to the IOMMU first. */
  readonly acs?: boolean;
  /** It tells of the link for all functions of its device, as function 0 does. */
  readonly endsLink?: boolean;
}

const MSI_AT = 0x40;
const MSIX_AT = 0x80;
const EXPRESS_AT = 0x90;
const PM_AT = 0xe0;
const AER_AT = 0x100;
const ATS_AT = 0x1a0;
const PRI_AT = 0x1b0;
const PASID_AT = 0x1c0;
const ACS_AT = 0x1d0;
const SECONDARY_AT = 0x1e0;
/** The function's presets: P7 on every lane. */
const LANE_PRESETS = 0x0700;

export function configRegisters(identity: FunctionIdentity, features: FunctionFeatures): Register[] {
  const { msi: messages = 0, multifunction = false } = features;
  const afterMsi = identity.msix ? MSIX_AT : EXPRESS_AT;
  return [
    ...header(identity, multifunction, messages ? MSI_AT : afterMsi),
    ...(messages ? msi(messages, afterMsi) : []),
    ...(identity.msix ? msix(identity.msix) : []),
    ...express(features.pasidBits),
    ...powerManagement(),
    ...extended(features),
    ...identity.registers,
  ];
}

function header(identity: FunctionIdentity, multifunction: boolean, capabilities: number): Register[] {
  const barMask = 2n ** 64n - BigInt(identity.bar0Bytes);
  return [
    fixed('VENDOR_ID', 0x00, 2, identity.vendorId),
    fixed('DEVICE_ID', 0x02, 2, identity.deviceId),
    { name: 'COMMAND', offset: 0x04, bytes: 2, writable: 0x0546n },
    { name: 'STATUS', offset: 0x06, bytes: 2, reset: BigInt(STATUS_CAP_LIST), writeOneToClear: 0xf900n },
    fixed('REVISION_ID', 0x08, 1, identity.revision),
    fixed('PROGRAMMING_INTERFACE', 0x09, 1, identity.classCode & 0xff),
    fixed('CLASS', 0x0a, 2, identity.classCode >>> 8),
    { name: 'CACHE_LINE_SIZE', offset: 0x0c, bytes: 1, writable: 0xffn },
    fixed('LATENCY_TIMER', 0x0d, 1, 0),
    fixed('HEADER_TYPE', 0x0e, 1, multifunction ? HEADER_MULTIFUNCTION : 0),
    { name: 'BAR0', offset: 0x10, bytes: 8, reset: BigInt(BAR_MEMORY_64), writable: barMask },
    fixed('SUBSYSTEM_VENDOR_ID', 0x2c, 2, identity.subsystemVendorId),
    fixed('SUBSYSTEM_ID', 0x2e, 2, identity.subsystemId),
    fixed('CAPABILITY_POINTER', 0x34, 1, capabilities),
    { name: 'INTERRUPT_LINE', offset: 0x3c, bytes: 1, writable: 0xffn },
    fixed('INTERRUPT_PIN', 0x3d, 1, identity.interruptPin),
  ];
}

/** @param vectors a power of two */
function msi(vectors: number, next: number): Register[] {
  const control = MSI_CONTROL_MASKABLE | MSI_CONTROL_64BIT | (Math.log2(vectors) << 1);
  const writable = BigInt(MSI_CONTROL_ENABLE | MSI_CONTROL_ENABLED_LOG2);
  return [
    fixed('MSI_CAP', MSI_AT, 2, CAP_MSI | (next << 8)),
    { name: 'MSI_CONTROL', offset: MSI_AT + 2, bytes: 2, reset: BigInt(control), writable },
    { name: 'MSI_ADDRESS', offset: MSI_AT + 4, bytes: 4, writable: 0xffff_fffcn },
    { name: 'MSI_ADDRESS_HIGH', offset: MSI_AT + 8, bytes: 4, writable: 0xffff_ffffn },
    { name: 'MSI_DATA', offset: MSI_AT + 12, bytes: 2, writable: 0xffffn },
    { name: 'MSI_MASK', offset: MSI_AT + 16, bytes: 4, writable: 2n ** BigInt(vectors) - 1n },
    { name: 'MSI_PENDING', offset: MSI_AT + 20, bytes: 4 },
  ];
}

function msix(facts: NonNullable<FunctionIdentity['msix']>): Register[] {
  return [
    fixed('MSIX_CAP', MSIX_AT, 2, CAP_MSIX | (EXPRESS_AT << 8)),
    { name: 'MSIX_CONTROL', offset: MSIX_AT + 2, bytes: 2, reset: BigInt(facts.vectors - 1), writable: 0xc000n },
    fixed('MSIX_TABLE', MSIX_AT + 4, 4, facts.tableOffset),
    fixed('MSIX_PBA', MSIX_AT + 8, 4, facts.pendingOffset),
  ];
}

function express(pasidBits: number): Register[] {
  const at = EXPRESS_AT;
  return [
    fixed('EXPRESS_CAP', at, 2, CAP_EXPRESS | (PM_AT << 8)),
    /** Version 2, endpoint. */
    fixed('EXPRESS_FLAGS', at + 0x02, 2, 0x0002),
    /** Payload 256, extended tags, role-based errors, FLR. */
    fixed('DEVCAP', at + 0x04, 4, DEVCAP_FLR | 0x8021),
    { name: 'DEVCTL', offset: at + 0x08, bytes: 2, reset: 0x2810n, writable: 0xf9ffn, sticky: BigInt(DEVCTL_PAYLOAD) },
    { name: 'DEVSTA', offset: at + 0x0a, bytes: 2, writeOneToClear: 0x000fn },
    ...functionLink(at),
    /** Completion timeouts of every range. */
    fixed('DEVCAP2', at + 0x24, 4, 0x1f | (pasidBits ? DEVCAP2_ONE_PREFIX : 0)),
    { name: 'DEVCTL2', offset: at + 0x28, bytes: 2, writable: 0x0fffn },
  ];
}

function powerManagement(): Register[] {
  return [
    fixed('PM_CAP', PM_AT, 2, CAP_PM),
    fixed('PMC', PM_AT + 2, 2, 0x0003),
    /** No_Soft_Reset: coming back from D3hot keeps the state. */
    { name: 'PMCSR', offset: PM_AT + 4, bytes: 2, reset: 0x0008n, writable: 0x0003n },
  ];
}

function extended({ ats, pri, pasidBits, multifunction, acs, endsLink = true }: FunctionFeatures): Register[] {
  const redirects = multifunction && acs;
  const optional: [at: number, has: unknown][] = [
    [ATS_AT, ats],
    [PRI_AT, pri],
    [PASID_AT, pasidBits],
    [ACS_AT, redirects],
    [SECONDARY_AT, endsLink],
  ];
  const present = [AER_AT, ...optional.filter(([, has]) => has).map(([at]) => at), 0];
  const head = (name: string, at: number, id: number): Register =>
    fixed(name, at, 4, id + (1 << 16) + present[present.indexOf(at) + 1]! * 2 ** 20);
  const registers = [head('AER_CAP', AER_AT, EXT_CAP_AER), ...advancedErrors()];
  if (ats) {
    registers.push(
      head('ATS_CAP', ATS_AT, EXT_CAP_ATS),
      /** Page-aligned requests, global invalidate; queue depth 0 means 32. */
      fixed('ATS_FLAGS', ATS_AT + 4, 2, 0x60),
      { name: 'ATS_CONTROL', offset: ATS_AT + 6, bytes: 2, writable: 0x801fn },
    );
  }
  if (pri) {
    registers.push(
      head('PRI_CAP', PRI_AT, EXT_CAP_PRI),
      { name: 'PRI_CONTROL', offset: PRI_AT + 4, bytes: 2, writable: 0x3n },
      {
        name: 'PRI_STATUS',
        offset: PRI_AT + 6,
        bytes: 2,
        // Responses carry the PASID of their requests, where there are PASIDs.
        reset: BigInt(PRI_STATUS_STOPPED | (pasidBits ? PRI_STATUS_PASID_REQUIRED : 0)),
        writeOneToClear: BigInt(PRI_STATUS_FAILURE | PRI_STATUS_UNEXPECTED),
      },
      fixed('PRI_CAPACITY', PRI_AT + 8, 4, 32),
      { name: 'PRI_ALLOCATION', offset: PRI_AT + 12, bytes: 4, writable: 0xffff_ffffn },
    );
  }
  if (pasidBits) {
    registers.push(head('PASID_CAP', PASID_AT, EXT_CAP_PASID), fixed('PASID_FLAGS', PASID_AT + 4, 2, pasidBits << 8), {
      name: 'PASID_CONTROL',
      offset: PASID_AT + 6,
      bytes: 2,
      writable: 0x1n,
    });
  }
  if (redirects) {
    const bits = BigInt(ACS_PEER_REDIRECTS);
    registers.push(head('ACS_CAP', ACS_AT, EXT_CAP_ACS), fixed('ACS_FLAGS', ACS_AT + 4, 2, ACS_PEER_REDIRECTS), {
      name: 'ACS_CONTROL',
      offset: ACS_AT + 6,
      bytes: 2,
      writable: bits,
    });
  }
  if (endsLink) registers.push(...secondaryExpress(SECONDARY_AT, 0, LANE_PRESETS));
  return registers;
}

/**
 * Advanced error reporting: no model raises these errors, so the status bits stay clear. Internal errors and overflows of
 * the header log start masked.
 */
function advancedErrors(): Register[] {
  const [uncorrectable, correctable] = [0x03ff_f030n, 0xf1c1n];
  const setting = (name: string, at: number, reset: bigint, writable: bigint): Register => ({
    name,
    offset: AER_AT + at,
    bytes: 4,
    reset,
    writable,
    sticky: writable,
  });
  const status = (name: string, at: number, bits: bigint): Register => ({
    name,
    offset: AER_AT + at,
    bytes: 4,
    writeOneToClear: bits,
    sticky: bits,
  });
  return [
    status('AER_UNCORRECTABLE_STATUS', 0x04, uncorrectable),
    setting('AER_UNCORRECTABLE_MASK', 0x08, 0x0040_0000n, uncorrectable),
    setting('AER_SEVERITY', 0x0c, 0x0046_2030n, uncorrectable),
    status('AER_CORRECTABLE_STATUS', 0x10, correctable),
    setting('AER_CORRECTABLE_MASK', 0x14, 0xe000n, correctable),
    { name: 'AER_CONTROL', offset: AER_AT + 0x18, bytes: 4 },
  ];
}
