/** What commands have in common: who calls, and whom they mean. */
import type { Context, Kind, Of } from './model.ts';
import type { Picker } from './picker.ts';
import type { GraphProcess } from './process.ts';
import type { Plan, World } from './world.ts';

/** Null when it has no sense now. The same numbers in the same state give the same plan. */
export type Command = (world: World, pick: Picker) => Plan | null;

export interface Caller {
  readonly context: Context;
  readonly process: GraphProcess;
}

/** An iommufd that is open, and a process. */
export function caller(world: World, pick: Picker): Caller | null {
  const process = pick.of(world.processes);
  const descriptor = pick.of(world.descriptorsOf('iommufd'));
  return descriptor && process ? { context: descriptor.what.context, process } : null;
}

/** One of the kind, seldom an ID of something else (then `thing` is null: ENOENT). Null when there is none at all. */
export function target<K extends Kind>(
  context: Context,
  pick: Picker,
  ...kinds: K[]
): { id: number; thing: Of<K> | null } | null {
  const things = context.all(...kinds);
  if (pick.oneIn(16)) {
    const id = pick.below(24);
    return { id, thing: things.find((thing) => thing.id === id) ?? null };
  }
  const thing = pick.of(things);
  return thing ? { id: thing.id, thing } : null;
}

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
