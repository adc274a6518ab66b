/**
 * DESIGN, "What fast means": a nested walk of 4 + 4 levels (24 descriptor reads, warm) against the same number of
 * dependent typed-array loads, and an IOTLB hit. The walks miss because 64 pages take turns in 16 entries; so each of
 * them pays for the lookup, the eviction and the fill as well. Each task does 1000 of its operations.
 */
import { bench, describe } from '../../../bench/harness.ts';
import { NO_SUBSTREAM, READ } from '../iommu.ts';
import { at, Rig, S1_LEAF, S2_LEAF } from './test-rig.ts';

const OPERATIONS = 1000;
const IDENTITY_FRAMES = 0x1400;
const PAGES = 64;

/** Both stages with 4 KiB leaves everywhere: stage 2 maps the first 20 MiB to themselves, page by page. */
function nested(iotlbEntries: number): Rig {
  const rig = new Rig({ iotlbEntries });
  const { root } = rig.stage1Stream(1);
  const second = rig.alloc();
  for (let frame = 0; frame < IDENTITY_FRAMES; frame++) rig.map(second, frame, S2_LEAF | at(frame));
  for (let page = 0; page < PAGES; page++) rig.map(root, 0x12340 + page, S1_LEAF | at(0x1380 + page));
  const context = rig.alloc();
  rig.cd(context, { V: 1, AA64: 1, A: 1, R: 1, T0SZ: 16, IPS: 5, EPD1: 1, ASID: 1, TTB0: root });
  rig.ste(1, {
    V: 1,
    Config: 0b111,
    S1ContextPtr: context,
    S2VMID: 1,
    S2T0SZ: 16,
    S2SL0: 2,
    S2PS: 5,
    S2AA64: 1,
    S2TTB: second,
  });
  if (rig.translate(1, 0x12345) !== 0x1385)
    throw new Error(`the benchmark's tables are wrong: ${JSON.stringify(rig.events(), String)}`);
  return rig;
}

/** A chain of indices through 24 places as far apart as page tables are. */
function chain(): Uint32Array {
  const words = new Uint32Array(2 ** 19);
  for (let n = 0; n < 24; n++)
    words[n * 2048 + ((n * 37) & 1023)] = ((n + 1) % 24) * 2048 + ((((n + 1) % 24) * 37) & 1023);
  return words;
}

const walks = nested(16).smmu;
const hits = nested(1024).smmu;
const words = chain();
/** Keeps results alive; xor, as a growing sum would leave the small integers and measure allocation. */
let sink = 0;

describe('nested translation, per 1000', () => {
  bench('24 dependent typed-array loads (the measure)', () => {
    for (let n = 0; n < OPERATIONS; n++) {
      let index = sink & 0;
      for (let read = 0; read < 24; read++) index = words[index]!;
      sink ^= index;
    }
  });

  bench('nested walk, 4 + 4 levels, 24 reads (at most 3 x)', () => {
    for (let n = 0; n < OPERATIONS; n++) {
      walks.translate(1, NO_SUBSTREAM, 0x12340 + (n % PAGES), 0, READ);
      sink ^= walks.outFrame;
    }
  });

  bench('IOTLB hit', () => {
    for (let n = 0; n < OPERATIONS; n++) {
      hits.translate(1, NO_SUBSTREAM, 0x12340 + (n % PAGES), 0, READ);
      sink ^= hits.outFrame;
    }
  });
});
