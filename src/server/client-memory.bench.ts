/**
 * What reaching a program's memory costs: a shared file, mapped by us, against private memory, which takes system calls;
 * and what finding out what is mapped at an address costs in a process with 10 000 mappings.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { bench, cleanup, describe } from '../../bench/harness.ts';
import { PhysicalMemory } from '../memory/physical-memory.ts';
import { PinnedMemory } from '../memory/pinned-memory.ts';
import { buildShim } from './build-shim.ts';
import { compileOnce } from './compile.ts';
import { loadKeeper } from './keeper.ts';
import { covering, listed, Mappings } from './mappings.ts';
import { MemoryFiles } from './memory-files.ts';
import { RemoteMemory } from './process-memory.ts';

const PAGES = 1000;

const sources = path.join(import.meta.dirname, '../../bench/client-memory');
const program = path.join(
  compileOnce({ sources, flags: ['-O1', '-D_GNU_SOURCE'], outputs: { client: ['client.c'] } }),
  'client',
);
const client = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
const [line] = await once(client.stdout, 'data');
const [shared, own, scattered] = String(line).split(' ').map(Number) as [number, number, number];

const addon = loadKeeper(buildShim().keeper);
const files = new MemoryFiles(addon);
const proc = `/proc/${client.pid}`;
const remote = new RemoteMemory(addon, client.pid!, proc, files);
const memory = new PhysicalMemory();
const pins = new PinnedMemory(memory, { firstSlot: 64, slots: 8 });

/** First frame of PAGES pages at `address`. */
function pin(address: number): number {
  const [run] = remote.resolve(address, PAGES * 4096, true)!;
  pins.pin(run!.object, run!.page, PAGES);
  return pins.frameOf(run!.object, run!.page);
}
const frames = { shared: pin(shared), own: pin(own) };

/** One dependent load in each of 1000 pages: what a walk of guest tables does. */
function chase(frame: number): number {
  let at = 0;
  for (let i = 0; i < PAGES; i++) {
    memory.load64(frame + at, 8);
    at = memory.lo;
  }
  return at;
}

const page = new Uint8Array(4096);
function readAll(frame: number): void {
  for (let i = 0; i < PAGES; i++) memory.read(frame + i, 0, page);
}

describe(`${PAGES} dependent 8-byte loads of client memory`, () => {
  bench('a shared file', () => chase(frames.shared));
  bench('private memory', () => chase(frames.own));
});

describe(`${PAGES} reads of 4 KiB of client memory`, () => {
  bench('a shared file', () => readAll(frames.shared));
  bench('private memory', () => readAll(frames.own));
});

const mappings = new Mappings(addon, proc);
describe('one page among 10000 mappings', () => {
  bench('asked of the kernel', () => covering(mappings.now, scattered, scattered + 4096, true));
  bench('read as text', () =>
    covering(listed(fs.readFileSync(`${proc}/maps`, 'latin1')), scattered, scattered + 4096, true),
  );
});

cleanup(() => {
  client.kill();
});
