import { describe, expect, it } from 'vitest';
import { fail } from '../abi/errno.ts';
import {
  Destroy,
  HwptAlloc,
  IOMMU_DESTROY,
  IOMMU_HWPT_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IOMMU_HWPT_ALLOC_NEST_PARENT as NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID as PASID,
  ViommuAlloc,
} from '../abi/iommufd.ts';
import { IommufdDevice } from './device.ts';
import type { Attachment } from './group.ts';
import type { Ioas } from './ioas.ts';
import { Program } from './testing.ts';
import { FAKE_TYPE, FakeDevice, FakeIommu, type FakeIommuOptions } from './testing-driver.ts';

const MSI = { start: 0x8000000n, last: 0x80fffffn, type: 'software-msi' } as const;
const RELAXABLE = { start: 0x20000n, last: 0x2ffffn, type: 'direct-relaxable' } as const;

function setup(options: FakeIommuOptions = {}) {
  const program = new Program();
  const iommu = new FakeIommu(options);
  const bind = (of = iommu) => {
    const physical = new FakeDevice(of, { reserved: [MSI, RELAXABLE] });
    return { physical, device: IommufdDevice.bind(program.context, physical, 'vfio') };
  };
  /** Devices of one group. The last one is not bound. */
  const bindGroup = () => {
    const members = [1n, 2n, 3n].map((n) => {
      const region = { ...MSI, start: n << 27n, last: (n << 27n) + 0xf_ffffn };
      return new FakeDevice(iommu, { reserved: [region] });
    });
    const group = { members };
    const [a, b] = members.map((physical, n) => ({
      physical,
      bind: () => IommufdDevice.bind(program.context, physical, `vfio${n}`, group),
    }));
    return { members, a: a!.bind(), b: b!.bind() };
  };
  const usable = (ioasId: number) => (program.context.objects.find(ioasId) as Ioas).table.usableRanges().length;
  const destroy = (id: number) => program.err(IOMMU_DESTROY, Destroy, { id });
  return { program, iommu, bind, bindGroup, usable, destroy, counts: () => program.context.objects.counts() };
}

describe('a bound device', () => {
  it('is an object that no ioctl can destroy, and keeps the iommufd open', () => {
    const { program, bind, destroy, counts } = setup();
    const { device } = bind();
    const ioasId = program.ioas();
    program.map(ioasId, 0n, 0x1000n);
    device.attach(ioasId);
    expect(destroy(device.id)).toBe('EBUSY');
    program.close();
    expect(counts()).toEqual({ device: 1, ioas: 1, 'hwpt-paging': 1 });
    expect(program.pinned.pinnedFrames).toBe(1);
    device.detach();
    device.unbind();
    expect(counts()).toEqual({});
    expect(program.pinned.pinnedFrames).toBe(0);
  });

  it('belongs to one iommufd at a time, and so does its group', () => {
    const { iommu } = setup();
    const [one, two] = [new Program(), new Program()];
    const [physical, other] = [new FakeDevice(iommu), new FakeDevice(iommu)];
    const group = { members: [physical, other] };
    const first = IommufdDevice.bind(one.context, physical, 'vfio0', group);
    expect(() => IommufdDevice.bind(two.context, other, 'vfio1', group)).toThrow('EPERM');
    const second = IommufdDevice.bind(one.context, other, 'vfio1', group);
    first.unbind();
    expect(() => IommufdDevice.bind(two.context, physical, 'vfio0', group)).toThrow('EPERM');
    second.unbind();
    IommufdDevice.bind(two.context, physical, 'vfio0', group).unbind();
  });

  it('must be cache coherent', () => {
    const { program, iommu } = setup();
    const physical = new FakeDevice(iommu, { cacheCoherent: false });
    expect(() => IommufdDevice.bind(program.context, physical, 'vfio0')).toThrow('EINVAL');
    expect(program.context.objects.size).toBe(0);
  });
});

describe('attaching to an IOAS', () => {
  it('makes a domain that compatible devices share and that goes with the last of them', () => {
    const { program, bind, counts, iommu } = setup();
    const ioasId = program.ioas();
    const [a, b] = [bind(), bind()];
    const other = bind(new FakeIommu({ name: 'other', family: 'other' }));
    const shared = a.device.attach(ioasId);
    expect(b.device.attach(ioasId)).toBe(shared);
    expect(other.device.attach(ioasId)).not.toBe(shared);
    expect(counts()['hwpt-paging']).toBe(2);
    a.device.detach();
    expect(counts()['hwpt-paging']).toBe(2);
    b.device.detach();
    expect(counts()['hwpt-paging']).toBe(1);
    expect(iommu.resources.domains).toBe(0);
    expect(a.physical.attached.size).toBe(0);
  });

  it('never picks a domain that the user made', () => {
    const { program, bind } = setup();
    const { device } = bind();
    const ioasId = program.ioas();
    const own = program.hwpt(device.id, ioasId);
    expect(device.attach(ioasId)).not.toBe(own);
  });

  it('keeps reserved IOVAs of the device free, but for relaxable ones, until it leaves', () => {
    const { program, bind, usable } = setup();
    const { device } = bind();
    const ioasId = program.ioas();
    device.attach(ioasId);
    expect(usable(ioasId)).toBe(2);
    expect(() => program.map(ioasId, 0x8000000n, 0x1000n)).toThrow('EINVAL');
    program.map(ioasId, 0x20000n, 0x1000n);
    device.detach();
    expect(usable(ioasId)).toBe(1);
    program.map(ioasId, 0x8000000n, 0x1000n);
    expect(() => device.attach(ioasId)).toThrow('EADDRINUSE');
    expect(usable(ioasId)).toBe(1);
    expect(program.context.objects.counts()['hwpt-paging']).toBeUndefined();
  });

  it('undoes everything when the driver refuses or the memory cannot be mapped', () => {
    const { program, bind, iommu, usable, counts } = setup();
    const { device, physical } = bind();
    const ioasId = program.ioas();
    program.map(ioasId, 0n, 0x1000n);
    iommu.failAt('attach', fail('EIO', 'broken'));
    expect(() => device.attach(ioasId)).toThrow('EIO');
    iommu.failAt('map', fail('ENOMEM', 'no table'));
    expect(() => device.attach(ioasId)).toThrow('ENOMEM');
    expect(physical.attached.size).toBe(0);
    expect(usable(ioasId)).toBe(1);
    expect(counts()).toEqual({ device: 1, ioas: 1 });
    expect(iommu.resources.domains).toBe(0);
    expect(program.pinned.pinnedFrames).toBe(0);
    device.unbind();
  });

  it('is refused for an ID of another kind, or of nothing', () => {
    const { bind } = setup();
    const { device } = bind();
    expect(() => device.attach(device.id)).toThrow('EINVAL');
    expect(() => device.attach(99)).toThrow('ENOENT');
    expect(() => device.replace(99)).toThrow('ENOENT');
  });
});

describe('attaching to an HWPT', () => {
  it('holds it', () => {
    const { program, bind, destroy } = setup();
    const { device, physical } = bind();
    const ioasId = program.ioas();
    const hwptId = program.hwpt(device.id, ioasId);
    expect(device.attach(hwptId)).toBe(hwptId);
    program.map(ioasId, 0x5000n, 0x1000n);
    expect(physical.dma(0x5000n)).not.toBeNull();
    expect(destroy(hwptId)).toBe('EBUSY');
    expect(() => device.attach(hwptId)).toThrow('EBUSY');
    device.detach();
    device.detach();
    expect(destroy(hwptId)).toBe('');
  });

  it('that is nested reserves the IOVAs in the IOAS of the parent, even as the first attachment', () => {
    const { program, bind, usable, destroy } = setup();
    const { device, physical } = bind();
    const ioasId = program.ioas();
    const parent = program.hwpt(device.id, ioasId, NEST_PARENT);
    const type = FAKE_TYPE;
    const viommu = program.ok(IOMMU_VIOMMU_ALLOC, ViommuAlloc, { devId: device.id, hwptId: parent, type }).outViommuId;
    const dataUptr = program.put(new Uint8Array(8));
    const nest = { devId: device.id, ptId: viommu, dataType: FAKE_TYPE, dataLen: 8, dataUptr };
    const nested = program.ok(IOMMU_HWPT_ALLOC, HwptAlloc, nest).outHwptId;
    const second = program.ok(IOMMU_HWPT_ALLOC, HwptAlloc, nest).outHwptId;
    expect(device.attach(nested)).toBe(nested);
    expect(usable(ioasId)).toBe(2);
    expect(device.replace(second)).toBe(second);
    expect(usable(ioasId)).toBe(2);
    program.map(ioasId, 0n, 0x1000n);
    expect(physical.dma(0n)).not.toBeNull();
    expect([destroy(nested), destroy(second)]).toEqual(['', 'EBUSY']);
    device.detach();
    expect(usable(ioasId)).toBe(1);
  });
});

describe('replacing', () => {
  it('moves to another IOAS with the reserved IOVAs, and the old automatic domain ends', () => {
    const { program, bind, usable, counts } = setup();
    const { device, physical } = bind();
    const [one, two] = [program.ioas(), program.ioas()];
    const first = device.attach(one);
    program.map(two, 0x7000n, 0x1000n);
    const second = device.replace(two);
    expect(second).not.toBe(first);
    expect([usable(one), usable(two)]).toEqual([1, 2]);
    expect(counts()['hwpt-paging']).toBe(1);
    expect(physical.dma(0x7000n)).not.toBeNull();
    expect(device.replace(two)).toBe(second);
  });

  it('changes nothing when it fails', () => {
    const { program, bind, iommu, usable, counts } = setup();
    const { device, physical } = bind();
    const [one, two, three] = [program.ioas(), program.ioas(), program.ioas()];
    program.map(one, 0x1000n, 0x1000n);
    program.map(two, 0x8000000n, 0x1000n);
    program.map(three, 0x1000n, 0x1000n, 0x40_0000n);
    const hwpt = device.attach(one);
    const before = physical.dma(0x1000n);
    expect(() => device.replace(two)).toThrow('EADDRINUSE');
    expect(() => device.replace(three)).toThrow('EFAULT');
    iommu.failAt('attach', fail('EIO', 'broken'));
    const other = program.hwpt(device.id, one);
    expect(() => device.replace(other)).toThrow('EIO');
    expect(device.attached()?.id).toBe(hwpt);
    expect(physical.dma(0x1000n)).toBe(before);
    expect([usable(one), usable(two), usable(three)]).toEqual([2, 1, 1]);
    expect(counts()['hwpt-paging']).toBe(2);
  });

  it('needs an attachment', () => {
    const { program, bind } = setup();
    const { device } = bind();
    expect(() => device.replace(program.ioas())).toThrow('EINVAL');
    expect(program.context.objects.counts()['hwpt-paging']).toBeUndefined();
  });
});

describe('a group', () => {
  it('is attached to one thing, and moves as a whole', () => {
    const { program, bindGroup, iommu } = setup();
    const { members, a, b } = bindGroup();
    const ioasId = program.ioas();
    const [one, two] = [program.hwpt(a.id, ioasId), program.hwpt(a.id, ioasId)];
    a.attach(one);
    expect(() => b.attach(two)).toThrow('EINVAL');
    expect(() => b.attach(program.ioas())).toThrow('EINVAL');
    b.attach(one);
    a.replace(two);
    expect(b.attached()?.id).toBe(two);
    iommu.failAt('attach', fail('EIO', 'broken'), 1);
    expect(() => a.replace(one)).toThrow('EIO');
    expect(new Set(members.map(({ attached }) => attached.get(0))).size).toBe(1);
    expect(a.attached()?.id).toBe(two);
  });

  it('is attached with the first of its devices, the others too, bound or not, and blocked with the last', () => {
    const { program, bindGroup } = setup();
    const { members, a, b } = bindGroup();
    const ioasId = program.ioas();
    program.map(ioasId, 0x5000n, 0x1000n);
    const translating = () => members.map((member) => member.dma(0x5000n) !== null);
    a.attach(ioasId);
    expect([translating(), b.attached()]).toEqual([[true, true, true], null]);
    b.attach(ioasId);
    a.detach();
    expect([translating(), a.attached()]).toEqual([[true, true, true], null]);
    b.detach();
    expect(translating()).toEqual([false, false, false]);
  });

  it('is attached by PASID in the same way', () => {
    const { program, bindGroup } = setup();
    const { members, a, b } = bindGroup();
    const ioasId = program.ioas();
    const hwpt = program.hwpt(a.id, ioasId, PASID);
    program.map(ioasId, 0x5000n, 0x1000n);
    const translating = () => members.map((member) => member.dma(0x5000n, 5) !== null);
    a.attach(hwpt, 5);
    expect(translating()).toEqual([true, true, true]);
    b.attach(hwpt, 5);
    a.detach(5);
    b.detach(5);
    expect(translating()).toEqual([false, false, false]);
  });

  it('stays blocked as a whole when one of its devices cannot be attached', () => {
    const { program, bindGroup, iommu, counts, usable } = setup();
    const { members, a } = bindGroup();
    const ioasId = program.ioas();
    iommu.failAt('attach', fail('ENOENT', 'no vDEVICE'), 2);
    expect(() => a.attach(ioasId)).toThrow('ENOENT');
    expect(members.map(({ attached }) => attached.size)).toEqual([0, 0, 0]);
    expect([counts(), usable(ioasId)]).toEqual([{ device: 2, ioas: 1 }, 1]);
  });

  it('asks its IOMMU once, not again for the second device', () => {
    const { program, bindGroup, iommu } = setup();
    const { a, b } = bindGroup();
    const hwptId = program.hwpt(a.id, program.ioas());
    a.attach(hwptId);
    iommu.failAt('attach', fail('EIO', 'broken'));
    expect(b.attach(hwptId)).toBe(hwptId);
  });

  it('keeps the IOVAs free that those of its devices reserve which are attached themselves', () => {
    const { program, bindGroup, usable } = setup();
    const { a, b } = bindGroup();
    const [one, two] = [program.ioas(), program.ioas()];
    a.attach(one);
    program.map(one, 2n << 27n, 0x1000n);
    expect(usable(one)).toBe(2);
    expect(() => b.attach(one)).toThrow('EADDRINUSE');
    program.map(two, 2n << 27n, 0x1000n);
    a.replace(two);
    expect([usable(one), usable(two)]).toEqual([1, 2]);
  });

  it('lets a device send messages that was not attached itself', () => {
    const { program, bindGroup } = setup();
    const { members, a, b } = bindGroup();
    expect(() => b.mapMessagePage(0x809_0000)).toThrow('ENOSPC');
    a.attach(program.ioas());
    const iova = b.mapMessagePage(0x809_0000)!;
    expect(members[1]!.dma(iova)).toBe(0x809_0000);
    a.replace(program.ioas());
    expect(members[1]!.dma(iova)).toBe(0x809_0000);
  });

  it('has its page requests reported in the name of the device that attached it', () => {
    const { program, bindGroup } = setup();
    const { members, a, b } = bindGroup();
    const answers: number[] = [];
    const request = { flags: 2, pasid: 0, group: 1, permissions: 1, address: 0n };
    const report = () => members[2]!.pageRequests!.report(request, (code) => answers.push(code));
    report();
    expect(answers).toEqual([1]);
    const pushed: unknown[] = [];
    b.attach(program.hwpt(b.id, program.ioas()));
    const queue = { push: ({ attachment }: { attachment: Attachment }) => pushed.push(attachment.spokesman) };
    Object.assign(b.attached()!, { faultQueue: queue });
    report();
    a.attach(b.attached()!.id);
    b.detach();
    report();
    expect([pushed, answers]).toEqual([[b, a], [1]]);
  });
});

describe('PASIDs', () => {
  it('need IOMMU_HWPT_ALLOC_PASID on everything attached beside one another', () => {
    const { program, bind } = setup();
    const { device, physical } = bind();
    const ioasId = program.ioas();
    const plain = program.hwpt(device.id, ioasId);
    const [one, two] = [program.hwpt(device.id, ioasId, PASID), program.hwpt(device.id, ioasId, PASID)];
    expect(() => device.attach(plain, 5)).toThrow('EINVAL');
    device.attach(plain);
    expect(() => device.attach(one, 5)).toThrow('EINVAL');
    device.replace(one);
    device.attach(two, 5);
    expect(() => device.replace(plain)).toThrow('EINVAL');
    expect([...physical.attached.keys()]).toEqual([0, 5]);
    device.detach(5);
    device.replace(plain);
  });
});

describe('the page of messages', () => {
  const PAGE = 0x809_0000;

  it('is at one place in the window, in every domain that a device of the group is attached to', () => {
    const { program, bind, iommu } = setup();
    const [{ device, physical }, { device: other, physical: physicalOther }] = [bind(), bind()];
    expect(() => device.mapMessagePage(PAGE)).toThrow('ENOSPC');
    for (const each of [device, other]) each.attach(program.ioas());
    expect(device.mapMessagePage(PAGE)).toBe(MSI.start);
    expect([physical.dma(MSI.start), physicalOther.dma(MSI.start)]).toEqual([PAGE, null]);
    expect(other.mapMessagePage(PAGE)).toBe(MSI.start);
    expect(other.mapMessagePage(PAGE + 0x1000)).toBe(MSI.start + 0x1000n);
    device.replace(program.ioas());
    expect([physical.dma(MSI.start), physical.dma(MSI.start + 0x1000n)]).toEqual([PAGE, null]);
    for (const each of [device, other]) each.detach();
    expect(iommu.resources.domains).toBe(0);
  });

  it('is mapped before the device is attached: a domain that cannot have it leaves the device where it was', () => {
    const { program, bind, iommu } = setup();
    const { device, physical } = bind();
    device.attach(program.ioas());
    device.mapMessagePage(PAGE);
    const before = device.attached();
    iommu.failAt('map', fail('ENOMEM', 'no table'));
    expect(() => device.replace(program.ioas())).toThrow('ENOMEM');
    expect([device.attached(), physical.dma(MSI.start)]).toEqual([before, PAGE]);
  });

  it('is not needed by a device whose messages are not translated', () => {
    const { program, iommu } = setup();
    const region = { start: 0xfee00000n, last: 0xfeefffffn, type: 'msi' } as const;
    const device = IommufdDevice.bind(program.context, new FakeDevice(iommu, { reserved: [region] }), 'vfio0');
    expect(device.mapMessagePage(PAGE)).toBe(null);
  });
});
