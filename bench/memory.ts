/**
 * What a mapped page costs beyond the page table itself, in bytes: 1 GiB scattered page by page (each run a map() of its
 * own), and 64 GiB of 1 GiB blocks. Prints one JSON object. Run with --expose-gc.
 */
import { Mapper } from './mapper.ts';

const GiB = 2 ** 30;

function used(): number {
  globalThis.gc!();
  globalThis.gc!();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function perPage(presetName: string, gibibytes: number): number {
  const mapper = new Mapper(presetName);
  const tableBytes = (): number => mapper.machine.leftovers().tableFrames! * 4096;
  const before = used() - tableBytes();
  mapper.map(64 * GiB, gibibytes * GiB, 64 * GiB);
  const grown = used() - tableBytes() - before;
  mapper.close();
  return grown / ((gibibytes * GiB) / 4096);
}

perPage('two-smmus-fragmented', 1); // code is compiled once
console.log(JSON.stringify({ scattered: perPage('two-smmus-fragmented', 1), blocks: perPage('two-smmus', 64) }));
