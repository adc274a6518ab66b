/**
 * Malformed tables, commands and registers: an SMMU answers or refuses, and never throws. Steps and seed are chosen as
 * in mock.test.ts.
 */
import { expect, it } from 'vitest';
import { HostileSmmu } from './hostile-smmu.ts';

/** Half as many as there are calls of programs. */
const STEPS = Number(process.env.UIOMMUFD_FUZZ_CALLS ?? 40_000) / 2;
const FIRST_SEED = Number(process.env.UIOMMUFD_FUZZ_SEED ?? 1);
const STEPS_PER_SEED = 200;

it('an SMMU answers whatever it is given', { timeout: 3_600_000 }, () => {
  const seeds = Math.max(1, Math.ceil(STEPS / STEPS_PER_SEED));
  console.log(`smmuv3: seeds ${FIRST_SEED} to ${FIRST_SEED + seeds - 1}, ${STEPS_PER_SEED} steps each`);
  let [granted, refused] = [0, 0];
  for (let seed = FIRST_SEED; seed < FIRST_SEED + seeds; seed++) {
    const smmu = new HostileSmmu(seed);
    try {
      for (let step = 0; step < STEPS_PER_SEED; step++) smmu.step();
    } catch (error) {
      throw new Error(`seed ${seed}: ${smmu.current}`, { cause: error });
    }
    granted += smmu.granted;
    refused += smmu.refused;
  }
  // An SMMU that refuses everything would be tested no further than its stream table.
  if (seeds > 10) expect(Math.min(granted, refused)).toBeGreaterThan((seeds * STEPS_PER_SEED) / 50);
});
