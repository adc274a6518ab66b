/** Runs the kernel's selftests of iommufd and of VFIO, built by somebody, on the machines that they are for. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type Dialect, dialect } from '../../src/abi/dialects.ts';
import { Machine } from '../../src/host/machine.ts';
import { parseMachine } from '../../src/host/machine-description.ts';
import { MockMachine } from '../../src/host/mock-machine.ts';
import { DEFAULT_PRESET, preset } from '../../src/host/presets.ts';
import type { ServedMachine } from '../../src/server/served-machine.ts';
import { Server } from '../../src/server/server.ts';
import { type Comparison, compare, type Expectation } from './compare.ts';
import { tapResults } from './tap.ts';

interface Expected {
  readonly release: string;
  readonly programs: Readonly<Record<string, Readonly<Record<string, Expectation>>>>;
}

const EXPECTED = path.join(import.meta.dirname, '../../test/conformance');

interface Suite {
  /** Where its source is, in tools/testing/selftests. */
  readonly folder: string;
  /** Before the release, in the name of the file with what is expected. */
  readonly prefix: string;
  readonly arguments: readonly string[];
  machine(spoken: Dialect): ServedMachine;
}

export const IOMMU: Suite = {
  folder: 'iommu',
  prefix: '',
  arguments: [],
  machine: (spoken) => new MockMachine({ dialect: spoken }),
};

export const VFIO: Suite = {
  folder: 'vfio',
  prefix: 'vfio-',
  arguments: ['0000:01:00.0'],
  machine: (spoken) => new Machine(parseMachine(preset(DEFAULT_PRESET).machine), { dialect: spoken }),
};

export function expectedResults(release: string, { prefix }: Suite = IOMMU): Expected {
  return JSON.parse(readFileSync(path.join(EXPECTED, `expected-${prefix}${release}.json`), 'utf8')) as Expected;
}

/** What the host lacks for every test to run, in a sentence; null when nothing. */
export function hostLacks(): string | null {
  const file = '/proc/sys/vm/nr_hugepages';
  const pages = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  if (pages > 0) return null;
  return `no huge pages are configured (${file} is 0): 24 tests will fail at their own mmap, before they ask anything of us`;
}

/** @param folder holds the programs of a suite, or of both. Throws when one of a suite is missing. */
export async function runConformance(folder: string, release: string): Promise<Comparison[]> {
  const comparisons: Comparison[] = [];
  const present = [IOMMU, VFIO].filter((suite) => missing(suite, folder, release) !== 'all');
  for (const suite of present.length ? present : [IOMMU]) {
    const lacking = missing(suite, folder, release);
    if (lacking) {
      throw new Error(`${folder} lacks ${lacking}: build tools/testing/selftests/${suite.folder} of ${release}`);
    }
    for (const [program, expected] of Object.entries(expectedResults(release, suite).programs)) {
      comparisons.push(
        compare(program, expected, tapResults(await outputOf(suite, path.resolve(folder, program), release))),
      );
    }
  }
  return comparisons;
}

/** Programs of the suite that are not in `folder`, 'all' of them, or '' for none. */
function missing(suite: Suite, folder: string, release: string): string {
  const programs = Object.keys(expectedResults(release, suite).programs);
  const absent = programs.filter((program) => !existsSync(path.resolve(folder, program)));
  return absent.length === programs.length ? 'all' : absent.join(', ');
}

async function outputOf(suite: Suite, file: string, release: string): Promise<string> {
  const server = new Server({ machine: suite.machine(dialect(release)) });
  await server.start();
  try {
    const child = spawn(file, suite.arguments, {
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
