import { describe, expect, it } from 'vitest';
import { Destroy, IOMMU_DESTROY } from '../abi/iommufd.ts';
import { IOMMU_VIRQ_ALLOC, V2_IOMMU_VIOMMU_ALLOC, V2ViommuAlloc, VirqAlloc } from '../abi/iommufd-viommu-v2.ts';
import { IommufdDevice } from './device.ts';
import { POLLIN } from './file.ts';
import { errnoOf, Program } from './testing.ts';
import { FakeDevice, FakeIommu } from './testing-driver.ts';
import type { Viommu } from './viommu.ts';

const TYPE = 1;

function setup() {
  const program = new Program({ abi: 'viommu-v2' });
  const { id: devId } = IommufdDevice.bind(program.context, new FakeDevice(new FakeIommu()), 'vfio0');
  const hwptId = program.hwpt(devId, program.ioas(), 1);
  const { outViommuId: viommuId } = program.ok(V2_IOMMU_VIOMMU_ALLOC, V2ViommuAlloc, { devId, hwptId, type: 0 });
  const viommu = program.context.objects.find(viommuId) as Viommu;
  /** The driver reports a record of 32 bytes. */
  const event = (value: number) => viommu.driver.onEvent!(TYPE, new Uint8Array(32).fill(value));
  const virq = () => program.okAsync(IOMMU_VIRQ_ALLOC, VirqAlloc, { viommuId, type: TYPE });
  const file = (fd: number) => program.process.fileOf(fd)!;
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, viommuId, event, virq, file, destroy };
}

describe('a VIRQ of viommu-v2', () => {
  it('checks flags, type and vIOMMU', async () => {
    const { program, viommuId, virq } = setup();
    const err = (values: object) => program.err(IOMMU_VIRQ_ALLOC, VirqAlloc, { viommuId, type: TYPE, ...values });
    expect(err({ flags: 1, type: 0 })).toBe('EOPNOTSUPP');
    expect(err({ type: 0, viommuId: 99 })).toBe('EINVAL');
    expect(err({ viommuId: 99 })).toBe('ENOENT');
    await virq();
    expect(err({})).toBe('EEXIST');
  });

  it('gives bare records', async () => {
    const { program, virq, event, file, destroy } = setup();
    const { outVirqFd: fd, outVirqId } = await virq();
    for (const value of [1, 2, 3]) event(value);
    expect(file(fd).pollMask).toBe(POLLIN);
    const to = program.put(new Uint8Array(128));
    const read = (count: number) => file(fd).read(program.process, to, count, null);
    expect([read(31), read(70), read(32), read(64)]).toEqual([0, 64, 32, 0]);
    const bytes = new Uint8Array(64);
    program.process.memory.read(Number(to), bytes);
    expect([bytes[0], bytes[32]]).toEqual([3, 2]);
    event(4);
    expect(errnoOf(() => file(fd).read(program.process, 8n, 64, null))).toBe(-14);
    expect(errnoOf(() => file(fd).read(program.process, to, 64, 0n))).toBe(-29);
    expect(destroy(outVirqId)).toBe('EBUSY');
    program.process.closeFd(fd);
    expect(destroy(outVirqId)).toBe('');
  });
});
