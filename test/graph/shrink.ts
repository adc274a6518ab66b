/** Makes a sequence that fails short: fewer steps, then simpler choices, and fewer again. */
import type { StepText } from './world.ts';

const MOST_REPLAYS = 1000;

/** @param fails replays a candidate. The last one that failed is the shortest. */
export async function shrink(
  all: readonly StepText[],
  fails: (steps: readonly StepText[]) => Promise<boolean>,
): Promise<void> {
  let steps = all;
  let replays = 0;
  const attempt = async (candidate: readonly StepText[]): Promise<boolean> => {
    if (++replays > MOST_REPLAYS || !(await fails(candidate))) return false;
    steps = candidate;
    return true;
  };

  const remove = async (most: number): Promise<void> => {
    for (let size = most; size > 0; size >>= 1) {
      // From the end: what comes last is the least needed by others.
      for (let at = steps.length - size; at > -size; at -= size) {
        const from = Math.max(at, 0);
        await attempt([...steps.slice(0, from), ...steps.slice(at + size)]);
      }
    }
  };

  const simplify = async (at: number): Promise<void> => {
    const [name, numbers] = steps[at]!;
    for (const simpler of [[0], numbers.slice(0, 2), numbers.slice(0, 4), numbers.slice(0, 6)]) {
      if (await attempt([...steps.slice(0, at), [name, simpler], ...steps.slice(at + 1)])) return;
    }
  };

  await remove(steps.length >> 1);
  for (let at = 0; at < steps.length; at++) await simplify(at);
  await remove(2);
}
