/** The calls of Linux 6.13 and later: vDEVICEs, and vEVENTQs from 6.15 on. */
import * as uapi from '../abi/iommufd.ts';
import { COMMAND_BYTES } from '../hardware/smmuv3/spec/commands.ts';
import { Refused } from './client.ts';
import { type HostEvents, VeventqEvents } from './host-events.ts';
import type { CmdqvInfo, End, SliceCalls, SlicePort, VintfSlice } from './slice-calls.ts';

export class MainlineCalls implements SliceCalls {
  private readonly port: SlicePort;

  constructor(port: SlicePort) {
    this.port = port;
  }

  allocViommu(devId: number, hwptId: number): number {
    const { client, iommufd } = this.port;
    const values = { type: uapi.IOMMU_VIOMMU_TYPE_ARM_SMMUV3, devId, hwptId };
    return client.ioctl(iommufd, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, values).outViommuId;
  }

  cmdqvInfo(devId: number): CmdqvInfo {
    const { client, iommufd } = this.port;
    const dataLen = uapi.HwInfoTegra241Cmdqv.size;
    const values = {
      flags: uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE,
      devId,
      dataLen,
      dataUptr: client.put(new Uint8Array(dataLen)),
      inDataType: uapi.IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
    };
    client.ioctl(iommufd, uapi.IOMMU_GET_HW_INFO, uapi.HwInfo, values);
    const { version, log2vcmdqs, log2vsids } = new uapi.HwInfoTegra241Cmdqv(client.data(dataLen));
    return { version, log2Queues: log2vcmdqs, log2Sids: log2vsids };
  }

  allocVintf(devId: number, hwptId: number): VintfSlice {
    const { client, iommufd } = this.port;
    const dataLen = uapi.ViommuTegra241Cmdqv.size;
    const dataUptr = client.put(new Uint8Array(dataLen));
    const values = { type: uapi.IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, devId, hwptId, dataLen, dataUptr };
    const { outViommuId } = client.ioctl(iommufd, uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc, values);
    const { outVintfMmapOffset, outVintfMmapLength } = new uapi.ViommuTegra241Cmdqv(client.data(dataLen));
    return { viommuId: outViommuId, offset: outVintfMmapOffset, length: Number(outVintfMmapLength) };
  }

  allocQueue(viommuId: number, index: number, gpa: bigint, log2Entries: number): number {
    const { client, iommufd } = this.port;
    const type = uapi.IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV;
    const length = BigInt(COMMAND_BYTES) << BigInt(log2Entries);
    const values = { viommuId, type, index, nestingParentIova: gpa, length };
    return client.ioctl(iommufd, uapi.IOMMU_HW_QUEUE_ALLOC, uapi.HwQueueAlloc, values).outHwQueueId;
  }

  setVirtualId(viommuId: number, devId: number, sid: number): End {
    const { client, iommufd } = this.port;
    const values = { viommuId, devId, virtId: BigInt(sid) };
    const { outVdeviceId } = client.ioctl(iommufd, uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc, values);
    return () => client.ioctl(iommufd, uapi.IOMMU_DESTROY, uapi.Destroy, { id: outVdeviceId });
  }

  openFaults(viommuId: number, depth: number): Promise<HostEvents | null> {
    return this.openQueue(viommuId, uapi.IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, depth, uapi.VeventArmSmmuv3.size);
  }

  openQueueErrors(viommuId: number, depth: number): Promise<HostEvents | null> {
    return this.openQueue(viommuId, uapi.IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV, depth, uapi.VeventTegra241Cmdqv.size);
  }

  private async openQueue(viommuId: number, type: number, veventqDepth: number, recordBytes: number) {
    const { client, iommufd } = this.port;
    try {
      const values = { viommuId, type, veventqDepth };
      const made = await client.ioctlLater(iommufd, uapi.IOMMU_VEVENTQ_ALLOC, uapi.VeventqAlloc, values);
      return new VeventqEvents(client, made.outVeventqId, made.outVeventqFd, recordBytes);
    } catch (error) {
      if (error instanceof Refused && error.code === 'ENOTTY') return null;
      throw error;
    }
  }
}
