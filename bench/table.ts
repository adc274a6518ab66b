/**
 * `npm run bench`: runs every benchmark once and prints the table of DESIGN, "What fast means": each row a ratio or a
 * time against its target, all from this one run. The figures are kept in build/bench.json.
 *
 * `npm run bench -- smmuv3` runs only the files whose path has that in it, and prints their figures.
 *
 * Times are the fastest sample of each benchmark: on a shared machine that is the one least disturbed.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Result } from './harness.ts';

interface Row {
  readonly work: string;
  readonly target: string;
  readonly measured: string;
  readonly met: boolean | null;
  /** What stands between the figure and the target, shown when it is missed. */
  readonly why: string;
}

const filter = process.argv[2] ?? '';
const files = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.bench.ts') && file.includes(filter))
  .sort();
const results = files.flatMap((file): Result[] => fromTsx(['bench/run-file.ts', path.join('src', file)]));

/** What a script prints as JSON. */
function fromTsx<T>(args: string[]): T {
  const node = ['--expose-gc', '--import', 'tsx', ...args];
  const { status, stdout } = spawnSync(process.execPath, node, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${args.join(' ')} ended with status ${status}`);
  return JSON.parse(stdout);
}

/** Milliseconds of the fastest sample of the one benchmark that `group` and `name` are parts of the titles of. */
const fastest = (group: string, name: string): number => theOne(group, name).fastest;

function theOne(group: string, name: string): Result {
  const found = results.filter((result) => result.group.includes(group) && result.name.startsWith(name));
  if (found.length !== 1) throw new Error(`${found.length} benchmarks are called '${group} > ${name}'`);
  return found[0]!;
}

const atMost = (work: string, value: number, limit: number, unit: string, why = ''): Row => ({
  work,
  target: `at most ${limit} ${unit}`,
  measured: `${value.toPrecision(3)} ${unit}`,
  met: value <= limit,
  why,
});

const shown = (work: string, value: number, unit: string): Row => ({
  work,
  target: '-',
  measured: `${value.toPrecision(3)} ${unit}`,
  met: null,
  why: '',
});

for (const { group, name, fastest: best, median } of results) {
  console.log(
    `${group} > ${name}: fastest ${(best * 1000).toPrecision(4)} us, median ${(median * 1000).toPrecision(4)} us`,
  );
}
if (filter) process.exit();

const memory = fromTsx<{ scattered: number; blocks: number }>(['bench/memory.ts']);

const NS_OF_1000 = 1e3; // a benchmark of 1000 operations in ms, per operation in ns
const loads = fastest('nested translation', '24 dependent');
const walk = fastest('nested translation', 'nested walk');
const hit = fastest('nested translation', 'IOTLB hit');
const leaves = (name: string, count: number): number => (fastest('map and unmap', name) * 1e6) / count;
const echo = fastest('round trips', 'bare echo');
const dirty = (leaf: string, what: string): number => fastest(`a dirty bitmap of 1 TiB, leaves of ${leaf}`, what);

/** Areas that are there besides. */
const AREAS = [1, 1e3, 1e6] as const;

/** One call of an IOAS, by the number of areas. Logarithmic: from 10^3 to 10^6 areas at most twice as long; we allow 4 x. */
function ioasCall(call: string, size: string): Row {
  const us = AREAS.map((areas) => fastest(`among ${areas} areas`, `${call} ${size}`) * 1000);
  const ratio = us[2]! / us[1]!;
  return {
    work: `IOAS ${call} of ${size}, among 1, 10^3 and 10^6 areas`,
    target: '10^6 at most 4 x 10^3',
    measured: `${us.map((time) => time.toPrecision(3)).join(', ')} us (${ratio.toPrecision(2)} x)`,
    met: ratio <= 4,
    why: 'the tree of areas does not fit into the caches any more, and a page between two areas misses in every level',
  };
}

const clientMemory = (what: string): number =>
  fastest(`${what} of`, 'a shared file') / fastest(`${what} of`, 'private memory');

/** Of 31 reads that lie in a queue. */
function nvmeReads(what: string, bytes: number): Row[] {
  const group = `31 NVMe reads of ${what}`;
  const [plain, nested] = [fastest(group, 'through an identity'), fastest(group, 'through nested')];
  const share = (fastest(group, 'the translations') / nested) * 100;
  return [
    shown(`NVMe reads of ${what}, through nested translation`, 31e3 / nested, 'reads/s'),
    shown('  the same', (31e3 * bytes) / nested / 2 ** 20, 'MiB/s'),
    shown('  through an identity', 31e3 / plain, 'reads/s'),
    shown('  share of translation in the former', share, '%'),
  ];
}

/** Of a guest in QEMU, with and without functions of ours. */
function guestBoot(): Row[] {
  const boot = fromTsx<{ scenario: string; bare: number; given: number } | null>(['bench/guest-boot.ts']);
  if (!boot) {
    const how = 'not measured: set UIOMMUFD_QEMU, UIOMMUFD_KERNEL, UIOMMUFD_INITRD (docs/vmm)';
    return [{ work: 'boot of a guest in QEMU with functions', target: '-', measured: how, met: null, why: '' }];
  }
  const { scenario, bare, given } = boot;
  return [
    shown(`boot of a guest in QEMU with functions (${scenario})`, given / bare, 'x the boot without'),
    shown('  without', bare, 's'),
  ];
}

const rows: Row[] = [
  atMost(
    'nested walk, 4 + 4 levels, 24 reads, warm',
    walk / loads,
    3,
    'x 24 dependent loads',
    'each level also decodes and checks its descriptor and finds the RAM of the next: 6 ns at best, of which the load is 1.4; a third is the leaves, the fill and the way there',
  ),
  shown('  the same', walk * NS_OF_1000, 'ns'),
  shown('  24 dependent typed-array loads', loads * NS_OF_1000, 'ns'),
  atMost(
    'IOTLB hit',
    hit * NS_OF_1000,
    25,
    'ns',
    'the entry that answered last is found in 8 ns; the rest checks that STE and CD are still the same, and permissions',
  ),
  atMost('4 KiB leaf: map and unmap', leaves('262144 leaves of 4 KiB', 262144), 10, 'ns (5 each way)'),
  shown('2 MiB leaf: map and unmap', leaves('512 leaves of 2 MiB', 512), 'ns'),
  shown('1 GiB leaf: map and unmap', leaves('512 leaves of 1 GiB', 512), 'ns'),
  ...['4 KiB', '2 MiB', '1 GiB'].flatMap((size) => ['map', 'unmap', 'copy'].map((call) => ioasCall(call, size))),
  atMost(
    'IOAS map of 1 GiB against 4 KiB, among 10^3 areas',
    fastest('among 1000 areas', 'map 1 GiB') / fastest('among 1000 areas', 'map 4 KiB'),
    2,
    'x (one leaf each)',
  ),
  atMost('dirty bitmap of 1 TiB, leaves of 1 GiB, nothing written', dirty('1 GiB', 'clean'), 2, 'ms'),
  shown('  all of it written', dirty('1 GiB', 'all'), 'ms'),
  atMost(
    'dirty bitmap of 1 TiB, leaves of 2 MiB, nothing written',
    dirty('2 MiB', 'clean'),
    20,
    'ms',
    '524 288 descriptors are looked at, at some 15 ns each',
  ),
  shown('  all of it written', dirty('2 MiB', 'all'), 'ms'),
  atMost('memory per scattered 4 KiB page, beyond the table', memory.scattered, 16, 'bytes'),
  atMost('memory per 4 KiB of a block mapping', Math.max(memory.blocks, 0), 0.01, 'bytes'),
  atMost('ioctl through shim and server', fastest('round trips', 'ioctl alone') / echo, 2, 'x a bare echo'),
  atMost('  that reads and writes the client', fastest('round trips', 'ioctl that') / echo, 2, 'x a bare echo'),
  atMost(
    'interrupt by MSI-X, from register to eventfd, median',
    theOne('an interrupt by MSI-X', 'from').median * NS_OF_1000,
    200,
    'us',
  ),
  atMost('8-byte load from shared memory of a client', clientMemory('loads'), 0.1, 'x from private memory'),
  shown('  the same', fastest('loads of client memory', 'a shared file') * NS_OF_1000, 'ns'),
  shown('  from private memory: two system calls', fastest('loads of client memory', 'private') * NS_OF_1000, 'ns'),
  atMost('4 KiB read from shared memory of a client', clientMemory('reads'), 1, 'x from private memory'),
  ...nvmeReads('4 KiB at random', 4096),
  ...nvmeReads('128 KiB in a row', 2 ** 17),
  shown('one mapping among 10000, asked of the kernel', fastest('10000 mappings', 'asked') * 1e6, 'ns'),
  shown('  the same, read as text', fastest('10000 mappings', 'read') * 1e6, 'ns'),
  ...guestBoot(),
];

console.log();
const width = (column: keyof Row): number => Math.max(...rows.map((row) => String(row[column]).length));
for (const row of rows) {
  const verdict = row.met === null ? '' : row.met ? 'met' : 'MISSED';
  const cells = [
    row.work.padEnd(width('work')),
    row.measured.padEnd(width('measured')),
    row.target.padEnd(width('target')),
  ];
  console.log(`${cells.join('  ')}  ${verdict}`);
  if (row.met === false && row.why) console.log(`    ${row.why}`);
}
mkdirSync('build', { recursive: true });
writeFileSync(
  'build/bench.json',
  `${JSON.stringify({ date: new Date().toISOString(), node: process.version, rows, results }, null, 2)}\n`,
);
