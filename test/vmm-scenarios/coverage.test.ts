/** Every part of every VMM scenario has a mistake that shows it, and every mistake a test in which it is made. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { FAULTS } from '../../src/vmm/faults.ts';
import { SHADOW_FAULTS } from '../../src/vmm/shadow/faults.ts';
import { SCENARIOS } from './scenarios.ts';

const numbers = (text: string): string[] => text.match(/V\d+/g) ?? [];
const entries = Object.entries(SCENARIOS);

it('each of V1 to V17 is there, and each part of it has a mistake', () => {
  const all = Array.from({ length: 17 }, (_, i) => `V${i + 1}`);
  expect([...new Set(entries.flatMap(([part]) => numbers(part)))]).toEqual(all);
  expect(entries.filter(([, mistakes]) => mistakes.length === 0)).toEqual([]);
});

it('each mistake says of which scenarios it is', () => {
  const partsOf = (name: string) => entries.filter(([, mistakes]) => mistakes.some((mistake) => mistake === name));
  const found = (name: string) => [...new Set(partsOf(name).flatMap(([part]) => numbers(part)))];
  for (const [name, { scenario }] of Object.entries({ ...FAULTS, ...SHADOW_FAULTS })) {
    expect([name, found(name)]).toEqual([name, numbers(scenario)]);
  }
});

it('each mistake is made in a test', () => {
  const tests = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.test.ts'));
  const text = tests.map((name) => readFileSync(`${import.meta.dirname}/${name}`, 'utf8')).join();
  const mistakes = new Set(entries.flatMap(([, some]) => some));
  expect([...mistakes].filter((name) => !text.includes(`${name}: true`))).toEqual([]);
});
