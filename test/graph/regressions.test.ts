/** Sequences that once went wrong, here or in an engine with a defect put in on purpose; as graph.test.ts prints them. */
import { describe, expect, it } from 'vitest';
import { replay, type StepText } from './sequences.ts';

interface Regression {
  readonly what: string;
  readonly machine: string;
  readonly abi: string;
  readonly steps: readonly StepText[];
}

const FOUND: readonly Regression[] = [
  {
    what: 'a page of a file is given back with its IOAS',
    machine: 'mock',
    abi: 'linux-7.1',
    steps: [
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
      ['ioasMapFile', [0]], // IOAS_MAP_FILE 0x1000 at 0x0 of a file in IOAS 1 at 0x1000000: ok
      ['mockDomain', [0]], // MOCK_DOMAIN_FLAGS 0 attached to 1 (ioas): ok
      ['ioasAlloc', [0]], // IOAS_ALLOC: ok
    ],
  },
];

describe('sequences that found a defect', () => {
  it.each(FOUND)('$what', async ({ machine, abi, steps }) => {
    await expect(replay(machine, abi, steps)).resolves.toBeUndefined();
  });
});
