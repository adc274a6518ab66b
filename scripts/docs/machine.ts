/** The generated parts of docs/machine.md: every key from the JSON schema, the presets, real answers to mistakes. */
import { machineSchema, parseMachine } from '../../src/host/machine-description.ts';
import type { JsonSchema } from '../../src/host/machine-error.ts';
import { DEFAULT_PRESET, PRESETS, preset } from '../../src/host/presets.ts';
import { code, table } from './markdown.ts';

/** A table for the document, and one for each object in it. */
export function machineKeys(): string {
  return objectTables('', machineSchema()).join('\n\n');
}

function objectTables(path: string, schema: JsonSchema): string[] {
  const { properties = {}, required = [] } = schema as JsonSchema & { required?: readonly string[] };
  const entries = Object.entries(properties);
  const rows = entries.map(([key, value]) => [
    code(key),
    values(value),
    required.includes(key) ? 'required' : standard(value),
    String(value.description ?? missing(`${path}${key}`)),
  ]);
  const heading = path === '' ? '### The document' : `### ${code(path.replace(/\.$/, ''))}`;
  const inner = entries.flatMap(([key, value]) => {
    if (value.properties) return objectTables(`${path}${key}.`, value);
    return value.items?.properties ? objectTables(`${path}${key}[].`, value.items) : [];
  });
  return [`${heading}\n\n${table(['key', 'values', 'default', 'meaning'], rows)}`, ...inner];
}

const missing = (key: string): never => {
  throw new Error(`the key ${key} of a machine description has no .describe()`);
};

/** Longer lists are shown by their ends: only the powers of two are that long. */
const LONGEST_LIST = 10;

function values({
  type,
  const: only,
  enum: choices,
  minimum,
  maximum,
  pattern,
  properties,
  items,
  anyOf,
}: JsonSchema): string {
  if (Array.isArray(anyOf)) return anyOf.map((choice: JsonSchema) => values(choice)).join(', ');
  if (only !== undefined) return code(JSON.stringify(only));
  if (Array.isArray(choices)) return listed(choices);
  if (properties) return 'an object';
  if (items) return items.properties ? 'a list of objects' : `a list of ${values(items)}`;
  if (type === 'null') return '`null`';
  if (type === 'boolean') return '`true`, `false`';
  if (type === 'string') return pattern ? `a string ${code(String(pattern))}` : 'a string';
  if (type === 'integer') {
    return Math.abs(Number(minimum)) < Number.MAX_SAFE_INTEGER ? `${minimum} to ${maximum}` : 'a whole number';
  }
  throw new Error(`the documentation has no words for values of the type ${type}`);
}

function listed(choices: readonly unknown[]): string {
  const all = choices.map((choice) => code(JSON.stringify(choice)));
  return all.length <= LONGEST_LIST ? all.join(', ') : `${all.slice(0, 3).join(', ')} ... ${all.at(-1)}`;
}

function standard({ default: value }: JsonSchema): string {
  if (value === undefined) return 'absent';
  return code(JSON.stringify(value));
}

export function machinePresets(): string {
  const rows = Object.entries(PRESETS).map(([name, { summary }]) => [
    name === DEFAULT_PRESET ? `${code(name)} (the default)` : code(name),
    summary,
  ]);
  return table(['preset', 'what it is'], rows);
}

type Change = (machine: { iommus: Record<string, unknown>[]; functions: Record<string, unknown>[] }) => void;

const MISTAKES: readonly Change[] = [
  (machine) => Object.assign(machine.iommus[1]!, { oas: 45 }),
  (machine) => Object.assign(machine.functions[0]!, { iommu: 'smmu9' }),
  (machine) => Object.assign(machine.functions[0]!, { speed: 3 }),
  (machine) => delete machine.functions[1]!.bdf,
  (machine) => Object.assign(machine.iommus[0]!, { ats: false }),
];

/** As the command line shows them. */
export function machineMistakes(): string {
  const lines = MISTAKES.map((change) => `uiommufd: my-machine.json: ${answerTo(change)}`);
  return ['```text', ...lines, '```'].join('\n');
}

function answerTo(change: Change): string {
  const machine = structuredClone(preset(DEFAULT_PRESET).machine) as unknown as Parameters<Change>[0];
  change(machine);
  try {
    parseMachine(machine);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('a mistake in a machine description was accepted');
}
