/**
 * A change of the uAPI as a test: a question to the engine, the answer of every release before, and of every one since.
 * The question is put to all of them, so a change that came too early or too late shows.
 */
import { expect, it } from 'vitest';
import { DIALECTS } from '../../src/abi/dialects.ts';

/** Releases, oldest first. */
export const RELEASES = DIALECTS.map(({ name }) => name).filter((name) => name.startsWith('linux-'));

/** An errno's name, '' when the call succeeds, or what else shows the difference. */
export type Answer = string | number;

export interface Change {
  readonly before: Answer;
  readonly since: Answer;
  /** The first release that can be asked: before it there is nothing to ask. */
  readonly from?: string;
  /** The last one, when a later release changed it again. */
  readonly until?: string;
}

/** @param release the one that changed it */
export function changed(
  release: string,
  sentence: string,
  { before, since, from = RELEASES[0]!, until = RELEASES.at(-1)! }: Change,
  ask: (release: string) => Answer | Promise<Answer>,
): void {
  const shown = (answer: Answer): string => (answer === '' ? 'success' : String(answer));
  it(`${release}: ${sentence} (${shown(before)} before, ${shown(since)} since)`, async () => {
    const asked = RELEASES.slice(place(from), place(until) + 1);
    expect(asked).toContain(release);
    expect(place(from), 'a release before the change is asked, too').toBeLessThan(place(release));
    const answers: [string, Answer][] = [];
    for (const each of asked) answers.push([each, await ask(each)]);
    expect(answers).toEqual(asked.map((each) => [each, place(each) < place(release) ? before : since]));
  });
}

function place(release: string): number {
  const at = RELEASES.indexOf(release);
  if (at < 0) throw new Error(`${release} is no release: ${RELEASES.join(', ')}`);
  return at;
}
