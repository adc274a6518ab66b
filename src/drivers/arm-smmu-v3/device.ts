/** One device behind one SMMU: what it can do, what it may be attached to, and where its events and page requests go. */
import { fail } from '../../abi/errno.ts';
import {
  HwInfoArmSmmuv3,
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_HW_INFO_TYPE_DEFAULT,
  IOMMU_HW_INFO_TYPE_NONE,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_PGFAULT_FLAGS_LAST_PAGE,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_DEFAULT,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
} from '../../abi/iommufd.ts';
import { V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV } from '../../abi/iommufd-viommu-v2.ts';
import { NO_SUBSTREAM } from '../../hardware/iommu.ts';
import { CONFIG_ABORT, CONFIG_S1 } from '../../hardware/smmuv3/spec/ste.ts';
import { mayFail } from '../failure-points.ts';
import type * as contract from '../iommu-driver.ts';
import { Attachments, type Capability, type Present } from './attachments.ts';
import { CmdqvViommu } from './cmdqv/viommu.ts';
import { CommandBatch } from './commands.ts';
import { stage1Context } from './context-descriptor.ts';
import { LINEAR_LOG2 } from './context-table.ts';
import { NestedDomain, readGuestSte } from './nested-domain.ts';
import { addPageResponse, addResume, requestOfMessage, requestOfStall } from './page-faults.ts';
import { PagingDomain } from './paging-domain.ts';
import { nestedSte, stage2Ste } from './ste.ts';
import { tableFormat } from './table-format.ts';
import type { Unit } from './unit.ts';
import { Viommu } from './viommu.ts';

/** HWPT_ALLOC flags that go together, as kernels have it: no dirty tracking of a nesting parent. */
const PAGING_FLAGS: ReadonlySet<number> = new Set([
  0,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_PASID,
]);

/** Stage 1 input: what CPUs of this architecture have without 52-bit VAs. */
const STAGE1_BITS = 48;

/** A function's PASID capability, as far as its IOMMU driver is concerned. */
export interface PasidCapability extends Capability {
  /** Width of a PASID. */
  readonly bits: number;
}

/** What a bus knows of a device that it puts behind an SMMU. Capabilities that it does not have are null. */
export interface DeviceDescription {
  readonly streamId: number;
  readonly name: string;
  readonly ats: Capability | null;
  /** Page requests: only with ATS. */
  readonly pri: Capability | null;
  readonly pasid: PasidCapability | null;
  /** The platform says that its transactions may stall. Never so for PCIe proper (16.4). */
  readonly canStall: boolean;
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
  private readonly tracksDirty: boolean;
  pageRequests: contract.PageRequestSink | null;
  private readonly ats: Capability | null;
  private readonly stalls: boolean;
  /** It may stall, or make page requests. */
  private readonly asksForPages: boolean;
  private readonly attachments: Attachments;

  /** @param steAddress byte address of the stream's STE, which aborts now */
  constructor(driver: contract.IommuDriver, unit: Unit, description: DeviceDescription, steAddress: number) {
    const { identity } = unit;
    this.driver = driver;
    this.unit = unit;
    this.streamId = description.streamId;
    this.name = description.name;
    this.ats = identity.ats ? description.ats : null;
    this.stalls = (identity.stalls && description.canStall) || identity.stallsForced;
    // On for good, whatever is attached, as kernels have it: it may not change once ATS is on (PCIe 5.0, 10.5.1.3).
    description.pasid?.enable(true);
    const tableBits = identity.twoLevelContextTable ? identity.substreamBits : LINEAR_LOG2;
    this.maxPasidLog2 = Math.min(description.pasid?.bits ?? 0, identity.substreamBits, tableBits);
    this.tracksDirty = identity.dirtyTracking && unit.behaviour.smmuv3DirtyTracking;
    this.hwCapabilities = BigInt(
      (this.tracksDirty ? IOMMU_HW_CAP_DIRTY_TRACKING : 0) | (this.ats ? 0 : IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED),
    );
    this.cacheCoherent = identity.coherent;
    this.pageRequests = null;
    const pri = this.ats && identity.pri ? description.pri : null;
    this.asksForPages = this.stalls || pri !== null;
    this.attachments = new Attachments({
      unit,
      streamId: this.streamId,
      steAddress,
      ats: this.ats,
      pri,
      pasidBits: this.maxPasidLog2,
      stalls: this.stalls,
    });
    if (unit.behaviour.invalidateOnNestedHwptSmmuv3) {
      this.allocNestedOnParent = (parent, flags, data) => {
        if (flags) throw fail('EOPNOTSUPP', `nested HWPT flags are 0x${flags.toString(16)}, expected 0`);
        return new NestedDomain(unit, this.parentHere(parent), readGuestSte(data), null);
      };
    }
  }

  reservedRegions(): contract.ReservedRegion[] {
    return [this.unit.messageRegion];
  }

  hwInfo(type: number): { type: number; data: Uint8Array } {
    const { cmdqv } = this.unit;
    if (type === IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV && cmdqv) return { type, data: cmdqv.info };
    if (type !== IOMMU_HW_INFO_TYPE_DEFAULT && type !== IOMMU_HW_INFO_TYPE_ARM_SMMUV3) {
      throw fail('EOPNOTSUPP', `hardware information type is ${type}, this IOMMU has ${IOMMU_HW_INFO_TYPE_ARM_SMMUV3}`);
    }
    if (!this.unit.behaviour.smmuv3Nesting) return { type: IOMMU_HW_INFO_TYPE_NONE, data: new Uint8Array() };
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
    if (!PAGING_FLAGS.has(flags)) {
      throw fail('EOPNOTSUPP', `HWPT flags are 0x${flags.toString(16)}: NEST_PARENT stands alone`);
    }
    const nestParent = flags === IOMMU_HWPT_ALLOC_NEST_PARENT;
    const dirtyTracking = (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0;
    if (nestParent && !this.unit.behaviour.smmuv3Nesting) {
      throw fail('EOPNOTSUPP', 'an SMMUv3 has no nesting parents in this release');
    }
    if (nestParent && !(identity.stage1 && identity.stage2)) {
      throw fail('EOPNOTSUPP', `${this.unit.name} does not nest: it has one stage only`);
    }
    if (dirtyTracking && !this.tracksDirty) {
      throw fail('EOPNOTSUPP', `${this.unit.name} does not track dirty pages (IDR0.HTTU, COHACC, and the release)`);
    }
    if (flags && !nestParent && !identity.stage1) {
      throw fail('EOPNOTSUPP', `${this.unit.name} has no stage 1, which HWPT flags 0x${flags.toString(16)} need`);
    }
    const stage = nestParent || !identity.stage1 ? 2 : 1;
    const inputBits = stage === 1 ? STAGE1_BITS : identity.outputBits;
    const format = tableFormat(stage, identity.granuleLog2, inputBits, identity.outputBits, dirtyTracking);
    return new PagingDomain(this.unit, format, nestParent);
  }

  /** None where a guest's stage 1 could make the device's accesses bypass caches, which VFIO never cleans. */
  get viommuTypes(): readonly number[] {
    if (!this.cacheCoherent) return [];
    const { viommuTypeDefaultAllowed } = this.unit.behaviour;
    const plain = viommuTypeDefaultAllowed ? IOMMU_VIOMMU_TYPE_DEFAULT : IOMMU_VIOMMU_TYPE_ARM_SMMUV3;
    return this.cmdqvType === null ? [plain] : [plain, this.cmdqvType];
  }

  /** The vIOMMU type that has a part of the CMDQV. Only releases that map something of /dev/iommu have one. */
  private get cmdqvType(): number | null {
    const { cmdqv, behaviour } = this.unit;
    if (!cmdqv || behaviour.mmap === 'none') return null;
    return behaviour.mmap === 'viommu-id' ? V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV : IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV;
  }

  allocViommu(type: number, parent: contract.PagingDomain, data: contract.UserData | null): Viommu {
    if (!this.viommuTypes.includes(type)) {
      const takes = this.viommuTypes.join() || 'none, as IDR0.COHACC is 0';
      throw fail('EOPNOTSUPP', `vIOMMU type is ${type}, ${this.unit.name} takes ${takes}`);
    }
    const { cmdqv } = this.unit;
    if (cmdqv && type === this.cmdqvType) return new CmdqvViommu(this.unit, cmdqv, this.parentHere(parent), data);
    return new Viommu(this.unit, this.parentHere(parent));
  }

  attach(domain: contract.Domain | null, pasid: number): void {
    // Page requests of what was attached are not for who comes after it.
    this.unit.drainRecords();
    if (domain) this.checkFaults(domain);
    if (pasid === 0) {
      const next = domain === null ? null : this.prepare(domain);
      this.releasing(next, () => this.attachments.replace(next));
    } else if (domain === null) this.attachments.replacePasid(pasid, null);
    else this.attachPasid(domain, pasid);
  }

  /** A PASID of a device that has none is accepted, as in kernels: no request can carry it. */
  private attachPasid(domain: contract.Domain, pasid: number): void {
    if (domain instanceof NestedDomain)
      throw fail('EOPNOTSUPP', `PASID ${pasid}: a nested HWPT takes whole devices only`);
    const paging = this.pagingHere(domain);
    if (this.maxPasidLog2 === 0) return;
    if (pasid >= 2 ** this.maxPasidLog2) {
      throw fail('EINVAL', `PASID ${pasid} is beyond the ${this.maxPasidLog2} bits of ${this.name}`);
    }
    if (paging.table.format.stage !== 1)
      throw fail('EINVAL', `PASID ${pasid} needs a stage 1, and the HWPT is a stage 2`);
    mayFail('an attachment of the driver');
    const next = this.prepareStage1(paging, pasid);
    this.releasing(next, () => this.attachments.replacePasid(pasid, next));
  }

  /** An attach that fails leaves nothing of `next`. */
  private releasing(next: Present | null, attach: () => void): void {
    try {
      attach();
    } catch (error) {
      if (next?.tag) next.paging.releaseTag(next.tag);
      throw error;
    }
  }

  /** The record of a stalled transaction: a page request, whoever owns the stage 1. */
  reportStall(event: Uint32Array): void {
    const request = requestOfStall(event);
    this.ask(request, (code) => this.answer((batch) => addResume(batch, this.streamId, request.group, code)));
  }

  /** An entry of the page request queue. */
  reportPageRequest(entry: Uint32Array): void {
    const request = requestOfMessage(entry);
    if (!request) return;
    this.ask(request, (code) => this.answer((batch) => addPageResponse(batch, this.streamId, request, code)));
  }

  /** Nobody there: the answer is null, a failure. */
  private ask(request: contract.PageRequest, respond: (code: number | null) => void): void {
    if (this.pageRequests) this.pageRequests.report(request, respond);
    else if (request.flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) respond(null);
  }

  private answer(add: (batch: CommandBatch) => void): void {
    const batch = new CommandBatch();
    add(batch);
    this.unit.commands.submit(batch);
  }

  /**
   * An event record of this stream. Kernels with vDEVICE objects look at the vSID when they attach: a vDEVICE that came
   * later is not heard of until the next attach.
   * @returns false when no VM is there to hear of it
   */
  report(event: Uint32Array): boolean {
    const present = this.attachments.withoutPasid;
    if (!present?.viommu) return false;
    const { viommu, virtualId } = present;
    const now = viommu.virtualIdOf(this);
    if (now === null || (now !== virtualId && this.unit.behaviour.nestedAttachNeedsVdevice !== 'never')) return false;
    viommu.report(now, event);
    return true;
  }

  private checkFaults({ handlesFaults }: contract.Domain): void {
    if (!handlesFaults || this.asksForPages || !this.unit.behaviour.smmuv3FaultsNeedRequests) return;
    throw fail('EINVAL', `the HWPT has a fault queue, and ${this.name} neither stalls nor makes page requests`);
  }

  /** Everything that can be refused; changes nothing that the hardware sees. */
  private prepare(domain: contract.Domain): Present {
    mayFail('an attachment of the driver');
    if (domain instanceof NestedDomain) return this.prepareNested(domain);
    const paging = this.pagingHere(domain);
    return paging.table.format.stage === 1 ? this.prepareStage1(paging, NO_SUBSTREAM) : this.prepareStage2(paging);
  }

  private pagingHere(domain: contract.Domain): PagingDomain {
    if (domain instanceof PagingDomain && domain.fits(this.unit)) return domain;
    throw fail('EINVAL', `the HWPT's tables do not suit ${this.unit.name}, which ${this.name} is behind`);
  }

  private prepareStage1(paging: PagingDomain, substream: number): Present {
    const tag = paging.sharedTag(this.unit);
    const context = stage1Context(paging.table, tag.id, this.stalls);
    return { ...this.common(paging, paging, this.ats !== null), substream, tag, context };
  }

  private prepareStage2(paging: PagingDomain): Present {
    this.attachments.checkNoPasids();
    const tag = paging.sharedTag(this.unit);
    const ats = this.ats !== null;
    const ste = stage2Ste(this.unit.identity, paging.table, tag.vmid, { stalls: this.stalls, ats });
    return { ...this.common(paging, paging, ats), tag, ste };
  }

  private prepareNested(nested: NestedDomain): Present {
    const { unit, guest, parent: paging, tag, viommu } = nested;
    if (unit !== this.unit) {
      throw fail('EINVAL', `the nested HWPT belongs to ${unit.name}, and ${this.name} is behind ${this.unit.name}`);
    }
    this.attachments.checkNoPasids();
    const rule = unit.behaviour.nestedAttachNeedsVdevice;
    const needed = rule === 'always' || (rule === 'translating' && guest.config === CONFIG_S1);
    const virtualId = viommu?.virtualIdOf(this) ?? null;
    if (needed && viommu && virtualId === null) {
      throw fail('ENOENT', `${this.name} has no vDEVICE, which its guest's STE.Config ${guest.config} needs`);
    }
    // A guest that keeps ATS off sends no ATC_INV, so its devices must have no ATC.
    const translating = guest.config === CONFIG_S1;
    const ats = this.ats !== null && (translating ? guest.ats : guest.config !== CONFIG_ABORT);
    const ste = nestedSte(unit.identity, paging.table, tag.vmid, guest.words, { stalls: this.stalls, ats });
    return { ...this.common(paging, nested, ats), behindStage1: translating, viommu, virtualId, ste };
  }

  private common(paging: PagingDomain, domain: contract.Domain, ats: boolean): Present {
    const { unit, streamId } = this;
    const faults = domain.handlesFaults === true;
    const none = { behindStage1: false, tag: null, context: null, ste: null, viommu: null, virtualId: null };
    return { unit, streamId, substream: NO_SUBSTREAM, paging, ats, faults, ...none };
  }

  private parentHere(parent: contract.PagingDomain): PagingDomain {
    if (parent instanceof PagingDomain && parent.nestParent && parent.fits(this.unit)) return parent;
    throw fail('EINVAL', `the HWPT is not a nesting parent whose tables suit ${this.unit.name}`);
  }
}
