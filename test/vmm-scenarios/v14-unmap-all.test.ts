/**
 * V14, the end of an address space: no size says 2^64, and some kernels take the last page of all for a range that wraps
 * around (QEMU, 567d7d3e6be5; kernels 4.15 to 4.20). A VMM that overlooks either leaves mappings behind.
 */
import { describe, expect, it } from 'vitest';
import { IoasSpace, READ } from '../../src/vmm/shadow/host-space.ts';
import { ShadowVm } from '../../src/vmm/shadow/shadow-vm.ts';
import { Type1Space } from '../../src/vmm/shadow/type1-space.ts';
import { probeMachine, refusal } from './rig.ts';
import { PAGE, SOURCE, startIntelGuest, textPage } from './v14-rig.ts';

const END = 2n ** 64n;
const U64_MAX = END - 1n;
const LOW = 0x10_0000n;
const HIGH = 2n ** 40n;
/** The last page that an SMMU with 48 bits of IOVA translates, and the guest's tables of four levels too. */
const LAST = 2n ** 48n - PAGE;

/** Has the host be a kernel of 4.15 to 4.20: no UNMAP_ALL, and whatever is unmapped with the last page of all is refused. */
function beOld({ client }: ShadowVm): void {
  client.refuse = (struct, values) => {
    if (struct !== 'vfio_iommu_type1_dma_unmap') return null;
    const { flags = 0, iova = 0n, size = 0n } = values;
    return flags || BigInt(iova) + BigInt(size) === END ? 'EINVAL' : null;
  };
}

/** What a device reaches of three pages after the guest's machine has been reset. */
function afterReset(options: Parameters<typeof startIntelGuest>[0] = {}, old = false) {
  const { vm, vtd, probe, iommu, domain } = startIntelGuest(options);
  const iovas = [LOW, HIGH, LAST];
  for (const iova of iovas) iommu.map(domain, iova, textPage(vm.ram, iova.toString(16)));
  expect(iovas.map((iova) => probe.read(iova))).toEqual(['100000', '10000000000', 'fffffffff000']);
  if (old) beOld(vm);
  vtd.reset();
  return iovas.map((iova) => probe.read(iova));
}

const EVERYTHING = ['100000', '10000000000', 'fffffffff000'];
const NOTHING = [null, null, null];

describe('V14: a reset of the VM', () => {
  it.each([false, true])('leaves nothing mapped, the last page of the aperture neither (type 1: %s)', (type1) => {
    expect(afterReset({ type1 })).toEqual(NOTHING);
  });

  it.each([false, true])(
    'leaves everything mapped when the size of everything is 2^64, which is 0 (type 1: %s)',
    (type1) => {
      expect(afterReset({ type1, faults: { unmapAllBySize: true } })).toEqual(EVERYTHING);
    },
  );

  it('leaves nothing mapped on a kernel that refuses the last page of all: the rest is unmapped without it', () => {
    expect(afterReset({ type1: true }, true)).toEqual(NOTHING);
  });

  it('leaves the upper part mapped there when the refusal is passed over', () => {
    const stale = afterReset({ type1: true, faults: { trustLastPage: true } }, true);
    expect(stale).toEqual([null, ...EVERYTHING.slice(1)]);
  });
});

describe('the last page of the aperture', () => {
  it.each([false, true])('is mapped and unmapped like any other (type 1: %s)', (type1) => {
    const { vm, probe, iommu, domain, space } = startIntelGuest({ type1 });
    expect(space.host.usable.at(-1)!.last).toBe(LAST + PAGE - 1n);
    iommu.map(domain, LAST, textPage(vm.ram, 'last'));
    expect(probe.read(LAST)).toBe('last');
    iommu.unmap(domain, LAST, PAGE);
    expect(probe.read(LAST)).toBeNull();
  });

  it('is the last one: the guest may have tables beyond it, and no device reaches anything there', () => {
    const { vm, probe, iommu, domain } = startIntelGuest({ levels: 3 });
    iommu.attach(SOURCE, domain);
    iommu.map(domain, 2n ** 39n - PAGE, textPage(vm.ram, 'last'));
    expect([probe.read(2n ** 39n - PAGE), probe.read(2n ** 39n), probe.read(LAST + PAGE)]).toEqual([
      'last',
      null,
      null,
    ]);
  });
});

describe('the host, asked to unmap up to 2^64', () => {
  function space(type1: boolean) {
    const vm = new ShadowVm(probeMachine().machine, { functions: [] });
    const ioas = new IoasSpace(vm.client, vm.iommufd, {});
    const host = type1 ? new Type1Space(vm.client, vm.iommufd, ioas, {}) : ioas;
    const map = (iova: bigint) => host.map(iova, vm.client.base, PAGE, READ);
    return { host, map };
  }

  it.each([false, true])('does so, when nothing that translates limits the space (type 1: %s)', async (type1) => {
    const { host, map } = space(type1);
    for (const iova of [LOW, HIGH, END - PAGE]) map(iova);
    host.unmap(HIGH, END - HIGH);
    for (const iova of [HIGH, END - PAGE]) map(iova);
    expect(await refusal(() => map(LOW))).toBe('EEXIST');
    host.unmapAll();
    for (const iova of [LOW, HIGH, END - PAGE]) map(iova);
  });

  it.each([false, true])('refuses a size of 0, and one that goes beyond (type 1: %s)', async (type1) => {
    const { host, map } = space(type1);
    map(END - PAGE);
    expect(await refusal(() => host.unmap(0n, 0n))).toBe('EINVAL');
    expect(await refusal(() => host.unmap(END - PAGE, 2n * PAGE))).toBe('EOVERFLOW');
    expect(await refusal(() => map(END - PAGE))).toBe('EEXIST');
  });

  it('takes a length of 2^64 - 1 for everything from 0, and from nowhere else', async () => {
    const { host } = space(false);
    expect(await refusal(() => host.unmap(PAGE, U64_MAX))).toBe('EOVERFLOW');
    expect(await refusal(() => host.unmap(0n, U64_MAX))).toBe('');
  });
});
