/** What a VMM may do wrong with the events of its host: scenarios V2, V4 and V16. */
import { describe, expect, it } from 'vitest';
import { ABIS, type Choice, leftovers, rigFor, startGuest } from './rig.ts';

const EVENTQ_ABT_ERR = 4;
const MISSING = 0x50_0000n;

describe.each(ABIS)("V2: a fault of the guest's tables, with %s,", (abi) => {
  const { startGuest } = rigFor(abi);

  it.each([
    [
      'is lost without an event queue of the vIOMMU, and only the SMMU of the host knows of it',
      { skipEventQueue: true },
      0,
    ],
    ["is in the guest's event queue", {}, 1],
  ])('%s', async (_what, faults, expected) => {
    const { probe, smmu, events } = await startGuest({ faults });
    expect(probe.read(MISSING)).toBeNull();
    expect(smmu.events).toHaveLength(expected);
    const recorded = events.filter((event) => event.type === 'fault' && event.iommu.startsWith('smmu3.'));
    expect(recorded).toHaveLength(1);
  });

  it('is heard of by an event thread that polls with a time-out, too', async () => {
    const { probe, smmu } = await startGuest({ eventTimeout: 100 });
    expect(probe.read(MISSING)).toBeNull();
    expect(smmu.events).toHaveLength(1);
  });
});

describe("V2: a fault of the guest's tables", () => {
  it('is lost with releases that have no vEVENTQ, whatever the VMM does', async () => {
    const { probe, smmu } = await startGuest({ abi: 'linux-6.14' });
    expect(probe.read(MISSING)).toBeNull();
    expect(smmu.events).toEqual([]);
  });
});

describe('V4: a vEVENTQ that was full', () => {
  it.each([
    ['a global error when the VMM takes it for an abort', { lostEventsAsAbort: true }, EVENTQ_ABT_ERR, 0],
    ['an overflow of the event queue', {}, 0, 1],
  ])('is for the guest %s', async (_what, faults, errors, overflows) => {
    const { vm, probe, smmu } = await startGuest({ faults, eventDepth: 2 });
    vm.threads.paused = true;
    for (let page = 0n; page < 5n; page++) probe.read(MISSING + 4096n * page);
    vm.threads.paused = false;
    vm.threads.run();
    expect(smmu.events.map((words) => words[4])).toEqual([0x50_0000, 0x50_1000]);
    expect({ errors: smmu.errors, overflows: smmu.overflows }).toEqual({ errors, overflows });
    probe.read(MISSING);
    expect(smmu.events).toHaveLength(3);
  });

  it('is told once when an event follows the lost ones, by the gap in the sequence', async () => {
    const { vm, probe, smmu } = await startGuest({ eventDepth: 1 });
    for (let page = 0n; page < 3n; page++) {
      vm.threads.paused = page < 2n;
      probe.read(MISSING + 4096n * page);
    }
    vm.threads.run();
    expect(smmu.overflows).toBe(1);
  });
});

describe.each(ABIS)('V16: the event thread at the end of a VM, with %s,', (abi) => {
  const { startGuest } = rigFor(abi);
  const end = async (choice: Choice) => {
    const { machine, vm, probe } = await startGuest(choice);
    probe.read(MISSING);
    vm.stop();
    vm.exit();
    return { refusals: vm.teardown.refusals, left: leftovers(machine) };
  };

  it.each([
    ['polls for ever, with nobody to wake it', { pollForEver: true }],
    ['has its descriptor closed, which wakes nobody', { closeToWake: true }],
  ])('%s: the VMM waits for ever', async (_what, faults) => {
    await expect(end({ faults })).rejects.toThrow('the event thread of vsmmu0 is waited for, and nothing is left');
  });

  it.each([
    ['is woken up by an eventfd', {}],
    ['looks up from its poll now and then', { eventTimeout: 100 }],
  ])('%s, and ends', async (_what, choice) => {
    expect(await end(choice)).toEqual({ refusals: [], left: {} });
  });

  it('gets away with it when an event comes at the right moment', async () => {
    const { vm, probe } = await startGuest({ faults: { pollForEver: true } });
    vm.threads.paused = true;
    probe.read(MISSING);
    vm.threads.paused = false;
    vm.stop();
    expect(vm.teardown.refusals).toEqual([]);
  });
});

describe.each(ABIS)("the guest's own event queue, with %s,", (abi) => {
  const { startGuest } = rigFor(abi);

  it('overflows when the guest does not read it, and goes on when it has', async () => {
    const { vm, probe, smmu } = await startGuest();
    const { handler } = vm.smmus[0]!;
    vm.smmus[0]!.handler = null;
    for (let page = 0n; page < 40n; page++) probe.read(MISSING + 4096n * page);
    vm.smmus[0]!.handler = handler;
    smmu.interrupt();
    expect([smmu.events.length, smmu.overflows]).toEqual([32, 1]);
    probe.read(MISSING);
    expect([smmu.events.length, smmu.overflows]).toEqual([33, 1]);
  });
});
