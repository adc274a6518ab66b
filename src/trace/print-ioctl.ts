/** An ioctl as strace shows it, with its fields in words, and the reason when it was refused. */

import type { Dialect } from '../abi/dialects.ts';
import { ERRNO } from '../abi/errno.ts';
import type { AnyStruct } from '../abi/struct.ts';
import type { FileEvent, IoctlEvent } from './events.ts';
import { showStruct } from './print-struct.ts';

/** Name and struct of an ioctl in the dialect that is spoken; undefined when it has none such. */
export type CommandLookup = (
  command: number,
) => { readonly name: string; readonly struct: AnyStruct | null } | undefined;

/** The numbers of iommufd and of VFIO do not overlap, so one look-up serves the files of both. */
export const commandsOf =
  ({ commands, vfioCommands }: Dialect): CommandLookup =>
  (command) => {
    const nr = command & 0xff;
    const found = commands.get(nr) ?? vfioCommands.get(nr);
    return found?.command === command ? found : undefined;
  };

const ERRNO_NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, value]) => [value, name]));

export function showIoctl(event: IoctlEvent, lookup: CommandLookup): string {
  const { command, before, after, result, reason } = event;
  const known = lookup(command);
  if (!known) return `ioctl 0x${(command >>> 0).toString(16)} ${showResult(result, reason)}`;
  if (!known.struct) return `${known.name} ${showResult(result, reason)}`;
  const fields = before.length ? showStruct(known.struct, before, after, result < 0) : '{unreadable}';
  return `${known.name} ${fields} ${showResult(result, reason)}`;
}

/** `pread 4 at 0x88 = 4` */
export function showFileCall({ call, offset, length, result, reason }: FileEvent): string {
  if (call === 'open' || call === 'close') return `${call} ${showResult(result, reason)}`;
  const at = call === 'pread' || call === 'pwrite' || call === 'mmap' ? ` at 0x${offset.toString(16)}` : '';
  return `${call} ${length}${at} ${showResult(result, reason)}`;
}

/** @param result what the call returns, or an errno below zero */
function showResult(result: number, reason: string): string {
  if (result >= 0) return `= ${result}`;
  return `= -1 ${ERRNO_NAMES.get(-result) ?? -result}${reason ? ` (${reason})` : ''}`;
}
