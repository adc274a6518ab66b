/** An event record: `F_TRANSLATION StreamID=0x100 read CLASS=IN InputAddr=0x50000`. */

import { EVENT, EVENT_LAYOUTS, EVENT_WORDS } from '../hardware/smmuv3/spec/events.ts';
import type { FaultEvent, VeventEvent } from './events.ts';
import { showFields, showWords } from './print-fields.ts';

export function showFault(event: FaultEvent): string {
  const record = event.architecture === 'smmuv3' ? showRecord(event.words) : showWords(event.words);
  return event.lost ? `${record}  lost: the event queue is full` : record;
}

export function showVevent(event: VeventEvent): string {
  const record = event.words.length === EVENT_WORDS ? showRecord(event.words) : showWords(event.words);
  return event.lost ? `#${event.sequence} lost: the queue is full` : `#${event.sequence} ${record}`;
}

/** An SMMUv3 event record, with the StreamID that is in it: the physical one, or the guest's on its way to a VM. */
function showRecord(words: readonly number[]): string {
  const type = (words[0] ?? 0) & 0xff;
  const layout = EVENT_LAYOUTS[type];
  if (!layout) return `event 0x${type.toString(16).padStart(2, '0')} ${showWords(words)}`;
  return `${layout.name} ${showFields(words, { StreamID: EVENT.StreamID, ...layout.fields })}`;
}
