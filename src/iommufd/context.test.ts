import { describe, expect, it } from 'vitest';
import { IommufdDevice } from './device.ts';
import { POLLIN, POLLOUT } from './file.ts';
import { errnoName, errnoOf, Program } from './testing.ts';
import { FakeDevice, FakeIommu } from './testing-driver.ts';

describe('/dev/iommu', () => {
  it('is neither read nor written, and always ready for both', () => {
    const { context } = new Program();
    expect(errnoName(errnoOf(() => context.read()))).toBe('EINVAL');
    expect(errnoName(errnoOf(() => context.write()))).toBe('EINVAL');
    expect(context.pollMask).toBe(POLLIN | POLLOUT);
  });

  it('answers mmap as the release does', () => {
    const mmap = (abi: string, protection: number, flags: number) => {
      const { context, process } = new Program({ abi });
      return () => context.mmap(process, 4096n, protection, flags, 0n);
    };
    expect(mmap('linux-6.16', 1, 1)).toThrow('ENODEV');
    expect(mmap('linux-7.1', 1, 2)).toThrow('EINVAL');
    expect(mmap('linux-7.1', 5, 1)).toThrow('EPERM');
    expect(mmap('linux-7.1', 3, 1)).toThrow('ENXIO');
  });

  it('destroys everything when it is closed', () => {
    const program = new Program();
    const iommu = new FakeIommu();
    const device = IommufdDevice.bind(program.context, new FakeDevice(iommu), 'vfio0');
    const ioas = program.ioas();
    program.map(ioas, 0n, 0x8000n);
    program.hwpt(device.id, ioas);
    program.hwpt(device.id, ioas, 1);
    device.unbind();
    expect(iommu.resources.domains).toBe(2);
    program.close();
    expect(iommu.resources.domains).toBe(0);
    expect(program.context.objects.size).toBe(0);
    expect(program.pinned.pinnedFrames).toBe(0);
  });
});
