import { describe, expect, it } from 'vitest';
import { leftovers, Program, testMachine } from '../../../test/host/program.ts';
import * as groups from '../../abi/vfio-group.ts';
import * as type1 from '../../abi/vfio-type1.ts';
import { type Mapping, mappedRegisters } from '../file.ts';

const IOVA = 0x4000_0000n;
const SHARED = 1;

/** A program that has mapped BAR0 of its device where its memory has something else. */
async function withMappedBar(path: string) {
  const { machine } = testMachine();
  const program = new Program(machine);
  const [container, group] = [program.open(path), program.open('/dev/vfio/0')];
  const fd = program.put(new Uint8Array(Int32Array.of(container).buffer));
  expect(await program.bare(group, groups.VFIO_GROUP_SET_CONTAINER, fd)).toBe('');
  const name = program.put(new TextEncoder().encode('0000:01:00.0\0'));
  const device = (await program.result(group, groups.VFIO_GROUP_GET_DEVICE_FD, name)) as number;
  const mapping: Mapping = program.file(device).mmap(program.process, 0x4000n, 3, SHARED, 0n);
  const at = 0x1000_0000n;
  Object.assign(program.process, {
    registersAt: (address: bigint, length: bigint) =>
      address >= at && address + length <= at + 0x4000n
        ? { registers: mappedRegisters(mapping)!, offset: Number(address - at) }
        : null,
  });
  const map = (vaddr: bigint, size: bigint, iova = IOVA) =>
    program.err(container, type1.VFIO_IOMMU_MAP_DMA, type1.Type1DmaMap, { argsz: 32, flags: 3, vaddr, iova, size });
  const mapRam = (iova: bigint, bytes: number) => map(program.base, BigInt(bytes), iova);
  return { machine, program, device, mapping, at, map, mapRam };
}

describe('registers that a program has mapped', () => {
  it('can be mapped for DMA through /dev/vfio/vfio, in whole or in part, and are not accounted for', async () => {
    const { machine, program, mapping, at, map } = await withMappedBar('/dev/vfio/vfio');
    expect(await map(at, 0x4000n)).toBe('');
    expect(await map(at + 0x1000n, 0x1000n, IOVA + 0x4000n)).toBe('');
    expect(program.process.account.pinnedPages).toBe(0);
    program.die();
    mapping.ended();
    expect(leftovers(machine)).toEqual({});
  });

  it('are reached at their IOVA', async () => {
    const { machine, program, device, at, map } = await withMappedBar('/dev/vfio/vfio');
    await map(at, 0x4000n);
    program.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    program.pwrite(device, 0x90n, Uint8Array.of(0x78, 0x56, 0x34, 0x12));
    const at0 = machine.devices[0]!.binding!.device.attached()!.paging.domain.physical(IOVA)!;
    expect(machine.memory.load32(at0 / 4096, 0x90)).toBe(true);
    expect(machine.memory.lo).toBe(0x1234_5678);
  });

  it('cannot be mapped through /dev/iommu', async () => {
    const { at, map } = await withMappedBar('/dev/iommu');
    expect(await map(at, 0x4000n)).toBe('EFAULT');
  });

  it('are written by DMA when the access is over: a device that starts itself again and again stops nobody', async () => {
    const { machine, program, device, at, map, mapRam } = await withMappedBar('/dev/vfio/vfio');
    expect([await map(at, 0x4000n), await mapRam(0n, 0x4000)]).toEqual(['', '']);
    // Ends its chain by naming it again, and then has it begin: the doorbell lies before the address, so by way of two pages.
    const [chain, payload, twice] = [0x1000, 0x2000, IOVA + 0x8000n];
    expect([await map(at, 0x1000n, twice), await map(at, 0x1000n, twice + 0x1000n)]).toEqual(['', '']);
    const view = new DataView(program.memory.bytes.buffer);
    view.setBigUint64(payload, BigInt(chain), true);
    view.setUint16(payload + 0xff6, 1, true);
    view.setUint32(chain, 0xff8, true);
    view.setBigUint64(chain + 8, BigInt(payload), true);
    view.setBigUint64(chain + 16, twice + 0x90n, true);
    view.setBigUint64(chain + 24, BigInt(chain), true);
    program.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    program.pwrite(device, 0x90n, new Uint8Array(BigUint64Array.of(BigInt(chain)).buffer));
    program.file(device).write(program.process, program.put(Uint8Array.of(1, 0)), 2, 0x86n);
    for (let call = 0; call < 10; call++) expect(machine.settle(100)).toBe(false);
    program.file(device).write(program.process, program.put(Uint8Array.of(2, 0)), 2, (7n << 40n) + 4n);
    expect(machine.settle(1000)).toBe(true);
  });
});
