/** What a VMM calls to slice an SMMU. Releases have other calls for the same, so there is one of these for each of their kind. */
import type { Client } from './client.ts';
import type { HostEvents } from './host-events.ts';

export interface SlicePort {
  readonly client: Client;
  readonly iommufd: number;
}

/** Ends what a call has begun; may be refused. */
export type End = () => void;

/** What a CMDQV offers one VM. */
export interface CmdqvInfo {
  readonly version: number;
  readonly log2Queues: number;
  readonly log2Sids: number;
}

/** A vIOMMU with command queues for its guest, and where in the iommufd page 0 of their registers is mapped. */
export interface VintfSlice {
  readonly viommuId: number;
  readonly offset: bigint;
  readonly length: number;
}

export interface SliceCalls {
  /** @returns ID of a vIOMMU on the SMMU that the device is behind */
  allocViommu(devId: number, parentId: number): number;
  cmdqvInfo(devId: number): CmdqvInfo;
  /** The same with command queues; refused where the SMMU has none, or the release no words for them. */
  allocVintf(devId: number, parentId: number): VintfSlice;
  /** Has the hardware read commands at `gpa` by itself. @returns ID of the queue */
  allocQueue(viommuId: number, index: number, gpa: bigint, log2Entries: number): number;
  /** From now on the vIOMMU knows the device by `sid`. */
  setVirtualId(viommuId: number, devId: number, sid: number): End;
  /** Where faults of the guest's tables come out; null with a release that has no such thing. */
  openFaults(viommuId: number, depth: number): Promise<HostEvents | null>;
  /** Where it is told which of its command queues have met an error; null as above. */
  openQueueErrors(viommuId: number, depth: number): Promise<HostEvents | null>;
}
