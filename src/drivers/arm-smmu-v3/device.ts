/**
 * One device behind one SMMU, and what it is attached to.
 *
 * Order of an attach: the new domain is told first, so that its unmaps reach this device from now on; ATS goes off in
 * the function before the STE refuses it; then the STE; then ATS goes on, or the ATC is emptied of the old domain; the
 * old domain is told last. So at no moment does an unmap miss a cache that may hold its translations.
 */
import { fail } from '../../abi/errno.ts';
import {
  HwInfoArmSmmuv3,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_HW_INFO_TYPE_DEFAULT,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_DEFAULT,
} from '../../abi/iommufd.ts';
import { CONFIG_ABORT, CONFIG_S1 } from '../../hardware/smmuv3/spec/ste.ts';
import type * as contract from '../iommu-driver.ts';
import { CommandBatch } from './commands.ts';
import { stage1Context } from './context-descriptor.ts';
import { EntryWriter } from './entry-writer.ts';
import { NestedDomain, readGuestSte } from './nested-domain.ts';
import { type Attachment, PagingDomain } from './paging-domain.ts';
import { abortSte, nestedSte, type Ste, stage1Ste, stage2Ste } from './ste.ts';
import { tableFormat } from './table-format.ts';
import type { Tag } from './tag.ts';
import type { Unit } from './unit.ts';
import { Viommu } from './viommu.ts';

/** IOVAs that kernels set aside on this architecture for their MSI doorbells. */
const SOFTWARE_MSI = { start: 0x8000000n, last: 0x80fffffn, type: 'software-msi' } as const;

/** Stage 1 input: what CPUs of this architecture have without 52-bit VAs. */
const STAGE1_BITS = 48;

/** A function's ATS capability, as far as its IOMMU driver is concerned. */
export interface AtsCapability {
  readonly supported: boolean;
  /** Writes the enable bit. */
  enable(on: boolean): void;
}

/** The same for its PASIDs. */
export interface PasidCapability {
  /** Width of a PASID. */
  readonly bits: number;
  enable(on: boolean): void;
}

/** What a bus knows of a device that it puts behind an SMMU. */
export interface DeviceDescription {
  readonly streamId: number;
  readonly name: string;
  /** Null for a device without the capability. */
  readonly ats: AtsCapability | null;
  /** Null for a device without the capability. */
  readonly pasid: PasidCapability | null;
}

/** The attached domain with all that it needs on this SMMU. */
interface Present extends Attachment {
  readonly paging: PagingDomain;
  readonly ste: Ste;
  /** To be released with it; null when it belongs to a nested domain or vIOMMU. */
  readonly tag: Tag | null;
  /** The frame of the context descriptor of a host stage 1, or -1. */
  readonly contextFrame: number;
  /** Where events go, and the vSID that the device had there when it was attached. */
  readonly viommu: Viommu | null;
  readonly virtualId: bigint | null;
}

export class SmmuDevice implements contract.DriverDevice {
  readonly driver: contract.IommuDriver;
  readonly unit: Unit;
  readonly streamId: number;
  readonly name: string;
  readonly maxPasidLog2: number;
  readonly hwCapabilities: bigint;
  readonly cacheCoherent: boolean;
  readonly allocNestedOnParent?: contract.DriverDevice['allocNestedOnParent'] & {};
  private readonly ats: AtsCapability | null;
  private readonly steAddress: number;
  private present: Present | null;

  /** @param steAddress byte address of the stream's STE, which aborts now */
  constructor(driver: contract.IommuDriver, unit: Unit, description: DeviceDescription, steAddress: number) {
    const { identity } = unit;
    this.driver = driver;
    this.unit = unit;
    this.streamId = description.streamId;
    this.name = description.name;
    this.ats = identity.ats && description.ats?.supported ? description.ats : null;
    // On for good, whatever is attached, as kernels have it: it may not change once ATS is on (PCIe 5.0, 10.5.1.3).
    description.pasid?.enable(true);
    this.maxPasidLog2 = Math.min(description.pasid?.bits ?? 0, identity.substreamBits);
    this.hwCapabilities = this.ats ? 0n : BigInt(IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED);
    this.cacheCoherent = identity.coherent;
    this.steAddress = steAddress;
    this.present = null;
    if (unit.behaviour.invalidateOnNestedHwptSmmuv3) {
      this.allocNestedOnParent = (parent, flags, data) => {
        if (flags) throw fail('EOPNOTSUPP', `nested HWPT flags are 0x${flags.toString(16)}, expected 0`);
        return new NestedDomain(unit, this.parentHere(parent), readGuestSte(data), null);
      };
    }
  }

  reservedRegions(): contract.ReservedRegion[] {
    return [SOFTWARE_MSI];
  }

  hwInfo(type: number): { type: number; data: Uint8Array } {
    if (type !== IOMMU_HW_INFO_TYPE_DEFAULT && type !== IOMMU_HW_INFO_TYPE_ARM_SMMUV3) {
      throw fail('EOPNOTSUPP', `hardware information type is ${type}, this IOMMU has ${IOMMU_HW_INFO_TYPE_ARM_SMMUV3}`);
    }
    const { idr, iidr, aidr } = this.unit.identity;
    const info = new HwInfoArmSmmuv3();
    info.idr = idr;
    info.iidr = iidr;
    info.aidr = aidr;
    return { type: IOMMU_HW_INFO_TYPE_ARM_SMMUV3, data: info.bytes };
  }

  /** Stage 2 for nesting parents, otherwise stage 1 where the SMMU has it, as kernels choose. */
  allocPaging(flags: number, data: contract.UserData | null): PagingDomain {
    const { identity } = this.unit;
    if (data) throw fail('EOPNOTSUPP', `paging HWPT data_type is ${data.type}, this IOMMU takes none`);
    const nestParent = flags === IOMMU_HWPT_ALLOC_NEST_PARENT;
    if (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) {
      throw fail('EOPNOTSUPP', `${this.unit.name} does not track dirty pages (IDR0.HTTU is 0)`);
    }
    if (flags && !nestParent && flags !== IOMMU_HWPT_ALLOC_PASID) {
      throw fail('EOPNOTSUPP', `HWPT flags are 0x${flags.toString(16)}, expected NEST_PARENT, PASID or none`);
    }
    if (nestParent && !(identity.stage1 && identity.stage2)) {
      throw fail('EOPNOTSUPP', `${this.unit.name} does not nest: it has one stage only`);
    }
    if (flags === IOMMU_HWPT_ALLOC_PASID && !identity.stage1) {
      throw fail('EOPNOTSUPP', `${this.unit.name} has no stage 1, which PASIDs need`);
    }
    const stage = nestParent || !identity.stage1 ? 2 : 1;
    const inputBits = stage === 1 ? STAGE1_BITS : identity.outputBits;
    const format = tableFormat(stage, identity.granuleLog2, inputBits, identity.outputBits);
    return new PagingDomain(this.unit, format, nestParent);
  }

  /** None where a guest's stage 1 could make the device's accesses bypass caches, which VFIO never cleans. */
  get viommuTypes(): readonly number[] {
    if (!this.cacheCoherent) return [];
    const { viommuTypeDefaultAllowed } = this.unit.behaviour;
    return [viommuTypeDefaultAllowed ? IOMMU_VIOMMU_TYPE_DEFAULT : IOMMU_VIOMMU_TYPE_ARM_SMMUV3];
  }

  allocViommu(type: number, parent: contract.PagingDomain, _data: contract.UserData | null): Viommu {
    if (!this.viommuTypes.includes(type)) {
      const takes = this.viommuTypes.join() || 'none, as IDR0.COHACC is 0';
      throw fail('EOPNOTSUPP', `vIOMMU type is ${type}, ${this.unit.name} takes ${takes}`);
    }
    return new Viommu(this.unit, this.parentHere(parent));
  }

  attach(domain: contract.Domain | null, pasid: number): void {
    if (pasid !== 0) throw fail('EOPNOTSUPP', `attach of PASID ${pasid}: only whole devices can be attached here`);
    const next = domain === null ? null : this.prepare(domain);
    const old = this.present;
    next?.paging.attachments.add(next);
    if (old?.ats && !next?.ats) this.ats!.enable(false);
    this.writeSte(next?.ste ?? abortSte());
    this.present = next;
    if (next?.ats && !old?.ats) this.ats!.enable(true);
    else if (old?.ats) this.emptyAtc();
    if (old) this.dismiss(old);
    this.unit.counts.attachments += (next ? 1 : 0) - (old ? 1 : 0);
  }

  /**
   * An event record of this stream. Kernels with vDEVICE objects look at the vSID when they attach: a vDEVICE that came
   * later is not heard of until the next attach.
   * @returns false when no VM is there to hear of it
   */
  report(event: Uint32Array): boolean {
    if (!this.present?.viommu) return false;
    const { viommu, virtualId } = this.present;
    const now = viommu.virtualIdOf(this);
    if (now === null || (now !== virtualId && this.unit.behaviour.nestedAttachNeedsVdevice !== 'never')) return false;
    viommu.report(now, event);
    return true;
  }

  /** Everything that can be refused; changes nothing that the hardware sees. */
  private prepare(domain: contract.Domain): Present {
    if (domain instanceof NestedDomain) return this.prepareNested(domain);
    if (!(domain instanceof PagingDomain) || !domain.fits(this.unit)) {
      throw fail('EINVAL', `the HWPT's tables do not suit ${this.unit.name}, which ${this.name} is behind`);
    }
    return domain.table.format.stage === 1 ? this.prepareStage1(domain) : this.prepareStage2(domain);
  }

  private prepareStage1(paging: PagingDomain): Present {
    const tag = paging.sharedTag(this.unit);
    const ats = this.ats !== null;
    try {
      // A descriptor of its own for every attachment: the STE moves from one to the next in a single doubleword.
      const contextFrame = this.unit.frames.allocate(0);
      this.unit.counts.contextTables++;
      const words = stage1Context(paging.table, tag.id);
      for (let i = 0; i < words.length; i += 2) {
        this.unit.memory.store64(contextFrame, i * 4, words[i]!, words[i + 1]!);
      }
      return { ...this.common(ats), paging, tag, contextFrame, ste: stage1Ste(this.unit.identity, contextFrame, ats) };
    } catch (error) {
      paging.releaseTag(tag);
      throw error;
    }
  }

  private prepareStage2(paging: PagingDomain): Present {
    const tag = paging.sharedTag(this.unit);
    const ats = this.ats !== null;
    return { ...this.common(ats), paging, tag, ste: stage2Ste(this.unit.identity, paging.table, tag.vmid, ats) };
  }

  private prepareNested(nested: NestedDomain): Present {
    const { unit, guest, parent: paging, tag, viommu } = nested;
    if (unit !== this.unit) {
      throw fail('EINVAL', `the nested HWPT belongs to ${unit.name}, and ${this.name} is behind ${this.unit.name}`);
    }
    const rule = unit.behaviour.nestedAttachNeedsVdevice;
    const needed = rule === 'always' || (rule === 'translating' && guest.config === CONFIG_S1);
    const virtualId = viommu?.virtualIdOf(this) ?? null;
    if (needed && viommu && virtualId === null) {
      throw fail('ENOENT', `${this.name} has no vDEVICE, which its guest's STE.Config ${guest.config} needs`);
    }
    // A guest that keeps ATS off sends no ATC_INV, so its devices must have no ATC.
    const translating = guest.config === CONFIG_S1;
    const ats = this.ats !== null && (translating ? guest.ats : guest.config !== CONFIG_ABORT);
    const ste = nestedSte(unit.identity, paging.table, tag.vmid, guest.words, ats);
    return { ...this.common(ats), behindStage1: translating, paging, tag: null, viommu, virtualId, ste };
  }

  private common(ats: boolean) {
    const { unit, streamId } = this;
    return { unit, streamId, ats, behindStage1: false, contextFrame: -1, viommu: null, virtualId: null };
  }

  private writeSte(ste: Ste): void {
    const { commands, memory } = this.unit;
    const sync = () => {
      const batch = new CommandBatch();
      batch.invalidateSte(this.streamId);
      commands.submit(batch);
    };
    new EntryWriter(memory, this.steAddress, sync).write(ste);
  }

  private emptyAtc(): void {
    const batch = new CommandBatch();
    batch.invalidateAtc(this.streamId);
    this.unit.commands.submit(batch);
  }

  private dismiss(old: Present): void {
    old.paging.attachments.delete(old);
    if (old.contextFrame >= 0) {
      // No cache has it any more: CMD_CFGI_STE dropped the contexts of the stream too (4.3.1).
      this.unit.frames.free(old.contextFrame);
      this.unit.counts.contextTables--;
    }
    if (old.tag) old.paging.releaseTag(old.tag);
  }

  private parentHere(parent: contract.PagingDomain): PagingDomain {
    if (parent instanceof PagingDomain && parent.nestParent && parent.fits(this.unit)) return parent;
    throw fail('EINVAL', `the HWPT is not a nesting parent whose tables suit ${this.unit.name}`);
  }
}
