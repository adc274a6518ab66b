/** Where the registers of IOMMUs and of what belongs to them lie, in the first GiB of physical memory. */
import { cmdqvBytes, DEFAULT_CMDQV_SETTINGS } from '../hardware/cmdqv/settings.ts';
import { MSI_DOORBELL_BYTES } from '../hardware/msi-doorbell.ts';
import type { MachineDescription, SmmuDescription } from './machine-description.ts';
import { MachineError } from './machine-error.ts';
import { DOORBELL_ADDRESS } from './message-window.ts';

export const SMMU_BYTES = 0x20000;
const CMDQV_ALIGNMENT = 0x10000;
const MMIO_BYTES = 2 ** 30;

export type CmdqvDescription = NonNullable<SmmuDescription['cmdqv']>;

/** The hardware's settings: its version is no choice. */
export const cmdqvSettings = ({ log2Vintfs, log2Vcmdqs, log2Sids }: CmdqvDescription) => ({
  ...DEFAULT_CMDQV_SETTINGS,
  log2Vintfs,
  log2Vcmdqs,
  log2Sids,
});

interface Block {
  /** As a mistake names it. */
  readonly key: string;
  readonly owner: string;
  readonly start: number;
  readonly bytes: number;
  readonly alignment: number;
}

const DOORBELL: Block = {
  key: '',
  owner: 'the MSI doorbell',
  start: DOORBELL_ADDRESS,
  bytes: MSI_DOORBELL_BYTES,
  alignment: MSI_DOORBELL_BYTES,
};

function blocksOf({ address, cmdqv }: SmmuDescription, index: number): Block[] {
  const owner = `iommus[${index}]`;
  const block = (path: string, start: string, bytes: number, alignment: number): Block => ({
    key: `${owner}.${path}`,
    owner,
    start: Number(start),
    bytes,
    alignment,
  });
  return [
    block('address', address, SMMU_BYTES, SMMU_BYTES),
    ...(cmdqv ? [block('cmdqv.address', cmdqv.address, cmdqvBytes(cmdqvSettings(cmdqv)), CMDQV_ALIGNMENT)] : []),
  ];
}

/** @throws MachineError unless each block is aligned, within the GiB, and clear of the others */
export function checkRegisterBlocks({ iommus }: MachineDescription): void {
  const before = [DOORBELL];
  for (const block of iommus.flatMap(blocksOf)) {
    const { key, start, bytes, alignment } = block;
    const found = `${key}: ${hex(start)} found`;
    if (start % alignment || start + bytes > MMIO_BYTES) {
      throw new MachineError(`${found}, expected a multiple of ${hex(alignment)} below ${hex(MMIO_BYTES)}`);
    }
    const other = before.find((one) => start < one.start + one.bytes && one.start < start + bytes);
    if (other) throw new MachineError(`${found}, expected ${hex(bytes)} bytes clear of those of ${other.owner}`);
    before.push(block);
  }
}

const hex = (value: number): string => `0x${value.toString(16)}`;
