/** docs/ is up to date: what is generated, and what is quoted from runs. */
import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { documents, sectionNames } from '../../scripts/docs.ts';
import { parseMachine } from '../../src/host/machine-description.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const text = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

/** Contents of the fenced blocks that begin with exactly this. */
const blocks = (document: string, info: string): string[] =>
  [...document.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)].flatMap(([, head, body]) => (head === info ? [body!] : []));

describe('generated parts of docs', () => {
  it.each(documents().map((document) => [document.name, document] as const))('%s is up to date', (name, document) => {
    const verdict = document.present === document.wanted ? 'up to date' : 'out of date: run npm run docs';
    expect(`docs/${name} is ${verdict}`).toBe(`docs/${name} is up to date`);
  });

  it('are all shown, each once', () => {
    const shown = documents().flatMap(({ sections }) => sections);
    expect(shown.sort()).toEqual(sectionNames().sort());
  });
});

describe('links in docs', () => {
  it('lead to files that exist', () => {
    for (const { name, present } of documents()) {
      for (const [, target] of present.matchAll(/\]\(([^)#:]+)\)/g)) {
        expect(() => readFileSync(new URL(target!, new URL(`../../docs/${name}`, import.meta.url)))).not.toThrow();
      }
    }
  });
});

describe('the example in docs/machine.md', () => {
  it('is a machine', () => {
    const examples = blocks(text('machine.md'), 'json');
    expect(examples).toHaveLength(1);
    expect(parseMachine(JSON.parse(examples[0]!)).functions).toHaveLength(3);
  });
});

/** Physical addresses differ from run to run, with the program's own. */
const comparable = (lines: string): string => lines.replace(/PA 0x[0-9a-f]+/g, 'PA #');

async function demo(...options: string[]): Promise<string> {
  const args = ['--import', 'tsx', 'src/cli/main.ts', 'demo', ...options, 'linux-7.1'];
  // A verdict with a NO in it ends with status 1.
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT }).catch((ended) => ended);
  return comparable(stdout);
}

const noCompiler = spawnSync('cc', ['--version']).status !== 0;

describe.skipIf(noCompiler)('traces quoted in docs/vmm-checks.md (need a C compiler, cc)', () => {
  it.each([
    ['trace', []],
    ['trace per-domain', ['--vmid-policy', 'per-domain']],
  ])('are lines of a run (%s)', { timeout: 120_000 }, async (info, options) => {
    const quoted = blocks(text('vmm-checks.md'), info).map(comparable);
    expect(quoted.length).toBeGreaterThan(0);
    const run = await demo(...options);
    const missing = quoted.filter((block) => !run.includes(block));
    expect(missing, 'the demo does not print these lines: docs/vmm-checks.md is out of date').toEqual([]);
  });
});
