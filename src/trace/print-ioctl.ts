/** An ioctl as strace shows it, with its fields in words, and the reason when it was refused. */

import type { CommandLayout, Dialect } from '../abi/dialects.ts';
import { ERRNO } from '../abi/errno.ts';
import { GROUP_COMMANDS, TYPE1_COMMANDS } from '../abi/vfio-commands.ts';
import type { FileEvent, IoctlEvent } from './events.ts';
import { showStruct } from './print-struct.ts';

/** Name and struct of an ioctl in the dialect that is spoken; undefined when it has none such. */
export type CommandLookup = (command: number, structName: string) => CommandLayout | undefined;

/** One look-up for all files: where two kinds of files use a number differently, the struct tells which it is. */
export const commandsOf = ({ commands, vfioCommands }: Dialect): CommandLookup => {
  const all = [commands, vfioCommands, GROUP_COMMANDS, TYPE1_COMMANDS].flatMap((table) => [...table.values()]);
  return (number, structName) => {
    const found = all.filter(({ command }) => command === number);
    return found.find(({ struct }) => struct?.structName === structName) ?? found[0];
  };
};

const ERRNO_NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, value]) => [value, name]));

export function showIoctl(event: IoctlEvent, lookup: CommandLookup): string {
  const { command, struct, before, after, result, reason } = event;
  const known = lookup(command, struct);
  if (!known) return `ioctl 0x${(command >>> 0).toString(16)} ${showResult(result, reason)}`;
  if (!known.struct) return `${known.name} ${showResult(result, reason)}`;
  const fields = before.length ? showStruct(known.struct, before, after, result < 0) : '{unreadable}';
  return `${known.name} ${fields} ${showResult(result, reason)}`;
}

/** `pread 4 at 0x88 = 4` */
export function showFileCall({ call, offset, length, result, reason }: FileEvent): string {
  if (call === 'open' || call === 'close') return `${call} ${showResult(result, reason)}`;
  const at = call !== 'read' && call !== 'write' ? ` at 0x${offset.toString(16)}` : '';
  return `${call} ${length}${at} ${showResult(result, reason)}`;
}

/** @param result what the call returns, or an errno below zero */
function showResult(result: number, reason: string): string {
  if (result >= 0) return `= ${result}`;
  return `= -1 ${ERRNO_NAMES.get(-result) ?? -result}${reason ? ` (${reason})` : ''}`;
}
