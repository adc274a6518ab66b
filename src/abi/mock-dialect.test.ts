import { describe, expect, it } from 'vitest';
import { dialect } from './dialects.ts';
import { mockRelease, withTestCommand } from './mock-dialect.ts';

describe('a kernel with the mock driver', () => {
  it('has IOMMU_TEST_CMD of 72 bytes, of which a program must know 68, and otherwise what its release has', () => {
    const plain = dialect('linux-7.1');
    const mock = withTestCommand(plain);
    expect(plain.commands.has(0xa0)).toBe(false);
    const { command, minimumSize, size } = mock.commands.get(0xa0)!;
    expect({ command, minimumSize, size }).toEqual({ command: 0x3ba0, minimumSize: 68, size: 72 });
    expect(mock.commands.size).toBe(plain.commands.size + 1);
    expect(mock.accepted).toBe(plain.accepted);
  });

  it('up to 6.12 ends with TRIGGER_IOPF and knows neither PASIDs nor page table types', () => {
    const pageTable = 'flat';
    const release = { lastOperation: 15, deviceFlags: 3, hwptDataBytes: 4, pageTable, nestedAttachNeedsVdevice: false };
    expect(mockRelease(dialect('linux-6.12'))).toEqual(release);
    // The series, on 6.11, brought the check of device caches along.
    expect(mockRelease(dialect('viommu-v2'))).toEqual({ ...release, lastOperation: 16 });
  });

  it('checks device caches from 6.13 on, has PASIDs and events from 6.15 on, generic page tables from 6.19 on', () => {
    const of = (name: string) => mockRelease(dialect(name));
    expect([of('linux-6.13').lastOperation, of('linux-6.14').deviceFlags]).toEqual([16, 3]);
    expect([of('linux-6.15').lastOperation, of('linux-6.18').deviceFlags]).toEqual([21, 7]);
    expect(of('linux-7.1')).toMatchObject({
      lastOperation: 23,
      deviceFlags: 5,
      hwptDataBytes: 8,
      pageTable: 'generic',
    });
  });

  it('attaches to a nested domain without a vDEVICE up to 6.14', () => {
    const needs = (name: string) => mockRelease(dialect(name)).nestedAttachNeedsVdevice;
    expect([needs('linux-6.14'), needs('linux-6.15'), needs('linux-7.1')]).toEqual([false, true, true]);
  });
});
