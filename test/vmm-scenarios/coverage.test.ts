/** Every VMM scenario has a switch, or a reason why not; and every switch a test of the faulty behaviour. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { FAULTS } from '../../src/vmm/faults.ts';
import { UNREACHED } from './unreached.ts';

const numbers = (texts: readonly string[]): Set<string> => new Set(texts.flatMap((text) => text.match(/V\d+/g) ?? []));

it('each of V1 to V17 is a switch of the VMM, or is written down as out of reach', () => {
  const known = numbers([...Object.values(FAULTS).map(({ scenario }) => scenario), ...Object.keys(UNREACHED)]);
  const all = Array.from({ length: 17 }, (_, i) => `V${i + 1}`);
  expect(all.filter((scenario) => !known.has(scenario))).toEqual([]);
});

it('each switch is thrown by a test', () => {
  const tests = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.test.ts'));
  const text = tests.map((name) => readFileSync(`${import.meta.dirname}/${name}`, 'utf8')).join();
  expect(Object.keys(FAULTS).filter((name) => !text.includes(`${name}: true`))).toEqual([]);
});
