/** What domains, vIOMMUs and devices see of the SMMU instance that they use. Made by the driver's probe. */
import { type Behaviour, DEFAULT_DIALECT, dialect } from '../../abi/dialects.ts';
import type { PhysicalMemory } from '../../memory/physical-memory.ts';
import type { FrameAllocator } from '../frame-allocator.ts';
import type { ReservedRegion } from '../iommu-driver.ts';
import type { Cmdqv } from './cmdqv/cmdqv.ts';
import type { CommandQueue, CommandSink } from './command-queue.ts';
import type { IdPool } from './id-pool.ts';
import type { Identity } from './identity.ts';
import type { PagingDomain } from './paging-domain.ts';

export interface Policy {
  /** Who owns a VMID: each vIOMMU, or (as kernels up to now) each stage 2 on each SMMU, shared by all its vIOMMUs. */
  readonly vmid: 'per-viommu' | 'per-domain';
  /** Every stage 2 on this SMMU gets this VMID, whoever else has it: to show what goes wrong then. */
  readonly vmidOverride?: number;
  /** A smaller VMID pool than the hardware's 8 or 16 bits. */
  readonly vmidBits?: number;
}

/** What a release's nesting accepts. */
export type NestingBehaviour = Pick<
  Behaviour,
  | 'viommuTypeDefaultAllowed'
  | 'invalidateOnNestedHwptSmmuv3'
  | 'nestedAttachNeedsVdevice'
  | 'smmuv3Nesting'
  | 'smmuv3DirtyTracking'
  | 'smmuv3FaultsNeedRequests'
  | 'mmap'
>;

export const DEFAULT_BEHAVIOUR: NestingBehaviour = dialect(DEFAULT_DIALECT).behaviour;

/** IOVAs that kernels set aside on this architecture for the MSI doorbell, wherever it is. */
export const DEFAULT_MESSAGE_REGION: ReservedRegion = { start: 0x8000000n, last: 0x80fffffn, type: 'software-msi' };

/** What is in use on one SMMU, besides what probe made. All zero when nobody uses it. */
export interface Counts {
  nestedDomains: number;
  viommus: number;
  attachments: number;
  contextTables: number;
}

export interface Unit {
  readonly name: string;
  readonly identity: Identity;
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  /** Takes the host's commands. */
  readonly commands: CommandSink;
  /** The SMMU's own queue. What guests have the host issue goes through it. */
  readonly queue: CommandQueue;
  readonly cmdqv: Cmdqv | null;
  readonly policy: Policy;
  readonly behaviour: NestingBehaviour;
  /** What its devices reserve for the messages that they send. */
  readonly messageRegion: ReservedRegion;
  readonly vmids: IdPool;
  readonly asids: IdPool;
  readonly counts: Counts;
  /** Paging domains that were allocated for devices of this SMMU; others may be in use on it too. */
  readonly domains: Set<PagingDomain>;
  /** Hands on what the SMMU has recorded, though its interrupts are still on their way. */
  drainRecords(): void;
}
