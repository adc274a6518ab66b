import { bench, describe } from '../../bench/harness.ts';
import { IoasMap } from './iommufd.ts';

const raw = new Uint8Array(IoasMap.size);
const view = new DataView(raw.buffer);
const map = new IoasMap(raw);
let sink = 0;

describe('IOAS_MAP: six numbers read and written', () => {
  bench('DataView by hand', () => {
    for (let i = 0; i < 1000; i++) {
      view.setUint32(8, i, true);
      sink += view.getUint32(0, true) + view.getUint32(4, true) + view.getUint32(8, true) + view.getUint32(12, true);
    }
  });

  bench('accessors of one instance', () => {
    for (let i = 0; i < 1000; i++) {
      map.ioasId = i;
      sink += map.size + map.flags + map.ioasId + map.reserved;
    }
  });

  bench('accessors of a new instance each time', () => {
    for (let i = 0; i < 1000; i++) {
      const fresh = new IoasMap(raw);
      fresh.ioasId = i;
      sink += fresh.size + fresh.flags + fresh.ioasId + fresh.reserved;
    }
  });

  bench('a 64-bit field', () => {
    for (let i = 0; i < 1000; i++) {
      map.iova = 0x1000n;
      sink += map.iova === 0x1000n ? 1 : 0;
    }
  });
});

if (sink === Number.POSITIVE_INFINITY) throw new Error('unreachable: keeps the sums alive');
