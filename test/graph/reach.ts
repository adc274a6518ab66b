/** What DMA reaches by the rules of the model: which memory, whether that is allowed, and who is asked when it is not. */
import { readRegisters } from '../../src/hardware/register-access.ts';
import type { Outcome } from './channel.ts';
import { type Walked, walk } from './guest-image.ts';
import { byteOf } from './mapping-rules.ts';
import { type Attachment, type Device, type Hwpt, type Memory, type Nested, PAGE, type Paging } from './model.ts';

interface Place {
  readonly memory: Memory;
  readonly byte: bigint;
  readonly prot: number;
}

export interface Reach {
  /** 'unknown' where more than one is right. */
  readonly outcome: Outcome | 'unknown';
  /** When it is 'done'. */
  readonly place: Place | null;
}

const WANTS = { read: 1, write: 2 };

/** What the device, or another of its group, is attached to with a PASID, or (null) without one. A PASID of 0 is never used beside none. */
export function attachedTo(device: Device, substream: number | null): Hwpt | null {
  return attachmentOf(device, substream)?.hwpt ?? null;
}

/** PASIDs that are not attached themselves are the guest's, if its STE has them. */
export function attachmentOf({ group, pasidBits }: Device, substream: number | null): Attachment | null {
  const alone = group.attachments.get(0) ?? null;
  if (substream === null) return alone;
  if (substream === 0 || substream >= 2 ** pasidBits) return null;
  const isGuests = alone?.hwpt.kind === 'hwpt-nested' && substream < alone.hwpt.ssids;
  return group.attachments.get(substream) ?? (isGuests ? alone : null);
}

/** The place of its IOAS's memory that a paging HWPT translates `iova` to. */
export function placeOf({ ioas }: Paging, iova: bigint): Place | null {
  const area = ioas.areas.find(({ start, last }) => iova >= start && iova <= last);
  if (!area || area.memory.revoked) return null;
  return { memory: area.memory, byte: byteOf(area, iova), prot: area.prot };
}

/** Eight bytes, or null when their process is gone. */
export function bytesAt({ memory, byte }: Place): Uint8Array | null {
  const bytes = new Uint8Array(8);
  if (memory.bar) readRegisters(memory.bar.fn, memory.bar.start + Number(byte), bytes);
  return memory.bar || memory.object.read(memory.base + Number(byte), bytes) ? bytes : null;
}

type Found = Place | Exclude<Walked, object>;

function throughGuest({ parent }: Nested, ssid: number, iova: bigint, wanted: number): Found {
  const walked = walk(
    (ipa) => {
      const place = placeOf(parent, ipa);
      if (!place || !(place.prot & 1)) return 'missing';
      const bytes = bytesAt(place);
      return bytes ? new BigUint64Array(bytes.buffer)[0]! : 'unknown';
    },
    ssid,
    iova,
  );
  if (typeof walked === 'string') return walked;
  return walked.prot & wanted ? (placeOf(parent, walked.ipa) ?? 'missing') : 'invalid';
}

/** Does somebody have the chance to bring what is missing? */
function asks(device: Device, hwpt: Hwpt, found: Found): boolean {
  if (!hwpt.fault) return false;
  const guests = hwpt.kind === 'hwpt-nested' && hwpt.config === 'stage1';
  // The context descriptor of the guest does not let its own faults stall; a guest without ATS has no page requests.
  if (device.asksBy === 'stalls') return found !== 'invalid';
  return device.asksBy === 'requests' && (!guests || hwpt.ats);
}

/** A read or write of a few bytes. */
export function reach(device: Device, substream: number | null, iova: bigint, access: 'read' | 'write'): Reach {
  const refused: Reach = { outcome: 'refused', place: null };
  const unknown: Reach = { outcome: 'unknown', place: null };
  const hwpt = attachedTo(device, substream);
  const { masters, powered } = device.state;
  if (!hwpt || !masters || !powered) return refused;
  const nested = hwpt.kind === 'hwpt-nested' ? hwpt : null;
  if (nested?.config === 'abort') return refused;
  const paging = hwpt.kind === 'hwpt-paging' ? hwpt : hwpt.parent;
  const wanted = WANTS[access];
  const found: Found =
    nested?.config === 'stage1'
      ? throughGuest(nested, substream ?? 0, iova, wanted)
      : (placeOf(paging, iova) ?? 'missing');
  if (found === 'unknown') return unknown;
  if (found === 'invalid context') return refused;
  if (typeof found === 'object' && found.prot & wanted) return { outcome: 'done', place: found };
  // Stage 1 tables have no write-only pages.
  if (typeof found === 'object' && access === 'read' && !paging.nestParent) return unknown;
  if (!asks(device, hwpt, found)) return refused;
  return found === 'no context' ? unknown : { outcome: 'waiting', place: null };
}

/** The page is written. */
export function dirty(hwpt: Paging, page: bigint): void {
  hwpt.dirtied.add(page);
  hwpt.unsure.delete(page);
}

/** The model after a write of a device. */
export function wrote(device: Device, substream: number | null, iova: bigint): void {
  const hwpt = attachedTo(device, substream);
  if (hwpt?.kind === 'hwpt-paging' && hwpt.dirty) dirty(hwpt, iova - (iova % PAGE));
}
