/**
 * Page 0 of its VINTF is all that a guest has of a CMDQV, and the bytes of its queues: whatever it does with them, it
 * reaches the cache entries of its own VMID and the ATCs of its own streams, and nothing else.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CMD } from '../smmuv3/spec/commands.ts';
import { put } from '../smmuv3/spec/field.ts';
import { at, S1_LEAF, S2_LEAF } from '../smmuv3/test-rig.ts';
import { CmdqvRig, ENABLE, page0, vintf, vintfPage0 } from './test-rig.ts';

const GUEST = 3;
const OTHER = 4;
const OWN_VMID = 7;
/** Streams of the guest, by virtual number, and somebody else's. */
const OWN = { virtual: 5, physical: 6 };
const STRANGERS = [5, 9, 0x100005];
/** Frames that are cached for the other VMIDs and StreamIDs. */
const CACHED = 0x80;

interface World {
  readonly rig: CmdqvRig;
  /** StreamIDs whose ATC has been told to drop something. */
  readonly told: Set<number>;
  readonly queues: readonly number[];
}

/** Two guests with two queues each; stream 20 of the other one and 21 of the host have a translation that has become stale. */
function world(): World {
  const rig = new CmdqvRig();
  for (const v of [GUEST, OTHER]) {
    rig.openVintf(v, v === GUEST ? OWN_VMID : 8);
    for (const l of [0, 1]) rig.poke(vintfPage0(v, l) + ENABLE, 0);
  }
  const queues = [rig.openQueue(GUEST, 0, 6), rig.openQueue(GUEST, 1, 7)];
  rig.openQueue(OTHER, 0, 8);
  rig.match(GUEST, 0, OWN.virtual, OWN.physical);
  rig.match(OTHER, 0, 9, 9);
  const told = new Set<number>();
  for (const stream of [OWN.physical, ...STRANGERS]) {
    rig.smmu.attachAtc(stream, {
      invalidateAtc: () => void told.add(stream),
      pageResponse: () => void told.add(stream),
    });
  }
  const nested = rig.nestedStream(20, { ASID: 1 }, { S2VMID: 8 });
  spoil(rig, 20, rig.map(nested.root, CACHED, S1_LEAF | at(0x90)), S1_LEAF);
  const host = rig.stage2Stream(21, { S2VMID: 1 });
  spoil(rig, 21, rig.map(host.root, CACHED, S2_LEAF | at(0x90)), S2_LEAF);
  return { rig, told, queues };
}

/** Caches the translation of CACHED, then changes its leaf and takes the STE away: neither may be read again. */
function spoil(rig: CmdqvRig, stream: number, leaf: { frame: number; offset: number }, attributes: bigint): void {
  expect(rig.translate(stream, CACHED)).toBe(0x90);
  rig.write64(leaf.frame, leaf.offset, attributes | at(0x91) | 3n);
  rig.ste(stream, { V: 0, Config: 0, S1ContextPtr: 0 });
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const opcode = fc.oneof(
  fc.constantFrom(0x11, 0x12, 0x40),
  fc.constantFrom(0x03, 0x04, 0x10, 0x13, 0x28, 0x2a, 0x30, 0x41, 0x44, 0x45, 0x46),
  fc.integer({ min: 0, max: 0xff }),
);
/** Words of a command: random ones, or such that would do harm if they were let through. */
const command = fc.oneof(
  fc.tuple(u32, u32, u32, u32).map((words) => Uint32Array.from(words)),
  fc
    .tuple(opcode, fc.constantFrom(1, 7, 8, 0), fc.constantFrom(1, 0), fc.constantFrom(CACHED, 0))
    .map(([op, vmid, asid, frame]) => {
      const words = Uint32Array.of(op, 0, frame << 12, 0);
      put(words, 0, CMD.VMID, vmid);
      put(words, 0, CMD.ASID, asid);
      return words;
    }),
  fc
    .tuple(opcode, fc.constantFrom(OWN.virtual, OWN.physical, 9, 20, 21, 0x100005), fc.constantFrom(52, 31, 0))
    .map(([op, stream, size]) => Uint32Array.of(op, stream, size, 0)),
);
/** Mostly registers of the two queues. */
const registerWrite = fc.record({
  offset: fc.oneof(
    fc
      .tuple(fc.constantFrom(0, 0x80), fc.constantFrom(0, 4, 8, 0xc, 0x10, 0x14))
      .map(([queue, register]) => queue + register),
    fc.integer({ min: 0, max: 0xffff }),
  ),
  size: fc.constantFrom(4, 4, 4, 4, 1, 2),
  value: fc.oneof(fc.integer({ min: 0, max: 16 }), u32),
});
/** A command for queue 0 or 1: into a slot of its memory, or (-1) as the next one, with every error acknowledged. */
const queued = fc.record({
  queue: fc.constantFrom(0, 1),
  slot: fc.oneof(fc.constant(-1), fc.integer({ min: 0, max: 7 })),
  words: command,
});
const deed = fc.oneof(queued, queued, registerWrite);

function give({ rig, queues }: World, queue: number, slot: number, words: Uint32Array): void {
  const registers = vintfPage0(GUEST, queue);
  const index = slot < 0 ? rig.read(registers) & 0xf : slot;
  rig.memory.write(queues[queue]!, (index & 7) * 16, new Uint8Array(words.buffer));
  if (slot >= 0) return;
  rig.poke(registers + ENABLE, 1);
  rig.poke(registers + 4, (index + 1) & 0xf);
  rig.poke(registers + 0x14, rig.read(registers + 0x10));
}

/** What others have: the CONFIG page but for the guest's errors, and the queues of others. */
function others(rig: CmdqvRig): number[] {
  const offsets = [0, 4, 8, 0x1c, 0x20, vintf(GUEST), vintf(OTHER), vintf(OTHER) + 4];
  for (let q = 0; q < 128; q++) offsets.push(0x200 + 4 * q);
  for (let n = 0; n < 32; n++) offsets.push(vintf(GUEST) + 0x40 + 4 * n, vintf(OTHER) + 0x40 + 4 * n);
  for (let n = 0; n < 6; n++) offsets.push(page0(8) + 4 * n, page0(5) + 4 * n);
  return offsets.map((offset) => rig.read(offset));
}

describe('a guest with page 0 of its VINTF', () => {
  it('reaches its own VMID and its own streams only', () => {
    fc.assert(
      fc.property(fc.array(deed, { minLength: 1, maxLength: 40 }), (deeds) => {
        const here = world();
        const { rig, told } = here;
        const before = others(rig);
        for (const one of deeds) {
          if ('words' in one) give(here, one.queue, one.slot, one.words);
          else rig.cmdqv.writeRegister(vintfPage0(GUEST) + one.offset, one.size, one.value);
        }
        rig.clock.settle();
        expect([...told].filter((stream) => stream !== OWN.physical)).toEqual([]);
        expect(others(rig)).toEqual(before);
        expect([rig.translate(20, CACHED), rig.translate(21, CACHED)]).toEqual([0x90, 0x90]);
        expect(rig.get('GERROR')).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it('reaches those indeed', () => {
    const { rig, told, queues } = world();
    const own = rig.stage1Stream(22, { ASID: 1 }, { S2VMID: OWN_VMID });
    spoil(rig, 22, rig.map(own.root, CACHED, S1_LEAF | at(0x90)), S1_LEAF);
    rig.memory.write(
      queues[0]!,
      0,
      new Uint8Array(Uint32Array.of(0x11, 0x10008, 0, 0, 0x40, OWN.virtual, 52, 0).buffer),
    );
    rig.poke(vintfPage0(GUEST) + ENABLE, 1);
    rig.poke(vintfPage0(GUEST) + 4, 2);
    expect([rig.translate(22, CACHED), rig.translate(20, CACHED), [...told]]).toEqual([0x91, 0x90, [OWN.physical]]);
  });
});
