/**
 * docs/objects: the program of every page is taken out of it, compiled as its reader would, and run under uiommufd on the
 * machine that the page names. It must print what the page says.
 */
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { preset } from '../../src/host/presets.ts';
import { Server } from '../../src/server/server.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = path.join(ROOT, 'docs/objects');

interface Page {
  readonly name: string;
  readonly machine: string;
  readonly program: string;
  readonly prints: string;
}

const text = (name: string): string => fs.readFileSync(path.join(FOLDER, `${name}.md`), 'utf8');
const names = fs
  .readdirSync(FOLDER)
  .map((file) => path.parse(file).name)
  .filter((name) => name !== 'README');

function pageOf(name: string): Page {
  const blocks = [...text(name).matchAll(/^```(\S*)(?: (\S+))?\n([\s\S]*?)^```$/gm)];
  const programs = blocks.filter(([, language]) => language === 'c');
  const outputs = blocks.filter(([, language]) => language === 'prints');
  expect([name, programs.length, outputs.length]).toEqual([name, 1, 1]);
  const [, , machine = '', program = ''] = programs[0]!;
  return { name, machine, program, prints: outputs[0]![3]! };
}

const pages = names.map(pageOf);

describe('docs/objects', () => {
  it('has its pages in the index, each once, and the index is in README', () => {
    const listed = [...text('README').matchAll(/^\| \[[^\]]+\]\(([^)]+)\.md\) \|/gm)].map(([, page]) => page!);
    expect(listed.toSorted()).toEqual(names.toSorted());
    expect(fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8')).toContain('(docs/objects/README.md)');
  });

  it('has a program of at most 50 lines on each page', () => {
    const long = pages.filter(({ program }) => program.split('\n').length > 50).map(({ name }) => name);
    expect(long).toEqual([]);
  });
});

const compiler = process.env.CC ?? 'cc';
const noCompiler = spawnSync(compiler, ['--version']).status !== 0;

describe.skipIf(noCompiler || process.platform !== 'linux')('programs of docs/objects (need Linux and cc)', () => {
  const folder = fs.mkdtempSync(path.join(tmpdir(), 'uiommufd-objects-'));
  const errors: unknown[] = [];
  const machines = new Map(
    [...new Set(pages.map(({ machine }) => machine))].map((name) => {
      const machine = name === 'mock' ? new MockMachine() : new Machine(parseMachine(preset(name).machine));
      const server = new Server({ machine, directory: folder, onInternalError: (error) => errors.push(error) });
      return [name, { machine, server }] as const;
    }),
  );

  /** Compiles it as the index says, with warnings as errors. */
  function build({ name, program }: Page): string {
    const output = path.join(folder, name);
    const include = ['-Iexamples', '-Iexamples/uapi'];
    const args = ['-O1', '-Wall', '-Wextra', '-Werror', '-Wno-unused-function', ...include, '-o', output, '-xc', '-'];
    const { status, stderr } = spawnSync(compiler, args, { cwd: ROOT, input: program, encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    return output;
  }

  async function run(program: string, server: Server): Promise<string> {
    const child = spawn(program, { env: { ...process.env, ...server.environment() } });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    const status = await new Promise((resolve) => child.on('close', resolve));
    return status === 0 ? output : `${output}(exit status ${status})\n`;
  }

  beforeAll(async () => {
    for (const { server } of machines.values()) await server.start();
  });
  afterAll(async () => {
    for (const { server } of machines.values()) await server.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it.each(pages.map((page) => [page.name, page] as const))('%s prints what its page says', async (_name, page) => {
    const { machine, server } = machines.get(page.machine)!;
    expect(await run(build(page), server)).toBe(page.prints);
    await vi.waitFor(() => expect(new Set(Object.values(machine.leftovers()))).toEqual(new Set([0])), 5000);
    expect(errors).toEqual([]);
  });
});
