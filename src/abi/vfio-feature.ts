/** VFIO_DEVICE_FEATURE: optional abilities of a device, each with a struct of its own behind the header. */
import { io, VFIO_BASE, VFIO_TYPE } from './ioctl.ts';
import { plain, s32, struct, u32, u64 } from './struct.ts';

export const VFIO_DEVICE_FEATURE = io(VFIO_TYPE, VFIO_BASE + 17);

/** Part of `flags` that is the feature's number. */
export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
export const VFIO_DEVICE_FEATURE_GET = 1 << 16;
export const VFIO_DEVICE_FEATURE_SET = 1 << 17;
export const VFIO_DEVICE_FEATURE_PROBE = 1 << 18;
export const featureFlags = {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_DEVICE_FEATURE_PROBE,
} as const;

export const VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0;
export const VFIO_DEVICE_FEATURE_MIGRATION = 1;
export const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4;
export const VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8;
export const VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9;
export const VFIO_DEVICE_FEATURE_BUS_MASTER = 10;
export const VFIO_DEVICE_FEATURE_DMA_BUF = 11;
export const VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12;
export const features = {
  VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_BUS_MASTER,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
} as const;

/** Followed by the feature's own struct. */
export const DeviceFeature = struct('vfio_device_feature', 8, {
  argsz: u32(0),
  flags: u32(4, { flags: featureFlags }),
});

export const VFIO_MIGRATION_STOP_COPY = 1 << 0;
export const VFIO_MIGRATION_P2P = 1 << 1;
export const VFIO_MIGRATION_PRE_COPY = 1 << 2;
export const migrationFlags = { VFIO_MIGRATION_STOP_COPY, VFIO_MIGRATION_P2P, VFIO_MIGRATION_PRE_COPY } as const;

export const FeatureMigration = struct('vfio_device_feature_migration', 8, {
  flags: u64(0, { flags: migrationFlags }),
});

export const VFIO_DEVICE_STATE_ERROR = 0;
export const VFIO_DEVICE_STATE_STOP = 1;
export const VFIO_DEVICE_STATE_RUNNING = 2;
export const VFIO_DEVICE_STATE_STOP_COPY = 3;
export const VFIO_DEVICE_STATE_RESUMING = 4;
export const VFIO_DEVICE_STATE_RUNNING_P2P = 5;
export const VFIO_DEVICE_STATE_PRE_COPY = 6;
export const VFIO_DEVICE_STATE_PRE_COPY_P2P = 7;
export const deviceStates = {
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
} as const;

export const FeatureMigState = struct('vfio_device_feature_mig_state', 8, {
  deviceState: u32(0, { names: deviceStates }),
  dataFd: s32(4, 'fd'),
});

export const FeatureMigDataSize = struct('vfio_device_feature_mig_data_size', 8, { stopCopyLength: u64(0, 'length') });

export const LowPowerEntryWithWakeup = struct('vfio_device_low_power_entry_with_wakeup', 8, {
  wakeupEventfd: s32(0, 'fd'),
  reserved: plain(u32(4)),
});

/** `ranges` points at num_ranges of FeatureDmaLoggingRange. */
export const FeatureDmaLoggingControl = struct('vfio_device_feature_dma_logging_control', 24, {
  pageSize: u64(0, 'length'),
  numRanges: u32(8),
  reserved: u32(12),
  ranges: u64(16, 'address'),
});

export const FeatureDmaLoggingRange = struct('vfio_device_feature_dma_logging_range', 16, {
  iova: u64(0, 'address'),
  length: u64(8, 'length'),
});

export const FeatureDmaLoggingReport = struct('vfio_device_feature_dma_logging_report', 32, {
  iova: u64(0, 'address'),
  length: u64(8, 'length'),
  pageSize: u64(16, 'length'),
  bitmap: u64(24, 'address'),
});

export const VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0;
export const VFIO_DEVICE_FEATURE_SET_MASTER = 1;
export const busMasterOps = { VFIO_DEVICE_FEATURE_CLEAR_MASTER, VFIO_DEVICE_FEATURE_SET_MASTER } as const;

export const FeatureBusMaster = struct('vfio_device_feature_bus_master', 4, { op: u32(0, { names: busMasterOps }) });

/** Followed by nr_ranges of RegionDmaRange. */
export const FeatureDmaBuf = struct('vfio_device_feature_dma_buf', 16, {
  regionIndex: u32(0),
  openFlags: u32(4, 'hex'),
  flags: u32(8, 'hex'),
  nrRanges: u32(12),
});

export const RegionDmaRange = struct('vfio_region_dma_range', 16, {
  offset: u64(0, 'address'),
  length: u64(8, 'length'),
});
