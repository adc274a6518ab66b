import { describe, expect, it } from 'vitest';
import { leftovers, Program, testMachine } from '../../test/host/program.ts';
import * as uapi from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';

const BY_PASID = 1;
const ALLOC_PASID = 8;

/** A device with PASIDs, and two HWPTs that go with them. */
async function setup() {
  const { machine } = testMachine({ change: ({ functions }) => (functions[0]!.pasidBits = 4) });
  const program = new Program(machine);
  const iommufd = program.open('/dev/iommu');
  const fd = program.open('/dev/vfio/devices/vfio0');
  const bind = { argsz: 16, iommufd };
  const { outDevid: devId } = await program.ok(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd, bind);
  const hwpt = async () => {
    const { outIoasId: ptId } = await program.ok(iommufd, uapi.IOMMU_IOAS_ALLOC, uapi.IoasAlloc);
    const values = { devId, ptId, flags: ALLOC_PASID };
    return (await program.ok(iommufd, uapi.IOMMU_HWPT_ALLOC, uapi.HwptAlloc, values)).outHwptId;
  };
  const [first, second] = [await hwpt(), await hwpt()];
  const values = (pasid?: number) => (pasid === undefined ? {} : { flags: BY_PASID, pasid });
  const attach = (ptId: number, pasid?: number) =>
    program.err(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.DeviceAttachIommufdPt, { ptId, ...values(pasid) });
  const detach = (pasid?: number) =>
    program.err(fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt, values(pasid));
  const of = (pasid = 0) => machine.devices[0]!.binding!.device.attached(pasid)?.id ?? null;
  return { machine, program, fd, first, second, attach, detach, of };
}

describe('what a device is attached to', () => {
  it('is itself or by PASID 0, of which neither replaces nor ends the other', async () => {
    const { first, second, attach, detach, of } = await setup();
    expect(await attach(first)).toBe('');
    expect([await attach(first, 0), await attach(second, 0)]).toEqual(['EBUSY', 'EBUSY']);
    expect(await detach(0)).toBe('');
    expect(of()).toBe(first);
    expect([await attach(second), of()]).toEqual(['', second]);
    expect([await detach(), of()]).toEqual(['', null]);
    expect([await attach(first, 0), await attach(first)]).toEqual(['', 'EBUSY']);
    expect([await detach(), of()]).toEqual(['', first]);
    expect([await attach(second, 0), of()]).toEqual(['', second]);
    expect([await detach(0), of()]).toEqual(['', null]);
  });

  it('is no PASID of more than 31 bits', async () => {
    const { first, attach, detach } = await setup();
    expect(await attach(first, 2 ** 31)).toBe('ENOSPC');
    expect(await detach(2 ** 31)).toBe('');
  });

  it('is, for a PASID whose answer cannot be written, that PASID but no longer the device itself', async () => {
    const { program, fd, first, second, attach, of } = await setup();
    await attach(first);
    const struct = Object.assign(new vfio.DeviceAttachIommufdPt(), {
      argsz: 16,
      ptId: second,
      ...{ flags: 1, pasid: 3 },
    });
    const address = program.put(struct.bytes);
    program.memory.protect(Number(address), struct.bytes.length);
    expect(await program.bare(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, address)).toBe('EFAULT');
    expect([of(), of(3)]).toEqual([null, second]);
  });

  it('ends with the binding', async () => {
    const { machine, program, first, attach } = await setup();
    for (const pasid of [undefined, 1, 2]) await attach(first, pasid);
    program.die();
    expect(leftovers(machine)).toEqual({});
  });
});
