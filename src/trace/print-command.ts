/** A command that an IOMMU took from its queue: `CMD_TLBI_NH_VA VMID=2 ASID=7 VA=0x10000 Leaf`. */

import * as SPEC from '../hardware/smmuv3/spec/commands.ts';
import type { CommandEvent } from './events.ts';
import { showFields, showWords } from './print-fields.ts';

/** Commands by address call it what it is to them. */
const ADDRESS_NAMES: Readonly<Record<number, string>> = {
  [SPEC.CMD_TLBI_NH_VA]: 'VA',
  [SPEC.CMD_TLBI_NH_VAA]: 'VA',
  [SPEC.CMD_TLBI_EL2_VA]: 'VA',
  [SPEC.CMD_TLBI_EL2_VAA]: 'VA',
  [SPEC.CMD_TLBI_S2_IPA]: 'IPA',
};

export function showCommand(event: CommandEvent): string {
  return (event.queue ? `${event.queue}: ` : '') + showWithFields(event);
}

function showWithFields(event: CommandEvent): string {
  const { words, error } = event;
  const refused = error ? `  refused: ${error}` : '';
  if (event.architecture !== 'smmuv3') return `command ${showWords(words)}${refused}`;
  const opcode = (words[0] ?? 0) & 0xff;
  const layout = SPEC.COMMAND_LAYOUTS[opcode];
  if (!layout) return `command 0x${opcode.toString(16).padStart(2, '0')} ${showWords(words)}${refused}`;
  const name = opcode === SPEC.CMD_CFGI_STE_RANGE && ((words[2] ?? 0) & 0x1f) === 31 ? 'CMD_CFGI_ALL' : layout.name;
  if (name === 'CMD_CFGI_ALL') return name + refused;
  return (
    `${name} ${showFields(words, layout.fields, { Address: ADDRESS_NAMES[opcode] ?? 'Address' })}`.trimEnd() + refused
  );
}

/** CMD_SYNC is in every batch and says nothing by itself. */
export const isPlainSync = (event: CommandEvent): boolean =>
  event.architecture === 'smmuv3' && event.error === '' && ((event.words[0] ?? 0) & 0xff) === SPEC.CMD_SYNC;
