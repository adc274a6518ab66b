/** DMA that finds no page and waits for the program to bring it: by stalls, and by page requests (PRI). */
import { describe, expect, it } from 'vitest';
import * as uapi from '../../src/abi/iommufd.ts';
import {
  DONE,
  FaultProgram,
  faultingMachine,
  INVALID,
  type Kind,
  LAST,
  MISSING,
  READ,
  REFUSED,
  SUCCESS,
  WAITING,
  WRITE,
} from './faulting.ts';
import { leftovers } from './program.ts';

async function attached(kind: Kind, change?: Parameters<typeof faultingMachine>[1]) {
  const made = faultingMachine(kind, change);
  const program = await FaultProgram.start(made);
  const hwptId = await program.hwpt();
  await program.device.attach(hwptId);
  return { ...made, program, hwptId };
}

/** Names of commands that the SMMU consumed: CMD_RESUME 0x44, CMD_PRI_RESP 0x41. */
const answers = (events: readonly { type: string }[]) =>
  events.flatMap((event) => {
    const words = event.type === 'command' ? (event as unknown as { words: number[] }).words : [0];
    return [0x41, 0x44].includes(words[0]! & 0xff) ? [words[0]! & 0xff] : [];
  });

describe.each(['stall', 'pri'] as const)('a DMA access to a page that is missing, %s', (kind) => {
  it('waits, is told to the program, and goes on with the page that it maps', async () => {
    const { program, events } = await attached(kind);
    program.vm.ram.text(program.vm.ram.base, 'from the program');
    expect(program.start(MISSING + 0x0n)).toBe(WAITING);
    const faults = program.faults();
    expect(faults).toMatchObject([{ flags: LAST, devId: program.device.id, pasid: 0, perm: READ, cookie: 1 }]);
    expect(faults[0]!.addr & ~0xfffn).toBe(MISSING);
    expect(program.status).toBe(WAITING);
    await program.map(MISSING);
    expect(program.status).toBe(WAITING);
    expect(program.answer(1, SUCCESS)).toBe(8);
    expect([program.status, program.window]).toEqual([DONE, 'from the program']);
    expect(answers(events)).toEqual([kind === 'stall' ? 0x44 : 0x41]);
  });

  it('writes what it had when it began, once', async () => {
    const { program } = await attached(kind);
    program.window = 'written';
    expect(program.start(MISSING, { write: true })).toBe(WAITING);
    program.window = 'changed since';
    expect(program.faults()).toMatchObject([{ perm: WRITE }]);
    await program.map(MISSING);
    program.answer(1, SUCCESS);
    expect([program.status, program.vm.ram.text(program.vm.ram.base)]).toEqual([DONE, 'written']);
  });

  it('is refused when the answer is INVALID', async () => {
    const { program } = await attached(kind);
    program.start(MISSING);
    program.faults();
    program.answer(1, INVALID);
    expect([program.status, program.faults()]).toEqual([REFUSED, []]);
    expect(program.start(MISSING)).toBe(WAITING);
  });

  it('asks again when the answer was SUCCESS and the page is still missing', async () => {
    const { program } = await attached(kind);
    program.start(MISSING);
    program.answer(program.faults()[0]!.cookie, SUCCESS);
    expect(program.status).toBe(WAITING);
    expect(program.faults()).toHaveLength(1);
  });

  it('goes on at the second page when that one was missing', async () => {
    const { program } = await attached(kind);
    await program.map(MISSING);
    program.vm.ram.bytes.fill(7, 0xff8, 0x1000);
    program.vm.ram.bytes.fill(8, 0x1000, 0x1008);
    expect(program.start(MISSING + 0xff8n)).toBe(WAITING);
    await program.map(MISSING + 0x1000n, 0x1000n);
    program.answer(program.faults()[0]!.cookie, SUCCESS);
    expect(program.status).toBe(DONE);
    expect([...program.device.readBar(0x100, 16)]).toEqual([...Array(8).fill(7), ...Array(8).fill(8)]);
  });

  it('is refused when the device is detached, or attached to something else', async () => {
    for (const end of ['detach', 'replace'] as const) {
      const { program } = await attached(kind);
      program.start(MISSING);
      program.faults();
      if (end === 'detach') await program.device.detach();
      else await program.device.attach(await program.hwpt(0, await program.ioas()));
      expect(program.status).toBe(REFUSED);
      expect(program.answer(1, SUCCESS)).toBe('EINVAL');
    }
  });

  it('is refused when nobody has read the fault and the device is detached', async () => {
    const { program } = await attached(kind);
    program.start(MISSING);
    await program.device.detach();
    expect([program.status, program.faults()]).toEqual([REFUSED, []]);
  });

  it('outlives the descriptor of the fault queue, and ends with the attachment', async () => {
    const { program } = await attached(kind);
    program.start(MISSING);
    program.vm.program.close(program.faultFd);
    expect(program.status).toBe(WAITING);
    await program.device.detach();
    expect(program.status).toBe(REFUSED);
  });

  it('ends at once where no fault queue is', async () => {
    const made = faultingMachine(kind);
    const program = await FaultProgram.start(made);
    await program.device.attach(await program.hwpt(0));
    expect(program.start(MISSING)).toBe(REFUSED);
    expect(program.faults()).toEqual([]);
    expect(made.events.some((event) => event.type === 'fault')).toBe(true);
  });

  it('is forgotten by a reset of the device; the answer then meets nobody', async () => {
    const { program, events } = await attached(kind);
    program.start(MISSING);
    const [fault] = program.faults();
    expect(await program.vm.program.bare(program.device.fd, 0x3b6f)).toBe('');
    expect(program.status).toBe(0);
    expect(program.answer(fault!.cookie, SUCCESS)).toBe(8);
    expect([program.status, answers(events).length]).toEqual([0, 1]);
    await program.map(MISSING);
    expect(program.start(MISSING)).toBe(DONE);
  });

  it('is refused when the program takes bus mastering away', async () => {
    const { program } = await attached(kind);
    program.start(MISSING);
    program.device.setCommand(0x2);
    expect(program.status).toBe(REFUSED);
    expect(program.answer(program.faults()[0]!.cookie, SUCCESS)).toBe(8);
  });

  it.each([
    ['in the order of opening', (fds: number[]) => fds],
    ['the other way round', (fds: number[]) => fds.toReversed()],
  ])('leaves nothing when the program is killed, %s', async (_what, order) => {
    const { machine, program } = await attached(kind);
    program.start(MISSING);
    program.faults();
    program.vm.program.die(order);
    expect(leftovers(machine)).toEqual({});
    const next = await FaultProgram.start({ machine, events: [] });
    await next.device.attach(await next.hwpt());
    expect(next.start(MISSING)).toBe(WAITING);
    expect(next.faults()).toHaveLength(1);
  });
});

describe('page requests', () => {
  it('of one access come as one group, and are answered as one', async () => {
    const { program } = await attached('pri');
    program.start(MISSING + 0xff8n);
    const faults = program.faults();
    expect(faults.map(({ flags, addr, cookie }) => [flags, addr, cookie])).toEqual([
      [0, MISSING, 1],
      [LAST, MISSING + 0x1000n, 1],
    ]);
    expect(faults[0]!.grpid).toBe(faults[1]!.grpid);
    await program.map(MISSING);
    await program.map(MISSING + 0x1000n, 0x1000n);
    expect(program.answer(1, SUCCESS)).toBe(8);
    expect(program.status).toBe(DONE);
  });

  it('are not made by a device without PRI: the access faults, also with a fault queue', async () => {
    const { program } = await attached('pri', (machine) => (machine.functions[0]!.pri = false));
    expect([program.start(MISSING), program.faults()]).toEqual([REFUSED, []]);
  });

  it('are not made behind an SMMU without PRI', async () => {
    const { program } = await attached('pri', (machine) => (machine.iommus[0]!.pri = false));
    expect([program.start(MISSING), program.faults()]).toEqual([REFUSED, []]);
  });
});

describe('stalls', () => {
  it('do not happen to a device that was not offered for them', async () => {
    const { program, events } = await attached('stall', (machine) => (machine.functions[0]!.canStall = false));
    expect([program.start(MISSING), program.faults()]).toEqual([REFUSED, []]);
    expect(events.filter((event) => event.type === 'fault')).toHaveLength(1);
  });

  it('happen to every device where the SMMU knows nothing else', async () => {
    const { program } = await attached('stall', (machine) => {
      machine.iommus[0]!.stallModel = 2;
      machine.functions[0]!.canStall = false;
    });
    expect(program.start(MISSING)).toBe(WAITING);
    expect(program.faults()).toMatchObject([{ perm: READ }]);
  });

  it('end at once without a fault queue even where they are forced', async () => {
    const made = faultingMachine('stall', (machine) => (machine.iommus[0]!.stallModel = 2));
    const program = await FaultProgram.start(made);
    await program.device.attach(await program.hwpt(0));
    expect(program.start(MISSING)).toBe(REFUSED);
    expect(answers(made.events)).toEqual([0x44]);
  });

  it('of a stage 2 are told with their address, too', async () => {
    const made = faultingMachine('stall', (machine) => (machine.iommus[0]!.s1p = false));
    const program = await FaultProgram.start(made);
    await program.device.attach(await program.hwpt());
    expect(program.start(MISSING + 0x10n)).toBe(WAITING);
    expect(program.faults()).toMatchObject([{ addr: MISSING + 0x10n }]);
    await program.map(MISSING);
    program.answer(1, SUCCESS);
    expect(program.status).toBe(DONE);
  });
});

describe('the fault queue', () => {
  it('stays as long as an HWPT uses it', async () => {
    const { program, hwptId } = await attached('stall');
    const { vm, faultId, faultFd } = program;
    expect(await vm.destroy(faultId)).toBe('EBUSY');
    vm.program.close(faultFd);
    expect(await vm.destroy(faultId)).toBe('EBUSY');
    await program.device.detach();
    expect([await vm.destroy(hwptId), await vm.destroy(faultId)]).toEqual(['', '']);
    expect(uapi.HwptPgfault.size).toBe(40);
  });
});
