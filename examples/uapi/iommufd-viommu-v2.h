/* SPDX-License-Identifier: MIT */
/*
 * The ioctl interface of /dev/iommu in the dialect viommu-v2: the series "iommufd: Add VIOMMU infrastructure (Part-1)",
 * v2, of August 2024, on top of Linux 6.11, with its companions for interrupts (VIRQ) and queues (VQUEUE). Command numbers
 * from 0x8f on mean other things in Linux 6.13 and later: use either this header or <linux/iommufd.h>, never both.
 */
#if !defined(_IOMMUFD_H) && !defined(_UAPI_IOMMUFD_H)
#define _IOMMUFD_H
#define _UAPI_IOMMUFD_H

#include <linux/types.h>
#include <sys/ioctl.h>

#define IOMMUFD_TYPE ';'
#define IOMMUFD_CMD_BASE 0x80

#define IOMMU_DESTROY                 _IO(IOMMUFD_TYPE, 0x80)
#define IOMMU_IOAS_ALLOC              _IO(IOMMUFD_TYPE, 0x81)
#define IOMMU_IOAS_ALLOW_IOVAS        _IO(IOMMUFD_TYPE, 0x82)
#define IOMMU_IOAS_COPY               _IO(IOMMUFD_TYPE, 0x83)
#define IOMMU_IOAS_IOVA_RANGES        _IO(IOMMUFD_TYPE, 0x84)
#define IOMMU_IOAS_MAP                _IO(IOMMUFD_TYPE, 0x85)
#define IOMMU_IOAS_UNMAP              _IO(IOMMUFD_TYPE, 0x86)
#define IOMMU_OPTION                  _IO(IOMMUFD_TYPE, 0x87)
#define IOMMU_VFIO_IOAS               _IO(IOMMUFD_TYPE, 0x88)
#define IOMMU_HWPT_ALLOC              _IO(IOMMUFD_TYPE, 0x89)
#define IOMMU_GET_HW_INFO             _IO(IOMMUFD_TYPE, 0x8a)
#define IOMMU_HWPT_SET_DIRTY_TRACKING _IO(IOMMUFD_TYPE, 0x8b)
#define IOMMU_HWPT_GET_DIRTY_BITMAP   _IO(IOMMUFD_TYPE, 0x8c)
#define IOMMU_HWPT_INVALIDATE         _IO(IOMMUFD_TYPE, 0x8d)
#define IOMMU_FAULT_QUEUE_ALLOC       _IO(IOMMUFD_TYPE, 0x8e)
#define IOMMU_VIOMMU_ALLOC            _IO(IOMMUFD_TYPE, 0x8f)
#define IOMMU_VIOMMU_SET_VDEV_ID      _IO(IOMMUFD_TYPE, 0x90)
#define IOMMU_VIOMMU_UNSET_VDEV_ID    _IO(IOMMUFD_TYPE, 0x91)
#define IOMMU_VIRQ_ALLOC              _IO(IOMMUFD_TYPE, 0x92)
#define IOMMU_VQUEUE_ALLOC            _IO(IOMMUFD_TYPE, 0x93)

/* --- any object --- */

struct iommu_destroy {
  __u32 size;
  __u32 id;
};

/* --- IOAS: an IOVA space --- */

struct iommu_ioas_alloc {
  __u32 size;
  __u32 flags;
  __u32 out_ioas_id;
};

/* `last` is inclusive. */
struct iommu_iova_range {
  __aligned_u64 start, last;
};

struct iommu_ioas_allow_iovas {
  __u32 size;
  __u32 ioas_id;
  __u32 num_iovas;
  __u32 __reserved;
  __aligned_u64 allowed_iovas; /* pointer to struct iommu_iova_range [num_iovas] */
};

struct iommu_ioas_iova_ranges {
  __u32 size;
  __u32 ioas_id;
  __u32 num_iovas; /* in: room; out: how many there are */
  __u32 __reserved;
  __aligned_u64 allowed_iovas; /* pointer to struct iommu_iova_range [num_iovas] */
  __aligned_u64 out_iova_alignment;
};

/* Flags of MAP and COPY. */
enum iommufd_ioas_map_flags {
  IOMMU_IOAS_MAP_FIXED_IOVA = 0x1,
  IOMMU_IOAS_MAP_WRITEABLE = 0x2,
  IOMMU_IOAS_MAP_READABLE = 0x4
};

struct iommu_ioas_map {
  __u32 size;
  __u32 flags;
  __u32 ioas_id;
  __u32 __reserved;
  __aligned_u64 user_va;
  __aligned_u64 length;
  __aligned_u64 iova; /* out, unless FIXED_IOVA */
};

struct iommu_ioas_copy {
  __u32 size;
  __u32 flags;
  __u32 dst_ioas_id;
  __u32 src_ioas_id;
  __aligned_u64 length;
  __aligned_u64 dst_iova;
  __aligned_u64 src_iova;
};

struct iommu_ioas_unmap {
  __u32 size;
  __u32 ioas_id;
  __aligned_u64 iova;
  __aligned_u64 length; /* out: bytes unmapped */
};

/* --- options, VFIO compatibility --- */

enum iommufd_option { IOMMU_OPTION_RLIMIT_MODE = 0, IOMMU_OPTION_HUGE_PAGES = 1 };
enum iommufd_option_ops { IOMMU_OPTION_OP_SET = 0, IOMMU_OPTION_OP_GET = 1 };

struct iommu_option {
  __u32 size;
  __u32 option_id;
  __u16 op;
  __u16 __reserved;
  __u32 object_id;
  __aligned_u64 val64;
};

enum iommufd_vfio_ioas_op { IOMMU_VFIO_IOAS_GET = 0, IOMMU_VFIO_IOAS_SET = 1, IOMMU_VFIO_IOAS_CLEAR = 2 };

struct iommu_vfio_ioas {
  __u32 size;
  __u32 ioas_id;
  __u16 op;
  __u16 __reserved;
};

/* --- HWPT: a hardware page table --- */

enum iommufd_hwpt_alloc_flags {
  IOMMU_HWPT_ALLOC_NEST_PARENT = 0x1,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 0x2,
  IOMMU_HWPT_FAULT_ID_VALID = 0x4
};

enum iommu_hwpt_data_type {
  IOMMU_HWPT_DATA_NONE = 0,
  IOMMU_HWPT_DATA_VTD_S1 = 1,
  IOMMU_HWPT_DATA_ARM_SMMUV3 = 2
};

struct iommu_hwpt_alloc {
  __u32 size;
  __u32 flags;
  __u32 dev_id;
  __u32 pt_id; /* IOAS, nesting parent or vIOMMU */
  __u32 out_hwpt_id;
  __u32 __reserved;
  __u32 data_type;
  __u32 data_len;
  __aligned_u64 data_uptr;
  __u32 fault_id;
  __u32 __reserved2;
};

enum iommu_hwpt_vtd_s1_flags { IOMMU_VTD_S1_SRE = 0x1, IOMMU_VTD_S1_EAFE = 0x2, IOMMU_VTD_S1_WPE = 0x4 };

struct iommu_hwpt_vtd_s1 {
  __aligned_u64 flags;
  __aligned_u64 pgtbl_addr;
  __u32 addr_width;
  __u32 __reserved;
};

/* The first two doublewords of the guest's stream table entry, little-endian. */
struct iommu_hwpt_arm_smmuv3 {
  __aligned_le64 ste[2];
};

enum iommufd_hwpt_set_dirty_tracking_flags { IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 0x1 };

struct iommu_hwpt_set_dirty_tracking {
  __u32 size;
  __u32 flags;
  __u32 hwpt_id;
  __u32 __reserved;
};

enum iommufd_hwpt_get_dirty_bitmap_flags { IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 0x1 };

struct iommu_hwpt_get_dirty_bitmap {
  __u32 size;
  __u32 hwpt_id;
  __u32 flags;
  __u32 __reserved;
  __aligned_u64 iova;
  __aligned_u64 length;
  __aligned_u64 page_size;
  __aligned_u64 data; /* pointer to the bitmap */
};

enum iommu_hwpt_invalidate_data_type {
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0,
  IOMMU_HWPT_INVALIDATE_DATA_ARM_SMMUV3 = 1
};

struct iommu_hwpt_invalidate {
  __u32 size;
  __u32 hwpt_id; /* nested HWPT or vIOMMU */
  __aligned_u64 data_uptr;
  __u32 data_type;
  __u32 entry_len;
  __u32 entry_num; /* out: how many were carried out */
  __u32 __reserved;
};

enum iommu_hwpt_vtd_s1_invalidate_flags { IOMMU_VTD_INV_FLAGS_LEAF = 0x1 };

struct iommu_hwpt_vtd_s1_invalidate {
  __aligned_u64 addr;
  __aligned_u64 npages;
  __u32 flags;
  __u32 __reserved;
};

/* One command of the SMMU's command queue, little-endian. */
struct iommu_hwpt_arm_smmuv3_invalidate {
  __aligned_u64 cmd[2];
};

/* --- what the hardware can do --- */

enum iommu_hw_info_type {
  IOMMU_HW_INFO_TYPE_NONE = 0,
  IOMMU_HW_INFO_TYPE_INTEL_VTD = 1,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2
};

enum iommufd_hw_capabilities { IOMMU_HW_CAP_DIRTY_TRACKING = 0x1 };

struct iommu_hw_info {
  __u32 size;
  __u32 flags;
  __u32 dev_id;
  __u32 data_len; /* in: room; out: what there is */
  __aligned_u64 data_uptr;
  __u32 out_data_type;
  __u32 __reserved;
  __aligned_u64 out_capabilities;
};

enum iommu_hw_info_vtd_flags { IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 0x1 };

struct iommu_hw_info_vtd {
  __u32 flags;
  __u32 __reserved;
  __aligned_u64 cap_reg;
  __aligned_u64 ecap_reg;
};

struct iommu_hw_info_arm_smmuv3 {
  __u32 flags;
  __u32 __reserved;
  __u32 idr[6];
  __u32 iidr;
  __u32 aidr;
};

/* --- fault queue: read requests, write responses --- */

struct iommu_fault_alloc {
  __u32 size;
  __u32 flags;
  __u32 out_fault_id;
  __u32 out_fault_fd;
};

enum iommu_hwpt_pgfault_flags { IOMMU_PGFAULT_FLAGS_PASID_VALID = 0x1, IOMMU_PGFAULT_FLAGS_LAST_PAGE = 0x2 };

enum iommu_hwpt_pgfault_perm {
  IOMMU_PGFAULT_PERM_READ = 0x1,
  IOMMU_PGFAULT_PERM_WRITE = 0x2,
  IOMMU_PGFAULT_PERM_EXEC = 0x4,
  IOMMU_PGFAULT_PERM_PRIV = 0x8
};

struct iommu_hwpt_pgfault {
  __u32 flags;
  __u32 dev_id;
  __u32 pasid;
  __u32 grpid;
  __u32 perm;
  __u32 __reserved; /* unnamed in the series: padding */
  __aligned_u64 addr;
  __u32 length;
  __u32 cookie;
};

enum iommufd_page_response_code { IOMMUFD_PAGE_RESP_SUCCESS = 0, IOMMUFD_PAGE_RESP_INVALID = 1 };

struct iommu_hwpt_page_response {
  __u32 cookie;
  __u32 code;
};

/* --- vIOMMU and what belongs to it --- */

enum iommu_viommu_type { IOMMU_VIOMMU_TYPE_DEFAULT = 0, IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 1 };

struct iommu_viommu_alloc {
  __u32 size;
  __u32 flags;
  __u32 type;
  __u32 dev_id;
  __u32 hwpt_id; /* nesting parent */
  __u32 out_viommu_id;
};

struct iommu_viommu_set_vdev_id {
  __u32 size;
  __u32 viommu_id;
  __u32 dev_id;
  __u32 __reserved;
  __aligned_u64 vdev_id;
};

struct iommu_viommu_unset_vdev_id {
  __u32 size;
  __u32 viommu_id;
  __u32 dev_id;
  __u32 __reserved;
  __aligned_u64 vdev_id; /* must be the one that was set */
};

enum iommu_virq_type { IOMMU_VIRQ_TYPE_NONE = 0, IOMMU_VIRQ_TYPE_ARM_SMMUV3 = 1 };

struct iommu_virq_alloc {
  __u32 size;
  __u32 flags;
  __u32 viommu_id;
  __u32 type;
  __u32 out_virq_id;
  __u32 out_virq_fd;
};

/* Read from out_virq_fd, one after the other, with no header. */
struct iommu_virq_arm_smmuv3 {
  __aligned_u64 evt[4];
};

enum iommu_vqueue_data_type { IOMMU_VQUEUE_DATA_NONE = 0, IOMMU_VQUEUE_DATA_TEGRA241_CMDQV = 1 };

struct iommu_vqueue_alloc {
  __u32 size;
  __u32 flags;
  __u32 viommu_id;
  __u32 out_vqueue_id;
  __u32 data_type;
  __u32 data_len;
  __aligned_u64 data_uptr;
};

struct iommu_vqueue_tegra241_cmdqv {
  __u32 vcmdq_id;
  __u32 vcmdq_log2size;
  __aligned_u64 vcmdq_base; /* guest physical */
};

#endif
