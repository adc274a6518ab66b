/**
 * Every register of configuration space against a table of its own, written from PCI 3.0 (chapter 6), PCI PM 1.2 and PCIe
 * 5.0 (chapter 7, 10.5) and not from the model: what is not in the table reads as zero and takes nothing.
 */
import { describe, expect, it } from 'vitest';
import { DMA_PROBE } from './dma-probe.ts';
import { IOAT } from './ioat.ts';
import { NVME } from './nvme/nvme.ts';
import type { RegisterFile } from './register-file.ts';
import { rootPortConfig } from './root-port.ts';
import { functionRig } from './testing.ts';

/** Offset, bytes, value at reset; bits that a write sets; bits that a 1 clears; of all these, those that FLR leaves alone. */
type Row = readonly [at: number, bytes: 1 | 2 | 4, reset: number, writable?: number, clears?: number, kept?: number];

const type0 = (ids: number, revision: number, header: number, subsystem: number, bar: number, pin: number): Row[] => [
  [0x00, 4, ids],
  [0x04, 2, 0, 0x0546], // COMMAND: memory, master, parity, SERR, INTx disable; there is no I/O
  [0x06, 2, 0x0010, 0, 0xf900], // STATUS: capabilities; errors
  [0x08, 4, revision], // revision, class
  [0x0c, 1, 0, 0xff], // cache line size
  [0x0e, 1, header],
  [0x10, 4, 0x4, bar],
  [0x14, 4, 0, 0xffff_ffff],
  [0x2c, 4, subsystem],
  [0x3c, 1, 0, 0xff], // interrupt line
  [0x3d, 1, pin],
];

/** At 0x90, the last but one: power management follows at 0xe0. */
const express = (devcap2: number): Row[] => [
  [0x90, 2, 0xe010],
  [0x92, 2, 0x0002], // version 2, endpoint
  [0x94, 4, 0x1000_8021], // FLR, role-based errors, extended tags, payload 256
  [0x98, 2, 0x2810, 0xf9ff, 0, 0x00e0], // reads of 512, no snoop, relaxed ordering
  [0x9a, 2, 0, 0, 0x000f],
  [0x9c, 4, 0x0040_0103], // ASPM optional, 16 lanes, 8 GT/s
  [0xa0, 2, 0, 0x00cb, 0, 0x00cb],
  [0xa2, 2, 0x1103], // slot clock, 16 lanes, 8 GT/s
  [0xb4, 4, devcap2],
  [0xb8, 2, 0, 0x0fff],
  [0xbc, 4, 0x0000_000e], // 2.5, 5, 8 GT/s
  [0xc0, 2, 0x0003, 0xff9f, 0, 0xff9f],
  [0xc2, 2, 0x001e],
  [0xe0, 2, 0x0001],
  [0xe2, 2, 0x0003], // PM 1.2, neither D1 nor D2, no PME
  [0xe4, 2, 0x0008, 0x0003],
];

/** Severity of data link, surprise down, flow control, overflow, malformed TLP and internal errors: fatal. */
const errors = (next: number): Row[] => [
  [0x100, 4, 0x0001_0001 + next * 2 ** 20],
  [0x104, 4, 0, 0, 0x03ff_f030, 0x03ff_f030],
  [0x108, 4, 0x0040_0000, 0x03ff_f030, 0, 0x03ff_f030],
  [0x10c, 4, 0x0046_2030, 0x03ff_f030, 0, 0x03ff_f030],
  [0x110, 4, 0, 0, 0xf1c1, 0xf1c1],
  [0x114, 4, 0xe000, 0xf1c1, 0, 0xf1c1],
];

const ats = (next: number): Row[] => [
  [0x1a0, 4, 0x0001_000f + next * 2 ** 20],
  [0x1a4, 2, 0x0060], // global invalidate, page-aligned requests, 32 invalidations
  [0x1a6, 2, 0, 0x801f],
];

const pasid = (bits: number, next: number): Row[] => [
  [0x1c0, 4, 0x0001_001b + next * 2 ** 20],
  [0x1c4, 2, bits << 8],
  [0x1c6, 2, 0, 0x0001],
];

/** Presets of 16 lanes follow what is said of errors of them. */
const secondary = (at: number, presets: number): Row[] => [
  [at, 4, 0x0001_0019],
  [at + 8, 4, 0, 0, 0xffff, 0xffff],
  ...Array.from({ length: 16 }, (_, lane): Row => [at + 12 + 2 * lane, 2, presets]),
];

const IOAT_ROWS: Row[] = [
  ...type0(0x2021_8086, 0x0880_0004, 0, 0x0000_8086, 0xffff_c000, 1),
  [0x34, 1, 0x40],
  [0x40, 2, 0x8005],
  [0x42, 2, 0x0184, 0x0071], // mask bits, 64-bit addresses, 4 vectors
  [0x44, 4, 0, 0xffff_fffc],
  [0x48, 4, 0, 0xffff_ffff],
  [0x4c, 2, 0, 0xffff],
  [0x50, 4, 0, 0x0000_000f],
  [0x80, 2, 0x9011],
  [0x82, 2, 0x0000, 0xc000], // 1 vector
  [0x84, 4, 0x2000],
  [0x88, 4, 0x3000],
  ...express(0x0070_001f), // one prefix end to end, the extended format, timeouts of every range and none
  ...errors(0x1a0),
  [0x148, 4, 0, 0, 0xffff_ffff], // DMAUNCERRSTS, CHANERR_INT, CHANERRMSK_INT
  [0x180, 4, 0, 0, 0xffff_ffff],
  [0x184, 4, 0, 0xffff_ffff],
  ...ats(0x1b0),
  [0x1b0, 4, 0x1c01_0013],
  [0x1b4, 2, 0, 0x0003],
  [0x1b6, 2, 0x8100, 0, 0x0003], // answers have PASIDs; stopped
  [0x1b8, 4, 32],
  [0x1bc, 4, 0, 0xffff_ffff],
  ...pasid(16, 0x1e0),
  ...secondary(0x1e0, 0x0700),
];

const NVME_ROWS: Row[] = [
  ...type0(0x0d3b_1b36, 0x0108_0201, 0, 0x0d3b_1b36, 0xffff_c000, 1),
  [0x34, 1, 0x80],
  [0x80, 2, 0x9011],
  [0x82, 2, NVME.identity.msix!.vectors - 1, 0xc000],
  [0x84, 4, 0x2000],
  [0x88, 4, 0x3000],
  ...express(0x1f),
  ...errors(0x1a0),
  ...ats(0x1e0),
  ...secondary(0x1e0, 0x0700),
];

/** Function 1 of several: function 0 tells of the link. */
const PROBE_ROWS: Row[] = [
  ...type0(0x0d3a_1b36, 0x0880_0001, 0x80, 0x0d3a_1b36, 0xffff_c000, 0),
  [0x34, 1, 0x80],
  [0x80, 2, 0x9011],
  [0x82, 2, 7, 0xc000],
  [0x84, 4, 0x2000],
  [0x88, 4, 0x3000],
  ...express(0x0070_001f),
  ...errors(0x1c0),
  ...pasid(20, 0x1d0),
  [0x1d0, 4, 0x0001_000d],
  [0x1d4, 2, 0x000c],
  [0x1d6, 2, 0, 0x000c],
];

/** As the kernel has set it up: nothing can be changed. */
const PORT_ROWS: Row[] = [
  [0x00, 4, 0x000c_1b36],
  [0x04, 4, 0x0010_0006],
  [0x08, 4, 0x0604_0000],
  [0x0e, 1, 0x81],
  [0x18, 4, 0x0021_2100], // buses: primary 0, secondary and subordinate 0x21
  [0x20, 4, 0x1030_1010], // 0x10100000 to 0x103fffff
  [0x24, 4, 0x0000_fff0],
  [0x34, 1, 0x40],
  [0x40, 4, 0x0042_8010],
  [0x44, 4, 0x0000_8021],
  [0x48, 2, 0x2810],
  [0x4c, 4, 0x0050_0103], // with data link layer active reporting
  [0x52, 2, 0x3103],
  [0x64, 4, 0x0070_0000],
  [0x6c, 4, 0x0000_000e],
  [0x70, 4, 0x001e_0003],
  [0x80, 4, 0x0003_0001],
  [0x84, 2, 0x0008],
  [0x100, 4, 0x1101_000d],
  [0x104, 4, 0x001d_001d],
  ...secondary(0x110, 0x0707),
];

const spaces: [string, RegisterFile, Row[]][] = [
  ['an IOAT engine', functionRig(IOAT, { ats: true, pri: true, pasidBits: 16, msi: 4 }).fn.config, IOAT_ROWS],
  ['an NVMe controller', functionRig(NVME, { ats: true }).fn.config, NVME_ROWS],
  [
    'a DMA probe that is function 1',
    functionRig(DMA_PROBE, { pasidBits: 20, multifunction: true, acs: true, requester: 0x101 }).fn.config,
    PROBE_ROWS,
  ],
  [
    'a root port',
    rootPortConfig({ bus: 0x21, multifunction: true, window: { start: 0x1010_0000, last: 0x103f_ffff } }),
    PORT_ROWS,
  ],
];

/** One column of the table, as configuration space. */
function image(rows: readonly Row[], column: 2 | 3 | 4 | 5): Uint8Array {
  const bytes = new Uint8Array(4096);
  for (const row of rows) for (let i = 0; i < row[1]; i++) bytes[row[0] + i] = ((row[column] ?? 0) >>> (8 * i)) & 0xff;
  return bytes;
}

/** Offsets and values of bytes that differ. */
const differences = (found: Uint8Array, wanted: Uint8Array): string[] =>
  [...wanted].flatMap((byte, at) =>
    byte === found[at] ? [] : `${at.toString(16)}: ${found[at]!.toString(16)}, not ${byte.toString(16)}`,
  );

function writeAll(config: RegisterFile, value: number): void {
  for (let at = 0; at < 4096; at++) config.write(at, 1, value, () => {});
}

describe.each(spaces)('configuration space of %s', (_what, config, rows) => {
  const [reset, writable, clears, kept] = [image(rows, 2), image(rows, 3), image(rows, 4), image(rows, 5)];

  it('has the values of the specifications after a reset', () => {
    config.reset();
    expect(differences(config.bytes, reset)).toEqual([]);
  });

  it('takes writes of what can be written, and of nothing else', () => {
    config.reset();
    writeAll(config, 0xff);
    expect(
      differences(
        config.bytes,
        reset.map((byte, at) => byte | writable[at]!),
      ),
    ).toEqual([]);
    writeAll(config, 0);
    expect(
      differences(
        config.bytes,
        reset.map((byte, at) => byte & ~writable[at]!),
      ),
    ).toEqual([]);
  });

  it('clears the errors for which a 1 is written, and no other bits', () => {
    config.bytes.fill(0xff);
    writeAll(config, 0xff);
    expect(
      differences(
        config.bytes,
        clears.map((byte) => ~byte),
      ),
    ).toEqual([]);
    config.bytes.fill(0xff);
    writeAll(config, 0);
    expect(
      differences(
        config.bytes,
        writable.map((byte) => ~byte),
      ),
    ).toEqual([]);
  });

  it('keeps what is sticky over a reset', () => {
    config.bytes.fill(0xff);
    config.reset();
    expect(
      differences(
        config.bytes,
        reset.map((byte, at) => byte | kept[at]!),
      ),
    ).toEqual([]);
    config.bytes.fill(0);
    config.reset();
    expect(
      differences(
        config.bytes,
        reset.map((byte, at) => byte & ~kept[at]!),
      ),
    ).toEqual([]);
  });
});
