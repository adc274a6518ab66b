import { describe, expect, it } from 'vitest';
import { dialect } from '../../abi/dialects.ts';
import { Errno } from '../../abi/errno.ts';
import { mockRelease } from '../../abi/mock-dialect.ts';
import type { UserData, UserDataArray } from '../iommu-driver.ts';
import { MockIommu } from './mock-iommu.ts';
import type { MockNestedDomain } from './nested-domain.ts';
import type { MockPagingDomain } from './paging-domain.ts';
import type { MockViommu } from './viommu.ts';

const NEST_PARENT = 1;
const DIRTY = 2;
const NO_DIRTY = 1;
const PASID = 4;
const HWPT_DATA = 0xdead;
const COMMANDS = 0xdeadbeef;

const iommu = (release = 'linux-7.1') => new MockIommu(mockRelease(dialect(release)));

const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

const data = (type: number, bytes: Uint8Array): UserData & { written: Uint8Array | null } => ({
  type,
  length: bytes.length,
  written: null,
  copy(_minimum, size) {
    const whole = new Uint8Array(size);
    whole.set(bytes.subarray(0, size));
    return whole;
  },
  writeBack(back) {
    this.written = back.slice();
  },
});

const commands = (entryWords: number, ...all: number[][]): UserDataArray => ({
  type: COMMANDS,
  entryLength: entryWords * 4,
  entryCount: all.length,
  copy: (index) => words(...all[index]!),
});

function errno(run: () => unknown): string {
  try {
    run();
    return '';
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

function nesting() {
  const mock = iommu();
  const device = mock.createDevice(0);
  const parent = device.allocPaging(NEST_PARENT, null) as MockPagingDomain;
  const viommu = device.allocViommu(COMMANDS, parent, null) as MockViommu;
  const nested = viommu.allocNested(0, data(HWPT_DATA, words(7, 0))) as MockNestedDomain;
  return { mock, device, parent, viommu, nested };
}

describe('mock devices', () => {
  it('take the lowest free number, and the flags of their release only', () => {
    const mock = iommu();
    const first = mock.createDevice(0);
    expect([first.name, mock.createDevice(PASID).name]).toEqual(['iommufd_mock0', 'iommufd_mock1']);
    mock.destroyDevice(first);
    expect(mock.createDevice(NO_DIRTY).streamId).toBe(0);
    expect(errno(() => mock.createDevice(2))).toBe('EINVAL');
    expect(errno(() => iommu('linux-6.12').createDevice(PASID))).toBe('EINVAL');
    expect(mock.resources.devices).toBe(2);
  });

  it('tell a register and their capabilities', () => {
    const mock = iommu();
    const device = mock.createDevice(PASID | NO_DIRTY);
    expect(device.hwInfo(0)).toEqual({ type: 0xfeedbeef, data: words(0, 0xdeadbeef) });
    expect(errno(() => device.hwInfo(1))).toBe('EOPNOTSUPP');
    expect([device.hwCapabilities, device.maxPasidLog2]).toEqual([8n, 20]);
    expect([mock.createDevice(0).hwCapabilities, mock.createDevice(0).maxPasidLog2]).toEqual([9n, 0]);
  });

  it('without dirty tracking neither have nor take domains with it', () => {
    const mock = iommu();
    const domain = mock.createDevice(0).allocPaging(DIRTY, null);
    const device = mock.createDevice(NO_DIRTY);
    expect(errno(() => device.allocPaging(DIRTY, null))).toBe('EOPNOTSUPP');
    expect(errno(() => device.attach(domain, 0))).toBe('EINVAL');
  });

  it('take PASIDs of their width, or any if they send none, and fail every second attach of PASID 1024', () => {
    const mock = iommu();
    const domain = mock.createDevice(0).allocPaging(0, null);
    const without = mock.createDevice(0);
    for (const pasid of [1, 1024, 1024, 2 ** 20]) expect(errno(() => without.attach(domain, pasid))).toBe('');
    const device = mock.createDevice(PASID);
    const attach = (pasid: number, to: typeof domain | null = domain) => errno(() => device.attach(to, pasid));
    expect([attach(2 ** 20 - 1), attach(2 ** 20)]).toEqual(['', 'EINVAL']);
    expect([attach(1024), attach(1024), attach(1024)]).toEqual(['', 'ENOMEM', '']);
    expect([attach(1024, null), attach(1024)]).toEqual(['', '']);
  });
});

describe('mock domains', () => {
  it('have an aperture of 16 MiB to 2 GiB, or the whole table with huge pages', () => {
    const device = iommu().createDevice(0);
    expect(device.allocPaging(0, null).aperture).toEqual({ start: 0x100_0000n, last: 0x7fff_ffffn });
    const huge = device.allocPaging(0, data(HWPT_DATA, words(0, 1)));
    expect([huge.aperture, huge.pageSizes]).toEqual([{ start: 0n, last: 2n ** 38n - 1n }, 0x10_1000n]);
    expect(errno(() => device.allocPaging(0, data(HWPT_DATA, words(0, 2))))).toBe('EOPNOTSUPP');
    expect(errno(() => device.allocPaging(0, data(1, words(0, 0))))).toBe('EOPNOTSUPP');
    expect(errno(() => device.allocPaging(0x10, null))).toBe('EOPNOTSUPP');
  });

  it('up to 6.18 take no data and have 2 KiB leaves', () => {
    const device = iommu('linux-6.12').createDevice(0);
    expect(device.allocPaging(0, null).pageSizes).toBe(0x800n);
    expect(errno(() => device.allocPaging(0, data(HWPT_DATA, words(0))))).toBe('EOPNOTSUPP');
  });

  it('are counted until they are freed, and cannot be freed with mappings', () => {
    const { mock, parent, nested, viommu } = nesting();
    expect(mock.resources).toEqual({ devices: 1, domains: 2, viommus: 1 });
    nested.free();
    viommu.free();
    parent.map(0x100_0000n, 0x5000, 0x1000);
    expect(() => parent.free()).toThrow(/mappings/);
    parent.unmap(0x100_0000n, 0x1000n);
    parent.free();
    expect(mock.resources).toEqual({ devices: 1, domains: 0, viommus: 0 });
  });
});

describe('a nested mock domain', () => {
  it('starts with the number that the user gave in all four entries, and drops one or all', () => {
    const { nested } = nesting();
    expect([...nested.iotlb]).toEqual([7, 7, 7, 7]);
    expect(nested.invalidate(commands(2, [0, 2]))).toEqual({ done: 1, error: null });
    expect([...nested.iotlb]).toEqual([7, 7, 0, 7]);
    nested.invalidate(commands(2, [1, 3]));
    expect([...nested.iotlb]).toEqual([0, 0, 0, 0]);
  });

  it('stops at the first command that it does not take, and counts those before', () => {
    const { nested } = nesting();
    const stop = (...all: number[][]) => {
      const { done, error } = nested.invalidate(commands(2, ...all));
      return [done, (error as Errno | null)?.code ?? ''];
    };
    expect(stop([0, 0], [0, 4])).toEqual([1, 'EINVAL']);
    expect(stop([0, 0], [0, 1], [2, 0])).toEqual([2, 'EOPNOTSUPP']);
    expect(stop([2, 9])).toEqual([0, 'EOPNOTSUPP']);
    expect([...nested.iotlb]).toEqual([0, 0, 7, 7]);
    expect(errno(() => nested.invalidate({ ...commands(2), type: 1 }))).toBe('EINVAL');
    expect((nested.invalidate(commands(3, [0, 0, 0])).error as Errno).code).toBe('EINVAL');
  });
});

describe('a mock vIOMMU', () => {
  it('drops entries of the caches of the devices that it names', () => {
    const { viommu, device } = nesting();
    viommu.setVirtualDevice(device, 5n);
    expect([...device.cache]).toEqual([0xbaddad, 0xbaddad, 0xbaddad, 0xbaddad]);
    expect(viommu.invalidate(commands(3, [0, 5, 1], [1, 6, 0]))).toMatchObject({ done: 1, error: { code: 'EINVAL' } });
    expect([...device.cache]).toEqual([0xbaddad, 0, 0xbaddad, 0xbaddad]);
    expect(viommu.invalidate(commands(3, [1, 5, 0])).done).toBe(1);
    expect([...device.cache]).toEqual([0, 0, 0, 0]);
    expect(viommu.invalidate(commands(3, [0, 5, 4]))).toMatchObject({ done: 0, error: { code: 'EINVAL' } });
  });

  it('lets a device in only by a vDEVICE, and reports its events by the ID of that time', () => {
    const { viommu, device, nested } = nesting();
    expect(errno(() => device.attach(nested, 0))).toBe('ENOENT');
    viommu.setVirtualDevice(device, 0x99n);
    device.attach(nested, 0);
    const events: unknown[] = [];
    viommu.onEvent = (type, record) => events.push([type, [...record]]);
    const target = device.eventTarget();
    target.viommu.report(target.virtualId);
    expect(events).toEqual([[0xbeefbeef, [0x99, 0, 0, 0]]]);
    device.attach(null, 0);
    expect(errno(() => device.eventTarget())).toBe('ENOENT');
  });

  it('gives out two HW queues, the second one only after the first', () => {
    const { viommu, parent } = nesting();
    parent.map(0x100_0000n, 0x8000, 0x1000);
    const init = (index: number, pa = 0x8000) => viommu.initHwQueue(COMMANDS, index, 0x100_0000n, pa);
    expect([errno(() => init(2)), errno(() => init(1)), errno(() => init(0, 0x9000))]).toEqual([
      'EINVAL',
      'EIO',
      'EFAULT',
    ]);
    const first = init(0);
    expect(errno(() => init(0))).toBe('EEXIST');
    const second = init(1);
    expect([first.dependsOn, second.dependsOn]).toEqual([null, first]);
    second.free();
    first.free();
    expect(init(0).dependsOn).toBeNull();
  });

  it('with data, offers two pages that begin with the data, and answers where they are', () => {
    const { device, parent } = nesting();
    const given = data(COMMANDS, words(0x1234, 0, 0, 0, 0, 0));
    const viommu = device.allocViommu(COMMANDS, parent, given) as MockViommu;
    expect(viommu.region!.bytes.length).toBe(8192);
    expect(viommu.region!.bytes.subarray(0, 4)).toEqual(words(0x1234));
    viommu.regionPlaced(0x3000n);
    expect(given.written).toEqual(words(0x1234, 0x1234, 0x3000, 0, 0x2000, 0));
  });
});
