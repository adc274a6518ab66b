/**
 * Writes the generated parts of docs/: what stands between `<!-- generated: NAME -->` and `<!-- end -->`. The rest of
 * those files is written by hand. `npm run docs`; test/docs fails when a document is out of date.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CALLS, callsOf } from './docs/calls.ts';
import { deviations, registers, unsupportedFeatures } from './docs/fidelity.ts';
import { machineKeys, machineMistakes, machinePresets } from './docs/machine.ts';
import { vmmFaults } from './docs/vmm-faults.ts';

const FOLDER = new URL('../docs/', import.meta.url);

const SECTIONS: Readonly<Record<string, () => string>> = {
  'machine-keys': machineKeys,
  'machine-mistakes': machineMistakes,
  'machine-presets': machinePresets,
  'smmuv3-unsupported': unsupportedFeatures,
  'smmuv3-deviations': deviations,
  'smmuv3-registers': registers,
  'vmm-faults': vmmFaults,
  ...Object.fromEntries(Object.keys(CALLS).map((page) => [`calls-${page}`, () => callsOf(page)])),
};

const SECTION = /^<!-- generated: (\S+) -->$[\s\S]*?^<!-- end -->$/gm;

export interface Document {
  readonly name: string;
  readonly present: string;
  /** With every generated part made anew. */
  readonly wanted: string;
  readonly sections: readonly string[];
}

/** Every document in and under docs/. Throws when a marker names a part that nobody generates. */
export function documents(): Document[] {
  const names = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'));
  return names.sort().map((name) => {
    const present = readFileSync(new URL(name, FOLDER), 'utf8');
    const sections = [...present.matchAll(SECTION)].map(([, section]) => section!);
    return { name, present, wanted: present.replace(SECTION, (_, section) => made(name, section)), sections };
  });
}

export const sectionNames = (): string[] => Object.keys(SECTIONS);

function made(document: string, name: string): string {
  const generate = SECTIONS[name];
  if (!generate) throw new Error(`docs/${document}: nobody generates "${name}", only ${sectionNames().join(', ')}`);
  return `<!-- generated: ${name} -->\n\n${generate()}\n\n<!-- end -->`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { name, present, wanted } of documents()) {
    if (wanted !== present) writeFileSync(new URL(name, FOLDER), wanted);
    process.stdout.write(`docs/${name}: ${wanted === present ? 'up to date' : 'written'}\n`);
  }
}
