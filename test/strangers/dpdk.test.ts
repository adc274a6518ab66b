/** DPDK as distributions ship it: its VFIO layer, by type 1, and its own tests of DMA engines on our IOAT functions. */
import { describe, expect, it } from 'vitest';
import { installed, unless, visit } from './stranger.ts';

describe.skipIf(!installed('dpdk-test'))(unless('dpdk-test', "DPDK's tests of DMA engines"), () => {
  it('pass on two IOAT functions, each behind its SMMU', async () => {
    const options = '--no-huge -m 256 --iova-mode=va';
    const { text, status, translated, refused } = await visit(
      'two-smmus',
      `DPDK_TEST=dmadev_autotest dpdk-test ${options} 2>&1 | tr '\\r' '\\n'; exit \${PIPESTATUS[0]}`,
    );
    expect(text).toContain('EAL: Using IOMMU type 1 (Type 1)\n');
    for (const function_ of ['0 [0000:01:00.0]', '1 [0000:02:00.0]']) {
      expect(text).toContain(`### Test dmadev instance ${function_}`);
    }
    for (const tests of ['copy', 'burst capacity', 'fill']) {
      for (const device of [0, 1]) expect(text).toContain(`DMA Dev ${device}: Running ${tests} Tests`);
    }
    expect(text).toContain('\nTest OK\n');
    expect([status, refused]).toEqual([0, 0]);
    expect(translated).toBeGreaterThan(100_000);
  }, 120_000);
});
