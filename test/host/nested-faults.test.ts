/** Faults of a guest's stage 1 that stall, and page requests behind it: they go to the fault queue of the nested HWPT. */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import {
  DONE,
  FAULT_ID_VALID,
  FaultProgram,
  faultingMachine,
  type Kind,
  REFUSED,
  SUCCESS,
  WAITING,
} from './faulting.ts';
import { ContextTable, commands, Stage1 } from './guest.ts';

const MISSING = 0x6000_0000n;
const SID = 0x10;
/** CD.S, and STE.S1STALLD in the second doubleword. */
const CD_S = 1n << 44n;
const S1STALLD = 1n << 27n;

interface Choice {
  readonly faultQueue?: boolean;
  readonly stalls?: boolean;
  readonly s1stalld?: boolean;
}

async function nested(kind: Kind, { faultQueue = true, stalls = kind === 'stall', s1stalld = false }: Choice = {}) {
  const made = faultingMachine(kind);
  const program = await FaultProgram.start(made);
  const { vm, device, faultId } = program;
  const slice = await vm.slice(device);
  await slice.setVirtualId(device, SID);
  const events = await slice.events();
  const stage1 = new Stage1(vm.ram, 7);
  const contexts = new ContextTable(vm.ram, 2);
  for (const ssid of [0, 1]) {
    contexts.set(ssid, stage1);
    const at = contexts.base + 64n * BigInt(ssid);
    if (stalls) vm.ram.store(at, vm.ram.load(at) | CD_S);
  }
  const [low, high] = contexts.ste(kind === 'pri');
  const ste = BigUint64Array.of(low, high | (s1stalld ? S1STALLD : 0n));
  const dataUptr = vm.program.put(new Uint8Array(ste.buffer));
  const flags = faultQueue ? FAULT_ID_VALID : 0;
  const data = { dataType: 2, dataLen: 16, dataUptr };
  const values = { flags, faultId: faultQueue ? faultId : 0, devId: device.id, ptId: slice.id, ...data };
  const hwpt = await vm.program.ok(vm.iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values);
  await device.attach(hwpt.outHwptId);
  const page = vm.ram.allocate();
  vm.ram.text(page, 'a guest page');
  const vevents = () => vm.program.read(events.fd, 4096);
  return { ...made, program, slice, stage1, page, vevents };
}

describe.each(['stall', 'pri'] as const)('a page that is missing in the stage 1 of the guest, %s', (kind) => {
  it('is told to the fault queue and not to the guest, which maps it and has it answered', async () => {
    const { program, stage1, page, vevents } = await nested(kind);
    expect(program.start(MISSING)).toBe(WAITING);
    expect(vevents()).toHaveLength(0);
    const [fault] = program.faults();
    expect(fault!.addr).toBe(MISSING);
    stage1.map(MISSING, page);
    program.answer(fault!.cookie, SUCCESS);
    expect([program.status, program.window]).toEqual([DONE, 'a guest page']);
  });

  it('comes with the PASID of the guest, which the host knows nothing of', async () => {
    const { program, stage1, page } = await nested(kind);
    expect(program.start(MISSING, { pasid: 1 })).toBe(WAITING);
    const [fault] = program.faults();
    expect([fault!.flags & 1, fault!.pasid]).toEqual([1, 1]);
    stage1.map(MISSING, page);
    program.answer(fault!.cookie, SUCCESS);
    expect(program.status).toBe(DONE);
  });
});

describe('a stage 1 of the guest that stalls', () => {
  it('without a fault queue has its accesses ended by the host', async () => {
    const { program, vevents } = await nested('stall', { faultQueue: false });
    expect([program.start(MISSING), vevents().length]).toEqual([REFUSED, 0]);
  });

  it('is illegal where the guest itself has switched stalls off', async () => {
    const { program, vevents } = await nested('stall', { s1stalld: true });
    expect(program.start(MISSING)).toBe(REFUSED);
    // C_BAD_CD behind the header of the vEVENTQ.
    expect(vevents()[8]).toBe(0x0a);
  });

  it('cannot be resumed by the guest', async () => {
    const { program, slice } = await nested('stall');
    program.start(MISSING);
    const resume: [bigint, bigint] = [0x44n | (1n << 12n) | (BigInt(SID) << 32n), 0n];
    expect(await slice.invalidate(commands.sync())).toEqual({ errno: 'EIO', done: 0 });
    expect(await slice.invalidate(resume)).toEqual({ errno: 'EIO', done: 0 });
    expect(program.status).toBe(WAITING);
  });
});

describe('a stage 1 of the guest that does not stall', () => {
  it('has its faults told to the guest, also when its HWPT has a fault queue', async () => {
    const { program, vevents } = await nested('stall', { stalls: false });
    expect(program.start(MISSING)).toBe(REFUSED);
    expect([program.faults(), vevents()[8]]).toEqual([[], 0x10]);
  });
});
