import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Harness } from './harness.ts';

const harness = new Harness();
let program: string;

beforeAll(async () => {
  await harness.server.start();
  program = harness.compile('paths');
});
afterAll(() => harness.stop());
afterEach(async () => {
  await harness.nothingIsLeft();
  expect(harness.errors).toEqual([]);
});

describe('our files are found', () => {
  it.each([
    ['by absolute paths, and named so, as if our folder were the root', 'absolute'],
    ['from real folders, and real ones from ours', 'relative'],
    ['by patterns', 'patterns'],
    ['by streams, as far as their descriptors go', 'streams'],
    ['by links to open descriptors, which open a node anew', 'by-descriptor'],
    ['by the numbers of the calls', 'numbers'],
    ['on sysfs, if they are in /sys', 'file-systems'],
  ])('%s', (_, scenario) => harness.passes(program, scenario));
});
