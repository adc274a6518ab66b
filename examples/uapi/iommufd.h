/* SPDX-License-Identifier: MIT */
/*
 * The ioctl interface of /dev/iommu as of Linux 7.1, declared anew for programs built where <linux/iommufd.h> is older
 * or absent. Use it in place of that header, not together with it.
 */
#if !defined(_IOMMUFD_H) && !defined(_UAPI_IOMMUFD_H)
#define _IOMMUFD_H
#define _UAPI_IOMMUFD_H

#include <linux/types.h>
#include <sys/ioctl.h>

#define IOMMUFD_TYPE ';'
#define IOMMUFD_CMD_BASE 0x80

/* Commands, by number. Each takes a pointer to a struct whose first member is its size. */
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
#define IOMMU_IOAS_MAP_FILE           _IO(IOMMUFD_TYPE, 0x8f)
#define IOMMU_VIOMMU_ALLOC            _IO(IOMMUFD_TYPE, 0x90)
#define IOMMU_VDEVICE_ALLOC           _IO(IOMMUFD_TYPE, 0x91)
#define IOMMU_IOAS_CHANGE_PROCESS     _IO(IOMMUFD_TYPE, 0x92)
#define IOMMU_VEVENTQ_ALLOC           _IO(IOMMUFD_TYPE, 0x93)
#define IOMMU_HW_QUEUE_ALLOC          _IO(IOMMUFD_TYPE, 0x94)

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

/* Flags of MAP, MAP_FILE and COPY. */
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

struct iommu_ioas_map_file {
  __u32 size;
  __u32 flags;
  __u32 ioas_id;
  __s32 fd;
  __aligned_u64 start; /* offset in the file */
  __aligned_u64 length;
  __aligned_u64 iova;
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

struct iommu_ioas_change_process {
  __u32 size;
  __u32 __reserved;
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
  IOMMU_HWPT_FAULT_ID_VALID = 0x4,
  IOMMU_HWPT_ALLOC_PASID = 0x8
};

enum iommu_hwpt_data_type {
  IOMMU_HWPT_DATA_NONE = 0,
  IOMMU_HWPT_DATA_VTD_S1 = 1,
  IOMMU_HWPT_DATA_ARM_SMMUV3 = 2,
  IOMMU_HWPT_DATA_AMD_GUEST = 3
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

struct iommu_hwpt_amd_guest {
  __aligned_u64 dte[4];
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
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 = 1
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
struct iommu_viommu_arm_smmuv3_invalidate {
  __aligned_le64 cmd[2];
};

/* --- what the hardware can do --- */

enum iommufd_hw_info_flags { IOMMU_HW_INFO_FLAG_INPUT_TYPE = 0x1 };

enum iommu_hw_info_type {
  IOMMU_HW_INFO_TYPE_NONE = 0,
  IOMMU_HW_INFO_TYPE_DEFAULT = 0,
  IOMMU_HW_INFO_TYPE_INTEL_VTD = 1,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3,
  IOMMU_HW_INFO_TYPE_AMD = 4
};

enum iommufd_hw_capabilities {
  IOMMU_HW_CAP_DIRTY_TRACKING = 0x1,
  IOMMU_HW_CAP_PCI_PASID_EXEC = 0x2,
  IOMMU_HW_CAP_PCI_PASID_PRIV = 0x4,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 0x8
};

struct iommu_hw_info {
  __u32 size;
  __u32 flags;
  __u32 dev_id;
  __u32 data_len; /* in: room; out: what there is */
  __aligned_u64 data_uptr;
  union {
    __u32 in_data_type; /* with INPUT_TYPE */
    __u32 out_data_type;
  };
  __u8 out_max_pasid_log2;
  __u8 __reserved[3];
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

struct iommu_hw_info_tegra241_cmdqv {
  __u32 flags;
  __u8 version;
  __u8 log2vcmdqs;
  __u8 log2vsids;
  __u8 __reserved;
};

struct iommu_hw_info_amd {
  __aligned_u64 efr;
  __aligned_u64 efr2;
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
  __u32 __reserved;
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

enum iommu_viommu_type {
  IOMMU_VIOMMU_TYPE_DEFAULT = 0,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3 = 1,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 2
};

struct iommu_viommu_alloc {
  __u32 size;
  __u32 flags;
  __u32 type;
  __u32 dev_id;
  __u32 hwpt_id; /* nesting parent */
  __u32 out_viommu_id;
  __u32 data_len;
  __u32 __reserved;
  __aligned_u64 data_uptr;
};

struct iommu_viommu_tegra241_cmdqv {
  __aligned_u64 out_vintf_mmap_offset;
  __aligned_u64 out_vintf_mmap_length;
};

struct iommu_vdevice_alloc {
  __u32 size;
  __u32 viommu_id;
  __u32 dev_id;
  __u32 out_vdevice_id;
  __aligned_u64 virt_id; /* virtual StreamID, RID or DeviceID */
};

enum iommu_veventq_type {
  IOMMU_VEVENTQ_TYPE_DEFAULT = 0,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 = 1,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV = 2
};

struct iommu_veventq_alloc {
  __u32 size;
  __u32 flags;
  __u32 viommu_id;
  __u32 type;
  __u32 veventq_depth;
  __u32 out_veventq_id;
  __u32 out_veventq_fd;
  __u32 __reserved;
};

enum iommu_veventq_flag { IOMMU_VEVENTQ_FLAG_LOST_EVENTS = 0x1 };

/* Read before each event; with LOST_EVENTS no event follows. */
struct iommufd_vevent_header {
  __u32 flags;
  __u32 sequence;
};

struct iommu_vevent_arm_smmuv3 {
  __aligned_le64 evt[4];
};

struct iommu_vevent_tegra241_cmdqv {
  __aligned_le64 lvcmdq_err_map[2];
};

enum iommu_hw_queue_type { IOMMU_HW_QUEUE_TYPE_DEFAULT = 0, IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV = 1 };

struct iommu_hw_queue_alloc {
  __u32 size;
  __u32 flags;
  __u32 viommu_id;
  __u32 type;
  __u32 index;
  __u32 out_hw_queue_id;
  __aligned_u64 nesting_parent_iova;
  __aligned_u64 length;
};

#endif
