/** A guest's tables: mapped where its IOMMU looks for them, and changed by the guest, which tells the SMMU. */
import * as uapi from '../../src/abi/iommufd.ts';
import { commandBytes, commands, type GuestCommand } from '../host/guest.ts';
import { type Command, caller, hex } from './command.ts';
import { ASIDS, GUEST_LEAVES, IMAGE_IPA, IMAGE_PAGES, USED_SSIDS } from './guest-image.ts';
import { IOVAS, mapPlan, payerOf } from './ioas-commands.ts';
import { type Context, type Device, type Hwpt, type Memory, type Nested, PAGE, type Viommu } from './model.ts';
import { ownQueue, submit } from './own-queues.ts';
import { attachedTo } from './reach.ts';
import type { World } from './world.ts';

/** Maps the guest's tables of the process for its IOMMU: mostly beneath a nesting parent. */
export const guestMap: Command = (world, pick) => {
  const by = caller(world, pick);
  if (!by || world.isMock || world.filesOnly) return null;
  const { context, process } = by;
  const parents = context.all('hwpt-paging').filter(({ nestParent }) => nestParent);
  const used = context.all('hwpt-nested').map(({ parent }) => parent);
  const ioas = pick.oneIn(8) ? pick.of(context.all('ioas')) : pick.of(used.length ? used : parents)?.ioas;
  if (!ioas) return null;
  const memory: Memory = {
    kind: 'user',
    object: process.memory,
    base: process.imageBase,
    writable: true,
    bar: null,
    payer: payerOf(process, context),
    revoked: false,
  };
  const length = BigInt(IMAGE_PAGES) * PAGE;
  const address = BigInt(process.imageBase);
  const options = { fixed: IMAGE_IPA, address, prot: 3 };
  const text = `IOAS_MAP of the guest's tables of ${process.pid} in IOAS ${ioas.id}`;
  return mapPlan(world, by, ioas, [{ memory, startByte: 0n, length }], options, text, async () => {
    const values = { flags: 7, ioasId: ioas.id, userVa: address, length, iova: IMAGE_IPA };
    const { errno, s } = await world.ioctl(process, context.engine, uapi.IOMMU_IOAS_MAP, uapi.IoasMap, values);
    return { errno, iova: s.iova };
  });
};

const isThroughGuest = (hwpt: Hwpt | null): boolean => hwpt?.kind === 'hwpt-nested' && hwpt.config === 'stage1';

/** The ATC of a device whose guest does not know it (any more) cannot be invalidated by the guest. */
function isOutOfReach(device: Device): boolean {
  const hwpt = attachedTo(device, null);
  const { virtual } = device;
  return hwpt?.kind === 'hwpt-nested' && hwpt.ats && virtual?.viommu !== hwpt.base;
}

/** CMD_ATC_INV of everything of one PASID. */
function atcInv(sid: bigint, ssid: number): GuestCommand {
  const [low, high] = commands.atcInv(Number(sid), 0n, 52);
  return ssid ? [low | (1n << 11n) | (BigInt(ssid) << 12n), high] : [low, high];
}

/** What changes have in common: a guest's tables of one PASID, or (`contexts`) its context descriptor. */
interface Change {
  readonly ssid: number;
  readonly contexts: boolean;
  /** Only its ASID is invalidated. */
  readonly byAsid: boolean;
}

interface Invalidation {
  readonly of: Viommu | Nested;
  readonly list: readonly GuestCommand[];
}

/** What a guest sends when it has changed something, by the object that takes it: a vIOMMU, or a nested HWPT. */
function invalidations(context: Context, { ssid, contexts, byAsid }: Change): Invalidation[] {
  const tlb = byAsid ? commands.nhAsid(ASIDS[ssid]!) : commands.nhAll();
  const found = context.all('viommu').map((viommu) => {
    const sids = [...viommu.virtualIds.values()].filter(({ device }) => isThroughGuest(attachedTo(device, null)));
    const cds = contexts ? sids.map(({ value }) => commands.cfgiCd(Number(value), ssid)) : [];
    return { of: viommu, list: [...cds, tlb, ...sids.map(({ value }) => atcInv(value, ssid))] };
  });
  const nested = context.all('hwpt-nested').filter(({ base }) => base.kind === 'hwpt-paging');
  return [...found, ...nested.map((hwpt) => ({ of: hwpt, list: [tlb] }))];
}

/** By a queue of its own where a guest has one. */
async function invalidate(world: World, context: Context, change: Change): Promise<void> {
  const process = world.processes[0]!;
  for (const { of, list } of invalidations(context, change)) {
    const queue = of.kind === 'viommu' ? ownQueue(world, of) : null;
    if (queue) {
      // Which takes no CMD_TLBI_NH_ALL.
      submit(world, queue, [commands.nhAsid(ASIDS[change.ssid]!), ...list.filter(([low]) => (low & 0xffn) !== 0x10n)]);
      continue;
    }
    const { id } = of;
    const { IOMMU_HWPT_INVALIDATE: number, HwptInvalidate: layout } = uapi;
    const dataUptr = process.put(commandBytes(list));
    const values = { hwptId: id, dataUptr, dataType: 1, entryLen: 16, entryNum: list.length };
    const { errno, s } = await world.ioctl(process, context.engine, number, layout, values);
    if (errno) throw new Error(`HWPT_INVALIDATE of ${id} is answered ${errno} after ${s.entryNum} commands`);
  }
}

const CHANGED = 3;

/** A guest maps pages elsewhere, or read-only, or not at all, and invalidates. */
export const guestChange: Command = (world, pick) => {
  const process = pick.of(world.processes);
  if (!process || world.isMock || world.all('device').some(isOutOfReach)) return null;
  const leaf = pick.below(GUEST_LEAVES);
  const ssid = world.hasPasids ? pick.below(USED_SSIDS) : 0;
  const mapped = world.all('hwpt-nested').flatMap(({ parent }) => parent.ioas.areas.map(({ start }) => start));
  const chosen = pick.oneIn(4) ? null : pick.from(mapped.length ? mapped : IOVAS);
  const ipa = chosen === null ? null : chosen - (chosen % PAGE);
  const readOnly = pick.oneIn(3);
  const change = { ssid, contexts: false, byAsid: pick.oneIn(2) };
  const byQueue = world.all('viommu').some((viommu) => ownQueue(world, viommu));
  return {
    counts: byQueue ? ['invalidation by a queue of the guest'] : [],
    text: `a guest of ${process.pid} maps its pages of SSID ${ssid} from ${leaf} on to ${ipa === null ? 'nothing' : hex(ipa)}`,
    expected: '',
    call: async () => {
      for (let n = 0; n < CHANGED && leaf + n < GUEST_LEAVES; n++) {
        process.memory.image.set(ssid, leaf + n, ipa === null ? null : ipa + BigInt(n) * PAGE, readOnly);
      }
      for (const context of world.contexts) await invalidate(world, context, change);
      return '';
    },
    apply: () => {},
  };
};

/** Guests take a PASID away, or give it: where they can name all devices that may know of its context descriptor. */
export const guestContext: Command = (world, pick) => {
  if (!world.hasPasids) return null;
  const hidden = world.all('device').some((device) => {
    const hwpt = attachedTo(device, null);
    return hwpt?.kind === 'hwpt-nested' && device.virtual?.viommu !== hwpt.base;
  });
  if (hidden) return null;
  const change = { ssid: 1, contexts: true, byAsid: pick.oneIn(2) };
  return {
    text: 'guests take SSID 1 away, or give it',
    expected: '',
    call: async () => {
      world.toggleSecondContext();
      for (const context of world.contexts) await invalidate(world, context, change);
      return '';
    },
    apply: () => {},
  };
};
