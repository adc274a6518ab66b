/** What TLBI commands drop from the IOTLB (IHI 0070, 4.4), with range and level hints as IDR3.RIL says. */
import { ANY_ASID, type Iotlb, STAGE2_ONLY } from './iotlb.ts';
import type { SmmuSettings } from './settings.ts';
import {
  CMD,
  CMD_TLBI_NH_ALL,
  CMD_TLBI_NH_ASID,
  CMD_TLBI_NH_VA,
  CMD_TLBI_NH_VAA,
  CMD_TLBI_NSNH_ALL,
  CMD_TLBI_S2_IPA,
  CMD_TLBI_S12_VMALL,
  TLBI_TG_LOG2,
} from './spec/commands.ts';
import { frameAt, get } from './spec/field.ts';
import { withoutTopByte } from './translator.ts';

/** The command is illegal with these parameters, or without this stage: CERROR_ILL. */
export const ILLEGAL = -1;

const LAST_FRAME = 2 ** 52 - 1;

export class TlbInvalidation {
  private readonly iotlb: Iotlb;
  private readonly settings: SmmuSettings;

  constructor(iotlb: Iotlb, settings: SmmuSettings) {
    this.iotlb = iotlb;
    this.settings = settings;
  }

  /** Carries out a TLBI command. Returns the entries dropped, or ILLEGAL. */
  run(opcode: number, command: Uint32Array): number {
    if (opcode === CMD_TLBI_NSNH_ALL) return this.iotlb.clear();
    const stage2 = opcode === CMD_TLBI_S12_VMALL || opcode === CMD_TLBI_S2_IPA;
    if (stage2 ? !this.settings.s2p : !this.settings.s1p) return ILLEGAL;
    // Entries have VMID 0 where there is no stage 2, and the parameter is RES0 (4.4.2).
    const vmid = this.settings.s2p ? get(command, 0, CMD.VMID) : 0;
    const asid = get(command, 0, CMD.ASID);
    switch (opcode) {
      case CMD_TLBI_NH_ALL:
        return this.iotlb.invalidateVmid(vmid, false);
      case CMD_TLBI_S12_VMALL:
        return this.iotlb.invalidateVmid(vmid, true);
      case CMD_TLBI_NH_ASID:
        return this.iotlb.invalidateAsid(vmid, asid);
      case CMD_TLBI_NH_VA:
        return this.byAddress(command, vmid, asid);
      case CMD_TLBI_NH_VAA:
        return this.byAddress(command, vmid, ANY_ASID);
      case CMD_TLBI_S2_IPA:
        return this.byAddress(command, vmid, STAGE2_ONLY);
      default:
        return ILLEGAL;
    }
  }

  /** One page, or with TG the range of 4.4.1.1, which ends at the top of the address space. */
  private byAddress(command: Uint32Array, vmid: number, asid: number): number {
    const address = frameAt(command, 0, CMD.Address);
    // The IOTLB holds VAs as TBI leaves them; a command may have either form of the top byte.
    const first = asid === STAGE2_ONLY ? address : withoutTopByte(address, ((address * 2 ** -43) & 1) === 1);
    const tg = this.settings.ril ? TLBI_TG_LOG2[get(command, 0, CMD.TG) as 0 | 1 | 2 | 3] : 0;
    if (tg === 0) return this.iotlb.invalidateRange(vmid, asid, first, first, 0, 0);
    // TTL = 1 does not exist with 16 KiB and counts as 0.
    const ttl = tg === 14 && get(command, 0, CMD.TTL) === 1 ? 0 : get(command, 0, CMD.TTL);
    const num = get(command, 0, CMD.NUM);
    const scale = get(command, 0, CMD.SCALE);
    if (num === 0 && scale === 0 && ttl === 0) return ILLEGAL;
    const granule = 2 ** (tg - 12);
    const start = Math.floor(first / granule) * granule;
    const last = Math.min(start + (num + 1) * 2 ** scale * granule - 1, LAST_FRAME);
    return this.iotlb.invalidateRange(vmid, asid, start, last, ttl, tg);
  }
}
