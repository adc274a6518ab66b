/** The mistakes of VMMs that those in src/vmm can make. */
import { FAULTS } from '../../src/vmm/faults.ts';
import { SHADOW_FAULTS } from '../../src/vmm/shadow/faults.ts';
import { code, table } from './markdown.ts';

const number = (scenario: string): number => Number(/\d+/.exec(scenario)![0]);

export function vmmFaults(): string {
  const all = Object.entries({ ...FAULTS, ...SHADOW_FAULTS });
  const rows = all.map(([name, { scenario, does }]) => [scenario, `A VMM that ${does}`, code(name)]);
  return table(
    ['scenario', 'mistake', 'switch'],
    rows.sort(([a], [b]) => number(a!) - number(b!)),
  );
}
