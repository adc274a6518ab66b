/** The calls of the dialect viommu-v2: virtual IDs are set and unset, and a VIRQ gives bare records. */
import * as v2 from '../abi/iommufd-viommu-v2.ts';
import { PAGE_BYTES } from '../hardware/cmdqv/spec/registers.ts';
import { type HostEvents, VirqEvents } from './host-events.ts';
import type { CmdqvInfo, End, SliceCalls, SlicePort, VintfSlice } from './slice-calls.ts';

/** mmap of the iommufd takes the vIOMMU's ID for the number of a page. */
const PAGE = 4096n;

export class V2Calls implements SliceCalls {
  private readonly port: SlicePort;

  constructor(port: SlicePort) {
    this.port = port;
  }

  allocViommu(devId: number, hwptId: number): number {
    const { client, iommufd } = this.port;
    const values = { type: v2.V2_IOMMU_VIOMMU_TYPE_DEFAULT, devId, hwptId };
    return client.ioctl(iommufd, v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, values).outViommuId;
  }

  /** The dialect has no words for it: this is what there is on every such machine, at least. */
  cmdqvInfo(): CmdqvInfo {
    return { version: 1, log2Queues: 1, log2Sids: 4 };
  }

  allocVintf(devId: number, hwptId: number): VintfSlice {
    const { client, iommufd } = this.port;
    const values = { type: v2.V2_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, devId, hwptId };
    const { outViommuId } = client.ioctl(iommufd, v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc, values);
    return { viommuId: outViommuId, offset: BigInt(outViommuId) * PAGE, length: PAGE_BYTES };
  }

  allocQueue(viommuId: number, index: number, gpa: bigint, log2Entries: number): number {
    const { client, iommufd } = this.port;
    const queue = new v2.VqueueTegra241Cmdqv();
    Object.assign(queue, { vcmdqId: index, vcmdqLog2size: log2Entries, vcmdqBase: gpa });
    const values = {
      viommuId,
      dataType: v2.IOMMU_VQUEUE_DATA_TEGRA241_CMDQV,
      dataLen: queue.bytes.length,
      dataUptr: client.put(queue.bytes),
    };
    return client.ioctl(iommufd, v2.IOMMU_VQUEUE_ALLOC, v2.VqueueAlloc, values).outVqueueId;
  }

  setVirtualId(viommuId: number, devId: number, sid: number): End {
    const { client, iommufd } = this.port;
    const values = { viommuId, devId, vdevId: BigInt(sid) };
    client.ioctl(iommufd, v2.IOMMU_VIOMMU_SET_VDEV_ID, v2.ViommuSetVdevId, values);
    return () => client.ioctl(iommufd, v2.IOMMU_VIOMMU_UNSET_VDEV_ID, v2.ViommuUnsetVdevId, values);
  }

  async openFaults(viommuId: number): Promise<HostEvents> {
    const { client, iommufd } = this.port;
    const values = { viommuId, type: v2.IOMMU_VIRQ_TYPE_ARM_SMMUV3 };
    const made = await client.ioctlLater(iommufd, v2.IOMMU_VIRQ_ALLOC, v2.VirqAlloc, values);
    return new VirqEvents(client, made.outVirqId, made.outVirqFd, v2.VirqArmSmmuv3.size);
  }

  /** A guest has to look at its queues itself. */
  async openQueueErrors(): Promise<null> {
    return null;
  }
}
