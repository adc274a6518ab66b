/**
 * Cases recorded on another SMMUv3 model. `strict` answers must be ours too, `either` answers among those accepted.
 * Where that model differs from the architecture (`deviation`), we side with what the architecture expects: there is no
 * table of exceptions, because there is no exception.
 */
import { describe, expect, it } from 'vitest';
import { type Case, type DmaStep, readCases } from './cases.ts';
import { comparable, RECORDED_SETTINGS, type RecordedMemory, Replay } from './replay.ts';

const { cases, IDR, ram } = readCases();

const FAMILIES = {
  A: 'stage 1 walks',
  B: 'stage 2 walks',
  C: 'nested walks',
  D: 'configuration',
  E: 'caching and invalidation',
} as const;

/** Outcomes that are right for this step; null when it does not count. */
function expected(step: DmaStep): string[] | null {
  if (step.cls === 'choice') return null;
  if (step.cls === 'either') return step.accept!.map(comparable);
  return [comparable(step.cls === 'deviation' ? step.arm! : step.out)];
}

/** One line per wrong answer of a case. */
function wrongAnswers(recorded: Case, memory: RecordedMemory): string[] {
  const replay = new Replay(recorded, ram, memory);
  const wrong: string[] = [];
  for (const [n, step] of recorded.steps.entries()) {
    if (step.op === 'mem') replay.store(step.set);
    if (step.op === 'cmd' && !replay.command(step.w)) wrong.push(`${recorded.id} step ${n}: command error`);
    if (step.op !== 'dma') continue;
    const got = comparable(replay.dma(step));
    const right = expected(step);
    if (right && !right.includes(got)) {
      wrong.push(`${recorded.id} step ${n} (${step.cls}) got ${got}, expected ${right.join(' or ')}`);
    }
  }
  return wrong;
}

describe('recorded SMMUv3 cases', () => {
  it('run on an SMMU with the recorded ID registers', () => {
    const replay = new Replay(cases[0]!, ram, 'backing');
    const names = ['IDR0', 'IDR1', 'IDR2', 'IDR3', 'IDR4', 'IDR5', 'IIDR', 'AIDR'] as const;
    const seen = Object.fromEntries(names.map((name) => [name, replay.identity(name).toString(16)]));
    expect(seen).toEqual(IDR);
    expect(RECORDED_SETTINGS.iotlbEntries).toBeGreaterThan(16);
  });

  it.each(Object.entries(FAMILIES))('family %s (%s) is answered as expected', (family) => {
    const members = cases.filter((recorded) => recorded.id.startsWith(family));
    expect(members.length).toBeGreaterThan(200);
    expect(members.flatMap((recorded) => wrongAnswers(recorded, 'backing'))).toEqual([]);
  });

  // Scattered over 15 TiB, all of them in RAM would take half a minute, most of it for clearing chunks of 2 MiB.
  it.each(Object.entries(FAMILIES))('family %s (%s) is answered alike in RAM, one case in ten', (family) => {
    const members = cases.filter((recorded, n) => recorded.id.startsWith(family) && n % 10 === 3);
    expect(members.length).toBeGreaterThan(20);
    expect(members.flatMap((recorded) => wrongAnswers(recorded, 'ram'))).toEqual([]);
  });

  it('are all there', () => {
    const steps = cases.flatMap((recorded) => recorded.steps).filter((step) => step.op === 'dma');
    const count = (cls: string): number => steps.filter((step) => step.cls === cls).length;
    expect(cases.length).toBe(1284);
    expect([count('strict'), count('either'), count('deviation'), count('choice')]).toEqual([1308, 230, 186, 11]);
  });
});
