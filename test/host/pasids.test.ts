/** PASIDs of a device, each with an IOAS of its own, as a program attaches them. */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import {
  ALLOC_PASID,
  DONE,
  FAULT_ID_VALID,
  FaultProgram,
  faultingMachine,
  LAST,
  MISSING,
  PASID_VALID,
  REFUSED,
  SUCCESS,
  WAITING,
} from './faulting.ts';
import { leftovers } from './program.ts';

const IOVA = 0x5000_0000n;

/** The program's memory holds a text in each of its first pages; PASID n sees page n. */
async function setup(kind: 'stall' | 'pri' = 'pri') {
  const made = faultingMachine(kind);
  const program = await FaultProgram.start(made);
  const spaces = [];
  for (let page = 0; page < 3; page++) {
    program.vm.ram.text(program.vm.ram.base + BigInt(page) * 0x1000n, `page ${page}`);
    const ioasId = await program.ioas();
    await program.map(IOVA, BigInt(page) * 0x1000n, ioasId);
    spaces.push({ ioasId, hwptId: await program.hwpt(ALLOC_PASID, ioasId) });
  }
  const read = (pasid: number) => (program.start(IOVA, { pasid }) === DONE ? program.window : null);
  return { ...made, program, spaces, read };
}

describe('PASIDs', () => {
  it('see what they are attached to, side by side with the device itself', async () => {
    const { program, spaces, read } = await setup();
    await program.device.attach(spaces[0]!.hwptId);
    expect(await program.attachPasid(1, spaces[1]!.hwptId)).toBe('');
    expect(await program.attachPasid(2, spaces[2]!.hwptId)).toBe('');
    expect([read(-1), read(1), read(2), read(3)]).toEqual(['page 0', 'page 1', 'page 2', null]);
    expect(await program.detachPasid(1)).toBe('');
    expect([read(-1), read(1), read(2)]).toEqual(['page 0', null, 'page 2']);
    expect(await program.attachPasid(2, spaces[1]!.hwptId)).toBe('');
    expect(read(2)).toBe('page 1');
    await program.device.detach();
    expect([read(-1), read(2)]).toEqual([null, 'page 1']);
  });

  it('lose what is unmapped from their IOAS, and nothing else', async () => {
    const { program, spaces, read } = await setup();
    await program.attachPasid(1, spaces[1]!.hwptId);
    await program.attachPasid(2, spaces[2]!.hwptId);
    expect([read(1), read(2)]).toEqual(['page 1', 'page 2']);
    const values = { ioasId: spaces[1]!.ioasId, iova: IOVA, length: 0x1000n };
    await program.vm.program.ok(program.vm.iommufd, uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap, values);
    expect([read(1), read(2)]).toEqual([null, 'page 2']);
  });

  it('need HWPTs that were allocated for PASIDs, on both sides, and fit the device', async () => {
    const { program, spaces } = await setup();
    const plain = await program.hwpt(0);
    expect(await program.attachPasid(1, plain)).toBe('EINVAL');
    expect(await program.attachPasid(1, spaces[0]!.ioasId)).toBe('EINVAL');
    expect(await program.attachPasid(256, spaces[0]!.hwptId)).toBe('EINVAL');
    await program.device.attach(plain);
    expect(await program.attachPasid(1, spaces[0]!.hwptId)).toBe('EINVAL');
    await program.device.detach();
    expect(await program.attachPasid(1, spaces[0]!.hwptId)).toBe('');
    expect(await program.device.attachErr(plain)).toBe('EINVAL');
  });

  it('leave nothing when the program is killed', async () => {
    const { machine, program, spaces } = await setup();
    await program.attachPasid(1, spaces[1]!.hwptId);
    await program.device.attach(spaces[0]!.hwptId);
    program.vm.program.die();
    expect(leftovers(machine)).toEqual({});
  });
});

describe.each(['stall', 'pri'] as const)('a PASID with a fault queue, %s', (kind) => {
  it('has its missing pages told with the PASID', async () => {
    const { program, spaces, read } = await setup(kind);
    const { ioasId } = spaces[2]!;
    await program.attachPasid(1, spaces[1]!.hwptId);
    await program.attachPasid(2, await program.hwpt(ALLOC_PASID | FAULT_ID_VALID, ioasId));
    expect(program.start(MISSING, { pasid: 2 })).toBe(WAITING);
    const [fault] = program.faults();
    expect(fault).toMatchObject({ flags: LAST | PASID_VALID, pasid: 2 });
    await program.map(MISSING, 0x1000n, ioasId);
    program.answer(fault!.cookie, SUCCESS);
    expect([program.status, program.window, read(2)]).toEqual([DONE, 'page 1', 'page 2']);
  });

  it('has its access refused when it is detached, and another PASID is not touched', async () => {
    const { program, spaces, read } = await setup(kind);
    await program.attachPasid(1, spaces[1]!.hwptId);
    await program.attachPasid(2, await program.hwpt(ALLOC_PASID | FAULT_ID_VALID, spaces[2]!.ioasId));
    program.start(MISSING, { pasid: 2 });
    await program.detachPasid(2);
    expect([program.status, read(1)]).toEqual([REFUSED, 'page 1']);
  });
});
