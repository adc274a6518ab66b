/** QEMU's own NVMe driver: VFIO without a virtual machine. .ci/vmm does more with it. */
import { describe, expect, it } from 'vitest';
import { installed, unless, visit } from './stranger.ts';

describe.skipIf(!installed('qemu-io'))(unless('qemu-io', 'nvme:// of QEMU'), () => {
  it.each(['two-smmus-nvme', 'two-smmus-nvme-x86'])('reads and writes a disk of %s', async (machine) => {
    const io = 'qemu-io -f raw -c "write -P 0x5a 1M 3M" -c "read -P 0x5a 2M 2M" -c flush nvme://0000:02:00.0/1';
    const { text, status, translated, refused } = await visit(machine, `qemu-img info nvme://0000:01:00.0/1 && ${io}`);
    expect(text).toContain('virtual size: 256 MiB (268435456 bytes)');
    expect(text).toMatch(/^wrote 3145728/m);
    expect(text).toMatch(/^read 2097152/m);
    expect([status, refused]).toEqual([0, 0]);
    expect(translated).toBeGreaterThan(1000);
  });
});
