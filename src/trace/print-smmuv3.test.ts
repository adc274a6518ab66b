import { describe, expect, it } from 'vitest';
import type { CommandEvent, FaultEvent } from './events.ts';
import { isPlainSync, showCommand } from './print-command.ts';
import { showFault, showVevent } from './print-fault.ts';

const command = (low: bigint, high = 0n, error = ''): CommandEvent => ({
  type: 'command',
  iommu: 'smmu3.0x2b400000',
  architecture: 'smmuv3',
  words: words(low, high),
  error,
});

const fault = (...doublewords: bigint[]): FaultEvent => ({
  type: 'fault',
  iommu: 'smmu3.0x2b400000',
  architecture: 'smmuv3',
  words: words(...doublewords),
  lost: false,
});

const words = (...doublewords: bigint[]): number[] =>
  doublewords.flatMap((dw) => [Number(dw & 0xffffffffn), Number(dw >> 32n)]);

describe('a command of an SMMUv3', () => {
  it('is shown with the fields that its opcode has', () => {
    expect(showCommand(command(0x0007_0002_0000_0012n, 0x10301n))).toBe(
      'CMD_TLBI_NH_VA VMID=2 ASID=7 TTL=3 Leaf VA=0x10000',
    );
    expect(showCommand(command(0x0000_0002_0000_0010n))).toBe('CMD_TLBI_NH_ALL VMID=2');
    expect(showCommand(command(0x0000_0100_0000_0005n, 1n))).toBe('CMD_CFGI_CD SubstreamID=0 StreamID=0x100 Leaf');
    expect(showCommand(command(0x0000_0000_0000_0030n))).toBe('CMD_TLBI_NSNH_ALL');
  });

  it("is shown with its queue where that is not the SMMU's own", () => {
    expect(showCommand({ ...command(0x0000_0002_0000_0010n), queue: 'VINTF1/LVCMDQ0' })).toBe(
      'VINTF1/LVCMDQ0: CMD_TLBI_NH_ALL VMID=2',
    );
  });

  it('calls the address of a stage 2 invalidation an IPA', () => {
    expect(showCommand(command(0x0000_0009_0000_002an, 0x4000_0400n))).toBe(
      'CMD_TLBI_S2_IPA VMID=9 TG=4K IPA=0x40000000',
    );
  });

  it('shows the substream of an ATC_INV only when there is one', () => {
    expect(showCommand(command(0x0000_0100_0000_0040n, 52n))).toBe('CMD_ATC_INV StreamID=0x100 Size=52 Address=0x0');
    expect(showCommand(command(0x0000_0100_0000_5840n, 0x7000n))).toBe(
      'CMD_ATC_INV SubstreamID=5 StreamID=0x100 Address=0x7000',
    );
  });

  it('is CFGI_ALL when its range is everything', () => {
    expect(showCommand(command(0x04n, 31n))).toBe('CMD_CFGI_ALL');
    expect(showCommand(command(0x04n, 2n))).toBe('CMD_CFGI_STE_RANGE StreamID=0x0 Range=2');
  });

  it('is shown as words, with the reason, when the SMMU refuses it', () => {
    expect(showCommand(command(0x77n, 0n, 'CERROR_ILL'))).toBe(
      'command 0x77 0x00000077 0x00000000 0x00000000 0x00000000  refused: CERROR_ILL',
    );
  });

  it('is a plain sync only when it went well', () => {
    expect(isPlainSync(command(0x46n))).toBe(true);
    expect(isPlainSync(command(0x46n, 0n, 'CERROR_ATC_INV_SYNC'))).toBe(false);
    expect(isPlainSync(command(0x10n))).toBe(false);
  });
});

describe('an event record of an SMMUv3', () => {
  it('is shown with stream, access and address', () => {
    const record = fault(0x0000_0100_0000_0010n, 0x0000_0208_0000_0000n, 0x50000n, 0n);
    expect(showFault(record)).toBe('F_TRANSLATION StreamID=0x100 read CLASS=IN InputAddr=0x50000');
  });

  it('shows the IPA when stage 2 refused', () => {
    const record = fault(0x0000_0100_0000_5813n, 0x0000_0280_0000_0000n, 0x50123n, 0x4000_0000n);
    expect(showFault(record)).toBe(
      'F_PERMISSION StreamID=0x100 SubstreamID=5 write S2 CLASS=IN InputAddr=0x50123 IPA=0x40000000',
    );
  });

  it('says when the queue had no room for it', () => {
    expect(showFault({ ...fault(0x0000_0100_0000_0004n, 0n, 0n, 0n), lost: true })).toBe(
      'C_BAD_STE StreamID=0x100  lost: the event queue is full',
    );
  });

  it('goes to a VM with a sequence number', () => {
    const { words: record } = fault(0x0000_0208_0000_0010n, 0x0000_0208_0000_0000n, 0x50000n, 0n);
    expect(showVevent({ type: 'vevent', viommu: 3, queue: 7, sequence: 4, words: record, lost: false })).toBe(
      '#4 F_TRANSLATION StreamID=0x208 read CLASS=IN InputAddr=0x50000',
    );
  });
});
