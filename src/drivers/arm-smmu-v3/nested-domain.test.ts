import { describe, expect, it } from 'vitest';
import { dialect } from '../../abi/dialects.ts';
import { ABORT, Bench, BYPASS, guestSte, STAGE1, simple, userData, V2, vm } from './testing.ts';

describe('guest STEs', () => {
  const alloc = (words: number[]) => () => simple().viommu.allocNested(0, userData(2, words));

  it('may not touch what is the host’s: EIO', () => {
    expect(alloc([1 | (6 << 1), 0, 0, 0])).toThrow('EIO');
    expect(alloc([1 | (7 << 1), 0, 0, 0])).toThrow('EIO');
    expect(alloc([1 | (5 << 1), 0, 1 << 19, 0])).toThrow('EIO');
    expect(alloc([1 | (5 << 1), 0, 2 << 30, 0])).toThrow('EIO');
    expect(alloc([1 | (5 << 1), 0, 0, 1])).toThrow('EIO');
    expect(alloc([1 | (5 << 1), 1 << 20, 0, 0])).toThrow('EIO');
    expect(alloc([1 | (5 << 1), 0, 2 << 28, 0])).toThrow('EIO');
    expect(alloc([1 | (5 << 1), 0, 3 << 28, 0])).toThrow('EIO');
    expect(alloc([1 | (5 << 1), 0xf80fffff, 0x180000ff, 0])).not.toThrow();
  });

  it('may turn ATS on in viommu-v2, too', () => {
    const bench = new Bench(V2);
    const device = bench.device(0, 0x100);
    const { guest, viommus } = vm(bench, [device]);
    const contexts = guest.newContexts();
    device.driven.attach(viommus[0]!.allocNested(0, guestSte(STAGE1, contexts, { ats: true })), 0);
    expect(device.atsOn).toBe(true);
  });

  it('need the right type, size and flags', () => {
    expect(() => simple().viommu.allocNested(0, userData(1, [1, 0, 0, 0]))).toThrow('EINVAL');
    expect(alloc([1])).toThrow('EINVAL');
    expect(() => simple().viommu.allocNested(4, userData(2, [1, 0, 0, 0]))).toThrow('EOPNOTSUPP');
  });

  it('without a vDEVICE attach as the release allows', () => {
    const outcome = (release: string, config: number) => {
      const bench = new Bench({ behaviour: dialect(release).behaviour });
      const device = bench.device(0, 0x100);
      const { viommus } = vm(bench, [device]);
      try {
        device.driven.attach(viommus[0]!.allocNested(0, guestSte(config)), 0);
        return 'attached';
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    const configs = [ABORT, BYPASS, STAGE1];
    const all = (release: string) => configs.map((config) => outcome(release, config));
    expect(all('linux-7.1')).toEqual(['attached', 'attached', 'ENOENT']);
    expect(all('linux-6.18')).toEqual(['ENOENT', 'ENOENT', 'ENOENT']);
    expect(all('viommu-v2')).toEqual(['attached', 'attached', 'attached']);
  });

  it('belong to the SMMU of their vIOMMU', () => {
    const bench = new Bench({ smmus: 2 });
    const devices = [bench.device(0, 0x100), bench.device(1, 0x100)];
    const { viommus } = vm(bench, devices);
    expect(() => devices[1]!.driven.attach(viommus[0]!.allocNested(0, guestSte(BYPASS)), 0)).toThrow('EINVAL');
  });
});
