import { describe, expect, it } from 'vitest';
import { recordedSpace } from '../testing.ts';
import { VirtualVirtioIommu } from './virtual-virtio-iommu.ts';

const INVAL = 4;
const UNSUPP = 2;

function device() {
  const { host, space } = recordedSpace();
  const iommu = new VirtualVirtioIommu([{ id: 7, space }], {});
  /** A request as bytes, in words of 32 bits. */
  const send = (words: number[], room = 0): Uint8Array => {
    const writable = new Uint8Array(room + 4).fill(0xee);
    iommu.request(new Uint8Array(Uint32Array.from(words).buffer), writable);
    return writable;
  };
  return { host, iommu, send };
}

describe('a virtual virtio-iommu', () => {
  it('is configured as its host is', () => {
    const { pageSizeMask, inputStart, inputEnd, probeSize } = device().iommu.config;
    expect([pageSizeMask, inputStart, inputEnd]).toEqual([0xffff_ffff_ffff_f000n, 0n, 0xffff_ffff_ffffn]);
    expect(probeSize).toBe(512);
  });

  it('maps and unmaps what a request says, and answers in its tail', () => {
    const { host, send } = device();
    expect(send([1, 3, 7, 0, 0])[0]).toBe(0);
    // Type 3, domain 3, [0x5000, 0x6fff] to 0x4000_1000, READ.
    expect(send([3, 3, 0x5000, 0, 0x6fff, 0, 0x4000_1000, 0, 1])[0]).toBe(0);
    expect(host.take()).toEqual(['map 5000 -> RAM + 1000, 2000 bytes, 1']);
    expect(send([4, 3, 0, 0, 0xffff_ffff, 0xffff_ffff, 0])[0]).toBe(0);
    expect(host.take()).toEqual(['unmap 5000, 2000 bytes']);
  });

  it('has nothing mapped in a domain that it was told of again', () => {
    const { host, send } = device();
    send([1, 3, 7, 0, 0]);
    send([3, 3, 0x5000, 0, 0x5fff, 0, 0x4000_1000, 0, 3]);
    send([2, 3, 7, 0, 0]);
    host.take();
    send([1, 3, 7, 0, 0]);
    expect(host.take()).toEqual([]);
  });

  it('tells of no reserved region where the host has none, and fills the room all the same', () => {
    const { send } = device();
    const words = [5, 7, ...new Array(16).fill(0)];
    expect([...send(words, 512).subarray(0, 513)]).toEqual(new Array(513).fill(0));
    expect(send(words, 8)[8]).toBe(INVAL);
  });

  it.each([
    ['a type that does not exist', [9], UNSUPP],
    ['no type at all', [], UNSUPP],
    ['a request that is cut short', [3, 3, 0x5000], INVAL],
    ['flags of ATTACH that it does not know', [1, 3, 7, 1, 0], INVAL],
    ['flags of MAP that it does not know', [3, 3, 0x5000, 0, 0x5fff, 0, 0x4000_1000, 0, 8], INVAL],
    ['a range that ends before it begins', [3, 3, 0x5000, 0, 0x4fff, 0, 0x4000_1000, 0, 1], INVAL],
  ])('refuses %s', (_what, words, status) => {
    const { host, send } = device();
    if (words[0] === 3) send([1, 3, 7, 0, 0]);
    expect(send(words)[0]).toBe(status);
    expect(host.take()).toEqual([]);
  });

  it('answers nothing where there is no room for a tail', () => {
    const { iommu } = device();
    const writable = new Uint8Array(3);
    iommu.request(Uint8Array.of(9, 0, 0, 0), writable);
    expect([...writable]).toEqual([0, 0, 0]);
  });
});
