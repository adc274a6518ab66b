/** The guest's driver on a CMDQV that is no VMM's: the silicon itself, with guest RAM for its memory. */
import { describe, expect, it } from 'vitest';
import { Clock } from '../../hardware/clock.ts';
import { Cmdqv } from '../../hardware/cmdqv/cmdqv.ts';
import { ABORTED, READ } from '../../hardware/iommu.ts';
import { DEFAULT_SETTINGS } from '../../hardware/smmuv3/settings.ts';
import { Smmu } from '../../hardware/smmuv3/smmu.ts';
import type { TraceEvent } from '../../trace/events.ts';
import { AddressSpace } from './address-space.ts';
import { GuestCmdqvDriver } from './cmdqv-driver.ts';
import { frameOf, GuestRam } from './ram.ts';
import { GuestSmmuDriver } from './smmu-driver.ts';

const IOVA = 0x1234_5000n;
const STREAM = 9;

function boot() {
  const ram = new GuestRam(new Uint8Array(4 * 2 ** 20));
  const clock = new Clock();
  const commands: { queue: string; words: readonly number[] }[] = [];
  const emit = (event: TraceEvent) => {
    if (event.type === 'command') commands.push({ queue: event.queue ?? '', words: event.words });
  };
  const tracer = { on: true, emit };
  const interrupt = () => driver.interrupt();
  const irq = { eventq: interrupt, gerror: interrupt, priq: interrupt, cmdqSync: () => {} };
  const smmu = new Smmu({ name: 'smmu', memory: ram.space, settings: DEFAULT_SETTINGS, clock, tracer, irq });
  const cmdqv = new Cmdqv({
    name: 'smmu',
    memory: ram.space,
    settings: { version: 1, log2Vintfs: 2, log2Vcmdqs: 4, log2Sids: 4 },
    executor: smmu.executor,
    commandQueueLog2: 8,
    clock,
    tracer,
    irq: () => queues.interrupt(),
  });
  const queues = new GuestCmdqvDriver(cmdqv, ram);
  const driver = new GuestSmmuDriver(smmu, ram, queues);
  driver.start();
  return { ram, smmu, clock, queues, driver, commands };
}

describe("the guest's CMDQV driver on silicon", () => {
  it('owns VINTF 0 there, and the queues that are its share', () => {
    const { queues } = boot();
    expect([queues.hypOwn, queues.running]).toEqual([true, 4]);
  });

  it('sends every command by its queues, in turn', () => {
    const { ram, smmu, driver, queues, commands } = boot();
    commands.length = 0;
    const space = new AddressSpace(ram, 3);
    const gpa = ram.allocate();
    driver.attach(STREAM, space);
    driver.map(space, IOVA, gpa);
    smmu.translate(STREAM, -1, frameOf(IOVA), 0, READ);
    expect(smmu.outFrame).toBe(frameOf(gpa));
    driver.unmap(space, IOVA);
    expect(smmu.translate(STREAM, -1, frameOf(IOVA), 0, READ)).toBe(ABORTED);
    expect(commands.map(({ queue, words }) => [queue, words[0]! & 0xff])).toEqual([
      ['VINTF0/LVCMDQ0', 0x03],
      ['VINTF0/LVCMDQ0', 0x46],
      ['VINTF0/LVCMDQ1', 0x12],
      ['VINTF0/LVCMDQ1', 0x46],
    ]);
    expect(queues.timeouts).toBe(0);
  });

  it('skips a command that is in error, and goes on behind it', () => {
    const { clock, driver, queues } = boot();
    driver.push(Uint32Array.of(0xff, 0, 0, 0), Uint32Array.of(0x30, 0, 0, 0));
    expect(queues.timeouts).toBe(1);
    clock.settle();
    expect(queues.errors).toEqual([{ queue: 0, code: 1, index: 0 }]);
    expect([queues.errorOf(0), queues.running]).toEqual([1, 4]);
    for (let turn = 0; turn < 4; turn++) driver.push();
    expect(queues.timeouts).toBe(1);
  });
});
