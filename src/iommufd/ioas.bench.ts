/**
 * What a program's calls for an IOAS cost inside the engine, on an SMMUv3 with a page table: the ioctl, areas, pins,
 * leaves, invalidation. By size of the mapping, and by the number of areas that are there besides.
 */
import { describe, sampled } from '../../bench/harness.ts';
import { Mapper } from '../../bench/mapper.ts';

const SIZES = { '4 KiB': 2 ** 12, '2 MiB': 2 ** 21, '1 GiB': 2 ** 30 };
/** Rounds of so many calls of a kind. */
const ROUNDS = 40;
const CALLS = 25;
/** The areas that are there besides, above the MSI window; a page between each two, so that neighbours stay apart. */
const BESIDES = 2 ** 32;
const STRIDE = 0x2000;
/** Above them. */
const TARGET = 2 ** 40;
const SOURCE = 2 ** 44;

const time = (body: () => void): number => {
  const start = performance.now();
  body();
  return (performance.now() - start) / CALLS;
};

for (const areas of [1, 1e3, 1e6]) {
  describe(`among ${areas} areas`, () => {
    const mapper = new Mapper('two-smmus');
    for (let i = 0; i < areas; i++) mapper.map(BESIDES + i * STRIDE, 0x1000, 2 ** 30 + i * STRIDE);
    for (const [size, bytes] of Object.entries(SIZES)) {
      /** Between two areas if it fits there, else behind all. */
      const at = (i: number): number =>
        bytes === 0x1000 && areas > CALLS
          ? BESIDES + ((i * 104729) % (areas - 1)) * STRIDE + 0x1000
          : TARGET + i * bytes;
      const each = (call: (iova: number) => void) => () => {
        for (let i = 0; i < CALLS; i++) call(at(i));
      };
      const samples: Record<string, number[]> = { map: [], unmap: [], copy: [] };
      mapper.map(SOURCE, bytes, 2 ** 40);
      for (let round = 0; round < ROUNDS; round++) {
        samples.map!.push(time(each((iova) => mapper.map(iova, bytes, 2 ** 40))));
        samples.unmap!.push(time(each((iova) => mapper.unmap(iova, bytes))));
        samples.copy!.push(time(each((iova) => mapper.copy(iova, SOURCE, bytes))));
        each((iova) => mapper.unmap(iova, bytes))();
      }
      mapper.unmap(SOURCE, bytes);
      for (const [call, list] of Object.entries(samples)) sampled(`${call} ${size}`, list);
    }
    mapper.close();
  });
}
