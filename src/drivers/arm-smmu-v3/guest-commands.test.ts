import { describe, expect, it, vi } from 'vitest';
import { fail } from '../../abi/errno.ts';
import { Bench, cfgiCd, commands, guestSte, nsnhAll, STAGE1, simple, tlbiAll, tlbiAsid, V2, vm } from './testing.ts';

describe('guest commands', () => {
  it('before the first refused one are carried out and counted; the rest are not', () => {
    const { device, guest, viommu, root, pa } = simple();
    device.reach(0x10);
    guest.setPage(root, 0x10, 0x101);
    for (const bad of [cfgiCd(0x99), [0x46, 0, 0, 0], [0x03, 0x55, 0, 0], [0x28, 0, 0, 0], [0xff, 0, 0, 0]]) {
      const result = viommu.invalidate(commands(tlbiAsid(3), bad, tlbiAsid(7)));
      expect(result.done).toBe(1);
      expect(result.error).toMatchObject({ code: 'EIO' });
      expect(device.reach(0x10)).toBe(pa(0x100));
    }
    expect(viommu.invalidate(commands(tlbiAsid(7), cfgiCd(0x99))).done).toBe(1);
    expect(device.reach(0x10)).toBe(pa(0x101));
  });

  it('go to the hardware with one SYNC, the VMID of the vIOMMU and the physical StreamID', () => {
    const { bench, viommu } = simple();
    bench.trace.length = 0;
    viommu.invalidate(commands([0x12, 0x00070fff, 0x10001, 0], cfgiCd(0x55), nsnhAll()));
    const words = bench.trace.flatMap((event) => (event.type === 'command' ? [event.words] : []));
    expect(words.map((one) => [...one])).toEqual([
      [0x12, 0x00070001, 0x10001, 0],
      [0x05, 0x100, 1, 0],
      [0x10, 1, 0, 0],
      [0x46, 0, 0, 0],
    ]);
  });

  it('of a larger batch than the queue all arrive', () => {
    const { bench, viommu } = simple({ settings: { cmdqs: 3 } });
    bench.commands();
    const result = viommu.invalidate(commands(...Array.from({ length: 100 }, (_, i) => tlbiAsid(i))));
    expect(result).toEqual({ done: 100, error: null });
    const opcodes = bench.commands();
    expect(opcodes.filter((opcode) => opcode === '0x11').length).toBe(100);
    expect(opcodes.filter((opcode) => opcode === '0x46').length).toBe(1);
  });

  it('that the hardware finds illegal are skipped, and those behind them still work', () => {
    const { bench, device, guest, viommu, root, pa } = simple();
    device.reach(0x10);
    guest.setPage(root, 0x10, 0x101);
    const secure = [0x05 | (1 << 10), 0x55, 1, 0];
    expect(viommu.invalidate(commands(secure, tlbiAsid(7)))).toEqual({ done: 2, error: null });
    expect(device.reach(0x10)).toBe(pa(0x101));
    expect(bench.notes().some((note) => note.includes('error 1'))).toBe(true);
  });

  it('are read at once where that is possible, with the same outcome, and one by one where entries have another size', () => {
    const { viommu } = simple();
    const list = [tlbiAsid(3), cfgiCd(0x55), cfgiCd(0x99)];
    const bytes = new Uint8Array(Uint32Array.from(list.flat()).buffer);
    const one = commands(...list);
    const copy = vi.fn(one.copy);
    const both = { ...one, copy, copyAll: () => bytes };
    expect(viommu.invalidate(both)).toMatchObject({ done: 2, error: { code: 'EIO' } });
    expect(copy).toHaveBeenCalledTimes(0);
    expect(viommu.invalidate({ ...both, entryLength: 24 }).done).toBe(2);
    expect(copy).toHaveBeenCalledTimes(3);
    const unreadable = () => {
      throw fail('EFAULT', 'not there');
    };
    expect(viommu.invalidate({ ...one, copyAll: unreadable })).toMatchObject({ done: 0, error: { code: 'EFAULT' } });
  });

  it('of another data type are EINVAL, and so are none at all', () => {
    const { viommu } = simple();
    expect(viommu.invalidate({ ...commands(tlbiAll()), type: 0 }).error).toMatchObject({ code: 'EINVAL' });
    expect(viommu.invalidate(commands())).toMatchObject({ done: 0, error: { code: 'EINVAL' } });
  });

  it('are ENOMEM when there are more than a kernel can copy at once, and entry_num stays', () => {
    const { viommu } = simple();
    const refused = viommu.invalidate({ ...commands(), entryCount: 0xffffffff });
    expect(refused).toMatchObject({ done: 0xffffffff, error: { code: 'ENOMEM' } });
    expect(viommu.invalidate({ ...commands(), entryCount: 262145 }).error).toMatchObject({ code: 'ENOMEM' });
  });

  it('on a nested HWPT itself exist only in viommu-v2, and only TLBI ones', () => {
    expect(simple().nested.invalidate).toBeUndefined();
    const bench = new Bench(V2);
    const device = bench.device(0, 0x100);
    const { guest, parent } = vm(bench, [device]);
    const root = guest.newTable();
    const contexts = guest.newContexts();
    guest.setPage(root, 0x10, 0x100);
    guest.setContext(contexts, 0, 7, root);
    const nested = device.driven.allocNestedOnParent!(parent, 0, guestSte(STAGE1, contexts));
    device.driven.attach(nested, 0);
    expect(device.reach(0x10)).toBe(guest.base + 0x100);
    guest.setPage(root, 0x10, 0x101);
    expect(nested.invalidate!(commands(cfgiCd(0))).error).toMatchObject({ code: 'EIO' });
    expect(device.reach(0x10)).toBe(guest.base + 0x100);
    expect(nested.invalidate!(commands(tlbiAsid(7)))).toEqual({ done: 1, error: null });
    expect(device.reach(0x10)).toBe(guest.base + 0x101);
  });
});
