/** Reads an STE where hardware would: through STRTAB_BASE and the tables in memory, at the specification's offsets. */
import type { Machine } from '../../src/host/machine.ts';

const STRTAB_BASE = 0x80;
const STRTAB_BASE_CFG = 0x88;
const ADDRESS = 0x000f_ffff_ffff_ffc0n;

export interface SeenSte {
  readonly config: number;
  readonly vmid: number;
  /** Physical address of the stage-2 root. */
  readonly s2ttb: bigint;
}

/** The STE of `stream` at IOMMU number `iommu` of the machine. */
export function readSte(machine: Machine, iommu: number, stream: number): SeenSte {
  const { smmu } = machine.iommus[iommu]!;
  const register = (offset: number): bigint =>
    BigInt(smmu.readRegister(offset, 4)) | (BigInt(smmu.readRegister(offset + 4, 4)) << 32n);
  const load = (address: bigint): bigint => {
    if (!machine.memory.load64(Number(address >> 12n), Number(address & 0xfffn))) throw new Error('no memory there');
    return BigInt(machine.memory.lo) | (BigInt(machine.memory.hi) << 32n);
  };
  const cfg = smmu.readRegister(STRTAB_BASE_CFG, 4);
  const split = (cfg >>> 6) & 0x1f;
  let table = register(STRTAB_BASE) & ADDRESS;
  let index = stream;
  if (((cfg >>> 16) & 3) === 1) {
    table = load(table + 8n * BigInt(stream >>> split)) & ADDRESS;
    index = stream & (2 ** split - 1);
  }
  const ste = table + 64n * BigInt(index);
  return {
    config: Number((load(ste) >> 1n) & 7n),
    vmid: Number(load(ste + 16n) & 0xffffn),
    s2ttb: load(ste + 24n) & 0x000f_ffff_ffff_fff0n,
  };
}
