import { describe, expect, it } from 'vitest';
import { IOMMUFD_TYPE, io, splitIoctl, VFIO_TYPE } from './ioctl.ts';

describe('ioctl numbers', () => {
  it('are composed as _IO composes them', () => {
    expect(io(IOMMUFD_TYPE, 0x85)).toBe(0x3b85);
    expect(io(VFIO_TYPE, 118)).toBe(0x3b76);
  });

  it('come apart into direction, size, type and nr', () => {
    expect(splitIoctl(0x3b85)).toEqual({ direction: 0, size: 0, type: 0x3b, nr: 0x85 });
    // TCGETS2 on most machines: _IOR('T', 0x2a, 44 bytes)
    expect(splitIoctl(0x802c542a)).toEqual({ direction: 2, size: 44, type: 0x54, nr: 0x2a });
  });
});
