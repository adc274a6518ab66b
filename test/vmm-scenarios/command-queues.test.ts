/** What a VMM may do wrong with command queues that the hardware reads by itself: scenarios V12 and V13, and their like. */
import { describe, expect, it } from 'vitest';
import type { Faults } from '../../src/vmm/faults.ts';
import * as cmd from '../../src/vmm/guest/commands.ts';
import { Guest } from '../../src/vmm/guest/guest.ts';
import { ProbeDriver } from '../../src/vmm/guest/probe-driver.ts';
import type { MutableMachine } from '../host/program.ts';
import { type CmdqvChoice, startQueues } from './cmdqv-rig.ts';
import { ABIS, IOVA, leftovers, remap, SID } from './rig.ts';

const STALE = 'first page';
const NEW = 'second page';
/** What a queue says to a command that its owner may not give, or for a stream that is not its owner's. */
const CERROR_ILL_ACCESS = 4;
const EFAULT = 14;
/** Commands in a page. */
const PAGE_OF_COMMANDS = 256;

const withoutCmdqv = (machine: MutableMachine): void => {
  for (const iommu of machine.iommus) delete iommu.cmdqv;
};

/** Has the guest map another page at IOVA, after `before`. @returns what the device finds there */
async function remapped(
  choice: CmdqvChoice,
  before: (made: Awaited<ReturnType<typeof startQueues>>) => void = () => {},
) {
  const made = await startQueues(choice);
  const { probe, smmu, space, second, cmdqv } = made;
  probe.read(IOVA);
  before(made);
  made.events.length = 0;
  remap(smmu, space, IOVA, second);
  const { running, timeouts, errors } = cmdqv;
  return { ...made, found: probe.read(IOVA), running, timeouts, errors };
}

/** As many commands as a page has, in one queue. */
const fillPage = ({ smmu, space }: Awaited<ReturnType<typeof startQueues>>): void =>
  smmu.push(...Array.from({ length: PAGE_OF_COMMANDS }, () => cmd.tlbiPage(space.asid, 0x70_0000n)));

describe.each(['linux-6.17', ...ABIS])('a right VMM with %s', (abi) => {
  it('has the guest invalidate its translations, and those in its devices, without a call', async () => {
    const { found, running, timeouts, events } = await remapped({ abi });
    expect({ found, running, timeouts }).toEqual({ found: NEW, running: 2, timeouts: 0 });
    expect(events.filter(({ type }) => type === 'ioctl')).toEqual([]);
    const queues = events.flatMap((event) => (event.type === 'command' && 'queue' in event ? [event.queue] : []));
    expect(new Set(queues)).toEqual(new Set(['VINTF1/LVCMDQ0', 'VINTF1/LVCMDQ1']));
  });

  it('resets the queues with the VM, ends them at the end, and leaves nothing', async () => {
    const { machine, vm, fn } = await startQueues({ abi });
    vm.reset();
    const rebooted = Guest.boot(vm);
    rebooted.attach(rebooted.smmus[0]!, fn);
    expect(rebooted.smmus[0]!.cmdqv!.running).toBe(2);
    vm.stop();
    expect(vm.teardown.refusals).toEqual([]);
    vm.exit();
    expect(leftovers(machine)).toEqual({});
  });

  it.each([4, 2048, 1048576] as const)('offers queues that fit into a page of %i KiB', async (pageKiB) => {
    const { found, running, timeouts } = await remapped({ abi, pageKiB }, fillPage);
    expect({ found, running, timeouts }).toEqual({ found: NEW, running: 2, timeouts: 0 });
  });
});

describe('a VMM that asks for command queues', () => {
  it.each([
    ['Linux 6.16, which has no words for them', { abi: 'linux-6.16' }],
    ['an SMMU without', { change: withoutCmdqv }],
    ['an SMMU without, and viommu-v2', { abi: 'viommu-v2', change: withoutCmdqv }],
  ])('does without them with %s', async (_what, choice) => {
    const { vm, smmu, space, probe, second } = await startQueues(choice);
    expect([vm.smmus[0]!.cmdqv, smmu.cmdqv]).toEqual([null, null]);
    probe.read(IOVA);
    remap(smmu, space, IOVA, second);
    expect(probe.read(IOVA)).toBe(NEW);
  });
});

describe('V12: a queue of several pages that do not lie behind one another', () => {
  const wide = { wideQueues: true };

  it('is refused (EFAULT), and the guest goes on with the queue of the SMMU', async () => {
    const { probe, smmu, space, second, cmdqv, events } = await startQueues({ faults: wide });
    const refused = events.flatMap((event) => (event.type === 'ioctl' && event.result < 0 ? [event] : []));
    expect(refused.map(({ result }) => result)).toEqual([-EFAULT, -EFAULT]);
    expect(refused[0]!.reason).toContain('not contiguous in physical memory');
    probe.read(IOVA);
    remap(smmu, space, IOVA, second);
    expect([probe.read(IOVA), cmdqv.running, cmdqv.timeouts]).toEqual([NEW, 0, 0]);
  });

  it('is refused, and the commands of a guest that is not told are lost', async () => {
    const { found, running, timeouts } = await remapped({ faults: { ...wide, pretendQueues: true } });
    expect({ found, running }).toEqual({ found: STALE, running: 2 });
    expect(timeouts).toBeGreaterThan(0);
  });

  it('has the hardware run into memory of others where nobody looks (viommu-v2): it stops there', async () => {
    const made = await startQueues({ abi: 'viommu-v2', faults: wide });
    const { probe, smmu, space, second, cmdqv, events } = made;
    probe.read(IOVA);
    fillPage(made);
    // The 257th command: CONS reads 0x04000100.
    expect([cmdqv.running, cmdqv.timeouts, cmdqv.errorOf(0)]).toEqual([2, 1, CERROR_ILL_ACCESS]);
    expect(events.filter((event) => event.type === 'command' && event.error !== '')).toHaveLength(1);
    expect(events.some((event) => event.type === 'note' && event.text.includes('has stopped at an error'))).toBe(true);
    for (const _ of [0, 1]) remap(smmu, space, IOVA, second);
    expect(probe.read(IOVA)).toBe(STALE);
  });

  it.each(ABIS)('does no harm in huge pages (%s)', async (abi) => {
    const { found, running, timeouts } = await remapped({ abi, faults: wide, pageKiB: 2048 }, fillPage);
    expect({ found, running, timeouts }).toEqual({ found: NEW, running: 2, timeouts: 0 });
  });
});

describe('V13: commands that a queue does not take', () => {
  it.each(ABIS)('go by the queue of the SMMU, for a guest that reads 0 for its HYP_OWN (%s)', async (abi) => {
    const { cmdqv, guest, smmu, probe, second } = await startQueues({ abi, ats: false, log2Ssids: 2 });
    const other = guest.space();
    smmu.map(other, IOVA, second);
    probe.read(IOVA, 1);
    smmu.attachSsid(SID, 1, other);
    expect([cmdqv.hypOwn, cmdqv.timeouts, cmdqv.errors]).toEqual([false, 0, []]);
    expect(probe.read(IOVA, 1)).toBe(NEW);
  });

  it.each(ABIS)(
    'stop it for a guest that reads back the HYP_OWN that it has written, and no device comes up (%s)',
    async (abi) => {
      const { cmdqv, probe } = await startQueues({ abi, faults: { exposeHypOwn: true } });
      expect(cmdqv.hypOwn).toBe(true);
      expect(probe.read(IOVA)).toBeNull();
      if (abi === 'viommu-v2') expect(cmdqv.timeouts).toBeGreaterThan(0);
      else expect(cmdqv.errors).toContainEqual({ queue: 0, code: CERROR_ILL_ACCESS, index: 0 });
    },
  );

  it('are in error for a guest that does not filter, which hears of it and goes on behind them', async () => {
    const { found, timeouts, errors } = await remapped({ unfiltered: true }, ({ smmu }) => smmu.push(cmd.tlbiNhAll()));
    expect(errors.map(({ code }) => code)).toContain(CERROR_ILL_ACCESS);
    expect({ found, timeouts }).toEqual({ found: null, timeouts: 0 });
  });

  it.each<[string, CmdqvChoice]>([
    ['when the VMM has no vEVENTQ for it', { faults: { skipQueueErrors: true } }],
    ['with viommu-v2, which has none', { abi: 'viommu-v2' }],
  ])('stop the queue of such a guest for good %s', async (_when, choice) => {
    const made = await startQueues({ ...choice });
    const { probe, smmu, space, second, cmdqv } = made;
    probe.read(IOVA);
    // As an unfiltered driver would.
    for (const queue of [0, 1]) {
      cmdqv.push(cmd.tlbiNhAll());
      cmdqv.ring();
      expect(cmdqv.errorOf(queue)).toBe(CERROR_ILL_ACCESS);
    }
    remap(smmu, space, IOVA, second);
    expect(probe.read(IOVA)).toBe(STALE);
    expect(cmdqv.errors).toEqual([]);
    expect(cmdqv.timeouts).toBeGreaterThanOrEqual(3);
  });
});

describe('V1 and V16: ATC_INV by the StreamID of the guest', () => {
  it.each<[string, Faults, string]>([
    ['stops a queue when the VMM has not told the host of the device', { skipVdevice: true }, STALE],
    ['reaches the device', {}, NEW],
  ])('%s', async (_what, faults, expected) => {
    const { found, cmdqv } = await remapped({ abi: 'viommu-v2', faults });
    expect(found).toBe(expected);
    expect([0, 1].map((queue) => cmdqv.errorOf(queue)).includes(CERROR_ILL_ACCESS)).toBe(expected === STALE);
  });
});

describe('V3: the end of command queues', () => {
  it.each<[string, string, Faults]>([
    ['linux-7.1', 'destroys the first queue first', { queuesFirstToLast: true }],
    ['linux-7.1', 'leaves the registers mapped', { keepPageMapped: true }],
    ...ABIS.map((abi) => [abi, 'destroys the vIOMMU before its queues', { destroyViommuBeforeQueues: true }] as const),
  ] as [string, string, Faults][])('with %s a VMM that %s gets EBUSY', async (abi, _what, faults) => {
    const { vm } = await startQueues({ abi, faults });
    vm.stop();
    expect(new Set(vm.teardown.refusals.map(({ code }) => code))).toEqual(new Set(['EBUSY']));
  });
});

describe.each(ABIS)('V10: a guest that starts again, with %s,', (abi) => {
  it.each<[string, Faults, string]>([
    ['has the hardware read the queues of the one before when the VMM forgets them', { forgetQueues: true }, STALE],
    ['has queues of its own', {}, NEW],
  ])('%s', async (_what, faults, expected) => {
    const { vm, fn, first, second } = await startQueues({ abi, faults });
    vm.reset();
    const guest = Guest.boot(vm);
    const smmu = guest.smmus[0]!;
    const cmdqv = smmu.cmdqv!;
    const space = guest.attach(smmu, fn, { ats: true });
    smmu.map(space, IOVA, first);
    const probe = new ProbeDriver(fn);
    expect([cmdqv.running, probe.read(IOVA)]).toEqual([2, STALE]);
    remap(smmu, space, IOVA, second);
    expect(probe.read(IOVA)).toBe(expected);
    expect(cmdqv.errors.length + cmdqv.timeouts > 0).toBe(expected === STALE);
    vm.stop();
    expect(vm.teardown.refusals.some(({ code }) => code === 'EBUSY')).toBe(expected === STALE);
  });
});
