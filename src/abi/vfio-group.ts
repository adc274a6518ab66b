/** The group part of the VFIO uAPI: what /dev/vfio/N answers. */
import { io, VFIO_BASE, VFIO_TYPE } from './ioctl.ts';
import { struct, u32 } from './struct.ts';

export const VFIO_GROUP_GET_STATUS = io(VFIO_TYPE, VFIO_BASE + 3);
/** All its devices can be given to a program. */
export const VFIO_GROUP_FLAGS_VIABLE = 1 << 0;
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1;
export const groupFlags = { VFIO_GROUP_FLAGS_VIABLE, VFIO_GROUP_FLAGS_CONTAINER_SET } as const;

export const GroupStatus = struct('vfio_group_status', 8, { argsz: u32(0), flags: u32(4, { flags: groupFlags }) });

/** The argument points at a signed 32-bit descriptor. */
export const VFIO_GROUP_SET_CONTAINER = io(VFIO_TYPE, VFIO_BASE + 4);
export const VFIO_GROUP_UNSET_CONTAINER = io(VFIO_TYPE, VFIO_BASE + 5);
/** The argument points at the device's name, as a C string. Returns a descriptor. */
export const VFIO_GROUP_GET_DEVICE_FD = io(VFIO_TYPE, VFIO_BASE + 6);
