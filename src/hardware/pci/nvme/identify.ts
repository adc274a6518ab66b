/** The data structures of Identify (NVMe 1.4, 5.15.2). */
import { ASYNC_EVENT_REQUESTS, CRITICAL_TEMPERATURE, ERROR_LOG_ENTRIES, MDTS, WARNING_TEMPERATURE } from './limits.ts';
import type { Namespace } from './namespace.ts';
import { CQE_LOG2, SQE_LOG2 } from './spec/commands.ts';
import {
  CNTRLTYPE_IO,
  DESCRIPTOR_EUI64,
  DESCRIPTOR_EUI64_BYTES,
  FRMW_ONE_READ_ONLY,
  ID_AERL,
  ID_CCTEMP,
  ID_CNTRLTYPE,
  ID_CQES,
  ID_ELPE,
  ID_FR,
  ID_FR_BYTES,
  ID_FRMW,
  ID_LPA,
  ID_MDTS,
  ID_MN,
  ID_MN_BYTES,
  ID_NN,
  ID_OAES,
  ID_ONCS,
  ID_PSD0,
  ID_SN,
  ID_SN_BYTES,
  ID_SQES,
  ID_SSVID,
  ID_SUBNQN,
  ID_VER,
  ID_VID,
  ID_VWC,
  ID_WCTEMP,
  IDENTIFY_BYTES,
  LPA_EFFECTS,
  LPA_EXTENDED,
  NS_EUI64,
  NS_LBAF0_LBADS,
  NS_NCAP,
  NS_NSZE,
  NS_NUSE,
  OAES_NAMESPACE_ATTRIBUTES,
  ONCS_COMPARE,
  ONCS_DATASET_MANAGEMENT,
  ONCS_SAVE_AND_SELECT,
  ONCS_WRITE_ZEROES,
  VWC_FLUSH_ALL,
  VWC_PRESENT,
} from './spec/identify.ts';
import { VERSION_1_4 } from './spec/registers.ts';

export const FIRMWARE_REVISION = '1.0';
const MODEL = 'uiommufd NVMe';

/** Twelve hexadecimal digits that no other function of the machine has: segment, bus, device and function of `name`. */
export function digitsOf(name: string): string {
  const [segment, bus, device, fn] = name.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  const routing = (bus! << 8) | (device! << 3) | fn!;
  return `${hex(segment!, 4)}${hex(routing, 4)}0000`;
}

export interface ControllerFacts {
  readonly vendorId: number;
  readonly subsystemVendorId: number;
  /** From digitsOf(). */
  readonly digits: string;
  readonly namespaces: number;
}

export function identifyController({ vendorId, subsystemVendorId, digits, namespaces }: ControllerFacts): Uint8Array {
  const data = new Uint8Array(IDENTIFY_BYTES);
  const view = new DataView(data.buffer);
  view.setUint16(ID_VID, vendorId, true);
  view.setUint16(ID_SSVID, subsystemVendorId, true);
  writeText(data, ID_SN, ID_SN_BYTES, digits);
  writeText(data, ID_MN, ID_MN_BYTES, MODEL);
  writeText(data, ID_FR, ID_FR_BYTES, FIRMWARE_REVISION);
  data[ID_MDTS] = MDTS;
  view.setUint32(ID_VER, VERSION_1_4, true);
  view.setUint32(ID_OAES, OAES_NAMESPACE_ATTRIBUTES, true);
  data[ID_CNTRLTYPE] = CNTRLTYPE_IO;
  data[ID_AERL] = ASYNC_EVENT_REQUESTS - 1;
  data[ID_FRMW] = FRMW_ONE_READ_ONLY;
  data[ID_LPA] = LPA_EFFECTS | LPA_EXTENDED;
  data[ID_ELPE] = ERROR_LOG_ENTRIES - 1;
  view.setUint16(ID_WCTEMP, WARNING_TEMPERATURE, true);
  view.setUint16(ID_CCTEMP, CRITICAL_TEMPERATURE, true);
  data[ID_SQES] = (SQE_LOG2 << 4) | SQE_LOG2;
  data[ID_CQES] = (CQE_LOG2 << 4) | CQE_LOG2;
  view.setUint32(ID_NN, namespaces, true);
  const oncs = ONCS_COMPARE | ONCS_DATASET_MANAGEMENT | ONCS_WRITE_ZEROES | ONCS_SAVE_AND_SELECT;
  view.setUint16(ID_ONCS, oncs, true);
  data[ID_VWC] = VWC_PRESENT | VWC_FLUSH_ALL;
  // A UUID of version 8 (RFC 9562: its contents are the vendor's choice). Hosts take equal names for one subsystem.
  data.set(ascii(`nqn.2014-08.org.nvmexpress:uuid:6e766d65-7569-8000-8000-${digits}`), ID_SUBNQN);
  // 25 W.
  view.setUint16(ID_PSD0, 2500, true);
  return data;
}

export function identifyNamespace({ id, blocks, blockBytes }: Namespace, digits: string): Uint8Array {
  const data = new Uint8Array(IDENTIFY_BYTES);
  const view = new DataView(data.buffer);
  for (const at of [NS_NSZE, NS_NCAP, NS_NUSE]) view.setBigUint64(at, BigInt(blocks), true);
  data[NS_LBAF0_LBADS] = Math.log2(blockBytes);
  data.set(eui64(digits, id), NS_EUI64);
  return data;
}

export function namespaceDescriptors({ id }: Namespace, digits: string): Uint8Array {
  const data = new Uint8Array(IDENTIFY_BYTES);
  data.set([DESCRIPTOR_EUI64, DESCRIPTOR_EUI64_BYTES, 0, 0, ...eui64(digits, id)]);
  return data;
}

/** Identifiers above `after`, in order, 32 bits each. */
export function activeNamespaces(namespaces: readonly Namespace[], after: number): Uint8Array {
  const data = new Uint8Array(IDENTIFY_BYTES);
  const view = new DataView(data.buffer);
  const listed = namespaces.filter(({ id }) => id > after).slice(0, IDENTIFY_BYTES / 4);
  for (const [i, { id }] of listed.entries()) view.setUint32(4 * i, id, true);
  return data;
}

/** Fills `bytes` with ASCII and spaces. */
export function writeText(data: Uint8Array, at: number, bytes: number, text: string): void {
  data.set(ascii(text.padEnd(bytes, ' ')), at);
}

/** Locally administered: no vendor has assigned it. 02, 'nv', four bytes of the digits, the namespace. */
function eui64(digits: string, id: number): Uint8Array {
  const bytes = new Uint8Array(DESCRIPTOR_EUI64_BYTES);
  bytes.set([0x02, 0x6e, 0x76]);
  for (let i = 0; i < 4; i++) bytes[3 + i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  bytes[7] = id;
  return bytes;
}

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
