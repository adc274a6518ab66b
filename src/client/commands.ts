/** The commands of /dev/iommu by the names of their methods. The table of a dialect is a dialect's: numbers collide. */
import * as uapi from '../abi/iommufd.ts';
import * as v2 from '../abi/iommufd-viommu-v2.ts';
import * as type1 from '../abi/vfio-type1.ts';
import { takes, takesNumber } from './command-file.ts';

/** As in Linux 7.1. An older release takes the same calls, as long as what it does not know is 0. */
export const IOMMUFD_COMMANDS = {
  destroy: takes(uapi.IOMMU_DESTROY, uapi.Destroy),
  ioasAlloc: takes(uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc),
  ioasIovaRanges: takes(uapi.IOMMU_IOAS_IOVA_RANGES, uapi.IoasIovaRanges),
  ioasAllowIovas: takes(uapi.IOMMU_IOAS_ALLOW_IOVAS, uapi.IoasAllowIovas),
  ioasMap: takes(uapi.IOMMU_IOAS_MAP, uapi.IoasMap),
  ioasMapFile: takes(uapi.IOMMU_IOAS_MAP_FILE, uapi.IoasMapFile),
  ioasCopy: takes(uapi.IOMMU_IOAS_COPY, uapi.IoasCopy),
  ioasUnmap: takes(uapi.IOMMU_IOAS_UNMAP, uapi.IoasUnmap),
  ioasChangeProcess: takes(uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IoasChangeProcess),
  option: takes(uapi.IOMMU_OPTION, uapi.Option),
  vfioIoas: takes(uapi.IOMMU_VFIO_IOAS, uapi.VfioIoas),
  getHwInfo: takes(uapi.IOMMU_GET_HW_INFO, uapi.HwInfo),
  hwptAlloc: takes(uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc),
  hwptInvalidate: takes(uapi.IOMMU_HWPT_INVALIDATE, uapi.HwptInvalidate),
  hwptSetDirtyTracking: takes(uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.HwptSetDirtyTracking),
  hwptGetDirtyBitmap: takes(uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, uapi.HwptGetDirtyBitmap),
  faultQueueAlloc: takes(uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.FaultAlloc),
  viommuAlloc: takes(uapi.IOMMU_VIOMMU_ALLOC, uapi.ViommuAlloc),
  vdeviceAlloc: takes(uapi.IOMMU_VDEVICE_ALLOC, uapi.VdeviceAlloc),
  veventqAlloc: takes(uapi.IOMMU_VEVENTQ_ALLOC, uapi.VeventqAlloc),
  hwQueueAlloc: takes(uapi.IOMMU_HW_QUEUE_ALLOC, uapi.HwQueueAlloc),
} as const;

/** VFIO's type 1 IOMMU, on /dev/vfio/vfio and on an iommufd. */
export const TYPE1_COMMANDS = {
  vfioGetApiVersion: takesNumber(type1.VFIO_GET_API_VERSION),
  vfioCheckExtension: takesNumber(type1.VFIO_CHECK_EXTENSION),
  vfioSetIommu: takesNumber(type1.VFIO_SET_IOMMU),
  vfioIommuGetInfo: takes(type1.VFIO_IOMMU_GET_INFO, type1.Type1Info),
  vfioIommuMapDma: takes(type1.VFIO_IOMMU_MAP_DMA, type1.Type1DmaMap),
  vfioIommuUnmapDma: takes(type1.VFIO_IOMMU_UNMAP_DMA, type1.Type1DmaUnmap),
} as const;

/** What the dialect viommu-v2 has in place of the commands of the same numbers. */
export const VIOMMU_V2_COMMANDS = {
  viommuAlloc: takes(v2.V2_IOMMU_VIOMMU_ALLOC, v2.V2ViommuAlloc),
  viommuSetVdevId: takes(v2.IOMMU_VIOMMU_SET_VDEV_ID, v2.ViommuSetVdevId),
  viommuUnsetVdevId: takes(v2.IOMMU_VIOMMU_UNSET_VDEV_ID, v2.ViommuUnsetVdevId),
  virqAlloc: takes(v2.IOMMU_VIRQ_ALLOC, v2.VirqAlloc),
  vqueueAlloc: takes(v2.IOMMU_VQUEUE_ALLOC, v2.VqueueAlloc),
} as const;
