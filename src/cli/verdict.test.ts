import { describe, expect, it } from 'vitest';
import type { CommandEvent, DmaEvent, TraceEvent } from '../trace/events.ts';
import { TapCounter, Witness } from './verdict.ts';

const NH_ASID = 0x11;
const S12_VMALL = 0x28;
const command = (iommu: string, opcode: number, vmid: number): CommandEvent => ({
  type: 'command',
  iommu,
  architecture: 'smmuv3',
  words: [opcode, (7 << 16) | vmid, 0, 0],
  error: '',
});
const dma = (device: string, write: boolean, frame: number): DmaEvent => ({
  type: 'dma',
  device,
  stream: 0,
  substream: -1,
  iovaFrame: 0x10,
  offset: 0,
  length: 64,
  write,
  frame,
  via: frame < 0 ? 'refused' : 'iommu',
});

function findings(...events: TraceEvent[]) {
  const witness = new Witness();
  for (const event of events) witness.sink(event);
  const [vmids, memory, totals] = witness.findings();
  return { vmids: vmids!, memory: memory!, totals: totals! };
}

describe('the witness of a demo', () => {
  it('finds that two SMMUs tag the guest with VMIDs of their own', () => {
    const { vmids } = findings(command('a', NH_ASID, 2), command('b', NH_ASID, 1), command('a', S12_VMALL, 9));
    expect(vmids).toEqual({ good: true, sentence: 'a VMID for each slice of an SMMU: VMID 2 on a; VMID 1 on b' });
  });

  it.each([
    ['nothing is seen', []],
    ['only one SMMU is seen', [command('a', NH_ASID, 2)]],
    ['both use the same', [command('a', NH_ASID, 2), command('b', NH_ASID, 2)]],
    ['one changes in between', [command('a', NH_ASID, 2), command('a', NH_ASID, 3), command('b', NH_ASID, 1)]],
  ])('does not find that when %s', (_what, events) => {
    expect(findings(...events).vmids.good).toBe(false);
  });

  it('finds a shared stage 2 when a device reads a frame that another one wrote', () => {
    const { memory } = findings(dma('x', true, 5), dma('y', false, 5));
    expect(memory).toEqual({
      good: true,
      sentence: 'both SMMUs lead to the same memory: y read what x wrote, at PA 0x5000',
    });
  });

  it('is not content with a device that reads its own, or with refused DMA', () => {
    expect(findings(dma('x', true, 5), dma('x', false, 5)).memory.good).toBe(false);
    expect(findings(dma('x', true, -1), dma('y', false, -1)).memory.good).toBe(false);
  });

  it('counts what it saw', () => {
    expect(findings(command('a', NH_ASID, 2), dma('x', true, 5)).totals.sentence).toBe(
      'seen: 0 ioctls, 1 SMMU commands, 1 DMA accesses, 0 faults delivered to the VM',
    );
  });
});

describe('the checks of the example', () => {
  const count = (...lines: string[]) => {
    const tap = new TapCounter();
    for (const line of lines) tap.line(line);
    return tap.finding();
  };

  it('hold when all are ok and the plan says that these are all', () => {
    expect(count('# a', 'ok 1 - x', 'ok 2 - y', '1..2')).toEqual({ good: true, sentence: '2 of 2 checks hold' });
  });

  it('do not hold when one is not ok', () => {
    expect(count('ok 1 - x', 'not ok 2 - y', '1..2')).toEqual({ good: false, sentence: '1 of 2 checks hold' });
  });

  it('do not hold when the program ends before its plan', () => {
    const early = '1 of 1 checks hold, and the program did not come to its end';
    expect(count('ok 1 - x', 'Bail out! no device')).toEqual({ good: false, sentence: early });
  });
});
