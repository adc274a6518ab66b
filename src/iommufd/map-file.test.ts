import { describe, expect, it } from 'vitest';
import {
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_UNMAP,
  IoasMap,
  IoasMapFile,
  IoasUnmap,
} from '../abi/iommufd.ts';
import { Access } from './access.ts';
import type { Ioas } from './ioas.ts';
import { FakeFile, Program, SharingMemory } from './testing.ts';
import { FakeIommu, FakePagingDomain, WHOLE_SPACE } from './testing-driver.ts';

const IOVA = 0x100000n;
const PAGE = 4096n;
const FD = 77;

function programOf() {
  const file = new FakeFile();
  const program = new Program({ memory: new SharingMemory(file) });
  program.process.memoryFiles.set(FD, file);
  const ioasId = program.ioas();
  const ioas = program.context.objects.find(ioasId) as Ioas;
  const attach = () => ioas.table.addDomain(new FakePagingDomain(new FakeIommu({ aperture: WHOLE_SPACE }), false));
  const mapFile = { flags: 7, ioasId, fd: FD, iova: IOVA, start: 0n, length: 2n * PAGE };
  const unmap = () => program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId, iova: 0n, length: 2n ** 64n - 1n });
  return { program, file, ioas, ioasId, attach, mapFile, unmap };
}

describe('IOAS_MAP_FILE of a file that is memory', () => {
  it('holds the file as long as an area of any IOAS maps it', () => {
    const { program, file, mapFile, unmap } = programOf();
    program.ok(IOMMU_IOAS_MAP_FILE, IoasMapFile, mapFile);
    expect(file.holders).toBe(1);
    unmap();
    expect(file.holders).toBe(0);
    expect(program.err(IOMMU_IOAS_MAP_FILE, IoasMapFile, { ...mapFile, length: 2n ** 64n - 2n })).toBe('EINVAL');
    program.ok(IOMMU_IOAS_MAP_FILE, IoasMapFile, mapFile);
    expect(program.err(IOMMU_IOAS_MAP_FILE, IoasMapFile, mapFile)).toBe('EEXIST');
    program.close();
    expect(file.holders).toBe(0);
  });

  it('looks at the file when pages are pinned: one that is no memory or too short is EINVAL then', () => {
    const { program, attach, mapFile } = programOf();
    program.process.files.set(5, program.context);
    expect(program.err(IOMMU_IOAS_MAP_FILE, IoasMapFile, { ...mapFile, fd: 99 })).toBe('EBADF');
    program.ok(IOMMU_IOAS_MAP_FILE, IoasMapFile, { ...mapFile, fd: 5 });
    expect(() => attach()).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    program.ok(IOMMU_IOAS_UNMAP, IoasUnmap, { ioasId: mapFile.ioasId, iova: IOVA, length: 2n * PAGE });
    attach();
    expect(program.err(IOMMU_IOAS_MAP_FILE, IoasMapFile, { ...mapFile, start: 15n * PAGE })).toBe('EINVAL');
    expect(program.pinned.pinnedFrames).toBe(0);
  });

  it('gives an address of a shared mapping and the file the same frames', () => {
    const { program, ioas, ioasId, attach, mapFile } = programOf();
    attach();
    program.ok(IOMMU_IOAS_MAP_FILE, IoasMapFile, { ...mapFile, start: PAGE });
    const userVa = program.base + PAGE;
    program.ok(IOMMU_IOAS_MAP, IoasMap, { flags: 7, ioasId, userVa, length: PAGE, iova: 2n * IOVA });
    const { areas } = ioas.table;
    const frames = [IOVA, 2n * IOVA].map((iova) => areas.at(iova)!.pages.frame(areas.at(iova)!.pageOf(iova)));
    expect(frames[0]).toBe(frames[1]);
  });

  it('keeps what was pinned when the process has something else at its address', () => {
    const { program, file, ioas, ioasId, attach } = programOf();
    attach();
    program.map(ioasId, IOVA, PAGE);
    const memory = program.process.memory as SharingMemory;
    memory.resolve = () => null;
    const access = Access.create(program.context, { pins: true, unmapped: () => {} });
    access.attach(ioas);
    access.copy(IOVA + 1n, Uint8Array.of(1, 2), true);
    expect([...file.bytes.subarray(0, 4)]).toEqual([0, 1, 2, 0]);
    access.close();
  });
});
