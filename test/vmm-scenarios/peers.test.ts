/** What a VMM may do wrong with DMA between its devices: scenario V17. */
import { describe, expect, it } from 'vitest';
import type { Faults } from '../../src/vmm/faults.ts';
import { ABIS, type Choice, IOVA, leftovers, refusal, startGuest } from './rig.ts';

/** Where the second device's BAR is for the guest, and for the first device. */
const BAR = 0x8000_0000n;
const BAR_BYTES = 4096;
const PEER = 0x20_0000n;
const COMMAND_MEMORY = 2;
/** The first register of a probe. */
const MAGIC = 'DMAP';

/** Two devices, the first of which is to reach the second. */
async function startPeers(choice: Choice) {
  const made = await startGuest({
    smmus: [
      [
        { vfio: 0, sid: 1 },
        { vfio: 1, sid: 2 },
      ],
    ],
    change: (machine) => {
      for (const fn of machine.functions) fn.mmap = true;
    },
    ...choice,
  });
  const peer = made.vm.smmus[0]!.functions[1]!;
  peer.setCommand(COMMAND_MEMORY);
  made.smmu.map(made.space, PEER, BAR);
  const share = () => made.vm.shareBar(peer, BAR, BAR_BYTES);
  const read = () => made.probe.read(PEER)?.slice(0, MAGIC.length) ?? null;
  return { ...made, peer, share, read };
}

describe('V17: DMA to the BAR of another device', () => {
  it('reaches it when the VMM maps a dma-buf of the BAR', async () => {
    const { machine, vm, share, read, probe, peer } = await startPeers({});
    expect(read()).toBeNull();
    expect(await share()).toBe(true);
    expect(read()).toBe(MAGIC);
    // The data register of a probe.
    expect(probe.write(PEER + 0x100n, 'by DMA')).toBe(true);
    expect(peer.readBar(0x100)).toBe(0x44207962);
    vm.stop();
    expect(vm.teardown.refusals).toEqual([]);
    vm.exit();
    expect(leftovers(machine)).toEqual({});
  });

  it.each(ABIS)('faults when the VMM maps the BAR by its address, which has no pages: EFAULT (%s)', async (abi) => {
    const { share, read, events, probe } = await startPeers({ abi, faults: { peersByAddress: true } });
    expect(await share()).toBe(false);
    expect(read()).toBeNull();
    expect(events.filter(({ type }) => type === 'fault')).toHaveLength(1);
    expect(probe.read(IOVA)).toBe('first page');
  });

  it.each<[string, string, Faults]>([
    ['EFAULT', 'linux-7.1', { insistOnPeers: true, peersByAddress: true }],
    ['ENOTTY', 'linux-6.18', { insistOnPeers: true }],
  ])('ends a VMM that insists: %s (%s)', async (errno, abi, faults) => {
    const { share } = await startPeers({ abi, faults });
    expect(await refusal(share)).toBe(errno);
  });

  it.each(['linux-6.18', 'viommu-v2'])(
    'is refused, and nothing else is, with %s, which has no dma-bufs',
    async (abi) => {
      const { machine, vm, share, read, probe } = await startPeers({ abi });
      expect(await share()).toBe(false);
      expect(read()).toBeNull();
      expect(probe.read(IOVA)).toBe('first page');
      vm.stop();
      vm.exit();
      expect(leftovers(machine)).toEqual({});
    },
  );

  it.each<[string, Faults, string | null]>([
    ['stays refused when the VMM trusts in what it has mapped once', { trustSharedBars: true }, null],
    ['is possible again when the VMM maps the BAR anew', {}, MAGIC],
  ])('is refused from the reset of the other device on, and %s', async (_what, faults, expected) => {
    const { share, read, peer } = await startPeers({ faults });
    await share();
    expect(read()).toBe(MAGIC);
    peer.reset();
    expect(read()).toBeNull();
    peer.setCommand(COMMAND_MEMORY);
    expect(read()).toBeNull();
    await share();
    expect(read()).toBe(expected);
  });
});
