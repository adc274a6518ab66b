/** DMA of the machine's devices, one access at a time: done, refused, or waiting for somebody to bring the page. */
import { type Command, hex } from './command.ts';
import { GUEST_IOVA, GUEST_LEAVES } from './guest-image.ts';
import { IOVAS } from './ioas-commands.ts';
import { type Device, type Hwpt, PAGE, pagingOf, type Transfer, tablesOf } from './model.ts';
import type { Picker } from './picker.ts';
import { attachedTo, attachmentOf, bytesAt, reach, wrote } from './reach.ts';

/** Where in a page: far from the mark, and in tables of guests an entry that nothing uses. */
const OFFSET = 0xff8n;
/** Registers in a BAR that hold what is written to them, where a device has some: data of a probe, CHAINADDR. */
const DATA: Readonly<Record<string, bigint>> = { 'dma-probe': 0x100n, ioat: 0x90n };

/** Eight bytes in the page at `iova`. */
function bytesIn(device: Device, substream: number | null, iova: bigint): bigint {
  const { place } = reach(device, substream, iova, 'read');
  const { bar } = place?.memory ?? {};
  return iova + ((bar && bar.start + Number(place!.byte) === 0 && DATA[bar.fn.kind.name]) || OFFSET);
}
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
  // Most of a BAR is nothing, which keeps nothing.
  const keeps = place && !(place.memory.bar && write && iova % PAGE === OFFSET);
  const there = keeps && bytesAt(place);
  if (there && String(there) !== String(bytes)) {
    throw new Error(`DMA at ${hex(iova)} moved ${bytes}, and ${there} is there`);
  }
  if (write) wrote(device, substream, iova);
}

export const dma: Command = (world, pick) => {
  if (world.isMock) return null;
  const devices = world.all('device').filter((device) => tablesOf(device).length > 0);
  const asking = devices.filter((device) => tablesOf(device).some(({ fault }) => fault));
  const guests = devices.filter((device) => behindGuest(attachedTo(device, null)) === 'of a guest');
  const device = pick.of(pick.from([asking, devices, guests, asking]));
  const channel = device && world.idleChannel(device.index);
  if (!channel) return null;
  const substream = substreamOf(device, pick);
  const write = pick.below(2) === 1;
  const iova = bytesIn(device, substream, placeIn(attachedTo(device, substream), pick));
  const { outcome } = reach(device, substream, iova, write ? 'write' : 'read');
  if (outcome === 'unknown') return null;
  const guest = behindGuest(attachedTo(device, substream));
  const who = substream === null ? guest : `with a PASID ${guest}`;
  const bytes = new Uint8Array(8);
  const transfer: Transfer = { device, substream, iova, write, bytes, channel, tries: 1 };
  return {
    text: `${write ? 'write' : 'read'} by vfio${device.index}, PASID ${substream}, at ${hex(iova)}, ${who}: ${outcome}`,
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
      const attachment = attachmentOf(device, substream)!;
      world.transfers.push(transfer);
      attachment.hwpt.fault!.pending.push({ attachment, transfer });
    },
  };
};

const behindGuest = (hwpt: Hwpt | null): string =>
  hwpt?.kind === 'hwpt-nested' && hwpt.config === 'stage1' ? 'of a guest' : 'of a device';

/** Mostly one that is attached, or the guest's. */
function substreamOf({ group }: Device, pick: Picker): number | null {
  const used = [...group.attachments.keys()].map((pasid) => pasid || null);
  const { hwpt } = group.attachments.get(0) ?? {};
  if (hwpt?.kind === 'hwpt-nested' && hwpt.ssids) used.push(1);
  return pick.oneIn(8) ? pick.from([null, 0, NOBODYS_PASID]) : pick.from(used);
}
