/** Composition of ioctl numbers (asm-generic/ioctl.h). iommufd and VFIO use only _IO: the size is in the struct itself. */

export const IOMMUFD_TYPE = 0x3b; // ';'
export const VFIO_TYPE = 0x3b; // the same letter: iommufd's commands begin at 0x80, VFIO's at 100
export const VFIO_BASE = 100;
export const IOMMUFD_CMD_BASE = 0x80;

/** _IO(type, nr): no direction, no size. */
export const io = (type: number, nr: number): number => (type << 8) | nr;

export interface IoctlNumber {
  /** 0 none, 1 the program writes, 2 it reads. */
  readonly direction: number;
  readonly size: number;
  readonly type: number;
  readonly nr: number;
}

/** The four parts of an ioctl number: nr 8 bits, type 8, size 14, direction 2. */
export const splitIoctl = (command: number): IoctlNumber => ({
  direction: command >>> 30,
  size: (command >>> 16) & 0x3fff,
  type: (command >>> 8) & 0xff,
  nr: command & 0xff,
});
