import { describe, expect, it } from 'vitest';
import type { ErrnoName } from '../../abi/errno.ts';
import { IOMMU_OPTION, IOMMU_VFIO_IOAS, Option, VfioIoas } from '../../abi/iommufd.ts';
import * as vfio from '../../abi/vfio-type1.ts';
import { MockProgram } from '../test-command/testing.ts';
import { errnoName, errnoOf } from '../testing.ts';

const IOVA = 0x100_0000n;
const READ_WRITE = 3;
const SET = 1;

function setup(type: number | null = vfio.VFIO_TYPE1v2_IOMMU) {
  const program = new MockProgram();
  const call = (command: number, arg: bigint): number | ErrnoName | '' => {
    const result = errnoOf(() => program.context.ioctl(program.process, command, arg) as number);
    return result < 0 ? errnoName(result) : result;
  };
  const ioasId = program.ioas();
  program.device(ioasId);
  if (type !== null) {
    program.ok(IOMMU_VFIO_IOAS, VfioIoas, { ioasId, op: SET });
    expect(call(vfio.VFIO_SET_IOMMU, BigInt(type))).toBe(0);
  }
  const map = (iova: bigint, size: bigint, more: object = {}) => {
    const values = { argsz: 32, flags: READ_WRITE, vaddr: program.base, iova, size, ...more };
    return call(vfio.VFIO_IOMMU_MAP_DMA, program.put(Object.assign(new vfio.Type1DmaMap(), values).bytes));
  };
  /** The result, and what the struct says was unmapped. */
  const unmap = (iova: bigint, size: bigint, more: object = {}) => {
    const values = { argsz: 24, flags: 0, iova, size, ...more };
    const address = program.put(Object.assign(new vfio.Type1DmaUnmap(), values).bytes);
    const result = call(vfio.VFIO_IOMMU_UNMAP_DMA, address);
    const after = new vfio.Type1DmaUnmap();
    program.process.memory.read(Number(address), after.bytes);
    return [result, after.size];
  };
  /** VFIO_IOMMU_GET_INFO with room for `argsz` bytes, in memory full of 0xaa. */
  const info = (argsz: number) => {
    const bytes = new Uint8Array(256).fill(0xaa);
    Object.assign(new vfio.Type1Info(bytes.subarray(0, 24)), { argsz });
    const address = program.put(bytes);
    const result = call(vfio.VFIO_IOMMU_GET_INFO, address);
    program.process.memory.read(Number(address), bytes);
    return { result, bytes, info: new vfio.Type1Info(bytes) };
  };
  return { program, ioasId, call, map, unmap, info };
}

describe('the VFIO type 1 ioctls on an iommufd', () => {
  it('tell their version and extensions', () => {
    const { call } = setup();
    expect(call(vfio.VFIO_GET_API_VERSION, 0n)).toBe(0);
    const has = [1, 2, 3, 4, 6, 8, 9, 10, 2 ** 40].map((each) => call(vfio.VFIO_CHECK_EXTENSION, BigInt(each)));
    expect(has).toEqual([1, 0, 1, 0, 0, 0, 1, 0, 0]);
    expect(call(0x3b64 + 17, 0n)).toBe('ENOTTY');
  });

  it('need an IOAS, after they have looked at their arguments', () => {
    const { call, map, unmap, info } = setup(null);
    expect([call(vfio.VFIO_SET_IOMMU, 3n), call(vfio.VFIO_SET_IOMMU, 2n)]).toEqual(['ENODEV', 'EINVAL']);
    expect(call(vfio.VFIO_CHECK_EXTENSION, 4n)).toBe('ENODEV');
    expect([map(IOVA, 0x1000n), map(IOVA, 0x1000n, { argsz: 31 })]).toEqual(['ENODEV', 'EINVAL']);
    expect([unmap(IOVA, 0x1000n)[0], unmap(IOVA, 0x1000n, { flags: 4 })[0]]).toEqual(['ENODEV', 'EINVAL']);
    expect([info(24).result, info(15).result]).toEqual(['ENODEV', 'EINVAL']);
  });

  it('map at fixed IOVAs, by the rules of IOAS_MAP', () => {
    const { map } = setup();
    expect([map(IOVA, 0x2000n), map(IOVA + 0x1000n, 0x1000n), map(0n, 0x1000n)]).toEqual([0, 'EEXIST', 'EINVAL']);
    expect([map(IOVA, 0n), map(IOVA, 0x1000n, { flags: 4 })]).toEqual(['EINVAL', 'EINVAL']);
    expect(map(IOVA + 0x4000n, 0x1000n, { vaddr: 0n })).toBe('EFAULT');
  });

  it('unmap whole mappings, and tell how many bytes: none is no mistake', () => {
    const { map, unmap } = setup();
    map(IOVA, 0x1000n);
    map(IOVA + 0x1000n, 0x2000n);
    expect(unmap(IOVA, 0x2000n)).toEqual(['ENOENT', 0x1000n]);
    expect(unmap(IOVA, 0x4000n)).toEqual([0, 0x2000n]);
    expect(unmap(IOVA, 0x4000n)).toEqual([0, 0n]);
  });

  it('unmap everything with UNMAP_ALL and no range', () => {
    const { map, unmap } = setup();
    map(IOVA, 0x1000n);
    map(IOVA + 0x8000n, 0x2000n);
    expect(unmap(IOVA, 0x1000n, { flags: 2 })[0]).toBe('EINVAL');
    expect(unmap(0n, 0n, { flags: 2 })).toEqual([0, 0x3000n]);
  });

  it('of the first version switch huge pages off, and so can unmap parts', () => {
    const { program, ioasId, map, unmap } = setup(vfio.VFIO_TYPE1_IOMMU);
    expect(program.ok(IOMMU_OPTION, Option, { optionId: 1, op: 1, objectId: ioasId }).val64).toBe(0n);
    map(IOVA, 0x8000n);
    expect(unmap(IOVA + 0x2000n, 0x1000n)).toEqual([0, 0x1000n]);
    expect(unmap(IOVA, 0x1000n)).toEqual([0, 0x1000n]);
    expect(unmap(IOVA + 0x7000n, 0x1000n)).toEqual([0, 0x1000n]);
    expect(program.pinned.pinnedFrames).toBe(5);
    expect(unmap(IOVA, 0x8000n)).toEqual([0, 0x5000n]);
    expect(program.pinned.pinnedFrames).toBe(0);
  });

  it('of the first version still cut at pages only', () => {
    const { map, unmap } = setup(vfio.VFIO_TYPE1_IOMMU);
    map(IOVA, 0x4000n);
    expect(unmap(IOVA, 0x1800n)[0]).toBe('EINVAL');
    expect(unmap(IOVA, 0x4000n)).toEqual([0, 0x4000n]);
  });

  it('tell page sizes and a chain of two capabilities, as far as there is room', () => {
    const { info } = setup();
    const all = info(24).info.argsz;
    expect(all).toBe(24 + 16 + 32);
    const full = info(all);
    const { flags, iovaPgsizes, capOffset } = full.info;
    expect([flags, iovaPgsizes, capOffset]).toEqual([3, 2n ** 38n - 2n ** 12n, 24]);
    const available = new vfio.Type1InfoDmaAvail(full.bytes.subarray(24));
    expect([available.id, available.version, available.next, available.avail]).toEqual([3, 1, 40, 0xffff_ffff]);
    const ranges = new vfio.Type1InfoCapIovaRange(full.bytes.subarray(40));
    expect([ranges.id, ranges.version, ranges.next, ranges.nrIovas]).toEqual([1, 1, 0, 1]);
    const range = new vfio.VfioIovaRange(full.bytes.subarray(56));
    expect([range.start, range.end]).toEqual([0x100_0000n, 0x7fff_ffffn]);
  });

  it('never write beyond argsz, and point to capabilities only when all are there', () => {
    const { info } = setup();
    for (let argsz = 16; argsz < 72; argsz++) {
      const { bytes, info: after } = info(argsz);
      expect(bytes.subarray(argsz).every((byte) => byte === 0xaa)).toBe(true);
      expect([after.argsz, after.flags]).toEqual([72, 3]);
      if (argsz >= 24) expect(after.capOffset).toBe(0);
    }
  });
});
