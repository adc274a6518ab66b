import { describe, expect, it } from 'vitest';
import type { CommandEvent, DmaEvent, FileEvent, InterruptEvent, TraceEvent } from './events.ts';
import { jsonLines } from './json-lines.ts';
import { Printer, type PrinterOptions, shortName } from './printer.ts';

const SMMU = 'smmu3.0x000000002b400000';
const command = (...words: number[]): CommandEvent => ({
  type: 'command',
  iommu: SMMU,
  architecture: 'smmuv3',
  words,
  error: '',
});
const tlbi = (vmid: number): CommandEvent => command(0x10, vmid, 0, 0);
const SYNC = command(0x46, 0, 0, 0);
const DMA: DmaEvent = {
  type: 'dma',
  device: '0000:01:00.0',
  stream: 0x100,
  substream: -1,
  iovaFrame: 0x20,
  offset: 0x10,
  length: 4096,
  write: true,
  frame: 0x104000,
  via: 'iommu',
};
const open = (pid: number): FileEvent => ({
  type: 'file',
  pid,
  file: '/dev/iommu',
  call: 'open',
  offset: 0,
  length: 0,
  result: 3,
  reason: '',
});

function lines(events: readonly TraceEvent[], options: Partial<PrinterOptions> = {}): string[] {
  const written: string[] = [];
  const printer = new Printer({ write: (line) => written.push(line), lookup: () => undefined, ...options });
  for (const event of events) printer.sink(event);
  printer.flush();
  return written;
}

describe('the readable trace', () => {
  it('has a column for who, without what a name carries along', () => {
    expect(lines([tlbi(2), DMA])).toEqual([
      'smmu3.0x2b400000  CMD_TLBI_NH_ALL VMID=2',
      '0000:01:00.0      DMA write 4 KiB at 0x20010 -> PA 0x104000010',
    ]);
    expect(shortName('/dev/vfio/devices/vfio0')).toBe('vfio0');
    expect(shortName('smmu3.0x0')).toBe('smmu3.0x0');
  });

  it('tells a refused DMA and one that the device answered itself', () => {
    const atc = { ...DMA, via: 'atc', write: false, substream: 5 } as const;
    expect(lines([{ ...DMA, frame: -1, via: 'refused' }, atc])).toEqual([
      '0000:01:00.0      DMA write 4 KiB at 0x20010 refused',
      '0000:01:00.0      DMA read  4 KiB at 0x20010 PASID 5 -> PA 0x104000010 (ATC)',
    ]);
  });

  it('tells a DMA that waits, and for what', () => {
    const waits = { ...DMA, frame: -1 } as const;
    expect(
      lines([
        { ...waits, via: 'stalled' },
        { ...waits, via: 'page-request' },
      ]),
    ).toEqual([
      '0000:01:00.0      DMA write 4 KiB at 0x20010 stalled',
      '0000:01:00.0      DMA write 4 KiB at 0x20010 requests its page',
    ]);
  });

  it('leaves out what happens all the time, unless asked for all', () => {
    const read: FileEvent = { ...open(1), call: 'pread', length: 4, result: 4 };
    expect(lines([SYNC, read])).toEqual([]);
    expect(lines([SYNC, read], { all: true })).toHaveLength(2);
    expect(lines([{ ...read, result: -22, reason: 'not bound' }])).toEqual([
      'iommu             pread 4 at 0x0 = -1 EINVAL (not bound)',
    ]);
  });

  it('names the process when there are several', () => {
    expect(lines([open(7), open(8), open(7)])).toEqual([
      'iommu             open = 3',
      'iommu             [8] open = 3',
      'iommu             open = 3',
    ]);
  });

  it('counts the lines of a monotonous run', () => {
    const run = Array.from({ length: 100 }, (_, vmid) => tlbi(vmid));
    const written = lines([...run, DMA]);
    expect(written).toHaveLength(1 + 4 + 1 + 1);
    expect(written.at(-2)?.trim()).toBe('... 95 more like these');
    expect(written.at(-1)).toContain('DMA write');
  });

  it('counts a run that alternates between two kinds of line', () => {
    const run = Array.from({ length: 50 }, (_, i) => [open(1), tlbi(i)]).flat();
    expect(lines(run).at(-1)?.trim()).toBe('... 94 more like these');
  });

  it('names an interrupt by its kind', () => {
    const interrupt: InterruptEvent = { type: 'interrupt', device: '0000:01:00.0', index: 2, vector: 0 };
    expect(lines([interrupt])).toEqual(['0000:01:00.0      interrupt MSI-X 0']);
  });

  it('leaves colour to the caller', () => {
    expect(lines([tlbi(2)], { paint: (style, text) => `<${style}>${text}` })).toEqual([
      '<source>smmu3.0x2b400000  <hardware>CMD_TLBI_NH_ALL VMID=2',
    ]);
  });
});

describe('the trace for programs', () => {
  it('has one JSON object a line, with bytes as hex digits', () => {
    const written: string[] = [];
    const sink = jsonLines(
      (line) => written.push(line),
      () => 12.5,
    );
    sink({
      type: 'ioctl',
      pid: 1,
      file: 'iommufd',
      command: 0x3b81,
      struct: 'iommu_ioas_alloc',
      before: Uint8Array.of(12, 0, 0, 0),
      after: Uint8Array.of(12, 0, 0, 0xff),
      result: 0,
      reason: '',
    });
    expect(written.map((line) => JSON.parse(line))).toEqual([
      {
        time: 12.5,
        type: 'ioctl',
        pid: 1,
        file: 'iommufd',
        command: 0x3b81,
        struct: 'iommu_ioas_alloc',
        before: '0c000000',
        after: '0c0000ff',
        result: 0,
        reason: '',
      },
    ]);
  });
});
