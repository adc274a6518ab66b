/**
 * V14, an emulated RISC-V IOMMU whose guest is a hypervisor: a page of the second stage that has moved, with IOTINVAL.GVMA
 * for its address, is gone from entries of both stages too (QEMU work item 3574).
 */
import { describe, expect, it } from 'vitest';
import { DEVICE, GSCID, PAGE, PSCID, startRiscvGuest, textPage } from './v14-rig.ts';

const IOVA = 0x1000_0000n;
const GPA = 0x2000_0000n;

/** The guest's guest has mapped GPA at IOVA; the guest moves what is behind GPA. */
function moved(faults: Parameters<typeof startRiscvGuest>[0]) {
  const made = startRiscvGuest(faults);
  const { vm, iommu, first, second, give } = made;
  give(GPA, textPage(vm.ram, 'before'));
  first.set(IOVA, GPA);
  iommu.attach(DEVICE, second, GSCID, first, PSCID);
  expect(made.probe.read(IOVA)).toBe('before');
  give(GPA, textPage(vm.ram, 'after'));
  return made;
}

describe('a right VMM', () => {
  it('shows a device what both stages say, and nothing else', () => {
    const { vm, probe, iommu, first, second, give } = startRiscvGuest();
    give(GPA, textPage(vm.ram, 'nested'));
    first.set(IOVA, GPA);
    expect(probe.read(IOVA)).toBeNull();
    iommu.attach(DEVICE, second, GSCID, first, PSCID);
    expect([probe.read(IOVA), probe.read(GPA), probe.read(IOVA + PAGE)]).toEqual(['nested', null, null]);
  });

  it('shows it the second stage alone where the first one is bare', () => {
    const { vm, probe, iommu, second, give } = startRiscvGuest();
    give(GPA, textPage(vm.ram, 'one stage'));
    iommu.attach(DEVICE, second, GSCID);
    expect([probe.read(IOVA), probe.read(GPA)]).toEqual([null, 'one stage']);
  });

  it('follows the first stage after IOTINVAL.VMA, and not before', () => {
    const { vm, probe, iommu, first, give } = moved({});
    iommu.invalidateGuest(GSCID, null);
    give(GPA + PAGE, textPage(vm.ram, 'elsewhere'));
    first.set(IOVA, GPA + PAGE);
    expect(probe.read(IOVA)).toBe('after');
    iommu.invalidateProcess(GSCID, PSCID + 1, IOVA);
    expect(probe.read(IOVA)).toBe('after');
    iommu.invalidateProcess(GSCID, PSCID, IOVA);
    expect(probe.read(IOVA)).toBe('elsewhere');
    first.clear(IOVA);
    iommu.invalidateProcess(GSCID, PSCID, IOVA);
    expect(probe.read(IOVA)).toBeNull();
  });

  it("leaves another guest's entries alone", () => {
    const { probe, iommu } = moved({});
    iommu.invalidateGuest(GSCID + 1, GPA);
    expect(probe.read(IOVA)).toBe('before');
  });

  it('stops at a command that is none, and says so', () => {
    const { device, iommu } = startRiscvGuest();
    iommu.push(0x7fn, 0n);
    expect(device.read('CQCSR')).toBe(0x401n);
    expect(device.read('CQH')).not.toBe(device.read('CQT'));
  });
});

describe('V14: a page of the second stage that has moved', () => {
  it.each([
    ['is reached where it was when IOTINVAL.GVMA with an address leaves entries of two stages', true, 'before'],
    ['is reached where it is', false, 'after'],
  ])('%s', (_what, gvmaSingleStage, expected) => {
    const { probe, iommu } = moved({ faults: gvmaSingleStage ? { gvmaSingleStage: true } : {} });
    iommu.invalidateGuest(GSCID, GPA);
    expect(probe.read(IOVA)).toBe(expected);
  });

  it('is reached where it is when that VMM gets no address', () => {
    const { probe, iommu } = moved({ faults: { gvmaSingleStage: true } });
    iommu.invalidateGuest(GSCID, null);
    expect(probe.read(IOVA)).toBe('after');
  });

  it('is reached where it is when a table of the first stage was in it', () => {
    const { vm, probe, iommu, first, second, give } = startRiscvGuest();
    give(GPA, textPage(vm.ram, 'through a table'));
    first.set(IOVA, GPA);
    iommu.attach(DEVICE, second, GSCID, first, PSCID);
    give(first.root, vm.ram.allocate());
    iommu.invalidateGuest(GSCID, first.root);
    expect(probe.read(IOVA)).toBeNull();
  });
});
