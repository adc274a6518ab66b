/** `uiommufd machines`: the presets, one machine in full, or the schema of all. */
import { machineSchema } from '../host/machine-description.ts';
import { MOCK_MACHINE } from '../host/mock-machine.ts';
import { PRESETS } from '../host/presets.ts';
import { loadMachine } from './session.ts';

export function machinesCommand(machine: string | undefined, { schema }: { readonly schema?: boolean }): void {
  if (schema) printJson(machineSchema());
  else if (machine !== undefined) printJson(loadMachine(machine));
  else for (const { name, summary } of all()) print(`${name.padEnd(22)}${summary}`);
}

const all = (): readonly { name: string; summary: string }[] => [
  ...Object.entries(PRESETS).map(([name, { summary }]) => ({ name, summary })),
  MOCK_MACHINE,
];

const printJson = (value: unknown): void => print(JSON.stringify(value, null, 2));

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
