/** GET_REGION_INFO with its capabilities; regions read, written and mapped. */
import assert from 'node:assert/strict';
import { RegionInfo } from '../../../src/abi/vfio.ts';
import type { VfioDevice } from '../../../src/client/index.ts';
import type { Setting } from '../setting.ts';
import { bound } from '../smmu.ts';
import { casesOf } from '../suite.ts';
import { COMMAND, CONFIG as CONFIG_AT, GROUPS, MEMORY_AND_MASTER, regionAt, SMMU, u32At, u32s } from '../vfio.ts';

const [BAR0, BAR1, ROM, CONFIG, VGA, REGIONS] = [0, 1, 6, 7, 8, 9];
const [READ, WRITE, MMAP, CAPS] = [1, 2, 4, 8];
const MSIX_MAPPABLE = 3;
const BAR_BYTES = 0x4000n;
const PMCSR = CONFIG_AT + 0xe4n;
const MSIX_TABLE = 0x2000n;
const [READ_WRITE, SHARED, PRIVATE] = [3, 1, 2];
const EINVAL = -22;

const device = async (t: Setting): Promise<VfioDevice> => (await bound(t)).vfio;

casesOf('VFIO_DEVICE_GET_REGION_INFO', SMMU, ({ refuses, does }) => {
  for (const index of [VGA, REGIONS]) {
    refuses('EINVAL', `region ${index}`, async (t) => {
      const vfio = await device(t);
      return () => vfio.getRegionInfo({ index });
    });
  }
  refuses('EFAULT', 'memory where it cannot write the answer', async (t) => {
    const vfio = await device(t);
    return () => vfio.getRegionInfo({}, t.unanswerable(RegionInfo, {}));
  });
  does('tells a BAR and the configuration space, each at its own offset', async (t) => {
    const vfio = await device(t);
    const [bar, config] = [await vfio.getRegionInfo({ index: BAR0 }), await vfio.getRegionInfo({ index: CONFIG })];
    assert.ok(bar.size >= 4096n && (config.size === 256n || config.size === 4096n));
    assert.deepEqual([bar.offset, config.offset], [0n, 7n << 40n]);
    assert.deepEqual([bar.flags & 3, config.flags & 3], [3, 3]);
  });
});
casesOf('VFIO_DEVICE_GET_REGION_INFO', SMMU, ({ refuses, does }) => {
  refuses('EFAULT', 'capabilities where it cannot write them', async (t) => {
    const vfio = await device(t);
    const { address, bytes } = t.program.edge(RegionInfo.size);
    bytes.set(u32s(RegionInfo.size + 8, 0, BAR0, 0));
    return () => vfio.getRegionInfo({}, { address });
  });
  does('tells how much room its capabilities need, and gives them when there is', async (t) => {
    const vfio = await device(t);
    const short = await vfio.getRegionInfo({ index: BAR0 });
    assert.deepEqual([short.argsz, short.flags, short.capOffset], [40, READ | WRITE | MMAP | CAPS, 0]);
    const tail = new Uint8Array(8);
    const { capOffset, argsz } = await vfio.getRegionInfo({ index: BAR0 }, { tail });
    assert.deepEqual([argsz, capOffset], [40, 32]);
    assert.deepEqual([...new Uint16Array(tail.buffer)], [MSIX_MAPPABLE, 1, 0, 0]);
  });
  does('tells that the other BARs and the ROM are not there, and where they would be', async (t) => {
    const vfio = await device(t);
    for (let index = BAR1; index <= ROM; index++) {
      const { size, flags, offset, capOffset } = await vfio.getRegionInfo({ index });
      assert.deepEqual([size, flags, offset, capOffset], [0n, 0, regionAt(index), 0]);
    }
  });
});

casesOf('VFIO_DEVICE_GET_REGION_INFO', GROUPS, ({ does }) => {
  does('tells that a BAR cannot be mapped, and then gives no capability', async (t) => {
    const { vfio } = await bound(t, 4);
    const { flags, capOffset } = await vfio.getRegionInfo({}, { tail: new Uint8Array(8) });
    assert.deepEqual([flags, capOffset], [READ | WRITE, 0]);
  });
});

casesOf('regions of a VFIO device', SMMU, ({ refuses, does }) => {
  refuses('EINVAL', 'a read beyond the BAR', async (t) => {
    const vfio = await device(t);
    return () => vfio.read(4, BAR_BYTES);
  });
  refuses('EFAULT', 'a read that leaves the configuration space', async (t) => {
    const vfio = await device(t);
    return () => vfio.read(8, CONFIG_AT + 4092n);
  });
  for (const [what, index] of [
    ['BAR1', BAR1],
    ['the ROM', ROM],
    ['VGA', VGA],
  ] as const) {
    refuses('EINVAL', `a read of ${what}, which is not there`, async (t) => {
      const vfio = await device(t);
      return () => vfio.read(4, regionAt(index));
    });
    refuses('EINVAL', `a write of ${what}, which is not there`, async (t) => {
      const vfio = await device(t);
      return () => vfio.write(u32s(0), regionAt(index));
    });
  }
  refuses('EIO', 'a BAR while memory decode is off', async (t) => {
    const vfio = await device(t);
    await vfio.write(Uint8Array.of(0, 0), COMMAND);
    return () => vfio.read(4, 0n);
  });
  refuses('EIO', 'a BAR in D3hot', async (t) => {
    const vfio = await device(t);
    await vfio.write(Uint8Array.of(3, 0), PMCSR);
    return () => vfio.write(u32s(0), 0x90n);
  });
  refuses('EFAULT', 'to read into what is no memory', async (t) => {
    const vfio = await device(t);
    return async () => t.program.pread(vfio.fd, t.nowhere, 4, 0n) === -14 && vfio.getInfo({}, { address: t.nowhere });
  });
  does('reads what there is of a BAR up to its end', async (t) => {
    assert.equal((await (await device(t)).read(16, BAR_BYTES - 8n)).length, 8);
  });
  does('reads no bytes when none are asked for', async (t) => {
    assert.equal((await (await device(t)).read(0, BAR_BYTES)).length, 0);
  });
  does('hides the MSI-X table: reads give ones, writes go nowhere', async (t) => {
    const vfio = await device(t);
    await vfio.write(u32s(0x1234), MSIX_TABLE);
    assert.equal(u32At(await vfio.read(4, MSIX_TABLE)), 0xffff_ffff);
  });
  does('has BARs that can be sized, and that come back with COMMAND', async (t) => {
    const vfio = await device(t);
    const bar = CONFIG_AT + 0x10n;
    await vfio.write(u32s(0xffff_ffff), bar);
    assert.equal(u32At(await vfio.read(4, bar)) & ~0xf, -Number(BAR_BYTES));
    await vfio.write(MEMORY_AND_MASTER, COMMAND);
    assert.equal((await vfio.read(1, 0x08n))[0], 0x32);
  });
});

casesOf('mmap of a VFIO device', SMMU, ({ does }) => {
  const map = (t: Setting, vfio: VfioDevice, length: number, flags: number, offset: bigint): number => {
    const { result, unmap } = t.program.mmap(vfio.fd, length, READ_WRITE, flags, offset);
    unmap();
    return result;
  };
  for (const [what, length, flags, offset] of [
    ['privately', 4096, PRIVATE, 0n],
    ['beyond its end', 0x5000, SHARED, 0n],
    ['from its end on', 4096, SHARED, BAR_BYTES],
  ] as const) {
    does(`does not map the BAR ${what} (errno 22)`, async (t) => {
      assert.equal(map(t, await device(t), length, flags, offset), EINVAL);
    });
  }
  for (const index of [BAR1, ROM, CONFIG, VGA, REGIONS]) {
    does(`does not map region ${index} (errno 22)`, async (t) => {
      assert.equal(map(t, await device(t), 4096, SHARED, regionAt(index)), EINVAL);
    });
  }
  does('does not map what is not bound (errno 22)', async (t) => {
    assert.equal(map(t, t.vfio(), 4096, SHARED, 0n), EINVAL);
  });
  does('maps the BAR, in whole pages, with the MSI-X table', async (t) => {
    const vfio = await device(t);
    for (const [length, offset] of [
      [Number(BAR_BYTES), 0n],
      [1, 0x3000n],
    ] as const) {
      assert.equal(map(t, vfio, length, SHARED, offset), 0);
    }
  });
  does('keeps the device bound when its file is closed, until the mapping is gone', async (t) => {
    const vfio = await device(t);
    const { result, unmap } = t.program.mmap(vfio.fd, 4096, READ_WRITE, SHARED, 0n);
    assert.equal(result, 0);
    t.end(vfio);
    const again = t.vfio();
    const bind = () => again.bindIommufd({ iommufd: t.iommufd.fd });
    await assert.rejects(bind, /EINVAL/);
    unmap();
    await bind();
  });
});

casesOf('mmap of a VFIO device', GROUPS, ({ does }) => {
  does('does not map a BAR that cannot be mapped (errno 22)', async (t) => {
    const { vfio } = await bound(t, 4);
    assert.equal(t.program.mmap(vfio.fd, 4096, READ_WRITE, SHARED, 0n).result, EINVAL);
  });
});
