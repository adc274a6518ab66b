import { undoing } from '../drivers/failure-points.ts';

/** Applies `act` to every item in order. When one throws, `undo` takes back those before it, last first. */
export function allOrNothing<T>(items: Iterable<T>, act: (item: T) => void, undo: (item: T) => void): void {
  const done: T[] = [];
  try {
    for (const item of items) {
      act(item);
      done.push(item);
    }
  } catch (error) {
    undoing(() => {
      for (const item of done.reverse()) undo(item);
    });
    throw error;
  }
}
