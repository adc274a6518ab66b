import { describe, expect, it } from 'vitest';
import { NO_SUBSTREAM } from '../iommu.ts';
import { IOAT } from './ioat.ts';
import { NVME } from './nvme/nvme.ts';
import { functionRig, peek } from './testing.ts';

/** Offsets of PCI 3.0, 6.8.2, in BAR0 of these functions. */
const [TABLE, MSIX_CONTROL, COMMAND] = [0x2000, 0x82, 0x04];

/** MSI-X on, the first two vectors not masked. */
function armed(kind = NVME, features: Parameters<typeof functionRig>[1] = {}) {
  const rig = functionRig(kind, features);
  rig.fn.writeConfig(MSIX_CONTROL, 2, 0x8000);
  for (let vector = 0; vector < Math.min(2, rig.fn.msix!.vectors); vector++) rig.fn.maskVector(vector, false);
  return rig;
}

describe('a message', () => {
  it('is a write of the data of its table entry to the address there, wherever that is', () => {
    const { fn, memory, interrupts, clock } = armed();
    for (const [word, value] of [0x0001_2347, 0, 0xcafe_f00d].entries()) fn.writeRegister(TABLE + 4 * word, 4, value);
    fn.sendMessage(0);
    clock.settle();
    expect(interrupts).toEqual([]);
    expect([...peek(memory, 0x1_2344, 4)]).toEqual([0x0d, 0xf0, 0xfe, 0xca]);
  });

  it.each([
    [2, 0x4d3a],
    [1, 0x4d39],
    [0, 0x4d38],
  ])('of MSI has the number of its vector, %i, in place of the low bits of the data', (vector, data) => {
    const { fn, memory, clock } = functionRig(IOAT, { msi: 4 });
    for (const [at, bytes, value] of [
      [0x44, 4, 0x1_2344],
      [0x4c, 2, 0x4d3b],
      [0x42, 2, 0x0021],
    ] as const) {
      fn.writeConfig(at, bytes, value);
    }
    fn.sendMessage(vector);
    clock.settle();
    expect([...peek(memory, 0x1_2344, 4)]).toEqual([data & 0xff, data >>> 8, 0, 0]);
  });

  it('is refused with its address, and then lost', () => {
    const { fn, iommu, interrupts, clock } = armed();
    for (const frame of [...iommu.mapping.keys()]) if (frame > 0xff) iommu.mapping.delete(frame);
    fn.sendMessage(0);
    clock.settle();
    expect([interrupts, fn.msix!.readPending(0)]).toEqual([[], 0]);
  });

  it('asks neither the ATC nor for a translation, and carries no PASID', () => {
    const { fn, iommu, interrupts, clock, dma } = armed(IOAT, { ats: true, pasidBits: 8 });
    fn.enableAts(true);
    dma.read(1, 0, new Uint8Array(1), NO_SUBSTREAM);
    const { requests, untranslated } = iommu;
    fn.sendMessage(0);
    clock.settle();
    expect(interrupts).toEqual([0]);
    expect([iommu.requests, iommu.untranslated]).toEqual([requests, untranslated + 1]);
  });

  it('that stalls keeps the next ones pending, and they follow when it has ended', () => {
    const { fn, iommu, interrupts, clock } = armed(NVME, { canStall: true });
    const [frame, entry] = [...iommu.mapping].find(([at]) => at > 0xff)!;
    iommu.mapping.delete(frame);
    iommu.stalls = true;
    fn.sendMessage(0);
    fn.sendMessage(1);
    fn.sendMessage(1);
    clock.settle();
    expect([iommu.stalled.length, fn.msix!.readPending(0), interrupts]).toEqual([1, 0b10, []]);
    iommu.mapping.set(frame, entry);
    iommu.stalled[0]!.stallEnded(true);
    clock.settle();
    expect([fn.msix!.readPending(0), interrupts]).toEqual([0, [0, 1]]);
  });

  it('that stalls is gone after a reset, and so are those behind it', () => {
    const { fn, iommu, interrupts, clock } = armed(NVME, { canStall: true });
    iommu.mapping.clear();
    iommu.stalls = true;
    fn.sendMessage(0);
    fn.sendMessage(1);
    fn.reset();
    clock.settle();
    expect([iommu.stalled, fn.msix!.readPending(0), interrupts]).toEqual([[], 0, []]);
  });

  it('is not sent without bus mastering, nor is anything left pending', () => {
    const { fn, interrupts, clock, iommu } = armed();
    fn.writeConfig(COMMAND, 2, 0x2);
    fn.sendMessage(0);
    clock.settle();
    expect([interrupts, fn.msix!.readPending(0), iommu.untranslated]).toEqual([[], 0, 0]);
  });
});
