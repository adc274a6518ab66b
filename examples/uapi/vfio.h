/* SPDX-License-Identifier: MIT */
/*
 * The device part of the VFIO interface as of Linux 7.1: what a character device under /dev/vfio/devices answers. Declared
 * anew for programs built where <linux/vfio.h> is older or absent. Use it in place of that header, not together with it.
 */
#if !defined(VFIO_H) && !defined(_UAPIVFIO_H)
#define VFIO_H
#define _UAPIVFIO_H

#include <linux/types.h>
#include <sys/ioctl.h>

#define VFIO_TYPE ';'
#define VFIO_BASE 100

/* Each takes a pointer to a struct whose first member, argsz, is its size; DEVICE_RESET takes nothing. */
#define VFIO_DEVICE_GET_INFO               _IO(VFIO_TYPE, 107)
#define VFIO_DEVICE_GET_REGION_INFO        _IO(VFIO_TYPE, 108)
#define VFIO_DEVICE_GET_IRQ_INFO           _IO(VFIO_TYPE, 109)
#define VFIO_DEVICE_SET_IRQS               _IO(VFIO_TYPE, 110)
#define VFIO_DEVICE_RESET                  _IO(VFIO_TYPE, 111)
#define VFIO_DEVICE_GET_PCI_HOT_RESET_INFO _IO(VFIO_TYPE, 112)
#define VFIO_DEVICE_PCI_HOT_RESET          _IO(VFIO_TYPE, 113)
#define VFIO_DEVICE_IOEVENTFD              _IO(VFIO_TYPE, 116)
#define VFIO_DEVICE_FEATURE                _IO(VFIO_TYPE, 117)
#define VFIO_DEVICE_BIND_IOMMUFD           _IO(VFIO_TYPE, 118)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT      _IO(VFIO_TYPE, 119)
#define VFIO_DEVICE_DETACH_IOMMUFD_PT      _IO(VFIO_TYPE, 120)

/* --- iommufd --- */

#define VFIO_DEVICE_BIND_FLAG_TOKEN 0x1

struct vfio_device_bind_iommufd {
  __u32 argsz;
  __u32 flags;
  __s32 iommufd;
  __u32 out_devid;
  __aligned_u64 token_uuid_ptr; /* with FLAG_TOKEN */
};

#define VFIO_DEVICE_ATTACH_PASID 0x1

struct vfio_device_attach_iommufd_pt {
  __u32 argsz;
  __u32 flags;
  __u32 pt_id; /* in: IOAS or HWPT; out: the HWPT */
  __u32 pasid; /* with ATTACH_PASID */
};

#define VFIO_DEVICE_DETACH_PASID 0x1

struct vfio_device_detach_iommufd_pt {
  __u32 argsz;
  __u32 flags;
  __u32 pasid; /* with DETACH_PASID */
};

/* --- the device --- */

struct vfio_info_cap_header {
  __u16 id;
  __u16 version;
  __u32 next; /* offset from the start of the info struct, or 0 */
};

#define VFIO_DEVICE_FLAGS_RESET    0x001
#define VFIO_DEVICE_FLAGS_PCI      0x002
#define VFIO_DEVICE_FLAGS_PLATFORM 0x004
#define VFIO_DEVICE_FLAGS_AMBA     0x008
#define VFIO_DEVICE_FLAGS_CCW      0x010
#define VFIO_DEVICE_FLAGS_AP       0x020
#define VFIO_DEVICE_FLAGS_FSL_MC   0x040
#define VFIO_DEVICE_FLAGS_CAPS     0x080
#define VFIO_DEVICE_FLAGS_CDX      0x100

struct vfio_device_info {
  __u32 argsz;
  __u32 flags;
  __u32 num_regions;
  __u32 num_irqs;
  __u32 cap_offset;
  __u32 pad;
};

#define VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP 5

#define VFIO_PCI_ATOMIC_COMP32  0x1
#define VFIO_PCI_ATOMIC_COMP64  0x2
#define VFIO_PCI_ATOMIC_COMP128 0x4

struct vfio_device_info_cap_pci_atomic_comp {
  struct vfio_info_cap_header header;
  __u32 flags;
  __u32 reserved;
};

/* --- regions --- */

enum {
  VFIO_PCI_BAR0_REGION_INDEX = 0,
  VFIO_PCI_BAR1_REGION_INDEX = 1,
  VFIO_PCI_BAR2_REGION_INDEX = 2,
  VFIO_PCI_BAR3_REGION_INDEX = 3,
  VFIO_PCI_BAR4_REGION_INDEX = 4,
  VFIO_PCI_BAR5_REGION_INDEX = 5,
  VFIO_PCI_ROM_REGION_INDEX = 6,
  VFIO_PCI_CONFIG_REGION_INDEX = 7,
  VFIO_PCI_VGA_REGION_INDEX = 8,
  VFIO_PCI_NUM_REGIONS = 9
};

#define VFIO_REGION_INFO_FLAG_READ  0x1
#define VFIO_REGION_INFO_FLAG_WRITE 0x2
#define VFIO_REGION_INFO_FLAG_MMAP  0x4
#define VFIO_REGION_INFO_FLAG_CAPS  0x8

struct vfio_region_info {
  __u32 argsz;
  __u32 flags;
  __u32 index;
  __u32 cap_offset;
  __aligned_u64 size;
  __aligned_u64 offset; /* of the region in the device's fd */
};

#define VFIO_REGION_INFO_CAP_SPARSE_MMAP   1
#define VFIO_REGION_INFO_CAP_TYPE          2
#define VFIO_REGION_INFO_CAP_MSIX_MAPPABLE 3

struct vfio_region_sparse_mmap_area {
  __aligned_u64 offset;
  __aligned_u64 size;
};

struct vfio_region_info_cap_sparse_mmap {
  struct vfio_info_cap_header header;
  __u32 nr_areas;
  __u32 reserved;
  struct vfio_region_sparse_mmap_area areas[];
};

struct vfio_region_info_cap_type {
  struct vfio_info_cap_header header;
  __u32 type;
  __u32 subtype;
};

/* --- interrupts --- */

enum {
  VFIO_PCI_INTX_IRQ_INDEX = 0,
  VFIO_PCI_MSI_IRQ_INDEX = 1,
  VFIO_PCI_MSIX_IRQ_INDEX = 2,
  VFIO_PCI_ERR_IRQ_INDEX = 3,
  VFIO_PCI_REQ_IRQ_INDEX = 4,
  VFIO_PCI_NUM_IRQS = 5
};

#define VFIO_IRQ_INFO_EVENTFD    0x1
#define VFIO_IRQ_INFO_MASKABLE   0x2
#define VFIO_IRQ_INFO_AUTOMASKED 0x4
#define VFIO_IRQ_INFO_NORESIZE   0x8

struct vfio_irq_info {
  __u32 argsz;
  __u32 flags;
  __u32 index;
  __u32 count;
};

#define VFIO_IRQ_SET_DATA_NONE      0x01
#define VFIO_IRQ_SET_DATA_BOOL      0x02
#define VFIO_IRQ_SET_DATA_EVENTFD   0x04
#define VFIO_IRQ_SET_ACTION_MASK    0x08
#define VFIO_IRQ_SET_ACTION_UNMASK  0x10
#define VFIO_IRQ_SET_ACTION_TRIGGER 0x20

#define VFIO_IRQ_SET_DATA_TYPE_MASK   0x07
#define VFIO_IRQ_SET_ACTION_TYPE_MASK 0x38

struct vfio_irq_set {
  __u32 argsz;
  __u32 flags;
  __u32 index;
  __u32 start;
  __u32 count;
  __u8 data[]; /* count bytes (BOOL) or count __s32 (EVENTFD) */
};

/* --- hot reset --- */

#define VFIO_PCI_DEVID_OWNED     0
#define VFIO_PCI_DEVID_NOT_OWNED -1

struct vfio_pci_dependent_device {
  union {
    __u32 group_id;
    __u32 devid; /* with FLAG_DEV_ID */
  };
  __u16 segment;
  __u8 bus;
  __u8 devfn;
};

#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID       0x1
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED 0x2

struct vfio_pci_hot_reset_info {
  __u32 argsz;
  __u32 flags;
  __u32 count;
  struct vfio_pci_dependent_device devices[];
};

struct vfio_pci_hot_reset {
  __u32 argsz;
  __u32 flags;
  __u32 count;
  __s32 group_fds[];
};

/* --- eventfds behind writes --- */

#define VFIO_DEVICE_IOEVENTFD_8         0x1
#define VFIO_DEVICE_IOEVENTFD_16        0x2
#define VFIO_DEVICE_IOEVENTFD_32        0x4
#define VFIO_DEVICE_IOEVENTFD_64        0x8
#define VFIO_DEVICE_IOEVENTFD_SIZE_MASK 0xf

struct vfio_device_ioeventfd {
  __u32 argsz;
  __u32 flags;
  __aligned_u64 offset;
  __aligned_u64 data;
  __s32 fd; /* -1 to take it off */
  __u32 reserved;
};

/* --- features --- */

#define VFIO_DEVICE_FEATURE_MASK  0x0ffff
#define VFIO_DEVICE_FEATURE_GET   0x10000
#define VFIO_DEVICE_FEATURE_SET   0x20000
#define VFIO_DEVICE_FEATURE_PROBE 0x40000

struct vfio_device_feature {
  __u32 argsz;
  __u32 flags;
  __u8 data[];
};

#define VFIO_DEVICE_FEATURE_PCI_VF_TOKEN                0
#define VFIO_DEVICE_FEATURE_MIGRATION                   1
#define VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE            2
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY             3
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP 4
#define VFIO_DEVICE_FEATURE_LOW_POWER_EXIT              5
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_START           6
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP            7
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT          8
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE               9
#define VFIO_DEVICE_FEATURE_BUS_MASTER                  10
#define VFIO_DEVICE_FEATURE_DMA_BUF                     11
#define VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2          12

#define VFIO_MIGRATION_STOP_COPY 0x1
#define VFIO_MIGRATION_P2P       0x2
#define VFIO_MIGRATION_PRE_COPY  0x4

struct vfio_device_feature_migration {
  __aligned_u64 flags;
};

enum vfio_device_mig_state {
  VFIO_DEVICE_STATE_ERROR = 0,
  VFIO_DEVICE_STATE_STOP = 1,
  VFIO_DEVICE_STATE_RUNNING = 2,
  VFIO_DEVICE_STATE_STOP_COPY = 3,
  VFIO_DEVICE_STATE_RESUMING = 4,
  VFIO_DEVICE_STATE_RUNNING_P2P = 5,
  VFIO_DEVICE_STATE_PRE_COPY = 6,
  VFIO_DEVICE_STATE_PRE_COPY_P2P = 7
};

struct vfio_device_feature_mig_state {
  __u32 device_state;
  __s32 data_fd;
};

struct vfio_device_feature_mig_data_size {
  __aligned_u64 stop_copy_length;
};

struct vfio_device_low_power_entry_with_wakeup {
  __s32 wakeup_eventfd;
  __u32 reserved;
};

struct vfio_device_feature_dma_logging_control {
  __aligned_u64 page_size;
  __u32 num_ranges;
  __u32 __reserved;
  __aligned_u64 ranges; /* pointer to struct vfio_device_feature_dma_logging_range [num_ranges] */
};

struct vfio_device_feature_dma_logging_range {
  __aligned_u64 iova;
  __aligned_u64 length;
};

struct vfio_device_feature_dma_logging_report {
  __aligned_u64 iova;
  __aligned_u64 length;
  __aligned_u64 page_size;
  __aligned_u64 bitmap; /* pointer */
};

#define VFIO_DEVICE_FEATURE_CLEAR_MASTER 0
#define VFIO_DEVICE_FEATURE_SET_MASTER   1

struct vfio_device_feature_bus_master {
  __u32 op;
};

struct vfio_region_dma_range {
  __u64 offset;
  __u64 length;
};

struct vfio_device_feature_dma_buf {
  __u32 region_index;
  __u32 open_flags;
  __u32 flags;
  __u32 nr_ranges;
  struct vfio_region_dma_range dma_ranges[];
};

/* --- the type 1 IOMMU of containers, which /dev/iommu speaks as well --- */

#define VFIO_API_VERSION 0

#define VFIO_GET_API_VERSION _IO(VFIO_TYPE, VFIO_BASE + 0)
#define VFIO_CHECK_EXTENSION _IO(VFIO_TYPE, VFIO_BASE + 1) /* one of the numbers below */
#define VFIO_SET_IOMMU       _IO(VFIO_TYPE, VFIO_BASE + 2) /* one of the first two */

#define VFIO_TYPE1_IOMMU   1
#define VFIO_TYPE1v2_IOMMU 3
#define VFIO_DMA_CC_IOMMU  4
#define VFIO_UNMAP_ALL     9

#define VFIO_IOMMU_MAP_DMA      _IO(VFIO_TYPE, VFIO_BASE + 13)
#define VFIO_DMA_MAP_FLAG_READ  (1 << 0)
#define VFIO_DMA_MAP_FLAG_WRITE (1 << 1)

struct vfio_iommu_type1_dma_map {
  __u32 argsz;
  __u32 flags;
  __u64 vaddr;
  __u64 iova;
  __u64 size;
};

#define VFIO_IOMMU_UNMAP_DMA     _IO(VFIO_TYPE, VFIO_BASE + 14)
#define VFIO_DMA_UNMAP_FLAG_ALL (1 << 1)

struct vfio_iommu_type1_dma_unmap {
  __u32 argsz;
  __u32 flags;
  __u64 iova;
  __u64 size; /* comes back as the bytes that were unmapped */
};

/* --- groups: /dev/vfio/NUMBER --- */

#define VFIO_GROUP_GET_STATUS          _IO(VFIO_TYPE, VFIO_BASE + 3)
#define VFIO_GROUP_FLAGS_VIABLE        (1 << 0)
#define VFIO_GROUP_FLAGS_CONTAINER_SET (1 << 1)

struct vfio_group_status {
  __u32 argsz;
  __u32 flags;
};

#define VFIO_GROUP_SET_CONTAINER   _IO(VFIO_TYPE, VFIO_BASE + 4) /* pointer to the container's descriptor, an int */
#define VFIO_GROUP_UNSET_CONTAINER _IO(VFIO_TYPE, VFIO_BASE + 5)
#define VFIO_GROUP_GET_DEVICE_FD   _IO(VFIO_TYPE, VFIO_BASE + 6) /* the device's address, "0000:01:00.0" */

#endif
