/** A mistake in a machine description as one sentence: key, what was found, what was expected. */
import type { z } from 'zod';

export class MachineError extends Error {
  constructor(sentence: string) {
    super(sentence);
    this.name = 'MachineError';
  }
}

/** As much of JSON schema as is used here. */
export interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>> | undefined;
  readonly items?: JsonSchema | undefined;
  readonly [key: string]: unknown;
}

type Path = readonly PropertyKey[];

export function firstMistake(error: z.ZodError, input: unknown, schema: JsonSchema): MachineError {
  const issue = error.issues[0]!;
  if (issue.code === 'unrecognized_keys') {
    const key = keyText([...issue.path, issue.keys[0]!]);
    return new MachineError(`${key}: unknown key, expected one of ${knownKeys(schema, issue.path).join(', ')}`);
  }
  const key = keyText(issue.path);
  const found = valueAt(input, issue.path);
  if (found === undefined) return new MachineError(`${key}: nothing found, expected ${expected(issue)}`);
  return new MachineError(`${key}: ${text(found)} found, expected ${expected(issue)}`);
}

function expected(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_value':
      return issue.values.length === 1 ? text(issue.values[0]) : `one of ${issue.values.map(text).join(', ')}`;
    case 'invalid_type':
      return article(issue.expected === 'int' ? 'whole number' : issue.expected);
    case 'too_small':
      return issue.origin === 'array' ? `at least ${issue.minimum} of them` : `at least ${issue.minimum}`;
    case 'too_big':
      return `at most ${issue.maximum}`;
    default:
      return issue.message;
  }
}

const article = (noun: string): string => `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`;

/** 'iommus[1].oas'; the document itself is 'machine'. */
function keyText(path: Path): string {
  const joined = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  return joined.replace(/^\./, '') || 'machine';
}

function valueAt(input: unknown, path: Path): unknown {
  return path.reduce((value, step) => (value as Record<PropertyKey, unknown> | undefined)?.[step], input);
}

function knownKeys(schema: JsonSchema, path: Path): string[] {
  const at = path.reduce<JsonSchema>(
    (within, step) => (typeof step === 'number' ? within.items! : within.properties![String(step)]!),
    schema,
  );
  return Object.keys(at.properties!);
}

/** Long values are cut: the sentence stays one line. */
function text(value: unknown): string {
  const json = JSON.stringify(value) ?? String(value);
  return json.length > 60 ? `${json.slice(0, 57)}...` : json;
}
