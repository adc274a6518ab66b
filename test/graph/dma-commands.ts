/** DMA of the machine's devices, one access at a time: done, refused, or waiting for somebody to bring the page. */
import { type Command, hex } from './command.ts';
import { GUEST_IOVA, GUEST_LEAVES } from './guest-image.ts';
import { IOVAS } from './ioas-commands.ts';
import { type Device, type Hwpt, PAGE, pagingOf, type Transfer } from './model.ts';
import type { Picker } from './picker.ts';
import { attachedTo, bytesAt, reach, wrote } from './reach.ts';

/** Where in a page: far from the mark, and in tables of guests an entry that nothing uses. */
const OFFSET = 0xff8n;
const NOBODYS_PASID = 5;

/** Every write of the test is another one. */
let writes = 0n;

/** An IOVA that means something to who is behind `hwpt`, if anybody. */
function placeIn(hwpt: Hwpt | null, pick: Picker): bigint {
  if (hwpt?.kind === 'hwpt-nested' && hwpt.config === 'stage1') {
    return GUEST_IOVA + BigInt(pick.below(GUEST_LEAVES + 1)) * PAGE;
  }
  const areas = hwpt ? pagingOf(hwpt).ioas.areas : [];
  const iova = pick.oneIn(2) ? pick.of(areas)?.start : undefined;
  const chosen = iova ?? pick.from(IOVAS);
  return chosen - (chosen % PAGE);
}

/** Moved DMA has moved its bytes. */
export function checkMoved(transfer: Transfer): void {
  const { device, substream, iova, write, bytes } = transfer;
  const { place } = reach(device, substream, iova, write ? 'write' : 'read');
  const there = place && bytesAt(place);
  if (there && String(there) !== String(bytes)) {
    throw new Error(`DMA at ${hex(iova)} moved ${bytes}, and ${there} is there`);
  }
  if (write) wrote(device, substream, iova);
}

export const dma: Command = (world, pick) => {
  if (world.isMock) return null;
  const devices = world.all('device').filter(({ attached }) => attached.size > 0);
  const asking = devices.filter(({ attached }) => [...attached.values()].some(({ fault }) => fault));
  const device = pick.oneIn(2) ? pick.of(asking) : pick.of(devices);
  const channel = device && world.idleChannel(device.index);
  if (!channel) return null;
  const substream = substreamOf(device, pick);
  const write = pick.below(2) === 1;
  const iova = placeIn(attachedTo(device, substream), pick) + OFFSET;
  const { outcome } = reach(device, substream, iova, write ? 'write' : 'read');
  if (outcome === 'unknown') return null;
  const who = substream === null ? behindGuest(attachedTo(device, null)) : 'with a PASID';
  const bytes = new Uint8Array(8);
  const transfer: Transfer = { device, substream, iova, write, bytes, channel, tries: 1 };
  return {
    text: `${write ? 'write' : 'read'} by vfio${device.index}, PASID ${substream}, at ${hex(iova)}: ${outcome}`,
    expected: '',
    counts: [`DMA ${who} ${outcome}`],
    call: async () => {
      if (write) new BigUint64Array(bytes.buffer)[0] = ++writes;
      const found = channel.start(write, iova, bytes, substream);
      if (found !== outcome) throw new Error(`DMA at ${hex(iova)} is ${found}, not ${outcome}`);
      return '';
    },
    apply: () => {
      if (outcome === 'done') checkMoved(transfer);
      if (outcome !== 'waiting') return;
      const hwpt = attachedTo(device, substream)!;
      world.transfers.push(transfer);
      hwpt.fault!.pending.push({ device, hwpt, pasid: substream ?? 0, transfer });
    },
  };
};

const behindGuest = (hwpt: Hwpt | null): string =>
  hwpt?.kind === 'hwpt-nested' && hwpt.config === 'stage1' ? 'of a guest' : 'of a device';

/** Mostly one that is attached. */
function substreamOf({ attached }: Device, pick: Picker): number | null {
  const used = [...attached.keys()].map((pasid) => pasid || null);
  return pick.oneIn(8) ? pick.from([null, 0, NOBODYS_PASID]) : pick.from(used);
}
