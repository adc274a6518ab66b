/** Runs the kernel's iommufd selftests, built by somebody, on the mock machine. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { dialect } from '../../src/abi/dialects.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { Server } from '../../src/server/server.ts';
import { type Comparison, compare } from './compare.ts';
import { type Result, tapResults } from './tap.ts';

interface Expected {
  readonly release: string;
  readonly programs: Readonly<Record<string, Readonly<Record<string, Result>>>>;
}

const EXPECTED = path.join(import.meta.dirname, '../../test/conformance');

export function expectedResults(release: string): Expected {
  return JSON.parse(readFileSync(path.join(EXPECTED, `expected-${release}.json`), 'utf8')) as Expected;
}

/** What the host lacks for every test to run, in a sentence; null when nothing. */
export function hostLacks(): string | null {
  const file = '/proc/sys/vm/nr_hugepages';
  const pages = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  if (pages > 0) return null;
  return `no huge pages are configured (${file} is 0): 24 tests will fail at their own mmap, before they ask anything of us`;
}

/** @param folder holds the programs. Throws when one is missing. */
export async function runConformance(folder: string, release: string): Promise<Comparison[]> {
  const comparisons: Comparison[] = [];
  for (const [program, expected] of Object.entries(expectedResults(release).programs)) {
    const file = path.resolve(folder, program);
    if (!existsSync(file)) throw new Error(`${file} does not exist: build tools/testing/selftests/iommu of ${release}`);
    comparisons.push(compare(program, expected, tapResults(await outputOf(file, release))));
  }
  return comparisons;
}

async function outputOf(file: string, release: string): Promise<string> {
  const server = new Server({ machine: new MockMachine({ dialect: dialect(release) }) });
  await server.start();
  try {
    const child = spawn(file, {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, ...server.environment() },
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    await once(child, 'close');
    return output;
  } finally {
    await server.stop();
  }
}
