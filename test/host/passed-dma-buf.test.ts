/** A BAR that one program exports as a dma-buf and another one maps for its own device. */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import * as vfio from '../../src/abi/vfio.ts';
import { leftovers, type MutableMachine, testMachine } from './program.ts';
import { Probe, Vm } from './vm.ts';

const DMA_BUF_GET = 11 | (1 << 16);
const BAR_BYTES = 0x4000;
const IOVA = 0x9000_0000n;

const functions = (machine: MutableMachine): void => {
  machine.functions[0]!.model = 'ioat';
  machine.functions[1]!.model = 'dma-probe';
};

/** Program 42 has exported a BAR, and program 43 has the descriptor and has mapped it twice. */
async function passed() {
  const { machine } = testMachine({ change: functions });
  const [exporter, importer] = [await Vm.start(machine, 42), await Vm.start(machine, 43)];
  const owner = await exporter.device(0);
  const peer = await importer.device(1);
  await peer.attach(importer.ioasId);
  const asked = Uint32Array.of(40, DMA_BUF_GET, 0, 0, 0, 1, 0, 0, BAR_BYTES, 0);
  const struct = exporter.program.put(new Uint8Array(asked.buffer));
  const made = (await exporter.program.result(owner.fd, vfio.VFIO_DEVICE_FEATURE, struct)) as number;
  const file = exporter.program.file(made);
  const fd = importer.program.process.openFd(file) as number;
  exporter.program.process.files.delete(made);
  const map = (iova: bigint) =>
    importer.program.err(importer.iommufd, uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile, {
      ...{ flags: 7, ioasId: importer.ioasId, fd, length: BigInt(BAR_BYTES), iova },
    });
  expect([await map(IOVA), await map(IOVA + 0x10000n)]).toEqual(['', '']);
  const probe = new Probe(peer);
  const reads = () => [probe.read(IOVA), probe.read(IOVA + 0x10000n)].map((text) => text !== null);
  expect(reads()).toEqual([true, true]);
  return { machine, exporter, importer, map, reads };
}

describe('a dma-buf in another program', () => {
  it('leads nowhere when the program that exported it has died, and can be unmapped then', async () => {
    const { machine, exporter, importer, map, reads } = await passed();
    exporter.program.die();
    expect([...reads(), await map(IOVA + 0x20000n)]).toEqual([false, false, 'ENODEV']);
    expect(await importer.unmap(IOVA, BAR_BYTES)).toBe('');
    importer.program.die();
    expect(leftovers(machine)).toEqual({});
  });

  it('leaves nothing when the program that mapped it dies first', async () => {
    const { machine, exporter, importer } = await passed();
    importer.program.die();
    exporter.program.die();
    expect(leftovers(machine)).toEqual({});
  });
});
