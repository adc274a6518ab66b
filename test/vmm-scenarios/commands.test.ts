/** What a VMM may do wrong with the commands and registers of its guest's SMMU: scenarios V7, V9, V14, V15, V16. */
import { describe, expect, it } from 'vitest';
import * as cmd from '../../src/vmm/guest/commands.ts';
import { ABIS, IOVA, opcodes, rigFor, SID } from './rig.ts';

const CERROR_ILL = 1;
const NOTHING = 0;
const ATC_INV = 0x40;
const TLBI_NH_ASID = 0x11;
const CMDQEN = 8;
const EVERYTHING_ON = 0xd;

const STALE = 'first page';
const NEW = 'second page';

describe.each(ABIS)('with %s', (abi) => {
  const { startGuest } = rigFor(abi);

  describe('V16: commands of the guest that the host does not get', () => {
    it.each([
      ['goes to the old page when TLBI commands are kept back', { skipTlbiForwarding: true }, STALE],
      ['goes to the new page when they are forwarded', {}, NEW],
    ])('DMA %s', async (_what, faults, expected) => {
      const { probe, smmu, space, second } = await startGuest({ faults });
      probe.read(IOVA);
      space.set(IOVA, second);
      smmu.push(cmd.tlbiPage(space.asid, IOVA));
      expect(probe.read(IOVA)).toBe(expected);
    });

    it.each([
      ['TLBI_NH_ALL', cmd.tlbiNhAll],
      ['TLBI_NSNH_ALL', cmd.tlbiAll],
    ])('DMA goes to the old page after %s when only those for everything are kept back', async (_name, command) => {
      for (const [faults, expected] of [
        [{ dropTlbiAll: true }, STALE],
        [{}, NEW],
      ] as const) {
        const { probe, smmu, space, second } = await startGuest({ faults });
        probe.read(IOVA);
        space.set(IOVA, second);
        smmu.push(command());
        expect(probe.read(IOVA)).toBe(expected);
      }
    });

    it.each([
      ['goes on using its own old translation when ATC_INV is kept back', { skipAtcInvForwarding: true }, STALE],
      ['forgets its own old translation when ATC_INV is forwarded', {}, NEW],
    ])('a device with an ATC %s', async (_what, faults, expected) => {
      const { probe, smmu, space, second } = await startGuest({ faults, ats: true });
      probe.read(IOVA);
      smmu.unmap(space, IOVA);
      smmu.map(space, IOVA, second);
      expect(probe.read(IOVA)).toBe(expected);
    });

    it.each([
      ['the old address space when CFGI_CD is kept back', { skipCfgiCdForwarding: true }, STALE],
      ['the new one when it is forwarded', {}, NEW],
    ])('a PASID that changes hands leads to %s', async (_what, faults, expected) => {
      const { guest, probe, smmu, second } = await startGuest({ faults, log2Ssids: 2 });
      const other = guest.space();
      smmu.map(other, IOVA, second);
      expect(probe.read(IOVA, 1)).toBe('first page');
      smmu.attachSsid(SID, 1, other);
      expect(probe.read(IOVA, 1)).toBe(expected);
    });

    it.each([
      ['never reaches the SMMU when a nested HWPT is what the VMM looks for', { dropWithoutStage1: true }, false],
      ['reaches the SMMU', {}, true],
    ])('ATC_INV for a device that passes through %s', async (_what, faults, expected) => {
      const { smmu, events } = await startGuest({ faults, ats: true });
      smmu.setPassing(SID, true);
      events.length = 0;
      smmu.push(cmd.atcInvAll(SID));
      expect(opcodes(events).includes(ATC_INV)).toBe(expected);
    });

    const unknownStream = 0x99;

    it('a command for a StreamID that is no device takes the rest of its batch with it when it is forwarded', async () => {
      for (const [faults, expected] of [
        [{ forwardUnknownStreams: true }, STALE],
        [{}, NEW],
      ] as const) {
        const { probe, smmu, space, second, events } = await startGuest({ faults });
        probe.read(IOVA);
        space.set(IOVA, second);
        smmu.push(cmd.cfgiCd(unknownStream, 0), cmd.tlbiPage(space.asid, IOVA));
        expect(probe.read(IOVA)).toBe(expected);
        expect(smmu.commandError).toBe(NOTHING);
        const refused = events.filter((event) => event.type === 'ioctl' && event.result < 0);
        expect(refused.map((event) => 'reason' in event && event.reason)).toEqual(
          expected === STALE ? ['command 0x5 names vSID 153: no vDEVICE has it'] : [],
        );
      }
    });

    it('ATC_INV for such a StreamID ends a VMM that takes it for a device, and not one that is right', async () => {
      const wrong = await startGuest({ faults: { trustStreams: true } });
      expect(() => wrong.smmu.push(cmd.atcInvAll(unknownStream))).toThrow('there is no device at StreamID 153');
      const right = await startGuest();
      right.smmu.push(cmd.atcInvAll(unknownStream));
      expect(right.smmu.commandError).toBe(NOTHING);
    });

    it('a command for a stream without a device ends a VMM that is sure of its batches, and not one that is right', async () => {
      const wrong = await startGuest({ faults: { forwardUnknownStreams: true, assertBatches: true } });
      const batch = [cmd.cfgiCd(unknownStream, 0), cmd.tlbiNhAll()];
      expect(() => wrong.smmu.push(...batch)).toThrow('assertion failed: 0 of 2 commands were carried out');
      const right = await startGuest();
      right.smmu.push(...batch);
      expect(right.smmu.commandError).toBe(NOTHING);
    });
  });

  describe('V14: invalidation of a range that is not aligned', () => {
    it.each([
      [
        'leaves the pages behind an aligned block when the range is rounded',
        { roundRanges: true },
        ['page 4', 'page 5'],
      ],
      ['takes every page of it', {}, []],
    ])('%s', async (_what, faults, stale) => {
      const { guest, probe, smmu, space } = await startGuest({ faults });
      const pages = [2, 3, 4, 5].map((page) => {
        const gpa = guest.ram.allocate();
        guest.ram.at(gpa, 16).set(new TextEncoder().encode(`page ${page}`.padEnd(16)));
        smmu.map(space, IOVA + BigInt(4096 * page), gpa);
        return IOVA + BigInt(4096 * page);
      });
      expect(pages.map((iova) => probe.read(iova))).toEqual(['page 2', 'page 3', 'page 4', 'page 5']);
      smmu.unmapPages(space, pages[0]!, pages.length);
      expect(pages.map((iova) => probe.read(iova)).filter((text) => text !== null)).toEqual(stale);
    });
  });

  describe('V14 and V15: bases that are not aligned to what they are the base of', () => {
    it.each([
      ['refuses DMA when it takes STRTAB_BASE as it was written', { ignoreAlignment: true }, null],
      ['finds the STE where the SMMU of the specification does', {}, 'first page'],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { probe, smmu } = await startGuest({ faults });
      smmu.write('CR0', CMDQEN);
      smmu.write64('STRTAB_BASE', smmu.streamTable + 64n);
      smmu.write('CR0', EVERYTHING_ON);
      expect(probe.read(IOVA)).toBe(expected);
    });

    it.each([
      [
        'carries out old commands for new ones when it takes CMDQ_BASE as it was written',
        { ignoreAlignment: true },
        STALE,
      ],
      ['reads the commands that are there', {}, NEW],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { probe, smmu, space, second } = await startGuest({ faults });
      smmu.write('CR0', 0);
      smmu.commandQueue.start(smmu.commandQueue.base + 0x20n);
      smmu.write('CR0', EVERYTHING_ON);
      expect(probe.read(IOVA)).toBe('first page');
      space.set(IOVA, second);
      smmu.push(cmd.tlbiAsid(space.asid));
      expect(probe.read(IOVA)).toBe(expected);
    });
  });

  describe('V7: the rules of the command queue', () => {
    it.each([
      ['carries commands out again when CMDQ_CONS can be written at any time', { writableCommandCons: true }, 2],
      ['ignores writes of CMDQ_CONS while the queue is enabled', {}, 1],
    ])('a VMM %s', async (_what, faults, times) => {
      const { smmu, space, events } = await startGuest({ faults });
      const before = smmu.read('CMDQ_CONS');
      events.length = 0;
      smmu.push(cmd.tlbiAsid(space.asid));
      smmu.write('CMDQ_CONS', before);
      smmu.push();
      expect(opcodes(events).filter((opcode) => opcode === TLBI_NH_ASID)).toHaveLength(times);
    });

    it.each([
      ['takes a CMD_SYNC with the reserved CS for a good one', { acceptReservedSync: true }, NOTHING],
      ['says CERROR_ILL to a CMD_SYNC with the reserved CS', {}, CERROR_ILL],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { smmu } = await startGuest({ faults });
      smmu.push(Uint32Array.of(0x3046, 0, 0, 0));
      expect(smmu.commandError).toBe(expected);
    });
  });

  describe('V9: what the specification says of commands and of switching off', () => {
    const withoutAts = (machine: { iommus: Record<string, unknown>[] }) => {
      for (const iommu of machine.iommus) Object.assign(iommu, { ats: false, pri: false });
    };

    it.each([
      ['takes ATC_INV although it has no ATS', { acceptAtcInvWithoutAts: true }, NOTHING],
      ['says CERROR_ILL to ATC_INV when it has no ATS', {}, CERROR_ILL],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { smmu } = await startGuest({ faults, change: withoutAts });
      smmu.push(cmd.atcInvAll(SID));
      expect(smmu.commandError).toBe(expected);
    });

    it.each([
      ['forwards ATC_INV while SMMUEN is 0', { atcInvWhileDisabled: true }, true],
      ['ignores ATC_INV while SMMUEN is 0', {}, false],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { smmu, events } = await startGuest({ faults, ats: true });
      smmu.write('CR0', CMDQEN);
      events.length = 0;
      smmu.push(cmd.atcInvAll(SID));
      expect(opcodes(events).includes(ATC_INV)).toBe(expected);
    });

    it.each([
      ['goes on behind a command that does not exist', { ignoreUnknownCommands: true }, NOTHING],
      ['says CERROR_ILL to a command that does not exist', {}, CERROR_ILL],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { smmu } = await startGuest({ faults });
      smmu.push(Uint32Array.of(0xff, 0, 0, 0));
      expect(smmu.commandError).toBe(expected);
    });

    it.each([
      ['takes a Secure stream for its own', { acceptSecureStreams: true }, NOTHING],
      ['says CERROR_ILL to a Secure stream', {}, CERROR_ILL],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { smmu } = await startGuest({ faults });
      const [first, ...rest] = cmd.cfgiSte(SID);
      smmu.push(Uint32Array.of(first! | (1 << 10), ...rest));
      expect(smmu.commandError).toBe(expected);
    });

    it('the queue goes on where it stopped when the guest has mended a command and acknowledged the error', async () => {
      const { smmu, probe, space, second } = await startGuest();
      probe.read(IOVA);
      space.set(IOVA, second);
      smmu.push(Uint32Array.of(0xff, 0, 0, 0), cmd.tlbiPage(space.asid, IOVA));
      expect(probe.read(IOVA)).toBe(STALE);
      const index = smmu.read('CMDQ_CONS') & 0x3f;
      smmu.ram.words(smmu.commandQueue.base + BigInt(16 * index), 4).set(cmd.sync());
      smmu.write('GERRORN', smmu.read('GERROR'));
      expect(probe.read(IOVA)).toBe(NEW);
    });

    it.each([
      [
        'leaves a device translated whose STE has gone when it ignores CFGI_STE_RANGE',
        { ignoreSteRange: true },
        'first page',
      ],
      ['refuses a device whose STE has gone after CFGI_STE_RANGE', {}, null],
    ])('a VMM %s', async (_what, faults, expected) => {
      const { smmu, probe } = await startGuest({ faults });
      smmu.ram.words(smmu.streamTable + BigInt(64 * SID), 16).fill(0);
      smmu.push(cmd.cfgiSteRange(SID, 2));
      expect(probe.read(IOVA)).toBe(expected);
    });

    it.each([
      ['goes on translating when SMMUEN goes to 0', { ignoreDisable: true }, 'first page', null],
      ['refuses everything, or lets it pass, as GBPA says when SMMUEN goes to 0', {}, null, 'first page'],
    ])('a VMM %s', async (_what, faults, aborting, passing) => {
      const { smmu, probe, first } = await startGuest({ faults });
      smmu.setGlobalAbort(true);
      smmu.disable();
      expect(probe.read(IOVA)).toBe(aborting);
      smmu.setGlobalAbort(false);
      expect(probe.read(first)).toBe(passing);
    });
  });
});
