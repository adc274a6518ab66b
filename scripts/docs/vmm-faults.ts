/** The mistakes of VMMs that the one in src/vmm can make. */
import { FAULTS } from '../../src/vmm/faults.ts';
import { UNREACHED } from '../../test/vmm-scenarios/unreached.ts';
import { code, table } from './markdown.ts';

const number = (scenario: string): number => Number(/\d+/.exec(scenario)![0]);

export function vmmFaults(): string {
  const rows = Object.entries(FAULTS).map(([name, { scenario, does }]) => [scenario, `A VMM that ${does}`, code(name)]);
  return table(
    ['scenario', 'mistake', 'switch'],
    rows.sort(([a], [b]) => number(a!) - number(b!)),
  );
}

export function vmmUnreached(): string {
  return table(['scenario', 'why it is not there'], Object.entries(UNREACHED));
}
